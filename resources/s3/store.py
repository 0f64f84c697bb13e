"""A bucket as a store of files: conditional puts, uploads completed once, reads of one version; knows no format and no log."""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from dsl.contracts.errors import FatalError, HeadraceError, RetryableError
from dsl.contracts.state import Json
from resources.object_bytes import FIRST, ObjectBytes
from resources.object_store import ObjectStore, StagedFile, StoredFile
from resources.s3.client import PAUSES, Bucket, changed
from resources.s3.faults import CONFLICT, DENIED, EXISTS, NOT_FOUND, UNSUPPORTED, UPLOAD_GONE, code_of
from resources.s3.staged import MARK, StagedObject, abort, checksum

if TYPE_CHECKING:
    from resources.s3.resource import S3Connection

PAGE = 1000
SENDERS = 4
BUFFER = 128 * 2**10


class S3Store(ObjectStore):
    """A bucket, or a folder of it.

    Args:
        connection: Its options.
    """

    def __init__(self, connection: S3Connection) -> None:
        self._bucket = Bucket(connection)
        self.place = connection.place
        self._part_bytes = connection.part_bytes
        self._encryption = _encryption(connection)
        self._executor = ThreadPoolExecutor(SENDERS, thread_name_prefix="headrace-s3")
        self._conditions_hold = not connection.endpoint

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[StoredFile]:
        left = limit
        if left == 0:
            return
        for page in self._bucket.pages(
            "list_objects_v2", prefix, PaginationConfig={"PageSize": min(left or PAGE, PAGE)}
        ):
            for found in page.get("Contents", ()):
                # A key that ends so is what consoles make for an empty folder.
                if found["Key"].endswith("/"):
                    continue
                yield StoredFile(self._bucket.below(found["Key"]), found["Size"], found["ETag"], found["LastModified"])
                left = None if left is None else left - 1
                if left == 0:
                    return

    def open(self, file: StoredFile) -> BinaryIO:
        def fetch(start: int, size: int) -> bytes:
            within = {} if size == file.size else {"Range": f"bytes={start}-{start + size - 1}"}
            try:
                data = self._bucket.content(file.key, file.version, **within)
            except HeadraceError as error:
                if code_of(error) in EXISTS:
                    raise changed(self._bucket.where(file.key), "replaced") from error
                if code_of(error) in NOT_FOUND:
                    raise changed(self._bucket.where(file.key), "deleted") from error
                raise
            if len(data) != size:
                where = self._bucket.where(file.key)
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
            if code_of(error) in NOT_FOUND:
                return None
            raise

    def create(self, key: str, data: bytes) -> bool:
        mark = uuid.uuid4().hex
        created = self._put_if_absent(key, data, mark)
        if created and not self._conditions_hold:
            self._check_conditions(key, data, mark)
        return created

    def _put_if_absent(self, key: str, data: bytes, mark: str) -> bool:
        for pause in PAUSES:
            try:
                self._put(key, data, mark)
            except HeadraceError as error:
                if code_of(error) not in CONFLICT:
                    return self._is_mine(key, mark, error)
                time.sleep(pause)
            else:
                return True
        raise RetryableError("others write this object at the same time", where=self._bucket.where(key))

    def _put(self, key: str, data: bytes, mark: str) -> None:
        self._bucket.ask(
            "put_object", key, Body=data, IfNoneMatch="*", Metadata={MARK: mark}, **checksum(data), **self._encryption
        )

    def _is_mine(self, key: str, mark: str, error: HeadraceError) -> bool:
        """Finds out what became of a put that was refused or not answered: the SDK may have sent it more than once."""
        if code_of(error) not in EXISTS and not isinstance(error, RetryableError):
            raise error
        found = self._facts(key)
        if found is None:
            if isinstance(error, RetryableError):
                raise error
            raise RetryableError("another file of this name came and went", where=self._bucket.where(key)) from error
        return _mark(found) == mark

    def _check_conditions(self, key: str, data: bytes, mark: str) -> None:
        """Puts the same again, once for each store that is opened: the server must refuse, or two runs could both commit."""
        try:
            self._put(key, data, mark)
        except HeadraceError as error:
            if code_of(error) not in EXISTS:
                raise
            self._conditions_hold = True
        else:
            raise FatalError(
                "the server ignores If-None-Match: two runs at once could double rows",
                where=self._bucket.where(key),
                hint="upgrade it, or write to a store that honours conditional puts",
            )

    def _facts(self, key: str) -> dict[str, Any] | None:
        try:
            return self._bucket.ask("head_object", key)
        except HeadraceError as error:
            if code_of(error) in NOT_FOUND:
                return None
            raise

    def stage(self, key: str, home: str = "") -> StagedFile:
        del home  # the server hides an upload, and lists it under its key
        return StagedObject(self._bucket, key, self._executor, self._part_bytes, self._encryption)

    def publish(self, ticket: Mapping[str, Json]) -> None:
        key = str(ticket["key"])
        try:
            self._bucket.ask(
                "complete_multipart_upload",
                key,
                UploadId=ticket["upload_id"],
                MultipartUpload={"Parts": [_part(each) for each in cast("list[dict[str, str]]", ticket["parts"])]},
            )
        except HeadraceError as error:
            if code_of(error) in UPLOAD_GONE or isinstance(error, RetryableError):
                self._check_published(ticket, error)
                return
            raise

    def _check_published(self, ticket: Mapping[str, Json], error: HeadraceError) -> None:
        """Finds out whether an upload that cannot be completed is completed, here or by another process just now."""
        key = str(ticket["key"])
        found = None
        for pause in (0, *PAUSES):
            time.sleep(pause)
            found = self._facts(key)
            if found is not None and _mark(found) == ticket["id"]:
                return
        if code_of(error) not in UPLOAD_GONE:
            raise error
        there = "another object has its name" if found is not None else "and no object of its name is there"
        raise FatalError(
            f"a file of {ticket['size']} bytes that was committed cannot appear: its upload is gone, {there}",
            where=self._bucket.where(key),
            hint="did a rule of the bucket abort incomplete uploads? Let it wait at least a week, and load these rows again",
        ) from error

    def discard(self, ticket: Mapping[str, Json]) -> None:
        abort(self._bucket, str(ticket["key"]), str(ticket["upload_id"]))

    def sweep(self, prefix: str, kept: Collection[Mapping[str, Json]]) -> None:
        keep = {ticket["upload_id"] for ticket in kept}
        folder, slash, start = prefix.rpartition("/")
        try:
            pages = list(self._bucket.pages("list_multipart_uploads", folder + slash))
        except HeadraceError as error:
            # Nobody sees what stays; the bucket's rule for incomplete uploads takes it.
            if code_of(error) in DENIED | UNSUPPORTED:
                return
            raise
        for upload in (each for page in pages for each in page.get("Uploads", ())):
            meant = upload["Key"].rpartition("/")[2].startswith(start)
            if meant and upload["UploadId"] not in keep:
                abort(self._bucket, self._bucket.below(upload["Key"]), upload["UploadId"])

    def delete(self, key: str) -> None:
        self._bucket.ask("delete_object", key)

    def close(self) -> None:
        self._executor.shutdown()
        self._bucket.close()


def _mark(facts: Mapping[str, Any]) -> str:
    return str(facts["Metadata"].get(MARK, ""))


def _part(sent: Mapping[str, str]) -> dict[str, Any]:
    sums = {"ChecksumCRC32": sent["crc32"]} if "crc32" in sent else {}
    return {"PartNumber": sent["n"], "ETag": sent["etag"], **sums}


def _encryption(connection: S3Connection) -> dict[str, str]:
    if connection.encryption == "bucket":
        return {}
    if connection.encryption == "sse-s3":
        return {"ServerSideEncryption": "AES256"}
    key = {} if connection.kms_key is None else {"SSEKMSKeyId": connection.kms_key}
    return {"ServerSideEncryption": "aws:kms", **key}
