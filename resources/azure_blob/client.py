"""A container through Azure's SDK; the only module that opens a client. It may not decide what a file means."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsl.contracts.errors import FatalError, HeadraceError
from resources.stores.secrets import reveal

if TYPE_CHECKING:
    from resources.azure_blob.resource import AzureBlobConnection

try:
    from azure.core import MatchConditions
    from azure.storage.blob import BlobBlock, ContainerClient, ExponentialRetry

    from resources.azure_blob.faults import NOT_FOUND, code_of, translating
except ImportError as missing:
    raise FatalError(
        "Azure's SDK is not installed", hint="pip install 'headrace[azure]', which brings azure-storage-blob"
    ) from missing

MARK = "headrace_id"
"""The metadata of a blob that tells whose it is: a name that no other blob has."""
FOLDER = "hdi_isfolder"
"""The metadata of what stands for a folder in an account with a hierarchical namespace."""


def connect(connection: AzureBlobConnection) -> ContainerClient:
    """Opens a client; it is reached only when asked something.

    Raises:
        FatalError: The credentials, or the certificates to trust, cannot be had.
    """
    if connection.ca_file is not None and not Path(connection.ca_file).is_file():
        raise FatalError(f"there is no file '{connection.ca_file}'", where=connection.place, hint="check ca_file")
    _silence()
    seconds = connection.timeout.total_seconds()
    # An upload in one request holds no more than a block; what is read comes in ranges of its own.
    try:
        with translating(connection.place):
            return ContainerClient(
                connection.url,
                connection.container,
                credential=_credential(connection),
                retry_policy=ExponentialRetry(
                    initial_backoff=1, increment_base=2, retry_total=3, random_jitter_range=0
                ),
                connection_timeout=connection.connect_timeout.total_seconds(),
                read_timeout=seconds,
                connection_verify=connection.ca_file or True,
                max_single_put_size=2**30,
                max_single_get_size=2**30,
                user_agent="headrace",
            )
    except ValueError as error:
        raise FatalError(
            "the credentials cannot be used", where=connection.place, hint="check account_key or sas_token"
        ) from error


def _silence() -> None:
    """Keeps signatures, which stand in addresses, from being logged at DEBUG, unless that very logger was set up so."""
    for name in ("azure", "urllib3.connectionpool"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)


def _credential(connection: AzureBlobConnection) -> Any:
    if connection.account_key is not None:
        return {"account_name": connection.account, "account_key": reveal(connection.account_key)}
    if connection.sas_token is not None:
        from azure.core.credentials import AzureSasCredential

        return AzureSasCredential(reveal(connection.sas_token).removeprefix("?"))
    if connection.anonymous:
        return None
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as missing:
        raise FatalError(
            "there are no credentials, and Azure's library of identities is not installed",
            where=connection.place,
            hint="add account_key or sas_token, or pip install azure-identity",
        ) from missing
    return DefaultAzureCredential()


class Container:
    """The part of a container that a connection may see: every key is below its root, every error is translated.

    Args:
        connection: Its options.
    """

    def __init__(self, connection: AzureBlobConnection) -> None:
        self.place = connection.place
        self._root = connection.root
        self._client = connect(connection)

    def list(self, prefix: str, *, page: int) -> Iterator[Any]:
        """Yields the blobs whose key begins with `prefix`, in order, a page at a time; folders are none."""
        with translating(self.place):
            listed: Any = self._client.list_blobs(
                name_starts_with=self._root + prefix, include=["metadata"], results_per_page=page
            )
            yield from (each for each in listed if FOLDER not in (each.metadata or {}))

    def below(self, name: str) -> str:
        """Returns the name below the root of what a listing names."""
        return name.removeprefix(self._root)

    def facts(self, key: str) -> Any | None:
        """Returns what the server knows of a blob, or None if there is none."""
        try:
            with self._asking(key) as blob:
                return blob.get_blob_properties()
        except HeadraceError as error:
            if code_of(error) in NOT_FOUND:
                return None
            raise

    def content(self, key: str, version: str | None = None, start: int = 0, size: int | None = None) -> bytes:
        """Returns the bytes of a blob, or of a range of it.

        Args:
            key: A file's name below the root.
            version: The only ETag that will do, or None.
            start: The first byte.
            size: How many, or None for all.
        """
        only = {} if version is None else {"etag": f'"{version}"', "match_condition": MatchConditions.IfNotModified}
        # An empty blob has no range: the whole of it is asked for without one.
        within = {} if size is None else {"offset": start, "length": size}
        with self._asking(key) as blob:
            found: bytes = blob.download_blob(**within, **only).readall()
            return found

    def create(self, key: str, data: bytes, mark: str) -> None:
        """Writes a blob if none of that name exists, in one request."""
        with self._asking(key) as blob:
            blob.upload_blob(data, overwrite=False, metadata={MARK: mark}, validate_content=True)

    def put_block(self, key: str, block: str, data: bytes) -> None:
        """Adds a block that belongs to no blob yet."""
        with self._asking(key) as blob:
            blob.stage_block(block, data, length=len(data), validate_content=True)

    def put_list(self, key: str, blocks: Sequence[str], mark: str) -> None:
        """Makes a blob of blocks, in one act, if none of that name exists."""
        with self._asking(key) as blob:
            blob.commit_block_list(
                [BlobBlock(each) for each in blocks],
                metadata={MARK: mark},
                match_condition=MatchConditions.IfMissing,
            )

    def delete(self, key: str) -> None:
        """Removes a blob with its snapshots; does nothing if there is none."""
        try:
            with self._asking(key) as blob:
                blob.delete_blob(delete_snapshots="include")
        except HeadraceError as error:
            if code_of(error) not in NOT_FOUND:
                raise

    def check(self, key: str) -> None:
        """Refuses a name that leads out of the root.

        Raises:
            FatalError: It does: HTTP itself takes `a/../b` for `b`.
        """
        if not key or {".", ".."} & set(key.split("/")):
            raise FatalError("no blob below the root can have this name", where=self.where(key))

    def where(self, key: str) -> str:
        """Returns how errors name a file."""
        return f"{self.place}/{key}"

    @contextmanager
    def _asking(self, key: str) -> Iterator[Any]:
        self.check(key)
        with translating(self.where(key)):
            yield self._client.get_blob_client(self._root + key)

    def close(self) -> None:
        """Closes the client's connections; safe to call twice."""
        self._client.close()


def changed(where: str, what: str) -> FatalError:
    """Returns the error of a file that is not what was listed."""
    hint = "write files under another name instead of replacing them, and run again"
    return FatalError(f"it was {what} since it was listed", where=where, hint=hint)


def describe(connection: AzureBlobConnection) -> str:
    """Returns what answers.

    Raises:
        HeadraceError: It cannot be reached, or may not be listed.
    """
    container = Container(connection)
    try:
        next(container.list("", page=1), None)
    finally:
        container.close()
    return f"{connection.place} can be listed at {connection.url}"
