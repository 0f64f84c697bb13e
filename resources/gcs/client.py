"""A bucket through Google's SDK; the only module that opens a client. It may not decide what a file means."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError
from dsl.contracts.redaction import remember
from resources.stores.secrets import reveal

if TYPE_CHECKING:
    from resources.gcs.resource import GcsConnection

try:
    import google.api_core.exceptions
    import google.auth
    import google.oauth2.credentials
    import google.oauth2.service_account
    from google.auth.credentials import AnonymousCredentials
    from google.auth.transport.requests import AuthorizedSession
    from google.cloud import storage  # type: ignore[import-untyped] # ships no types
    from google.cloud.storage.retry import DEFAULT_RETRY  # type: ignore[import-untyped]

    from resources.gcs.faults import NOT_FOUND, status_of, translating
except ImportError as missing:
    raise FatalError(
        "Google's SDK is not installed", hint="pip install 'headrace[gcs]', which brings google-cloud-storage"
    ) from missing

MARK = "headrace-id"
"""The metadata of an object that tells whose it is: a name that no other object has."""
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
GOOGLE = "https://storage.googleapis.com"
PATIENCE = 15.0
"""Seconds during which the SDK tries again what may pass."""
FIELDS = "items(name,size,generation,updated),nextPageToken"
_RETRY = DEFAULT_RETRY.with_delay(initial=0.1, maximum=2.0, multiplier=3.0).with_timeout(PATIENCE)


def connect(connection: GcsConnection) -> storage.Client:
    """Opens a client; it is reached only when asked something.

    Raises:
        FatalError: The credentials, or the certificates to trust, cannot be had.
    """
    if connection.ca_file is not None and not Path(connection.ca_file).is_file():
        raise FatalError(f"there is no file '{connection.ca_file}'", where=connection.place, hint="check ca_file")
    with translating(connection.place):
        session = AuthorizedSession(_credentials(connection))  # type: ignore[no-untyped-call]
        if connection.ca_file is not None:
            session.verify = connection.ca_file
        return storage.Client(
            project=connection.billing_project or "headrace",
            credentials=session.credentials,
            _http=session,
            # What the document does not say, no variable of the machine may say: it could send rows elsewhere.
            client_options={"api_endpoint": connection.endpoint or GOOGLE},
        )


def _credentials(connection: GcsConnection) -> Any:
    if connection.anonymous:
        return AnonymousCredentials()  # type: ignore[no-untyped-call]
    if connection.credentials is None:
        found, _ = google.auth.default(scopes=[SCOPE])
        return found
    try:
        facts = json.loads(reveal(connection.credentials))
        for name in ("private_key", "refresh_token", "client_secret"):
            if isinstance(facts.get(name), str):
                remember(facts[name])
        if facts.get("type") == "service_account":
            made: Any = google.oauth2.service_account.Credentials
            return made.from_service_account_info(facts, scopes=[SCOPE])
        if facts.get("type") == "authorized_user":
            made = google.oauth2.credentials.Credentials
            return made.from_authorized_user_info(facts, scopes=[SCOPE])
    except (ValueError, KeyError, TypeError, AttributeError):
        # What the parser says may hold a piece of the key.
        raise _no_key(connection) from None
    raise _no_key(connection)


def _no_key(connection: GcsConnection) -> FatalError:
    return FatalError(
        "credentials are no JSON key of a service account or an authorized user",
        where=connection.place,
        hint="give the whole file that Google made, or leave credentials out for the SDK's own search",
        error_type=ErrorType.AUTH,
    )


class Bucket:
    """The part of a bucket that a connection may see: every key is below its root, every error is translated.

    Args:
        connection: Its options.
    """

    def __init__(self, connection: GcsConnection) -> None:
        self.place = connection.place
        self._root, self._kms = connection.root, connection.kms_key
        self._timeout = connection.timeout.total_seconds()
        self._client = connect(connection)
        self._bucket = self._client.bucket(connection.bucket, user_project=connection.billing_project)
        logging.getLogger("google.cloud.storage").setLevel(logging.INFO)

    @property
    def _how(self) -> dict[str, Any]:
        return {"timeout": self._timeout, "retry": _RETRY}

    def list(self, prefix: str, *, page: int) -> Iterator[Any]:
        """Yields the objects whose key begins with `prefix`, in order, a page at a time."""
        with translating(self.place):
            yield from self._client.list_blobs(
                self._bucket, prefix=self._root + prefix, page_size=page, fields=FIELDS, **self._how
            )

    def below(self, name: str) -> str:
        """Returns the name below the root of what a listing names."""
        return name.removeprefix(self._root)

    def facts(self, key: str) -> Any | None:
        """Returns what the server knows of an object, or None if there is none."""
        with self._asking(key) as blob:
            try:
                blob.reload(**self._how)
            except google.api_core.exceptions.NotFound:
                return None
            return blob

    def content(self, key: str, generation: int | None = None, start: int = 0, size: int | None = None) -> bytes:
        """Returns the bytes of an object, or of a range of it.

        Args:
            key: A file's name below the root.
            generation: The only version that will do, or None.
            start: The first byte.
            size: How many, or None for all.
        """
        with self._asking(key, generation) as blob:
            end = None if size is None else start + size - 1
            found: bytes = blob.download_as_bytes(start=start or None, end=end, raw_download=True, **self._how)
            return found

    def create(self, key: str, data: bytes, mark: str) -> None:
        """Writes an object if none of that name exists, with its mark and its checksum, in one request."""
        with self._asking(key) as blob:
            blob.metadata = {MARK: mark}
            # With metadata the SDK sends one multipart request, whose condition every server checks before it stores.
            blob.upload_from_string(
                data, content_type="application/octet-stream", if_generation_match=0, checksum="crc32c", **self._how
            )

    def writer(self, key: str, mark: str, chunk: int) -> Any:
        """Begins an upload in chunks; the object is there when it is closed, and only then."""
        with self._asking(key) as blob:
            blob.metadata = {MARK: mark}
            return blob.open(
                "wb",
                chunk_size=chunk,
                ignore_flush=True,
                retry=_RETRY,
                timeout=self._timeout,
                content_type="application/octet-stream",
                if_generation_match=0,
            )

    def copy(self, key: str, to: str) -> None:
        """Lets the server copy an object, with its mark, to a name that nothing has, in one act."""
        with self._asking(key) as source, self._asking(to) as target:
            token, _, _ = target.rewrite(source, if_generation_match=0, **self._how)
            # Only an object that changes its region or its class takes more than one step.
            while token is not None:
                token, _, _ = target.rewrite(source, token=token, if_generation_match=0, **self._how)

    def delete(self, key: str) -> None:
        """Removes an object; does nothing if there is none."""
        with self._asking(key) as blob:
            try:
                blob.delete(**self._how)
            except google.api_core.exceptions.NotFound:
                return

    def check(self, key: str) -> None:
        """Refuses a name that leads out of the root.

        Raises:
            FatalError: It does: some servers, and HTTP itself, take `a/../b` for `b`.
        """
        if not key or {".", ".."} & set(key.split("/")):
            raise FatalError("no object below the root can have this name", where=self.where(key))

    def where(self, key: str) -> str:
        """Returns how errors name a file."""
        return f"{self.place}/{key}"

    @contextmanager
    def _asking(self, key: str, generation: int | None = None) -> Iterator[Any]:
        self.check(key)
        with translating(self.where(key)):
            yield self._bucket.blob(self._root + key, generation=generation, kms_key_name=self._kms)

    def close(self) -> None:
        """Closes the client's connections; safe to call twice."""
        self._client.close()


def is_missing(error: HeadraceError) -> bool:
    """Tells whether an error says that there is no such object."""
    return status_of(error) == NOT_FOUND


def changed(where: str, what: str) -> FatalError:
    """Returns the error of a file that is not what was listed."""
    hint = "write files under another name instead of replacing them, and run again"
    return FatalError(f"it was {what} since it was listed", where=where, hint=hint)


def describe(connection: GcsConnection) -> str:
    """Returns what answers.

    Raises:
        HeadraceError: It cannot be reached, or may not be listed.
    """
    bucket = Bucket(connection)
    try:
        next(bucket.list("", page=1), None)
    finally:
        bucket.close()
    return f"{connection.place} can be listed at {connection.endpoint or GOOGLE}"
