"""Every way in which a bucket of Google's cannot be used: a clear error of the right class, and no secret in it."""

from __future__ import annotations

import dataclasses
import json
import traceback
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError, UnavailableError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError
from dsl.contracts.state import Json
from resources.gcs import client
from resources.gcs.resource import GcsConnection
from resources.gcs.store import GcsStore
from resources.sql import Tls
from resources.testing import CANARY
from tests.kit.gcs import GcsBucket
from tests.kit.process import free_port
from tests.resources.s3.scripted import Answer, scripted


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_RETRY", client._RETRY.with_timeout(0.2))


def failing(connection: GcsConnection) -> HeadraceError:
    """Lists, and returns what that raises, having looked for canaries in all that would be printed of it."""
    with pytest.raises(HeadraceError) as raised, closing(GcsStore(connection)) as store:
        list(store.list(""))
    shown = "".join(traceback.format_exception(raised.value)) + connection.check().details + repr(connection)
    assert CANARY not in shown
    return raised.value


def answering(url: str) -> GcsConnection:
    return GcsConnection(bucket="lake", endpoint=url, anonymous=True)


def said(status: int, message: str, *headers: tuple[str, str]) -> Answer:
    body = json.dumps({"error": {"code": status, "message": message}}).encode()
    return Answer(status, headers=(("Content-Type", "application/json"), *headers), body=body)


ANSWERS: list[tuple[Answer, type[HeadraceError], ErrorType, str]] = [
    (said(401, "Invalid Credentials"), FatalError, ErrorType.AUTH, "there are no credentials (add credentials"),
    (said(403, "no storage.objects.list"), FatalError, ErrorType.AUTH, "no storage.objects.list (allow storage."),
    (said(404, "The bucket does not exist"), FatalError, ErrorType.FATAL, "no such bucket or object"),
    (said(429, "rate", ("Retry-After", "7")), RetryableError, ErrorType.THROTTLED, "slow down"),
    (said(503, "backend error"), RetryableError, ErrorType.TRANSIENT, "backend error"),
    (said(400, "so it is"), FatalError, ErrorType.FATAL, "400: so it is"),
]


@pytest.mark.parametrize(
    ("answer", "kind", "error_type", "text"), ANSWERS, ids=lambda each: getattr(each, "status", None)
)
def test_answers_become_what_the_engine_must_do(
    answer: Answer, kind: type[HeadraceError], error_type: ErrorType, text: str
) -> None:
    with scripted([answer]) as server:
        error = failing(answering(server.url))
    assert (type(error), error.error_type) == (kind, error_type)
    assert text in str(error)


def test_a_server_that_is_not_there() -> None:
    error = failing(answering(f"http://127.0.0.1:{free_port()}"))
    assert isinstance(error, UnavailableError)
    assert "check endpoint, and that it is running" in str(error)


def test_a_bucket_that_is_not_there(connection: GcsConnection) -> None:
    error = failing(dataclasses.replace(connection, bucket="no-such-bucket"))
    assert str(error).startswith("gs://no-such-bucket: there is no such bucket")


