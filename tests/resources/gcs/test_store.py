"""A bucket of the emulator as a store of files, and what only a bucket can get wrong."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import pytest

from dsl.contracts.errors import FatalError
from resources.gcs.resource import GcsConnection
from resources.gcs.store import GcsStore
from tests.kit.gcs import GcsBucket
from tests.resources.object_store_crashes import StoreCrashSuite
from tests.resources.object_store_suite import ObjectStoreSuite, Opening, names, sealed
from tests.resources.store_connectors import StorePlace


class TestStore(ObjectStoreSuite):
    """Below a prefix; the other tests use whole buckets."""

    @pytest.fixture
    def opening(self, connection: GcsConnection) -> Opening:
        return opening_of(dataclasses.replace(connection, prefix="team ü/a"))


@pytest.mark.slow  # S3 and local files go through the same code in `make test`
class TestCrashes(StoreCrashSuite):
    @pytest.fixture
    def opening(self, connection: GcsConnection) -> Opening:
        return opening_of(connection)

    @pytest.fixture
    def place(self, bucket: GcsBucket) -> StorePlace:
        return bucket


def test_a_prefix_is_a_wall(bucket: GcsBucket, connection: GcsConnection) -> None:
    inner, other = (dataclasses.replace(connection, prefix=each) for each in ("team/a", "team/a b/"))
    with closing(GcsStore(inner)) as one, closing(GcsStore(other)) as two, closing(GcsStore(connection)) as whole:
        assert one.create("x", b"1")
        assert two.create("x", b"2")
        one.publish(sealed(one, "y", b"3"))
        waiting = sealed(two, "z", b"4")
        one.sweep("", [])
        two.publish(waiting)
        assert (names(one), names(two)) == (["x", "y"], ["x", "z"])
        assert names(whole) == bucket.keys() == ["team/a b/x", "team/a b/z", "team/a/x", "team/a/y"]


def test_a_file_that_is_gone_before_it_appeared_is_told(bucket: GcsBucket, connection: GcsConnection) -> None:
    with closing(GcsStore(connection)) as store:
        ticket = sealed(store, "lake/a", b"rows")
        bucket.delete(str(ticket["staged"]))
        with pytest.raises(FatalError, match=r"lake/a: a file of 4 bytes that was committed cannot appear.*gone from"):
            store.publish(ticket)
        bucket.put("lake/a", b"else")
        with pytest.raises(FatalError, match="another object has its name"):
            store.publish(ticket)
    assert bucket.get("lake/a") == b"else"


def opening_of(connection: GcsConnection) -> Opening:
    code = f"""
from resources.gcs.resource import GcsConnection
from resources.gcs.store import GcsStore
store = GcsStore(GcsConnection(
    bucket={connection.bucket!r}, endpoint={connection.endpoint!r}, prefix={connection.prefix!r}, anonymous=True
))
"""
    return Opening(
        lambda: GcsStore(connection), code, modules=("resources.gcs.store", "tests.resources.object_store_faults")
    )
