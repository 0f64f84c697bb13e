"""Delta tables under the suite of destinations: in a local folder, and in a bucket of a real S3 server."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.secret import Secret
from resources.delta.resource import DeltaConnection, DeltaDestination
from resources.testing import CANARY, DestinationSuite, DestinationTarget
from tests.kit.s3 import S3Server


class Place:
    """One table of a test's own."""

    def __init__(self, connection: DeltaConnection, options: dict[str, str]) -> None:
        self._connection, self._options = connection, options
        self._table = f"t-{uuid.uuid4().hex[:8]}"

    def destination(self, mode: WriteMode) -> DeltaDestination:
        key = ("id",) if mode is WriteMode.UPSERT else ()
        return DeltaDestination(connection=self._connection, table=self._table, write_mode=mode, primary_key=key)

    def rows(self) -> list[dict[str, Any]]:
        try:
            table = DeltaTable(self._connection.uri(self._table), storage_options=self._options)
        except TableNotFoundError:
            return []
        return table.to_pyarrow_table().to_pylist()


class TestFolder(DestinationSuite):
    @pytest.fixture
    def target(self, tmp_path: Path) -> DestinationTarget:
        return Place(DeltaConnection(location=str(tmp_path)), {})


class TestBucket(DestinationSuite):
    @pytest.fixture
    def target(self, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> DestinationTarget:
        bucket = s3_server.new_bucket()
        monkeypatch.setenv("DELTA_KEY", bucket.access_key)
        monkeypatch.setenv("DELTA_SECRET", bucket.secret_key)
        connection = DeltaConnection(
            location=f"s3://{bucket.bucket}/lake",
            endpoint=bucket.endpoint,
            region=bucket.region,
            access_key_id=Secret("${DELTA_KEY}"),
            secret_access_key=Secret("${DELTA_SECRET}"),
        )
        options = {
            "aws_endpoint": bucket.endpoint,
            "aws_region": bucket.region,
            "aws_access_key_id": bucket.access_key,
            "aws_secret_access_key": bucket.secret_key,
            "aws_allow_http": "true",
        }
        assert bucket.secret_key not in repr(connection) + CANARY
        return Place(connection, options)