def test_no_variable_of_the_machine_sends_rows_elsewhere(
    connection: GcsConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", "http://127.0.0.1:1")
    assert connection.check().healthy
    google = dataclasses.replace(connection, endpoint=None)
    with closing(client.connect(google)) as opened:
        assert opened._connection.API_BASE_URL == "https://storage.googleapis.com"


def test_a_server_that_ignores_conditions_is_refused() -> None:
    stored = said(200, "")
    with (
        scripted([stored]) as server,
        closing(GcsStore(answering(server.url))) as store,
        pytest.raises(FatalError, match=r"ignores ifGenerationMatch: two runs at once could double rows"),
    ):
        store.create("log/1", b"1")


@pytest.mark.slow
def test_a_name_that_is_taken_is_told_when_its_file_should_appear() -> None:
    refused, other, mine = (
        said(412, "conditionNotMet"),
        *(
            Answer(
                200,
                headers=(("Content-Type", "application/json"),),
                body=json.dumps({"metadata": {"headrace-id": each}}).encode(),
            )
            for each in ("other", "mine")
        ),
    )
    ticket: dict[str, Json] = {"key": "a", "staged": "_headrace/tmp/a.mine", "id": "mine", "size": 3}
    with scripted([refused, mine]) as server, closing(GcsStore(answering(server.url))) as store:
        store.publish(ticket)
        assert server.asked[0].startswith("POST ")
        assert any(each.startswith("DELETE ") for each in server.asked)
        assert "ifGenerationMatch=0" in server.asked[0]
    with (
        scripted([refused, other]) as server,
        closing(GcsStore(answering(server.url))) as store,
        pytest.raises(FatalError, match="another object has its name"),
    ):
        store.publish(ticket)


def service_account(token_uri: str) -> str:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    facts = {"type": "service_account", "client_email": "a@b.c", "private_key": key.decode(), "token_uri": token_uri}
    return json.dumps(facts)


def test_a_key_that_the_server_refuses_is_told_and_never_shown(
    bucket: GcsBucket, connection: GcsConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = json.dumps({"error": "invalid_grant", "error_description": "Invalid JWT"}).encode()
    answer = Answer(400, headers=(("Content-Type", "application/json"),), body=refusal)
    with scripted([answer]) as server:
        text = service_account(f"{server.url}/token")
        monkeypatch.setenv("TEST_GCS_KEY", text)
        error = failing(dataclasses.replace(connection, anonymous=False, credentials=Secret("${TEST_GCS_KEY}")))
    assert error.error_type is ErrorType.AUTH
    assert "no token can be had: invalid_grant" in str(error)
    assert json.loads(text)["private_key"] not in str(FatalError(json.loads(text)["private_key"]))
    assert bucket.keys() == []


@pytest.mark.parametrize("text", [CANARY, "{}", "[]", '{"type": "service_account", "private_key": "' + CANARY + '"}'])
def test_what_is_no_key_is_said_and_never_shown(connection: GcsConnection, text: str) -> None:
    error = failing(dataclasses.replace(connection, anonymous=False, credentials=Secret(text, literal=True)))
    assert error.error_type is ErrorType.AUTH
    assert "no JSON key of a service account" in str(error)


def test_certificates_must_be_there(connection: GcsConnection, tmp_path: Path) -> None:
    missing = dataclasses.replace(connection, ca_file=str(tmp_path / "none.pem")).check()
    assert "check ca_file" in missing.details
    spoken = dataclasses.replace(connection, endpoint=str(connection.endpoint).replace("http:", "https:")).check()
    assert "no TLS is spoken there" in spoken.details


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"bucket": "gs://lake"}, "bucket"),
    ({"bucket": ""}, "bucket"),
    ({"prefix": "a/../../b"}, "prefix"),
    ({"anonymous": True, "credentials": Secret("${A}")}, "anonymous"),
    ({"endpoint": "http://storage.example.com"}, "endpoint"),
    ({"endpoint": "https://key:secret@storage.example.com"}, "endpoint"),
    ({"tls": Tls.DISABLE}, "tls"),
    ({"chunk_bytes": 1000}, "chunk_bytes"),
    ({"timeout": timedelta(0)}, "timeout"),
]


@pytest.mark.parametrize(("options", "name"), OPTIONS)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], name: str) -> None:
    with pytest.raises(OptionError) as raised:
        GcsConnection(**{"bucket": "lake", **options})
    assert raised.value.name == name


def test_names_are_equal_for_everyone() -> None:
    google = GcsConnection(bucket="lake", prefix="team/a")
    regional = GcsConnection(bucket="lake", prefix="team/a/", endpoint="https://storage.me-central2.rep.googleapis.com")
    assert google.key_of("x") == regional.key_of("x") == ("gcs", "lake", "team", "a", "x")
    other = GcsConnection(bucket="lake", endpoint="https://storage.example.com:4443")
    assert other.key_of("x") == ("gcs", "storage.example.com_4443", "lake", "x")
