"""What a store of files offers the shared reader and writer of files, so that they can keep their promises; no store lives here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from dsl.contracts.state import Json


@dataclass(frozen=True)
class StoredFile:
    """One visible file.

    Attributes:
        key: Its name below the store's root, with `/` between folders.
        size: Bytes.
        version: Changes whenever the content does (an ETag; inode, size and time of change of a local file).
        modified: When it was last changed, in UTC.
    """

    key: str
    size: int
    version: str
    modified: datetime


class StagedFile(ABC):
    """A file being written that nobody sees."""

    @abstractmethod
    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Adds bytes; returns how many."""

    @abstractmethod
    def seal(self) -> Mapping[str, Json]:
        """Makes the bytes durable, still unseen; returns the ticket with which any process can publish or discard them."""

    @abstractmethod
    def discard(self) -> None:
        """Gives up; safe after `seal` and safe to call twice."""


class ObjectStore(ABC):
    """A flat name space of files: a folder of the machine, a bucket.

    Every method may raise `UnavailableError` (not reachable), `RetryableError` (it failed this time) or `FatalError`
    (not allowed, no such bucket, no space).
    """

    place: str
    """How errors name it; holds no secret."""

    @abstractmethod
    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[StoredFile]:
        """Yields the visible files whose key begins with `prefix`, sorted by key within a folder, at most `limit`."""

    @abstractmethod
    def open(self, file: StoredFile) -> BinaryIO:
        """Opens exactly this version for reading; the stream can seek.

        Raises:
            FatalError: It has been deleted or replaced since it was listed.
        """

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """Returns the content of a small file, or None if there is none of that name."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Writes a small file durably in one act if none of that name exists; tells whether it did.

        Of any number of processes that try at once, exactly one is told True. A caller that gets no answer (a
        `RetryableError`) must read the file to find out whose it is.
        """

    @abstractmethod
    def stage(self, key: str, home: str = "") -> StagedFile:
        """Begins a file that will be seen under `key` once it is published.

        Args:
            key: What it will be called.
            home: The folder, somewhere above it, by which `sweep` finds it until then; "" for its own folder.
        """

    @abstractmethod
    def publish(self, ticket: Mapping[str, Json]) -> None:
        """Makes a sealed file visible in one act; does nothing if it already is."""

    @abstractmethod
    def discard(self, ticket: Mapping[str, Json]) -> None:
        """Removes a sealed file that was not published; does nothing if there is none."""

    @abstractmethod
    def sweep(self, prefix: str, kept: Collection[Mapping[str, Json]]) -> None:
        """Discards everything staged under keys that begin with `prefix`, sealed or not, but for the tickets to keep.

        So it does with files in folders below whose home is the folder of `prefix`, and whose names begin like it.
        What its writer still holds open is discarded as well: a fenced writer has no use for it.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Removes a visible file; does nothing if there is none."""

    @abstractmethod
    def close(self) -> None:
        """Releases connections; safe to call twice."""
