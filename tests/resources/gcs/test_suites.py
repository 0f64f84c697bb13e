"""The suites of connectors on a bucket of the emulator."""

from __future__ import annotations

import pytest

from resources.formats.options import Format
from resources.gcs.resource import GcsConnection, GcsDestination, GcsSource
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite
from tests.kit.gcs import GcsBucket
from tests.resources.store_connectors import StoreConnectorSuite, StoreOrigin, StorePlace, StoreTarget


class TestDestination(DestinationSuite):
    @pytest.fixture
    def target(self, bucket: GcsBucket, connection: GcsConnection) -> DestinationTarget:
        return StoreTarget(
            bucket, lambda mode: GcsDestination(connection=connection, path="out/orders", write_mode=mode)
        )


@pytest.mark.parametrize("kind", [Format.CSV, Format.PARQUET])
class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, bucket: GcsBucket, connection: GcsConnection, kind: Format) -> SourceOrigin:
        return StoreOrigin(bucket, kind, lambda each: GcsSource(connection=connection, path="in/*", format=each))


class TestBoth(StoreConnectorSuite):
    source_class = GcsSource
    destination_class = GcsDestination

    @pytest.fixture
    def place(self, bucket: GcsBucket) -> StorePlace:
        return bucket
