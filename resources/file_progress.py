"""Which files are still to be read, and the state that says so: for a full refresh, and for what is new or changed; opens no file.

Full refresh: `{"file", "version", "record"}`, the file last read from and the next record in it, null when it was read whole.

Incremental: the same, with `"seen"`, digests of the newest files that were read, `"floor"`, the time and key of the newest file
that was forgotten again, and `"older"`, how many files there are up to it. A file is read if it is above the floor and not among
the seen ones: so those that arrive late, with an older time than some that were read, are not lost, as long as they are no
older than `REMEMBERED` files; if they are, they are noticed by their number and the run fails.
"""

from __future__ import annotations

import base64
import bisect
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from dsl.contracts.errors import FatalError
from dsl.contracts.state import Json, State
from resources.object_store import StoredFile

REMEMBERED = 160
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Place: TypeAlias = tuple[int, str]


@dataclass(frozen=True)
class Todo:
    """A file to read.

    Attributes:
        file: The file.
        start: Its first record that is not read yet.
    """

    file: StoredFile
    start: int = 0


class Progress(ABC):
    """What is left of a listing, and what the state says after each step.

    Attributes:
        todo: The files to read, in order.
    """

    todo: Sequence[Todo]

    def inside(self, file: StoredFile, record: int) -> dict[str, Json]:
        """Returns the state's fields when a file was read up to a record."""
        return {"file": file.key, "version": file.version, "record": record}

    @abstractmethod
    def after(self, file: StoredFile) -> dict[str, Json]:
        """Returns the state's fields when a file was read whole."""

    @abstractmethod
    def end(self) -> dict[str, Json]:
        """Returns the state's fields when all files were read."""

    @abstractmethod
    def limited(self) -> dict[str, Json]:
        """Returns the state's fields when as many rows were read as were asked for."""


class FullRefresh(Progress):
    """All files, by key.

    Args:
        files: What there is.
        state: Where to go on, or None.
        place: How errors name the store.
    """

    def __init__(self, files: Iterable[StoredFile], state: State | None, place: str) -> None:
        listed = sorted(files, key=lambda each: each.key)
        at = (state or {}).get("file")
        if not isinstance(at, str):
            self.todo = [Todo(each) for each in listed]
            return
        begun = _begun(listed, state, place)
        self.todo = [*begun, *(Todo(each) for each in listed if each.key > at)]

    def after(self, file: StoredFile) -> dict[str, Json]:
        return {"file": file.key, "version": file.version, "record": None}

    def end(self) -> dict[str, Json]:
        return {"file": None, "version": None, "record": None, "complete": True}

    def limited(self) -> dict[str, Json]:
        return self.end()


class Incremental(Progress):
    """Files that are new or changed, by the time of their change.

    Args:
        files: What there is.
        state: What was read, or None.
        place: How errors name the store.
        now: The time of the listing.
        settle: A file that changed less than this ago may still be written.
    """

    def __init__(
        self, files: Iterable[StoredFile], state: State | None, place: str, now: datetime, settle: timedelta
    ) -> None:
        listed = sorted(files, key=_place)
        known = (state or {}).get("seen")
        digests = set(known) if isinstance(known, list) else set()
        self._floor = _floor_of(state)
        self._older = sum(1 for each in listed if self._floor is not None and _place(each) <= self._floor)
        self._check_late(state, place)
        self._seen = [(_place(each), digest(each)) for each in listed if digest(each) in digests]
        begun = _begun(listed, state, place)
        new = [
            each
            for each in listed
            if digest(each) not in digests
            and (self._floor is None or _place(each) > self._floor)
            and each.modified <= now - settle
            and each.key not in {todo.file.key for todo in begun}
        ]
        self.todo = [*begun, *(Todo(each) for each in new)]

    def _check_late(self, state: State | None, place: str) -> None:
        before = (state or {}).get("older")
        if isinstance(before, int) and self._older > before:
            raise FatalError(
                f"{self._older - before} files are new but older than {REMEMBERED} files that were read: "
                "which ones cannot be told any more",
                where=place,
                hint="touch the new files, so that their time of change is new as well",
            )

    def after(self, file: StoredFile) -> dict[str, Json]:
        bisect.insort(self._seen, (_place(file), digest(file)))
        if len(self._seen) > REMEMBERED:
            # Files are read in the order of their places, so everything that is not read yet lies above.
            self._floor = self._seen.pop(0)[0]
            self._older += 1
        return self.end()

    def end(self) -> dict[str, Json]:
        return {
            "file": None,
            "version": None,
            "record": None,
            "seen": [each for _, each in self._seen],
            "floor": None if self._floor is None else [*self._floor],
            "older": self._older,
        }

    def limited(self) -> dict[str, Json]:
        return {}


def digest(file: StoredFile) -> str:
    """Names one content of one file in eight characters."""
    found = hashlib.sha256(f"{file.key}\0{file.version}".encode()).digest()
    return base64.urlsafe_b64encode(found[:6]).decode()


def _place(file: StoredFile) -> Place:
    return (file.modified - _EPOCH) // timedelta(microseconds=1), file.key


def _floor_of(state: State | None) -> Place | None:
    match (state or {}).get("floor"):
        case [int(modified), str(key)]:
            return modified, key
        case _:
            return None


def _begun(listed: Sequence[StoredFile], state: State | None, place: str) -> list[Todo]:
    """Returns the file that was being read, at the record where to go on.

    Raises:
        FatalError: It is not what it was.
    """
    fields = state or {}
    key, record = fields.get("file"), fields.get("record")
    if not isinstance(key, str) or not isinstance(record, int):
        return []
    found = next((each for each in listed if each.key == key), None)
    if found is None or found.version != fields.get("version"):
        what = "deleted" if found is None else "replaced or changed"
        raise FatalError(
            f"it was {what} after {record} of its records were read",
            where=f"{place}/{key}",
            hint="put it back as it was, or begin anew with another path or workflow name",
        )
    return [Todo(found, record)]
