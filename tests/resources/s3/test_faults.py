"""Every way in which a bucket cannot be used: a clear error of the right class, and no secret in it."""

from __future__ import annotations

import dataclasses
import logging
import traceback
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError, UnavailableError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError
from dsl.contracts.state import Json
from resources.object_store import StoredFile
from resources.s3.resource import Encryption, S3Connection
from resources.s3.store import S3Store
from resources.sql import Tls
from resources.testing import CANARY
from tests.kit.process import free_port
from tests.kit.proxy import fault_proxy
from tests.kit.s3 import Bucket
from tests.resources.object_store_suite import sealed
from tests.resources.s3.scripted import Answer, scripted


def failing(connection: S3Connection) -> HeadraceError:
    """Lists, and returns what that raises, having looked for canaries in all that would be printed of it."""
    with closing(S3Store(connection)) as store, pytest.raises(HeadraceError) as raised:
        list(store.list(""))
    shown = "".join(traceback.format_exception(raised.value)) + connection.check().details + repr(connection)
    assert CANARY not in shown
    assert "CANARY" not in shown
    return raised.value


def answering(server_url: str) -> S3Connection:
    key = Secret(CANARY, literal=True)
    return S3Connection(bucket="lake", endpoint=server_url, access_key_id=key, secret_access_key=key)


def test_an_unknown_key_is_no_matter_of_retrying(connection: S3Connection) -> None:
    wrong = dataclasses.replace(connection, access_key_id=Secret(CANARY, literal=True))
    error = failing(wrong)
    assert isinstance(error, FatalError)
    assert error.error_type is ErrorType.AUTH
    assert "does not know the access key" in str(error)


def test_a_wrong_secret_is_told_from_an_unknown_key(connection: S3Connection) -> None:
    error = failing(dataclasses.replace(connection, secret_access_key=Secret(CANARY, literal=True)))
    assert error.error_type is ErrorType.AUTH
    assert "the secret does not belong to the access key" in str(error)


def test_keys_are_masked_wherever_they_appear(connection: S3Connection, bucket: Bucket) -> None:
    with closing(S3Store(connection)):
        assert bucket.access_key not in str(FatalError(f"{bucket.access_key} {bucket.secret_key}"))


def test_a_bucket_that_is_not_there(connection: S3Connection) -> None:
    error = failing(dataclasses.replace(connection, bucket="no-such-bucket"))
    assert isinstance(error, FatalError)
    assert str(error).startswith("s3://no-such-bucket: there is no such bucket (check bucket and endpoint")


def test_a_server_that_is_not_there(connection: S3Connection) -> None:
    error = failing(dataclasses.replace(connection, endpoint=f"http://127.0.0.1:{free_port()}"))
    assert isinstance(error, UnavailableError)
    assert "check endpoint, and that it is running" in str(error)
    assert "list-type" not in str(error)


def test_a_server_that_says_nothing(connection: S3Connection, bucket: Bucket) -> None:
    host, port = bucket.endpoint.removeprefix("http://").split(":")
    with fault_proxy(host, int(port)) as proxy:
        proxy.blackhole = True
        silent = dataclasses.replace(
            connection, endpoint=f"http://127.0.0.1:{proxy.port}", timeout=timedelta(seconds=0.2)
        )
        assert isinstance(failing(silent), UnavailableError)


