"""An object under way as the parts of an upload that nobody sees; it may not make the object visible, which publishing does."""

from __future__ import annotations

import base64
import uuid
import zlib
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Executor, Future, wait
from contextlib import suppress
from typing import Any, Final

from dsl.contracts.errors import FatalError, HeadraceError, RetryableError
from dsl.contracts.state import Json
from resources.object_store import StagedFile
from resources.s3.client import Bucket
from resources.s3.faults import UPLOAD_GONE, code_of

MARK: Final = "headrace-id"
"""The metadata of an object that tells whose it is: a name that no other object has."""
MOST_PARTS = 10_000
UNDER_WAY = 2


def checksum(data: bytes | memoryview) -> dict[str, str]:
    """Returns the checksum of a body as the server compares it."""
    return {"ChecksumCRC32": base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()}


class StagedObject(StagedFile):
    """A multipart upload whose parts leave while the next one fills.

    Args:
        bucket: Where it goes.
        key: What it will be called.
        executor: Sends parts.
        part_bytes: Bytes in a part; up to three are held in memory.
        encryption: What the request that begins an upload says about encryption.
    """

    def __init__(
        self, bucket: Bucket, key: str, executor: Executor, part_bytes: int, encryption: Mapping[str, str]
    ) -> None:
        self._bucket, self._key, self._executor = bucket, key, executor
        self._part_bytes, self._encryption = part_bytes, encryption
        self._mark = uuid.uuid4().hex
        self._upload = ""
        self._filling = bytearray()
        self._sending: deque[Future[dict[str, Json]]] = deque()
        self._sent: list[Json] = []
        self._size = 0
        self._ended = False

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        if self._ended:
            raise ValueError(f"{self._key} is sealed or discarded")
        rest = memoryview(data).cast("B")
        while rest:
            room = self._part_bytes - len(self._filling)
            self._filling += rest[:room]
            rest = rest[room:]
            if len(self._filling) == self._part_bytes:
                self._send()
        written = memoryview(data).nbytes
        self._size += written
        return written

    def seal(self) -> Mapping[str, Json]:
        if not self._ended:
            # An upload has at least one part, if an empty one.
            if self._filling or not self._upload:
                self._send()
            self._settle(0)
            self._ended = True
        return {
            "key": self._key,
            "upload_id": self._upload,
            "id": self._mark,
            "size": self._size,
            "parts": list(self._sent),
        }

    def discard(self) -> None:
        self._ended = True
        self._filling = bytearray()
        # A part that arrives after the upload was aborted would stay, unseen and paid for.
        wait(self._sending)
        self._sending.clear()
        if self._upload:
            # What cannot be aborted now is swept by the next run; nobody sees it until then.
            with suppress(RetryableError):
                abort(self._bucket, self._key, self._upload)

    def _send(self) -> None:
        number = len(self._sent) + len(self._sending) + 1
        if number > MOST_PARTS:
            raise FatalError(
                f"a file has at most {MOST_PARTS} parts of {self._part_bytes} bytes",
                where=self._bucket.where(self._key),
                hint="lower file_bytes, or raise part_bytes",
            )
        if not self._upload:
            begun = self._bucket.ask(
                "create_multipart_upload",
                self._key,
                Metadata={MARK: self._mark},
                ChecksumAlgorithm="CRC32",
                **self._encryption,
            )
            self._upload = begun["UploadId"]
        self._settle(UNDER_WAY - 1)
        part, self._filling = self._filling, bytearray()
        self._sending.append(self._executor.submit(self._upload_part, number, part))

    def _settle(self, left: int) -> None:
        """Waits until at most so many parts are under way; raises what befell one."""
        while len(self._sending) > left:
            self._sent.append(self._sending.popleft().result())

    def _upload_part(self, number: int, part: bytearray) -> dict[str, Json]:
        sums = checksum(memoryview(part))
        answer: dict[str, Any] = self._bucket.ask(
            "upload_part", self._key, UploadId=self._upload, PartNumber=number, Body=part, **sums
        )
        # A server that does not know checksums must not be asked to compare them when the upload is completed.
        return {
            "n": number,
            "etag": answer["ETag"],
            **({"crc32": sums["ChecksumCRC32"]} if "ChecksumCRC32" in answer else {}),
        }


def abort(bucket: Bucket, key: str, upload: str) -> None:
    """Discards an upload and its parts; does nothing if it is completed or gone."""
    try:
        bucket.ask("abort_multipart_upload", key, UploadId=upload)
    except HeadraceError as error:
        if code_of(error) not in UPLOAD_GONE:
            raise
