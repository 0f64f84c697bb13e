"""A bucket of a real server as a store of files, and what only a bucket can get wrong."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import pytest

from resources.s3.resource import S3Connection
from resources.s3.store import S3Store
from tests.kit.s3 import Bucket
from tests.resources.object_store_suite import ObjectStoreSuite, Opening, names, sealed


class TestStore(ObjectStoreSuite):
    """Below a prefix; the other tests use whole buckets."""

    @pytest.fixture
    def opening(self, connection: S3Connection) -> Opening:
        return opening_of(dataclasses.replace(connection, prefix="team ü/a"))


def test_a_prefix_is_a_wall(bucket: Bucket, connection: S3Connection) -> None:
    inner, other = (dataclasses.replace(connection, prefix=each) for each in ("team/a", "team/a b/"))
    with closing(S3Store(inner)) as one, closing(S3Store(other)) as two, closing(S3Store(connection)) as whole:
        assert one.create("x", b"1")
        assert two.create("x", b"2")
        one.publish(sealed(one, "y", b"3"))
        waiting = sealed(two, "z", b"4")
        one.sweep("", [])
        two.publish(waiting)
        assert (names(one), names(two)) == (["x", "y"], ["x", "z"])
        assert names(whole) == bucket.keys() == ["team/a b/x", "team/a b/z", "team/a/x", "team/a/y"]


def opening_of(connection: S3Connection) -> Opening:
    code = f"""
from resources.s3.resource import S3Connection
from resources.s3.store import S3Store
from dsl.contracts.secret import Secret
store = S3Store(S3Connection(
    bucket={connection.bucket!r}, endpoint={connection.endpoint!r}, region={connection.region!r}, prefix={connection.prefix!r},
    access_key_id=Secret("${{TEST_S3_KEY}}"), secret_access_key=Secret("${{TEST_S3_SECRET}}"),
))
"""
    modules = ("resources.s3.store", "tests.resources.object_store_faults")
    return Opening(lambda: S3Store(connection), code, modules=modules)
