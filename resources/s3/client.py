"""A bucket of S3 through Amazon's SDK; the only module that opens a client. It may not decide what a file means."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dsl.contracts.errors import FatalError
from resources.stores.secrets import reveal_optional

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from resources.s3.resource import S3Connection

try:
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.loaders import create_loader
    from botocore.session import get_session

    from resources.s3.faults import LOST_IN_ANSWER, translating
except ImportError as missing:
    raise FatalError(
        "Amazon's SDK is not installed", hint="pip install 'headrace[s3]', which brings boto3"
    ) from missing

ATTEMPTS = 4
PAUSES = (0.1, 0.4, 1.6)
"""Seconds between tries of what the SDK does not try again by itself."""
_NO_SERVER = "what answers is no S3 server"
_NO_SERVER_HINT = "check endpoint, and what stands between"
_LOADER = create_loader()


def connect(connection: S3Connection) -> S3Client:
    """Opens a client; it is reached only when asked something.

    Raises:
        FatalError: The credentials, or the certificates to trust, cannot be had.
    """
    if connection.ca_file is not None and not Path(connection.ca_file).is_file():
        raise FatalError(f"there is no file '{connection.ca_file}'", where=connection.place, hint="check ca_file")
    _silence()
    with translating(connection.place):
        session = get_session()
        # The description of the protocol takes a tenth of a second to read: once for all clients.
        session.register_component("data_loader", _LOADER)
        client = session.create_client(
            "s3",
            region_name=connection.region
            or session.get_config_variable("region")
            or os.environ.get("AWS_REGION")
            or "us-east-1",
            endpoint_url=connection.endpoint or None,
            verify=connection.ca_file,
            aws_access_key_id=reveal_optional(connection.access_key_id),
            aws_secret_access_key=reveal_optional(connection.secret_access_key),
            aws_session_token=reveal_optional(connection.session_token),
            config=_config(connection),
        )
        client.meta.events.register_last("before-parameter-build.s3", _ask_once)
        return cast("S3Client", client)


def _ask_once(model: Any, context: dict[str, Any], **_: Any) -> None:
    """Keeps the SDK from asking a server that redirects everything where the bucket is, and that question again, for ever."""
    if model.name == "HeadBucket":
        context.setdefault("s3_redirect", {})["redirected"] = True


def _config(connection: S3Connection) -> Config:
    by_path = bool(connection.endpoint) if connection.path_style is None else connection.path_style
    return Config(
        signature_version=UNSIGNED if connection.anonymous else "s3v4",
        s3={"addressing_style": "path" if by_path else "virtual"},
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=connection.connect_timeout.total_seconds(),
        read_timeout=connection.timeout.total_seconds(),
        # What the document does not say, no variable of the machine may say: it could send rows elsewhere, or in plain text.
        ignore_configured_endpoint_urls=True,  # type: ignore[call-arg] # its stubs do not know it
        user_agent_extra="headrace",
        max_pool_connections=32,
    )


def _silence() -> None:
    """Keeps the SDK from logging requests with their session token at DEBUG, unless that very logger was set up so."""
    logger = logging.getLogger("botocore")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


class Bucket:
    """The part of a bucket that a connection may see: every key is below its root, every error is translated.

    Args:
        connection: Its options.
    """

    def __init__(self, connection: S3Connection) -> None:
        self.place = connection.place
        self._name, self._root = connection.bucket, connection.root
        self._client = connect(connection)

    def ask(self, action: str, key: str, **parameters: Any) -> dict[str, Any]:
        """Sends a request about one key and returns the answer; the SDK tries again what may pass.

        Args:
            action: The SDK's name of the request, as a method of its client.
            key: A file's name below the root.
            parameters: The rest of the request.

        Raises:
            HeadraceError: As `resources.s3.faults` says; `code_of` tells the server's code.
        """
        full = self._full(key)
        with translating(self.where(key)):
            answer: dict[str, Any] = getattr(self._client, action)(Bucket=self._name, Key=full, **parameters)
            return answer

    def content(self, key: str, version: str | None = None, **parameters: Any) -> bytes:
        """Returns the bytes of an object, or of a range of it; one that ends in the middle is asked for again.

        Args:
            key: A file's name below the root.
            version: The only version that will do, or None.
            parameters: The rest of the request.
        """
        for pause in PAUSES:
            body = self._body(key, version, **parameters)
            with suppress(*LOST_IN_ANSWER):
                return bytes(body.read())
            time.sleep(pause)
        body = self._body(key, version, **parameters)
        with translating(self.where(key)):
            return bytes(body.read())

    def _body(self, key: str, version: str | None, **parameters: Any) -> Any:
        condition = {} if version is None else {"IfMatch": version}
        answer = self.ask("get_object", key, **condition, **parameters)
        if "ETag" not in answer:
            raise FatalError(_NO_SERVER, where=self.where(key), hint=_NO_SERVER_HINT)
        # A server that does not know the condition gives whatever is there.
        if version is not None and answer["ETag"] != version:
            raise changed(self.where(key), "replaced")
        return answer["Body"]

    def pages(self, action: str, prefix: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Yields the pages of a listing of what begins with `prefix`."""
        full = self._root + prefix
        with translating(self.place):
            client: Any = self._client
            for page in client.get_paginator(action).paginate(Bucket=self._name, Prefix=full, **parameters):
                _check_listing(page, self.place)
                yield page

    def below(self, full: str) -> str:
        """Returns the name below the root of what a listing names."""
        return full.removeprefix(self._root)

    def where(self, key: str) -> str:
        """Returns how errors name a file."""
        return f"{self.place}/{key}"

    def _full(self, key: str) -> str:
        # Some servers, and HTTP itself, take `a/../b` for `b`: it would lead out of the root.
        if not key or {".", ".."} & set(key.split("/")):
            raise FatalError("no object below the root can have this name", where=self.where(key))
        return self._root + key

    def close(self) -> None:
        """Closes the client's connections; safe to call twice."""
        self._client.close()


def changed(where: str, what: str) -> FatalError:
    """Returns the error of a file that is not what was listed."""
    hint = "write files under another name instead of replacing them, and run again"
    return FatalError(f"it was {what} since it was listed", where=where, hint=hint)


def _check_listing(page: Mapping[str, Any], where: str) -> None:
    # The SDK takes any document for a listing of nothing: a login page would empty what an overwrite fills.
    if "IsTruncated" not in page:
        raise FatalError(_NO_SERVER, where=where, hint=_NO_SERVER_HINT)


def describe(connection: S3Connection) -> str:
    """Returns what answers, and where the bucket is.

    Raises:
        HeadraceError: It cannot be reached, or may not be listed.
    """
    client = connect(connection)
    try:
        with translating(connection.place):
            listed = client.list_objects_v2(Bucket=connection.bucket, Prefix=connection.root, MaxKeys=1)
            _check_listing(listed, connection.place)
    finally:
        client.close()
    headers = listed["ResponseMetadata"]["HTTPHeaders"]
    region = headers.get("x-amz-bucket-region") or client.meta.region_name
    server = headers.get("server", "an S3 server")
    return f"{connection.place} can be listed: {server} at {client.meta.endpoint_url}, region {region}"
