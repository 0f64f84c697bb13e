"""A blob under way as blocks that belong to no blob; it may not make the blob visible, which publishing does."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Executor, Future, wait
from contextlib import suppress

from dsl.contracts.errors import FatalError, RetryableError
from dsl.contracts.state import Json
from resources.azure_blob.client import Container
from resources.object_store import StagedFile
from resources.staging import staged_key

MOST_BLOCKS = 50_000
UNDER_WAY = 2


def block_name(mark: str, number: int) -> str:
    """Returns the name of a block: all of one blob are of the same length, as the server demands."""
    return f"{mark}-{number:05d}"


class StagedBlob(StagedFile):
    """Blocks that leave while the next one fills, and a note in `_headrace/tmp` that they are meant.

    The server cannot be told to forget blocks: it forgets them after a week, and until then they count for nothing once
    the note is gone.

    Args:
        container: Where it goes.
        key: What it will be called.
        executor: Sends blocks.
        block_bytes: Bytes in a block; up to three are held in memory.
        home: Beside whose log the note lies; "" for the file's own folder.
    """

    def __init__(self, container: Container, key: str, executor: Executor, block_bytes: int, home: str = "") -> None:
        self._container, self._key, self._executor, self._block_bytes = container, key, executor, block_bytes
        self._mark = uuid.uuid4().hex
        self._note = staged_key(key, self._mark, home)
        self._filling = bytearray()
        self._sending: deque[Future[None]] = deque()
        self._blocks = self._size = 0
        self._noted = self._ended = False
        # A name that leads out of the root is refused before anything is sent.
        container.check(key)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        if self._ended:
            raise ValueError(f"{self._key} is sealed or discarded")
        rest = memoryview(data).cast("B")
        written = len(rest)
        self._size += written
        while rest:
            room = self._block_bytes - len(self._filling)
            self._filling += rest[:room]
            rest = rest[room:]
            if len(self._filling) == self._block_bytes:
                self._send()
        return written

    def seal(self) -> Mapping[str, Json]:
        if not self._ended:
            if self._filling:
                self._send()
            self._announce()
            self._settle(0)
            self._ended = True
        return {"key": self._key, "staged": self._note, "id": self._mark, "blocks": self._blocks, "size": self._size}

    def discard(self) -> None:
        self._ended = True
        self._filling = bytearray()
        wait(self._sending)
        self._sending.clear()
        # What cannot be removed now is swept by the next run; nobody sees it until then.
        with suppress(RetryableError):
            if self._noted:
                self._container.delete(self._note)

    def _announce(self) -> None:
        if not self._noted:
            self._container.create(self._note, b"", self._mark)
            self._noted = True

    def _send(self) -> None:
        if self._blocks == MOST_BLOCKS:
            raise FatalError(
                f"a file has at most {MOST_BLOCKS} blocks of {self._block_bytes} bytes",
                where=self._container.where(self._key),
                hint="lower file_bytes, or raise block_bytes",
            )
        self._announce()
        self._settle(UNDER_WAY - 1)
        block, self._filling = bytes(self._filling), bytearray()
        name = block_name(self._mark, self._blocks)
        self._sending.append(self._executor.submit(self._container.put_block, self._key, name, block))
        self._blocks += 1

    def _settle(self, left: int) -> None:
        """Waits until at most so many blocks are under way; raises what befell one."""
        while len(self._sending) > left:
            self._sending.popleft().result()
