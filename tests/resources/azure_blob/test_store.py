"""A container of Microsoft's emulator as a store of files, and what only a container can get wrong."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import pytest

from dsl.contracts.errors import FatalError
from resources.azure_blob.resource import AzureBlobConnection
from resources.azure_blob.store import AzureBlobStore
from tests.kit.azure import BlobContainer
from tests.resources.object_store_crashes import StoreCrashSuite
from tests.resources.object_store_suite import ObjectStoreSuite, Opening, names, sealed
from tests.resources.store_connectors import StorePlace


class TestStore(ObjectStoreSuite):
    """Below a prefix; the other tests use whole containers."""

    @pytest.fixture
    def opening(self, connection: AzureBlobConnection) -> Opening:
        return opening_of(dataclasses.replace(connection, prefix="team ü/a"))


@pytest.mark.slow  # S3 and local files go through the same code in `make test`
class TestCrashes(StoreCrashSuite):
    @pytest.fixture
    def opening(self, connection: AzureBlobConnection) -> Opening:
        return opening_of(connection)

    @pytest.fixture
    def place(self, container: BlobContainer) -> StorePlace:
        return container


def test_a_prefix_is_a_wall(container: BlobContainer, connection: AzureBlobConnection) -> None:
    inner, other = (dataclasses.replace(connection, prefix=each) for each in ("team/a", "team/a b/"))
    with (
        closing(AzureBlobStore(inner)) as one,
        closing(AzureBlobStore(other)) as two,
        closing(AzureBlobStore(connection)) as whole,
    ):
        assert one.create("x", b"1")
        assert two.create("x", b"2")
        one.publish(sealed(one, "y", b"3"))
        waiting = sealed(two, "z", b"4")
        one.sweep("", [])
        two.publish(waiting)
        assert (names(one), names(two)) == (["x", "y"], ["x", "z"])
        assert names(whole) == container.keys() == ["team/a b/x", "team/a b/z", "team/a/x", "team/a/y"]


def test_a_file_that_is_gone_before_it_appeared_is_told(
    container: BlobContainer, connection: AzureBlobConnection
) -> None:
    with closing(AzureBlobStore(connection)) as store:
        ticket = sealed(store, "lake/a", b"rows")
        container.delete(str(ticket["staged"]))
        with pytest.raises(
            FatalError, match=r"lake/a: a file of 4 bytes that was committed cannot appear.*blocks are gone"
        ):
            store.publish(ticket)
        container.put("lake/a", b"else")
        with pytest.raises(FatalError, match="another blob has its name"):
            store.publish(ticket)
    assert container.get("lake/a") == b"else"


def opening_of(connection: AzureBlobConnection) -> Opening:
    code = f"""
from dsl.contracts.secret import Secret
from resources.azure_blob.resource import AzureBlobConnection
from resources.azure_blob.store import AzureBlobStore
store = AzureBlobStore(AzureBlobConnection(
    account={connection.account!r}, container={connection.container!r}, endpoint={connection.endpoint!r},
    prefix={connection.prefix!r}, account_key=Secret("${{TEST_AZURE_KEY}}"),
))
"""
    return Opening(
        lambda: AzureBlobStore(connection),
        code,
        modules=("resources.azure_blob.store", "tests.resources.object_store_faults"),
    )
