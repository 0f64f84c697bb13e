"""One table of an SQL server for the suites that hold for connectors of any kind; it is filled and looked at by other means."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination, Source


@dataclass(frozen=True)
class SqlPlace:
    """A target and an origin.

    Attributes:
        ask: Runs a statement and returns its rows.
        put: Runs an INSERT for each of many rows.
        there: A query that gives a row if the table `rows` is there.
        create: Creates it.
        insert: Inserts id, name, score and at.
        reads: Makes the source.
        writes: Makes a destination with options.
    """

    ask: Callable[[str], Sequence[Sequence[Any]]]
    put: Callable[[str, list[tuple[Any, ...]]], object]
    there: str
    create: str
    insert: str
    reads: Callable[[], Source]
    writes: Callable[..., Destination]

    def destination(self, mode: WriteMode) -> Destination:
        return self.writes(write_mode=mode, primary_key=("id",) if mode is WriteMode.UPSERT else ())

    def rows(self) -> list[dict[str, Any]]:
        if not self.ask(self.there):
            return []
        found = self.ask('SELECT id, name, score, "at" FROM "rows"'.replace('"', self._quote))
        names = ("id", "name", "score", "at")
        return [{**dict(zip(names, row, strict=True)), "at": _plain(row[3])} for row in found]

    def fill(self, rows: Sequence[pa.RecordBatch]) -> None:
        self.ask(self.create)
        values = [tuple(each.values()) for batch in rows for each in batch.to_pylist()]
        if values:
            self.put(self.insert, values)

    def source(self) -> Source:
        return self.reads()

    @property
    def _quote(self) -> str:
        return "`" if "`" in self.create else '"'


def _plain(at: Any) -> Any:
    return dt.datetime.fromisoformat(at) if isinstance(at, str) else at