def test_missing_variables_and_credentials_are_said(connection: S3Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    unset = dataclasses.replace(connection, secret_access_key=Secret("${NOT_SET_ANYWHERE}"))
    assert "variable 'NOT_SET_ANYWHERE' is not set" in unset.check().details
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nonexistent", "AWS_PROFILE": ""}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    bare = dataclasses.replace(connection, access_key_id=None, secret_access_key=None)
    error = failing(bare)
    assert error.error_type is ErrorType.AUTH
    assert "there are no credentials (add access_key_id" in str(error)


def test_the_sdk_finds_credentials_by_itself(
    connection: S3Connection, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert dataclasses.replace(connection, access_key_id=None, secret_access_key=None).check().healthy


def test_a_healthy_bucket_says_what_answers(connection: S3Connection, bucket: Bucket) -> None:
    checked = connection.check()
    assert checked.healthy
    assert f"s3://{bucket.bucket} can be listed: SeaweedFS" in checked.details
    assert bucket.endpoint in checked.details


ANSWERS: list[tuple[Answer, type[HeadraceError], ErrorType, str]] = [
    (
        Answer(403, "AccessDenied", "Access Denied"),
        FatalError,
        ErrorType.AUTH,
        "not allow ListObjectsV2 (allow s3:ListBuc",
    ),
    (Answer(403, "AccessDenied", "User: u is not authorized"), FatalError, ErrorType.AUTH, "User: u is not authorized"),
    (Answer(403, "RequestTimeTooSkewed"), FatalError, ErrorType.AUTH, "clock of this machine"),
    (Answer(400, "ExpiredToken"), FatalError, ErrorType.AUTH, "temporary keys have expired"),
    (Answer(301, "PermanentRedirect"), FatalError, ErrorType.FATAL, "another region"),
    (Answer(302, body=b"<html>over there</html>"), FatalError, ErrorType.FATAL, "whether it wants https://"),
    (Answer(400, "AuthorizationHeaderMalformed"), FatalError, ErrorType.FATAL, "set region"),
    (Answer(503, "SlowDown"), RetryableError, ErrorType.THROTTLED, "slow down"),
    (Answer(500, "InternalError", "try again"), RetryableError, ErrorType.TRANSIENT, "InternalError: try again"),
    (Answer(507, "XMinioStorageFull"), FatalError, ErrorType.FATAL, "no space left"),
    (Answer(400, "Strange", "so it is"), FatalError, ErrorType.FATAL, "ListObjectsV2 failed: Strange: so it is"),
    (Answer(200, body=b"<html>a proxy's page</html>"), FatalError, ErrorType.FATAL, "what answers is no S3 server"),
]


@pytest.mark.parametrize(
    ("answer", "kind", "error_type", "text"), ANSWERS, ids=lambda each: getattr(each, "code", None)
)
def test_answers_become_what_the_engine_must_do(
    answer: Answer, kind: type[HeadraceError], error_type: ErrorType, text: str
) -> None:
    with scripted([answer]) as server:
        error = failing(answering(server.url))
    assert type(error) is kind
    assert error.error_type is error_type
    assert text in str(error)


def test_a_server_that_asks_to_slow_down_is_asked_again_first() -> None:
    slow = Answer(503, "SlowDown", headers=(("Retry-After", "7"),))
    with scripted([slow]) as server, closing(S3Store(answering(server.url))) as store:
        with pytest.raises(RetryableError) as raised:
            store.read("a")
        assert raised.value.after == 7
        assert len(server.asked) == 4


def test_a_server_that_ignores_conditions_is_refused() -> None:
    with (
        scripted([Answer(200)]) as server,
        closing(S3Store(answering(server.url))) as store,
        pytest.raises(FatalError, match=r"ignores If-None-Match: two runs at once could double rows"),
    ):
        store.create("log/1", b"1")


def test_a_conflict_of_conditional_puts_is_tried_again() -> None:
    conflict = Answer(409, "ConditionalRequestConflict")
    refused = Answer(412, "PreconditionFailed")
    with scripted([conflict, Answer(200), refused]) as server, closing(S3Store(answering(server.url))) as store:
        assert store.create("log/1", b"1") is True
    with scripted([conflict, refused, Answer(200)]) as server, closing(S3Store(answering(server.url))) as store:
        assert store.create("log/1", b"1") is False
    with (
        scripted([conflict]) as server,
        closing(S3Store(answering(server.url))) as store,
        pytest.raises(RetryableError, match="others write this object"),
    ):
        store.create("log/1", b"1")


def test_a_server_that_ignores_the_version_asked_for_is_found_out() -> None:
    listed = StoredFile("a", 3, '"old"', datetime.now(UTC))
    newer = Answer(200, headers=(("ETag", '"new"'),), body=b"new")
    with (
        scripted([newer]) as server,
        closing(S3Store(answering(server.url))) as store,
        pytest.raises(FatalError, match="s3://lake/a: it was replaced since it was listed"),
    ):
        store.open(listed)


def test_an_upload_that_another_process_completed_is_known_by_its_mark() -> None:
    gone = Answer(404, "NoSuchUpload")
    ticket: dict[str, Json] = {
        "key": "a",
        "upload_id": "u",
        "id": "mine",
        "size": 3,
        "parts": [{"n": 1, "etag": '"e"'}],
    }
    mine, other = (Answer(200, headers=(("x-amz-meta-headrace-id", each),)) for each in ("mine", "other"))
    not_yet = Answer(404)
    with scripted([gone, not_yet, mine]) as server, closing(S3Store(answering(server.url))) as store:
        store.publish(ticket)
        assert [each.split()[0] for each in server.asked] == ["POST", "HEAD", "HEAD"]
    with (
        scripted([gone, other]) as server,
        closing(S3Store(answering(server.url))) as store,
        pytest.raises(FatalError, match="its upload is gone, another object has its name"),
    ):
        store.publish(ticket)


def test_an_upload_that_was_aborted_is_told_when_its_file_should_appear(
    connection: S3Connection, bucket: Bucket
) -> None:
    with closing(S3Store(connection)) as store:
        ticket = sealed(store, "lake/a", b"rows")
        bucket.client().abort_multipart_upload(Bucket=bucket.bucket, Key="lake/a", UploadId=str(ticket["upload_id"]))
        with pytest.raises(FatalError, match=r"lake/a: a file of 4 bytes that was committed cannot appear.*no object"):
            store.publish(ticket)
        bucket.put("lake/a", b"else")
        with pytest.raises(FatalError, match="another object has its name"):
            store.publish(ticket)
    assert bucket.get("lake/a") == b"else"


def test_a_damaged_part_is_refused_by_the_server(connection: S3Connection, bucket: Bucket) -> None:
    with closing(S3Store(connection)) as store:
        ticket = dict(sealed(store, "a", b"rows"))
        ticket["parts"] = [{"n": 1, "etag": f'"{"0" * 32}"'}]
        with pytest.raises(FatalError, match="InvalidPart"):
            store.publish(ticket)
    assert bucket.keys() == []


def test_objects_can_be_encrypted_by_the_server(connection: S3Connection, bucket: Bucket) -> None:
    encrypting = dataclasses.replace(connection, encryption=Encryption.SSE_S3)
    with closing(S3Store(encrypting)) as store:
        store.create("log", b"1")
        store.publish(sealed(store, "rows", b"x" * 9_000_000))
        assert store.read("rows") == b"x" * 9_000_000
    for key in ("log", "rows"):
        assert bucket.client().head_object(Bucket=bucket.bucket, Key=key)["ServerSideEncryption"] == "AES256"


def test_the_sdk_logs_no_session_token(connection: S3Connection, caplog: pytest.LogCaptureFixture) -> None:
    temporary = dataclasses.replace(connection, session_token=Secret(CANARY, literal=True))
    logging.getLogger("botocore").setLevel(logging.NOTSET)
    with caplog.at_level(logging.DEBUG), closing(S3Store(temporary)) as store, pytest.raises(FatalError):
        store.read("a")
    assert CANARY not in caplog.text


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"bucket": "s3://lake"}, "bucket"),
    ({"bucket": ""}, "bucket"),
    ({"prefix": "a/../../b"}, "prefix"),
    ({"prefix": "/a"}, "prefix"),
    ({"access_key_id": Secret("${A}")}, "secret_access_key"),
    ({"secret_access_key": Secret("${A}")}, "access_key_id"),
    ({"session_token": Secret("${A}")}, "session_token"),
    ({"anonymous": True, "access_key_id": Secret("${A}"), "secret_access_key": Secret("${A}")}, "anonymous"),
    ({"endpoint": "minio.example.com:9000"}, "endpoint"),
    ({"endpoint": "ftp://minio.example.com"}, "endpoint"),
    ({"endpoint": "https://minio.example.com:99999"}, "endpoint"),
    ({"endpoint": "https://minio.example.com/lake"}, "endpoint"),
    ({"endpoint": "https://key:secret@minio.example.com"}, "endpoint"),
    ({"endpoint": "http://minio.example.com"}, "endpoint"),
    ({"endpoint": "http://127.0.0.1:9000", "tls": Tls.VERIFY_FULL}, "endpoint"),
    ({"endpoint": "https://minio.example.com", "tls": Tls.DISABLE}, "tls"),
    ({"tls": Tls.REQUIRE}, "tls"),
    ({"tls": Tls.DISABLE}, "tls"),
    ({"kms_key": "alias/lake"}, "kms_key"),
    ({"part_bytes": 1}, "part_bytes"),
    ({"part_bytes": 2**40}, "part_bytes"),
    ({"timeout": timedelta(0)}, "timeout"),
]


@pytest.mark.parametrize(("options", "name"), OPTIONS)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], name: str) -> None:
    with pytest.raises(OptionError) as raised:
        S3Connection(**{"bucket": "lake", **options})
    assert raised.value.name == name
    assert "secret@" not in raised.value.message


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": ""},
        {"endpoint": "http://127.0.0.1:9000"},
        {"endpoint": "http://[::1]:9000/"},
        {"endpoint": "http://minio:9000", "tls": Tls.DISABLE},
        {"endpoint": "https://minio.example.com", "prefix": "team/a/"},
        {"bucket": "arn:aws:s3:eu-west-1:123456789012:accesspoint/lake"},
    ],
)
def test_options_that_fit(options: dict[str, Any]) -> None:
    assert S3Connection(**{"bucket": "lake", **options}).place.startswith("s3://")
