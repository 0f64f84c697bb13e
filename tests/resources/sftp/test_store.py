"""A folder of a server as a store of files, and what only an SFTP server can get wrong."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from dsl.contracts.errors import FatalError
from resources.sftp.resource import SftpConnection
from resources.sftp.store import SftpStore
from tests.kit.sftp import SftpFolder, SftpServer
from tests.resources.object_store_crashes import StoreCrashSuite
from tests.resources.object_store_suite import ObjectStoreSuite, Opening, names, sealed
from tests.resources.store_connectors import StorePlace


class TestStore(ObjectStoreSuite):
    """Below a folder; the other tests use the login's own."""

    resolution = 1.0

    @pytest.fixture
    def opening(self, connection: SftpConnection) -> Opening:
        return opening_of(dataclasses.replace(connection, root="team ü/a", timeout=timedelta(minutes=3)))


@pytest.mark.slow  # S3 and local files go through the same code in `make test`
class TestCrashes(StoreCrashSuite):
    @pytest.fixture
    def opening(self, connection: SftpConnection) -> Opening:
        return opening_of(connection)

    @pytest.fixture
    def place(self, folder: SftpFolder) -> StorePlace:
        return folder


def test_links_that_lead_out_of_the_root_are_not_followed(
    folder: SftpFolder, connection: SftpConnection, tmp_path: Path
) -> None:
    (tmp_path / "secret.csv").write_text("id\n1\n")
    folder.put("in/a.csv", b"id\n1\n")
    (folder.path / "in/out.csv").symlink_to(tmp_path / "secret.csv")
    (folder.path / "in/own.csv").symlink_to(folder.path / "in/a.csv")
    (folder.path / "away").symlink_to(tmp_path)
    with closing(SftpStore(connection)) as store:
        listed = {each.key: each for each in store.list("in/")}
        with store.open(listed["in/own.csv"]) as opened:
            assert opened.read() == b"id\n1\n"
        for attempt in (
            lambda: store.open(listed["in/out.csv"]),
            lambda: store.read("in/out.csv"),
            lambda: store.read("away/secret.csv"),
            lambda: store.create("away/new", b"x"),
            lambda: store.create("away/deep/new", b"x"),
            lambda: sealed(store, "away/new", b"x"),
            lambda: store.delete("away/secret.csv"),
        ):
            with pytest.raises(FatalError, match=r"link that leads out of the root|no regular file"):
                attempt()
        assert list(store.list("")) == [each for each in store.list("") if "secret" not in each.key]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["secret.csv"]


def test_a_server_without_hard_links_creates_by_renaming(
    sftp: SftpServer, connection: SftpConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sftp, "missing", {b"hardlink@openssh.com"})
    with closing(SftpStore(connection)) as store:
        assert store.create("log/1", b"mine") is True
        assert store.create("log/1", b"yours") is False
        assert store.read("log/1") == b"mine"
        assert names(store) == ["log/1"]


def opening_of(connection: SftpConnection) -> Opening:
    code = f"""
from dsl.contracts.secret import Secret
from resources.sftp.resource import SftpConnection
from resources.sftp.store import SftpStore
store = SftpStore(SftpConnection(
    host={connection.host!r}, port={connection.port}, username={connection.username!r}, root={connection.root!r},
    host_keys={connection.host_keys!r}, password=Secret("${{TEST_SFTP_PASSWORD}}"),
), create=True)
"""
    modules = ("resources.sftp.store", "tests.resources.object_store_faults")
    return Opening(lambda: SftpStore(connection, create=True), code, modules=modules)
