"""A container as a store of files: conditional puts, lists of blocks put once, reads of one ETag; knows no format and no log."""

from __future__ import annotations

import io
import uuid
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from dsl.contracts.errors import FatalError, HeadraceError, RetryableError
from dsl.contracts.state import Json
from resources.azure_blob.client import MARK, Container, changed
from resources.azure_blob.faults import BLOCKS_GONE, CHANGED, EXISTS, NOT_FOUND, code_of
from resources.azure_blob.staged import StagedBlob, block_name
from resources.object_bytes import FIRST, ObjectBytes
from resources.object_store import ObjectStore, StagedFile, StoredFile
from resources.staging import is_staged, staged_prefix

if TYPE_CHECKING:
    from resources.azure_blob.resource import AzureBlobConnection

PAGE = 1000
SENDERS = 4
BUFFER = 128 * 2**10


class AzureBlobStore(ObjectStore):
    """A container, or a folder of it. What is being written is noted in `_headrace/tmp` beside where it will be.

    Args:
        connection: Its options.
    """

    def __init__(self, connection: AzureBlobConnection) -> None:
        self._container = Container(connection)
        self.place = connection.place
        self._block_bytes = connection.block_bytes
        self._executor = ThreadPoolExecutor(SENDERS, thread_name_prefix="headrace-azure")
        self._conditions_hold = not connection.endpoint

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[StoredFile]:
        left = limit
        if left == 0:
            return
        for found in self._container.list(prefix, page=min(left or PAGE, PAGE)):
            key = self._container.below(found.name)
            # A key that ends so is what tools make for an empty folder.
            if key.endswith("/") or is_staged(key):
                continue
            yield StoredFile(key, found.size, found.etag.strip('"'), found.last_modified)
            left = None if left is None else left - 1
            if left == 0:
                return

    def open(self, file: StoredFile) -> BinaryIO:
        where = self._container.where(file.key)

        def fetch(start: int, size: int) -> bytes:
            if not size:
                return b""
            try:
                data = self._container.content(file.key, file.version, start, size)
            except HeadraceError as error:
                if code_of(error) in CHANGED | NOT_FOUND:
                    there = self._container.facts(file.key) is not None
                    raise changed(where, "replaced" if there else "deleted") from error
                raise
            if len(data) != size:
                raise FatalError(f"the server gave {len(data)} bytes for a range of {size}", where=where)
            return data

        opened = ObjectBytes(fetch, file.size)
        # The first bytes are fetched now, so that a file which is gone is told when it is opened.
        opened.load(min(file.size, FIRST))
        return cast("BinaryIO", io.BufferedReader(opened, BUFFER))

    def read(self, key: str) -> bytes | None:
        try:
            return self._container.content(key)
        except HeadraceError as error:
            if code_of(error) in NOT_FOUND:
                return None
            raise

    def create(self, key: str, data: bytes) -> bool:
        mark = uuid.uuid4().hex
        try:
            self._container.create(key, data, mark)
        except HeadraceError as error:
            return self._is_mine(key, mark, error)
        if not self._conditions_hold:
            self._check_conditions(key, data, mark)
        return True

    def _is_mine(self, key: str, mark: str, error: HeadraceError) -> bool:
        """Finds out what became of a put that was refused or not answered: the SDK may have sent it more than once."""
        if code_of(error) not in EXISTS and not isinstance(error, RetryableError):
            raise error
        found = self._container.facts(key)
        if found is None:
            if isinstance(error, RetryableError):
                raise error
            raise RetryableError("another file of this name came and went", where=self._container.where(key)) from error
        return _mark(found) == mark

    def _check_conditions(self, key: str, data: bytes, mark: str) -> None:
        """Puts the same again, once for each store that is opened: the server must refuse, or two runs could both commit."""
        try:
            self._container.create(key, data, mark)
        except HeadraceError as error:
            if code_of(error) not in EXISTS:
                raise
            self._conditions_hold = True
        else:
            raise FatalError(
                "the server ignores If-None-Match: two runs at once could double rows",
                where=self._container.where(key),
                hint="write to a store that honours conditional puts",
            )

    def stage(self, key: str, home: str = "") -> StagedFile:
        return StagedBlob(self._container, key, self._executor, self._block_bytes, home)

    def publish(self, ticket: Mapping[str, Json]) -> None:
        key, note, mark = (str(ticket[each]) for each in ("key", "staged", "id"))
        if self._container.facts(note) is None:
            self._check_published(ticket, None)
            return
        try:
            self._container.put_list(key, [block_name(mark, at) for at in range(cast("int", ticket["blocks"]))], mark)
        except HeadraceError as error:
            if code_of(error) not in EXISTS | BLOCKS_GONE and not isinstance(error, RetryableError):
                raise
            self._check_published(ticket, error)
        self._container.delete(note)

    def _check_published(self, ticket: Mapping[str, Json], error: HeadraceError | None) -> None:
        """Finds out whether a list of blocks that cannot be put was put, by this process or by another one."""
        key = str(ticket["key"])
        found = self._container.facts(key)
        if found is not None and _mark(found) == ticket["id"]:
            return
        if isinstance(error, RetryableError):
            raise error
        there = (
            "another blob has its name"
            if found is not None
            else "its blocks are gone, and no blob of its name is there"
        )
        raise FatalError(
            f"a file of {ticket['size']} bytes that was committed cannot appear: {there}",
            where=self._container.where(key),
            hint="Azure keeps blocks for a week: move what is in the way, or load these rows again",
        ) from error

    def discard(self, ticket: Mapping[str, Json]) -> None:
        self._container.delete(str(ticket["staged"]))

    def sweep(self, prefix: str, kept: Collection[Mapping[str, Json]]) -> None:
        keep = {str(ticket["staged"]) for ticket in kept}
        found = [self._container.below(each.name) for each in self._container.list(staged_prefix(prefix), page=PAGE)]
        for key in found:
            if key not in keep:
                self._container.delete(key)

    def delete(self, key: str) -> None:
        self._container.delete(key)

    def close(self) -> None:
        self._executor.shutdown()
        self._container.close()


def _mark(facts: Any) -> str:
    return str((facts.metadata or {}).get(MARK, ""))
