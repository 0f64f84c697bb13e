"""Every way in which a container cannot be used: a clear error of the right class, and no secret in it."""

from __future__ import annotations

import base64
import dataclasses
import logging
import traceback
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError, UnavailableError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError
from resources.azure_blob.resource import AzureBlobConnection
from resources.azure_blob.store import AzureBlobStore
from resources.sql import Tls
from resources.testing import CANARY
from tests.kit.azure import BlobContainer
from tests.kit.process import free_port
from tests.resources.object_store_suite import names, sealed
from tests.resources.s3.scripted import Answer, scripted

KEY = base64.b64encode(CANARY.encode()).decode()


def failing(connection: AzureBlobConnection) -> HeadraceError:
    """Lists, and returns what that raises, having looked for canaries in all that would be printed of it."""
    with closing(AzureBlobStore(connection)) as store, pytest.raises(HeadraceError) as raised:
        list(store.list(""))
    shown = "".join(traceback.format_exception(raised.value)) + connection.check().details + repr(connection)
    assert CANARY not in shown
    assert KEY not in shown
    return raised.value


def answering(url: str) -> AzureBlobConnection:
    return AzureBlobConnection(
        account="mylake", container="lake", endpoint=f"{url}/mylake", account_key=Secret(KEY, literal=True)
    )


def signed(container: BlobContainer, permission: str) -> str:
    return str(
        generate_container_sas(
            container.account,
            container.container,
            account_key=container.key,
            permission=ContainerSasPermissions.from_string(permission),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
    )


def test_a_wrong_key_is_no_matter_of_retrying(connection: AzureBlobConnection) -> None:
    error = failing(dataclasses.replace(connection, account_key=Secret(KEY, literal=True)))
    assert isinstance(error, FatalError)
    assert error.error_type is ErrorType.AUTH
    assert "check account and account_key" in str(error)


def test_a_key_that_is_none_is_said_and_never_shown(connection: AzureBlobConnection) -> None:
    wrong = dataclasses.replace(connection, account_key=Secret(f"{CANARY}!", literal=True)).check()
    assert not wrong.healthy
    assert CANARY not in wrong.details


def test_a_signature_will_do_and_its_rights_are_told(
    container: BlobContainer, connection: AzureBlobConnection, caplog: pytest.LogCaptureFixture
) -> None:
    whole = signed(container, "rcwdl")
    for name in ("azure", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    with caplog.at_level(logging.DEBUG):
        able = dataclasses.replace(connection, account_key=None, sas_token=Secret(f"?{whole}", literal=True))
        with closing(AzureBlobStore(able)) as store:
            store.publish(sealed(store, "a", b"rows"))
            assert names(store) == ["a"]
        unable = dataclasses.replace(able, sas_token=Secret(signed(container, "r"), literal=True))
        error = failing(unable)
    assert error.error_type is ErrorType.AUTH
    signature = whole.partition("sig=")[2].partition("&")[0]
    assert signature not in f"{error} {caplog.text} {able!r}"


def test_a_container_that_is_not_there(connection: AzureBlobConnection) -> None:
    error = failing(dataclasses.replace(connection, container="no-such-one"))
    assert str(error).startswith("azure://headrace/no-such-one: there is no such container (check container")


def answer(status: int, code: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, code, "so it is", headers=(("x-ms-error-code", code), *headers))


ANSWERS: list[tuple[Answer, type[HeadraceError], ErrorType, str]] = [
    (answer(403, "AuthorizationPermissionMismatch"), FatalError, ErrorType.AUTH, "Storage Blob Data Contributor"),
    (answer(409, "AccountIsDisabled"), FatalError, ErrorType.FATAL, "the account is disabled"),
    (answer(400, "Strange"), FatalError, ErrorType.FATAL, "refused it: Strange"),
]


@pytest.mark.parametrize(("given", "kind", "error_type", "text"), ANSWERS, ids=lambda each: getattr(each, "code", None))
def test_answers_become_what_the_engine_must_do(
    given: Answer, kind: type[HeadraceError], error_type: ErrorType, text: str
) -> None:
    with scripted([given]) as server:
        error = failing(answering(server.url))
    assert (type(error), error.error_type) == (kind, error_type)
    assert text in str(error)


def test_a_server_that_is_busy_is_asked_again_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azure.storage.blob.ExponentialRetry.get_backoff_time", lambda *_: 0.01)
    busy = answer(503, "ServerBusy")
    with scripted([busy]) as server, closing(AzureBlobStore(answering(server.url))) as store:
        with pytest.raises(RetryableError) as raised:
            store.read("a")
        assert raised.value.error_type is ErrorType.THROTTLED
        assert len(server.asked) == 4


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azure.storage.blob.ExponentialRetry.get_backoff_time", lambda *_: 0.01)
    error = failing(answering(f"http://127.0.0.1:{free_port()}"))
    assert isinstance(error, UnavailableError)
    assert "check endpoint, and that it is running" in str(error)


def test_a_server_that_ignores_conditions_is_refused() -> None:
    with (
        scripted([Answer(201, headers=(("ETag", '"e"'),))]) as server,
        closing(AzureBlobStore(answering(server.url))) as store,
        pytest.raises(FatalError, match=r"ignores If-None-Match: two runs at once could double rows"),
    ):
        store.create("log/1", b"1")


def test_folders_of_a_hierarchical_namespace_are_no_files(
    container: BlobContainer, connection: AzureBlobConnection
) -> None:
    with container.client() as client:
        client.upload_blob("in", b"", metadata={"hdi_isfolder": "true"})
        client.upload_blob("in/a.csv", b"id\n1\n")
    with closing(AzureBlobStore(connection)) as store:
        assert names(store) == ["in/a.csv"]


def test_certificates_must_be_there(connection: AzureBlobConnection, tmp_path: Path) -> None:
    missing = dataclasses.replace(connection, ca_file=str(tmp_path / "none.pem")).check()
    assert "check ca_file" in missing.details


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"account": "My.Lake"}, "account"),
    ({"container": "https://x"}, "container"),
    ({"container": "a--b"}, "container"),
    ({"prefix": "a/../../b"}, "prefix"),
    ({"account_key": Secret("${A}"), "sas_token": Secret("${B}")}, "sas_token"),
    ({"account_key": Secret("${A}"), "anonymous": True}, "anonymous"),
    ({"endpoint": "http://blob.example.com"}, "endpoint"),
    ({"endpoint": "https://blob.example.com/?sig=x"}, "endpoint"),
    ({"tls": Tls.REQUIRE}, "tls"),
    ({"block_bytes": 1}, "block_bytes"),
    ({"timeout": timedelta(0)}, "timeout"),
]


@pytest.mark.parametrize(("options", "name"), OPTIONS)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], name: str) -> None:
    with pytest.raises(OptionError) as raised:
        AzureBlobConnection(**{"account": "mylake", "container": "lake", **options})
    assert raised.value.name == name


def test_names_are_equal_for_everyone() -> None:
    plain = AzureBlobConnection(account="mylake", container="lake", prefix="a")
    written = dataclasses.replace(plain, endpoint="https://mylake.blob.core.windows.net")
    assert plain.key_of("x") == written.key_of("x") == ("azure_blob", "mylake", "lake", "a", "x")
