"""An object under way below a name where no reader looks; it may not make the object visible, which publishing does."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from dsl.contracts.errors import FatalError, RetryableError
from dsl.contracts.state import Json
from resources.gcs.client import Bucket
from resources.gcs.faults import translating
from resources.object_store import StagedFile
from resources.staging import staged_key

OPEN = ".open"
"""Ends the name of what says that an upload in chunks goes on: the server lists no such uploads, so sweeping takes this."""


class StagedObject(StagedFile):
    """An upload in chunks, or in one request where the file is smaller than a chunk.

    Args:
        bucket: Where it goes.
        key: What it will be called.
        chunk: Bytes in a request; two are held in memory.
        home: Beside whose log it lies until then; "" for its own folder.
    """

    def __init__(self, bucket: Bucket, key: str, chunk: int, home: str = "") -> None:
        self._bucket, self._key, self._chunk = bucket, key, chunk
        self._mark = uuid.uuid4().hex
        self._staged = staged_key(key, self._mark, home)
        self._filling = bytearray()
        self._writer: Any = None
        self._size = 0
        self._ended = self._sealed = False
        # A name that leads out of the root is refused before anything is sent.
        bucket.check(key)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        if self._ended:
            raise ValueError(f"{self._key} is sealed or discarded")
        rest = memoryview(data).cast("B")
        self._size += len(rest)
        written = len(rest)
        while rest:
            room = self._chunk - len(self._filling)
            self._filling += rest[:room]
            rest = rest[room:]
            if len(self._filling) == self._chunk and rest:
                self._send()
        return written

    def _send(self) -> None:
        if self._writer is None:
            self._bucket.create(self._staged + OPEN, b"", self._mark)
            self._writer = self._bucket.writer(self._staged, self._mark, self._chunk)
        with translating(self._bucket.where(self._key)):
            self._writer.write(bytes(self._filling))
        self._filling = bytearray()

    def seal(self) -> Mapping[str, Json]:
        if not self._ended:
            if self._writer is None:
                self._bucket.create(self._staged, bytes(self._filling), self._mark)
            else:
                self._finish()
            self._ended = self._sealed = True
        return {"key": self._key, "staged": self._staged, "id": self._mark, "size": self._size}

    def _finish(self) -> None:
        with translating(self._bucket.where(self._key)):
            self._writer.write(bytes(self._filling))
            self._writer.close()
        self._sealed = True
        if self._bucket.facts(self._staged + OPEN) is None:
            self._bucket.delete(self._staged)
            raise FatalError("a newer run swept it away", where=self._bucket.where(self._key))
        self._bucket.delete(self._staged + OPEN)

    def discard(self) -> None:
        self._ended = True
        self._filling = bytearray()
        # What cannot be removed now is swept by the next run; nobody sees it until then.
        with suppress(RetryableError):
            if self._writer is not None:
                if not self._sealed:
                    with translating(self._bucket.where(self._key)):
                        self._writer.terminate()
                self._writer = None
                self._bucket.delete(self._staged + OPEN)
            if self._sealed:
                self._bucket.delete(self._staged)
