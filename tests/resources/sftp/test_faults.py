"""Every way in which a server cannot be used: keys compared, logins refused, connections cut; no secret is shown."""

from __future__ import annotations

import dataclasses
import traceback
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from dsl.contracts.connectors import Token
from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError, UnavailableError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError
from resources.sftp.resource import SftpConnection, SftpDestination
from resources.sftp.store import SftpStore
from resources.testing import CANARY, sample
from tests.kit.process import free_port
from tests.kit.proxy import fault_proxy
from tests.kit.sftp import SftpFolder, SftpServer
from tests.resources.object_store_suite import names
from tests.resources.store_connectors import ids_in

TOKEN = Token(workflow="cuts", stage="load")


def failing(connection: SftpConnection) -> HeadraceError:
    """Opens, and returns what that raises, having looked for canaries in all that would be printed of it."""
    with pytest.raises(HeadraceError) as raised:
        SftpStore(connection).close()
    shown = "".join(traceback.format_exception(raised.value)) + connection.check().details + repr(connection)
    assert CANARY not in shown
    return raised.value


def test_a_server_that_is_not_known_is_refused_and_says_its_key(
    connection: SftpConnection, folder: SftpFolder, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    strange = dataclasses.replace(connection, host_keys=(), known_hosts=str(known))
    error = failing(strange)
    assert error.error_type is ErrorType.AUTH
    assert folder.host_key.split()[1] in str(error)
    known.write_text(f"[{folder.host}]:{folder.port} {folder.host_key}\n")
    assert strange.check().healthy


def test_a_server_that_shows_another_key_is_refused(connection: SftpConnection) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    error = failing(dataclasses.replace(connection, host_keys=(other,)))
    assert isinstance(error, FatalError)
    assert error.error_type is ErrorType.AUTH
    assert "not the one that is known" in str(error)
    assert "one of host_keys is no key" in str(failing(dataclasses.replace(connection, host_keys=("ssh-rsa x",))))


def test_a_wrong_password_is_no_matter_of_retrying(connection: SftpConnection) -> None:
    error = failing(dataclasses.replace(connection, password=Secret(CANARY, literal=True)))
    assert isinstance(error, FatalError)
    assert error.error_type is ErrorType.AUTH
    assert "the server refuses the login" in str(error)


@pytest.mark.parametrize("passphrase", [None, CANARY])
def test_a_private_key_will_do(
    sftp: SftpServer, folder: SftpFolder, connection: SftpConnection, passphrase: str | None
) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    sftp.keys[folder.username] = key.export_public_key().decode()
    text = key.export_private_key("openssh", passphrase=passphrase).decode()
    secret = None if passphrase is None else Secret(passphrase, literal=True)
    keyed = dataclasses.replace(connection, password=None, private_key=Secret(text, literal=True), passphrase=secret)
    assert keyed.check().healthy, keyed.check().details
    if passphrase is not None:
        error = failing(dataclasses.replace(keyed, passphrase=None))
        assert "private_key is no key that can be read" in str(error)
    assert "no key that can be read" in str(
        failing(dataclasses.replace(keyed, private_key=Secret(CANARY, literal=True)))
    )


def test_a_server_or_a_folder_that_is_not_there(connection: SftpConnection) -> None:
    error = failing(dataclasses.replace(connection, port=free_port()))
    assert isinstance(error, UnavailableError)
    error = failing(dataclasses.replace(connection, root="nothing/here"))
    assert isinstance(error, UnavailableError)
    assert "there is no such folder" in str(error)


def test_a_connection_that_is_cut_loses_and_doubles_nothing(connection: SftpConnection, folder: SftpFolder) -> None:
    tries, epochs = 0, 6
    with fault_proxy(folder.host, folder.port) as proxy:
        through = dataclasses.replace(connection, port=proxy.port, host_keys=(folder.host_key,))
        destination = SftpDestination(connection=through, path="lake", file_rows=25)
        while True:
            tries += 1
            assert tries < 100
            # Each try gets a little further before it is cut.
            proxy.reset_after = None if tries > 25 else 5_000 + tries * 700
            try:
                with destination.open_writer(sample(0, 0).schema, TOKEN) as writer:
                    committed = writer.get_state()
                    for epoch in range(1 if committed is None else committed.epoch + 1, epochs + 1):
                        writer.write(sample(epoch * 100, 50))
                        writer.commit(epoch, {"v": 1}, final=epoch == epochs)
                break
            except RetryableError:
                proxy.heal()
        assert proxy.resets > 3
    assert ids_in(folder, "lake/part-") == [epoch * 100 + row for epoch in range(1, epochs + 1) for row in range(50)]


def test_names_that_are_no_utf8_are_said(connection: SftpConnection, folder: SftpFolder) -> None:
    (folder.path / "in").mkdir()
    with open(bytes(folder.path / "in") + b"/\xff.csv", "wb"):  # noqa: PTH123 - a name that is no text
        pass
    with closing(SftpStore(connection)) as store, pytest.raises(FatalError, match="is not UTF-8"):
        names(store, "in/")


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"host": "sftp://x"}, "host"),
    ({"host": "u@x"}, "host"),
    ({"port": 0}, "port"),
    ({"root": ""}, "root"),
    ({"passphrase": Secret("${A}")}, "passphrase"),
    ({"host_keys": ("AAAA",)}, "host_keys"),
]


@pytest.mark.parametrize(("options", "name"), OPTIONS)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], name: str) -> None:
    with pytest.raises(OptionError) as raised:
        SftpConnection(**{"host": "h", "username": "u", **options})
    assert raised.value.name == name
