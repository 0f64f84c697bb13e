"""The suites of connectors on a container of Microsoft's emulator."""

from __future__ import annotations

import pytest

from resources.azure_blob.resource import AzureBlobConnection, AzureBlobDestination, AzureBlobSource
from resources.formats.options import Format
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite
from tests.kit.azure import BlobContainer
from tests.resources.store_connectors import StoreConnectorSuite, StoreOrigin, StorePlace, StoreTarget


class TestDestination(DestinationSuite):
    @pytest.fixture
    def target(self, container: BlobContainer, connection: AzureBlobConnection) -> DestinationTarget:
        return StoreTarget(
            container, lambda mode: AzureBlobDestination(connection=connection, path="out/orders", write_mode=mode)
        )


@pytest.mark.parametrize("kind", [Format.CSV, Format.PARQUET])
class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, container: BlobContainer, connection: AzureBlobConnection, kind: Format) -> SourceOrigin:
        return StoreOrigin(
            container, kind, lambda each: AzureBlobSource(connection=connection, path="in/*", format=each)
        )


class TestBoth(StoreConnectorSuite):
    source_class = AzureBlobSource
    destination_class = AzureBlobDestination

    @pytest.fixture
    def place(self, container: BlobContainer) -> StorePlace:
        return container
