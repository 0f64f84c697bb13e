"""A store that kills its process at a chosen request, and a load that resumes: what crash tests of any store of files need."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

import pyarrow as pa

from dsl.contracts.connectors import Token
from dsl.contracts.folders import FOLDER
from dsl.contracts.state import Json
from resources.file_writer import FileWriter, Writing
from resources.object_store import ObjectStore, StagedFile, StoredFile
from resources.testing import sample

SCHEMA = sample(0, 0).schema
TOKEN = Token(workflow="crash", stage="load")
EPOCHS = 3
ROWS = 20


@dataclass
class Killer:
    """Kills this process at one visit of one request.

    Attributes:
        request: Name of a method of `ObjectStore`, or `seal`.
        when: `before` it is made, or `after` it was answered.
        visit: Which one, counted from 1; 0 for never.
    """

    request: str = ""
    when: str = ""
    visit: int = 0
    seen: dict[tuple[str, str], int] = field(default_factory=dict)

    def reach(self, request: str, when: str) -> None:
        """Count a visit, and kill if it is the one."""
        count = self.seen[request, when] = self.seen.get((request, when), 0) + 1
        if (request, when, count) == (self.request, self.when, self.visit):
            os.kill(os.getpid(), signal.SIGKILL)


class KillingStore(ObjectStore):
    """A store whose process dies at a chosen request."""

    def __init__(self, store: ObjectStore, killer: Killer) -> None:
        self._store, self._killer = store, killer
        self.place = store.place

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[StoredFile]:
        return self._store.list(prefix, limit=limit)

    def open(self, file: StoredFile) -> BinaryIO:
        return self._store.open(file)

    def read(self, key: str) -> bytes | None:
        return self._store.read(key)

    def create(self, key: str, data: bytes) -> bool:
        self._killer.reach("create", "before")
        created = self._store.create(key, data)
        self._killer.reach("create", "after")
        return created

    def stage(self, key: str, home: str = "") -> StagedFile:
        return _KillingFile(self._store.stage(key, home), self._killer)

    def publish(self, ticket: Mapping[str, Json]) -> None:
        self._killer.reach("publish", "before")
        self._store.publish(ticket)
        self._killer.reach("publish", "after")

    def discard(self, ticket: Mapping[str, Json]) -> None:
        self._store.discard(ticket)

    def sweep(self, prefix: str, kept: Collection[Mapping[str, Json]]) -> None:
        self._killer.reach("sweep", "before")
        self._store.sweep(prefix, kept)
        self._killer.reach("sweep", "after")

    def delete(self, key: str) -> None:
        self._killer.reach("delete", "before")
        self._store.delete(key)
        self._killer.reach("delete", "after")

    def close(self) -> None:
        self._store.close()


class _KillingFile(StagedFile):
    def __init__(self, staged: StagedFile, killer: Killer) -> None:
        self._staged, self._killer = staged, killer

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        return self._staged.write(data)

    def seal(self) -> Mapping[str, Json]:
        self._killer.reach("seal", "before")
        ticket = self._staged.seal()
        self._killer.reach("seal", "after")
        return ticket

    def discard(self) -> None:
        self._staged.discard()


def load(store: ObjectStore, first: int, *, overwrite: bool = False, folders: int = 0) -> None:
    """Goes on with a load of three epochs of two files, from where the log says that it ended.

    Args:
        store: Where to write; closed at the end.
        first: The epoch the load begins with, counted over the stream's life.
        overwrite: Whether it replaces what is there.
        folders: Over how many folders the rows of each epoch are spread; 0 for none below that of the data.
    """
    template = "f={{ id }}" if folders else ""
    writing = Writing(path="lake", overwrite=overwrite, file_rows=ROWS // 2, folders=template, open_files=2)
    schema = SCHEMA.append(pa.field(FOLDER, pa.string())) if folders else SCHEMA
    with FileWriter(store, writing, schema, TOKEN) as writer:
        committed = writer.get_state()
        for epoch in range(first if committed is None else committed.epoch + 1, first + EPOCHS):
            writer.write(spread(sample(epoch * 100, ROWS), folders) if folders else sample(epoch * 100, ROWS))
            writer.commit(epoch, {"v": 1, "epoch": epoch}, final=epoch == first + EPOCHS - 1)


def spread(rows: pa.RecordBatch, folders: int) -> pa.RecordBatch:
    """Returns rows with a folder each, in turn."""
    names = pa.array([f"f={each % folders}" for each in range(rows.num_rows)])
    return rows.append_column(pa.field(FOLDER, pa.string()), names)


def expected(*firsts: int) -> list[int]:
    """Returns the ids that these loads bring, in order."""
    return [epoch * 100 + row for first in firsts for epoch in range(first, first + EPOCHS) for row in range(ROWS)]
