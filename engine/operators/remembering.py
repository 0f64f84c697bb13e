"""What steps remember between batches, in tables that spill: keys that were seen, rows of open windows; commits nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.rows import Rejection
from dsl.contracts.state import Json, State
from dsl.plan.memory import BUCKET, MOMENT, Keys, Late, Windows
from dsl.plan.windows import begins, micros, placed
from engine.operators.relational import Tables, quoted
from engine.shape import empty

ROW: Final = "headrace row"
_SINCE: Final = "headrace since"
_MICROSECOND = timedelta(microseconds=1)


@dataclass
class Taken:
    """What became of a batch.

    Attributes:
        passed: Rows that go on at once.
        failed: Rows that were refused.
        filtered: How many were left out on purpose.
        kept: What is to be remembered of it, beyond what was.
    """

    passed: pa.RecordBatch
    failed: list[Rejection] = field(default_factory=list)
    filtered: int = 0
    kept: pa.RecordBatch | None = None


class Remembering(ABC):
    """What one step remembers.

    Args:
        tables: Where.
        node: The step, for rejections.
        schema: What enters.
    """

    folds = False

    def __init__(self, tables: Tables, node: str, schema: pa.Schema) -> None:
        self._tables, self._node, self._schema = tables, node, schema
        self._watermark: int | None = None
        self._live = 0
        self._rows = 0
        self.kept_schema: pa.Schema

    @property
    @abstractmethod
    def output_schema(self) -> pa.Schema:
        """The schema that leaves."""

    @abstractmethod
    def take(self, rows: pa.RecordBatch, now: datetime) -> Taken:
        """Takes a batch."""

    def tick(self, now: datetime) -> None:
        """Notes that nothing came."""
        del now

    def closed(self) -> Iterator[pa.RecordBatch]:
        """Yields results that are due, once; ask nothing else meanwhile."""
        yield from ()

    def facts(self) -> dict[str, Json]:
        """What belongs to the state besides the rows."""
        return {"watermark": self._watermark}

    def load(self, state: State | None, kept: Iterable[pa.RecordBatch]) -> None:
        """Brings back what was remembered."""
        found = (state or {}).get("watermark")
        self._watermark = found if isinstance(found, int) else None
        for each in kept:
            self._keep(each)

    @property
    def wasteful(self) -> bool:
        """Whether more than half of what is kept may be of no use any more."""
        return self._rows > 2 * self._live + 50_000

    @abstractmethod
    def condense(self) -> None:
        """Forgets what is of no use any more."""

    def snapshot(self) -> Iterator[pa.RecordBatch]:
        """Yields everything that is remembered."""
        for rows in self._tables.read("SELECT * FROM kept"):
            yield rows.cast(self.kept_schema)

    def _create(self, sql: str, **views: pa.RecordBatch) -> None:
        self._tables.change(f"CREATE TEMP TABLE kept AS {sql}", **views)
        self.kept_schema = self._tables.ask("SELECT * FROM kept").schema

    def _keep(self, rows: pa.RecordBatch) -> None:
        if rows.num_rows:
            self._tables.change("INSERT INTO kept SELECT * FROM fresh", fresh=rows)
            self._rows += rows.num_rows

    def _rebuild(self, sql: str) -> None:
        self._tables.change(f"CREATE TEMP TABLE condensed AS {sql}")
        self._tables.change("DROP TABLE kept")
        self._tables.change("ALTER TABLE condensed RENAME TO kept")
        count: Any = self._tables.ask("SELECT count(*) AS n FROM kept").column("n")[0].as_py()
        self._live = self._rows = int(count)

    def _refused(self, rows: pa.RecordBatch, fates: Any, late: Late, why_late: str) -> tuple[list[Rejection], int]:
        """The rows without a time, and the late ones where they are refused; and how many late ones are not."""
        failed = [
            Rejection(rows.slice(at, 1), "it has no time by which it could be placed", "no_time", self._node)
            for at in _where(fates, "none").to_pylist()
        ]
        behind = _where(fates, "late")
        if late is Late.FILTER:
            return failed, len(behind)
        return failed + [Rejection(rows.slice(at, 1), why_late, "late", self._node) for at in behind.to_pylist()], 0

    def _advance(self, times: Any) -> None:
        newest = pc.max(times).as_py()
        if newest is not None:
            self._watermark = newest if self._watermark is None else max(self._watermark, newest)


class RememberedKeys(Remembering):
    """Keys that were seen.

    Args:
        tables: Where.
        node: The step.
        schema: What enters.
        memory: What is remembered.
    """

    def __init__(self, tables: Tables, node: str, schema: pa.Schema, memory: Keys) -> None:
        super().__init__(tables, node, schema)
        self._memory = memory
        keys = memory.keys or tuple(quoted(each) for each in schema.names)
        self._names = [f"k{index}" for index in range(len(keys))]
        self._list = ", ".join(self._names)
        self._parts = ", ".join(f"{sql} AS {name}" for sql, name in zip(keys, self._names, strict=True))
        time = f", {memory.time} AS moment" if memory.time else ""
        self._create(f"SELECT {self._parts}{time} FROM input LIMIT 0", input=empty(schema))

    @property
    def output_schema(self) -> pa.Schema:
        return self._schema

    def take(self, rows: pa.RecordBatch, now: datetime) -> Taken:
        del now
        return self._by_time(rows) if self._memory.time else self._for_ever(rows)

    @property
    def wasteful(self) -> bool:
        return bool(self._memory.time) and super().wasteful

    def condense(self) -> None:
        if not self._memory.time:
            self._rebuild("SELECT * FROM kept")
            return
        bound = (self._watermark or 0) - micros(self._memory.span)
        self._rebuild(
            f"SELECT {self._list}, max(moment) AS moment FROM kept GROUP BY {self._list} HAVING max(moment) >= {bound}"
        )

    def _for_ever(self, rows: pa.RecordBatch) -> Taken:
        found = self._tables.ask(
            f"""WITH firsts AS (SELECT {self._list}, min(nth) AS nth
                    FROM (SELECT {self._parts}, "{ROW}" AS nth FROM input) GROUP BY {self._list}),
                known AS (SELECT DISTINCT {self._list} FROM kept SEMI JOIN firsts ON {self._same("kept", "firsts")})
            SELECT {self._list}, nth FROM firsts ANTI JOIN known ON {self._same("firsts", "known")} ORDER BY nth""",
            input=_numbered(rows),
        ).combine_chunks()
        kept = _one(found.select(self._names), self.kept_schema)
        self._keep(kept)
        passed = rows.take(found.column("nth").combine_chunks())
        return Taken(passed, filtered=rows.num_rows - passed.num_rows, kept=kept)

    def _by_time(self, rows: pa.RecordBatch) -> Taken:
        memory, before = self._memory, "NULL" if self._watermark is None else str(self._watermark)
        judged = self._tables.ask(
            f"""WITH given AS (SELECT {self._parts}, {memory.time} AS moment, "{ROW}" AS nth FROM input),
            judged AS (SELECT *, greatest({before}, max(moment) OVER (ORDER BY nth ROWS UNBOUNDED PRECEDING))
                - {micros(memory.span)} AS since FROM given),
            sound AS (SELECT *, max(moment) OVER (PARTITION BY {self._list} ORDER BY nth
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS last FROM judged WHERE moment >= since),
            known AS (SELECT {self._list}, max(moment) AS moment FROM kept SEMI JOIN sound ON {self._same("kept", "sound")}
                GROUP BY {self._list})
            SELECT judged.*, known.moment AS known, CASE WHEN judged.moment IS NULL THEN 'none'
                WHEN judged.moment < judged.since THEN 'late'
                WHEN greatest(sound.last, known.moment) >= judged.since THEN 'again' ELSE 'first' END AS fate
            FROM judged LEFT JOIN sound ON judged.nth = sound.nth
                LEFT JOIN known ON sound.nth IS NOT NULL AND {self._same("judged", "known")} ORDER BY judged.nth""",
            input=_numbered(rows),
        ).combine_chunks()
        fates = judged.column("fate").combine_chunks()
        failed, late = self._refused(
            rows, fates, memory.late, "it is older than what is remembered: it may have come before"
        )
        newest = self._tables.ask(
            f"""SELECT {self._list}, max(moment) AS moment FROM judged WHERE fate IN ('first', 'again')
            GROUP BY {self._list} HAVING max(moment) > coalesce(max(known), max(moment) - 1)""",
            judged=judged,
        )
        kept = _one(newest, self.kept_schema)
        self._keep(kept)
        self._advance(judged.column("moment"))
        again = len(_where(fates, "again"))
        return Taken(rows.take(_where(fates, "first")), failed, late + again, kept)

    def _same(self, one: str, other: str) -> str:
        return " AND ".join(f"{one}.{each} IS NOT DISTINCT FROM {other}.{each}" for each in self._names)


class RememberedRows(Remembering):
    """Rows of windows that are open.

    Args:
        tables: Where.
        node: The step.
        schema: What enters.
        memory: What is remembered.
    """

    folds = True

    def __init__(self, tables: Tables, node: str, schema: pa.Schema, memory: Windows) -> None:
        super().__init__(tables, node, schema)
        self._memory = memory
        names = ", ".join(quoted(each) for each in memory.columns)
        extra = f'{memory.time} AS "{MOMENT}", {memory.time} AS "{_SINCE}"'
        self._create(f"SELECT {names}, {extra} FROM input LIMIT 0", input=empty(schema))
        self._done: int | None = None
        self._next: int | None = None
        self._came: tuple[datetime, int] | None = None
        self._output = self._tables.ask(self._results("kept", "true")).schema

    @property
    def output_schema(self) -> pa.Schema:
        return self._output

    @property
    def _bound(self) -> int | None:
        return None if self._watermark is None else self._watermark - micros(self._memory.lateness)

    def load(self, state: State | None, kept: Iterable[pa.RecordBatch]) -> None:
        super().load(state, kept)
        self._done = self._bound
        self._look_ahead("kept")

    def take(self, rows: pa.RecordBatch, now: datetime) -> Taken:
        memory, before = self._memory, "NULL" if self._watermark is None else str(self._watermark)
        last = f"{begins('moment', memory.every)} + {micros(memory.size)}"
        judged = self._tables.ask(
            f"""WITH given AS (SELECT {memory.time} AS moment, "{ROW}" AS nth FROM input),
            judged AS (SELECT *, greatest({before}, max(moment) OVER (ORDER BY nth ROWS UNBOUNDED PRECEDING))
                - {micros(memory.lateness)} AS since FROM given)
            SELECT moment, since, CASE WHEN moment IS NULL THEN 'none' WHEN {last} <= since THEN 'late' ELSE 'open' END AS fate
            FROM judged ORDER BY nth""",
            input=_numbered(rows),
        ).combine_chunks()
        fates = judged.column("fate").combine_chunks()
        failed, late = self._refused(rows, fates, memory.late, "its window was closed before it came")
        chosen = _where(fates, "open")
        columns = [rows.column(each) for each in self._memory.columns]
        columns += [judged.column(each).combine_chunks() for each in ("moment", "since")]
        held = pa.RecordBatch.from_arrays([each.take(chosen) for each in columns], names=self.kept_schema.names)
        kept = held.cast(self.kept_schema)
        self._keep(kept)
        self._look_ahead("fresh", fresh=kept)
        self._advance(judged.column("moment"))
        if self._watermark is not None:
            self._came = (now, self._watermark)
        return Taken(empty(self._output), failed, late, kept)

    def tick(self, now: datetime) -> None:
        """Lets time go on by the clock where nothing has come for long."""
        self._came = self._came or (None if self._watermark is None else (now, self._watermark))
        if self._came is None or self._memory.idle is None or self._watermark is None:
            return
        came, newest = self._came
        # Only when a window closes by it: a state that moves with every tick would be committed for nothing.
        later = newest + (now - came) // _MICROSECOND
        if (
            now - came >= self._memory.idle
            and self._next is not None
            and later - micros(self._memory.lateness) >= self._next
        ):
            self._watermark = max(self._watermark, later)

    def closed(self) -> Iterator[pa.RecordBatch]:
        bound = self._bound
        if bound is None or self._next is None or bound < self._next:
            return
        after = "" if self._done is None else f' AND "{BUCKET}" + {micros(self._memory.size)} > {self._done}'
        due = f'"{BUCKET}" + {micros(self._memory.size)} <= {bound}{after}'
        yield from self._tables.read(self._results("kept", due))
        self._done, self._next = bound, None
        self._look_ahead("kept")

    def condense(self) -> None:
        bound = self._bound
        last = f"{begins(f'{quoted(MOMENT)}', self._memory.every)} + {micros(self._memory.size)}"
        self._rebuild(f"SELECT * FROM kept WHERE {'true' if bound is None else f'{last} > {bound}'}")

    def _results(self, relation: str, condition: str) -> str:
        return self._memory.sql.format(f"(SELECT * FROM ({self._placed(relation)}) WHERE {condition})")

    def _placed(self, relation: str) -> str:
        """Rows with their windows, those left out that were closed when a row came."""
        sql = placed(relation, quoted(MOMENT), self._memory.size, self._memory.every)
        return f'SELECT * FROM ({sql}) WHERE "{BUCKET}" + {micros(self._memory.size)} > "{_SINCE}"'

    def _look_ahead(self, relation: str, **views: pa.RecordBatch) -> None:
        """Notes when the next window closes."""
        open_only = "true" if self._done is None else f'"{BUCKET}" + {micros(self._memory.size)} > {self._done}'
        sql = f'SELECT min("{BUCKET}") + {micros(self._memory.size)} AS next FROM ({self._placed(relation)}) WHERE {open_only}'
        found: Any = self._tables.ask(sql, **views).column("next")[0].as_py()
        if found is not None:
            self._next = int(found) if self._next is None else min(self._next, int(found))


def remembering(memory: Keys | Windows, tables: Tables, node: str, schema: pa.Schema) -> Remembering:
    """What stands for a step's memory."""
    if isinstance(memory, Keys):
        return RememberedKeys(tables, node, schema, memory)
    return RememberedRows(tables, node, schema, memory)


def _numbered(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows.append_column(ROW, pa.array(range(rows.num_rows), pa.int64()))


def _one(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    batches = table.cast(schema).combine_chunks().to_batches()
    return batches[0] if batches else empty(schema)


def _where(fates: Any, fate: str) -> Any:
    return pc.indices_nonzero(pc.equal(fates, pa.scalar(fate)))
