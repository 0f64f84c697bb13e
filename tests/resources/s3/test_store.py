"""A bucket of a real server as a store of files, and what only a bucket can get wrong."""

from __future__ import annotations

import dataclasses

import pytest

from resources.s3.resource import S3Connection
from resources.s3.store import S3Store
from tests.resources.object_store_suite import ObjectStoreSuite, Opening


class TestStore(ObjectStoreSuite):
    @pytest.fixture
    def opening(self, connection: S3Connection) -> Opening:
        return opening_of(connection)


class TestStoreBelowAPrefix(ObjectStoreSuite):
    @pytest.fixture
    def opening(self, connection: S3Connection) -> Opening:
        return opening_of(dataclasses.replace(connection, prefix="team ü/a"))


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
