"""A bucket of Google's as a store of files: creation once, reads of one generation, copies that publish; knows no format and no log."""

from __future__ import annotations

import io
import uuid
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from dsl.contracts.errors import FatalError, HeadraceError, RetryableError
from dsl.contracts.state import Json
from resources.gcs.client import MARK, Bucket, changed, is_missing
from resources.gcs.faults import EXISTS, status_of
from resources.gcs.staged import OPEN, StagedObject
from resources.object_bytes import FIRST, ObjectBytes
from resources.object_store import ObjectStore, StagedFile, StoredFile
from resources.staging import is_staged, staged_prefix

if TYPE_CHECKING:
    from resources.gcs.resource import GcsConnection

PAGE = 1000
BUFFER = 128 * 2**10


class GcsStore(ObjectStore):
    """A bucket, or a folder of it. What is being written lies in `_headrace/tmp` beside where it will be.

    Args:
        connection: Its options.
    """

    def __init__(self, connection: GcsConnection) -> None:
        self._bucket = Bucket(connection)
        self.place = connection.place
        self._chunk = connection.chunk_bytes
        self._conditions_hold = not connection.endpoint

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[StoredFile]:
        left = limit
        if left == 0:
            return
        for found in self._bucket.list(prefix, page=min(left or PAGE, PAGE)):
            key = self._bucket.below(found.name)
            # A key that ends so is what consoles make for an empty folder.
            if key.endswith("/") or is_staged(key):
                continue
            yield StoredFile(key, found.size, str(found.generation), found.updated)
            left = None if left is None else left - 1
            if left == 0:
                return

    def open(self, file: StoredFile) -> BinaryIO:
        where, generation = self._bucket.where(file.key), int(file.version)

        def fetch(start: int, size: int) -> bytes:
            if not size:
                return b""
            try:
                data = self._bucket.content(file.key, generation, start, size)
            except HeadraceError as error:
                if is_missing(error):
                    there = self._bucket.facts(file.key) is not None
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
            return self._bucket.content(key)
        except HeadraceError as error:
            if is_missing(error):
                return None
            raise

    def create(self, key: str, data: bytes) -> bool:
        mark = uuid.uuid4().hex
        try:
            self._bucket.create(key, data, mark)
        except HeadraceError as error:
            return self._is_mine(key, mark, error)
        if not self._conditions_hold:
            self._check_conditions(key, data, mark)
        return True

    def _is_mine(self, key: str, mark: str, error: HeadraceError) -> bool:
        """Finds out what became of a creation that was refused or not answered: the SDK may have sent it more than once."""
        if status_of(error) != EXISTS and not isinstance(error, RetryableError):
            raise error
        found = self._bucket.facts(key)
        if found is None:
            if isinstance(error, RetryableError):
                raise error
            raise RetryableError("another file of this name came and went", where=self._bucket.where(key)) from error
        return _mark(found) == mark

    def _check_conditions(self, key: str, data: bytes, mark: str) -> None:
        """Creates the same again, once for each store that is opened: the server must refuse, or two runs could both commit."""
        try:
            self._bucket.create(key, data, mark)
        except HeadraceError as error:
            if status_of(error) != EXISTS:
                raise
            self._conditions_hold = True
        else:
            raise FatalError(
                "the server ignores ifGenerationMatch: two runs at once could double rows",
                where=self._bucket.where(key),
                hint="write to a store that honours generation preconditions",
            )

    def stage(self, key: str, home: str = "") -> StagedFile:
        return StagedObject(self._bucket, key, self._chunk, home)

    def publish(self, ticket: Mapping[str, Json]) -> None:
        key, staged = str(ticket["key"]), str(ticket["staged"])
        try:
            self._bucket.copy(staged, key)
        except HeadraceError as error:
            refused = status_of(error) == EXISTS or is_missing(error) or isinstance(error, RetryableError)
            if not refused:
                raise
            self._check_published(ticket, error)
        self._bucket.delete(staged)

    def _check_published(self, ticket: Mapping[str, Json], error: HeadraceError) -> None:
        """Finds out whether a file that cannot be copied to its name is there, by this process or by another one."""
        key = str(ticket["key"])
        found = self._bucket.facts(key)
        if found is not None and _mark(found) == ticket["id"]:
            return
        if isinstance(error, RetryableError):
            raise error
        there = "another object has its name" if found is not None else "it is gone from _headrace/tmp"
        raise FatalError(
            f"a file of {ticket['size']} bytes that was committed cannot appear: {there}",
            where=self._bucket.where(key),
            hint="move what is in the way, or load these rows again; no rule of the bucket may delete from _headrace",
        ) from error

    def discard(self, ticket: Mapping[str, Json]) -> None:
        self._bucket.delete(str(ticket["staged"]))

    def sweep(self, prefix: str, kept: Collection[Mapping[str, Json]]) -> None:
        keep = {str(ticket["staged"]) for ticket in kept}
        found = [self._bucket.below(each.name) for each in self._bucket.list(staged_prefix(prefix), page=PAGE)]
        # What says that an upload goes on is taken first: the upload then finds out, however late it ends.
        for key in sorted(found, key=lambda each: not each.endswith(OPEN)):
            if key not in keep:
                self._bucket.delete(key)

    def delete(self, key: str) -> None:
        self._bucket.delete(key)

    def close(self) -> None:
        self._bucket.close()


def _mark(facts: Any) -> str:
    return str((facts.metadata or {}).get(MARK, ""))
