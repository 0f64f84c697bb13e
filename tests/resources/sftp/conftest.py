"""A login with a folder for each test of the SFTP connector."""

from __future__ import annotations

import pytest

from dsl.contracts.secret import Secret
from resources.sftp.resource import SftpConnection
from tests.kit.sftp import SftpFolder, SftpServer


@pytest.fixture
def folder(sftp: SftpServer) -> SftpFolder:
    return sftp.new_folder()


@pytest.fixture
def connection(folder: SftpFolder, monkeypatch: pytest.MonkeyPatch) -> SftpConnection:
    monkeypatch.setenv("TEST_SFTP_PASSWORD", folder.password)
    return SftpConnection(
        host=folder.host,
        port=folder.port,
        username=folder.username,
        password=Secret("${TEST_SFTP_PASSWORD}"),
        host_keys=(folder.host_key,),
    )
