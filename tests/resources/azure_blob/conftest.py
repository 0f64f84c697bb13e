"""A container for each test of the connector of Azure Blob Storage."""

from __future__ import annotations

import pytest

from dsl.contracts.secret import Secret
from resources.azure_blob.resource import AzureBlobConnection
from tests.kit.azure import AzureServer, BlobContainer


@pytest.fixture
def container(azure_server: AzureServer) -> BlobContainer:
    return azure_server.new_container()


@pytest.fixture
def connection(container: BlobContainer, monkeypatch: pytest.MonkeyPatch) -> AzureBlobConnection:
    monkeypatch.setenv("TEST_AZURE_KEY", container.key)
    return AzureBlobConnection(
        account=container.account,
        container=container.container,
        endpoint=container.endpoint,
        account_key=Secret("${TEST_AZURE_KEY}"),
    )
