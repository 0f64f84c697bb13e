"""The suites of connectors on a folder of a server."""

from __future__ import annotations

import pytest

from resources.formats.options import Format
from resources.sftp.resource import SftpConnection, SftpDestination, SftpSource
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite
from tests.kit.sftp import SftpFolder
from tests.resources.store_connectors import StoreConnectorSuite, StoreOrigin, StorePlace, StoreTarget


class TestDestination(DestinationSuite):
    @pytest.fixture
    def target(self, folder: SftpFolder, connection: SftpConnection) -> DestinationTarget:
        return StoreTarget(
            folder, lambda mode: SftpDestination(connection=connection, path="out/orders", write_mode=mode)
        )


@pytest.mark.parametrize("kind", [Format.CSV, Format.PARQUET])
class TestSource(SourceSuite):
    @pytest.fixture
    def origin(self, folder: SftpFolder, connection: SftpConnection, kind: Format) -> SourceOrigin:
        return StoreOrigin(folder, kind, lambda each: SftpSource(connection=connection, path="in/*", format=each))


class TestBoth(StoreConnectorSuite):
    source_class = SftpSource
    destination_class = SftpDestination

    @pytest.fixture
    def place(self, folder: SftpFolder) -> StorePlace:
        return folder
