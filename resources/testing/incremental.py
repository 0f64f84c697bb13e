"""What every SQL source must do that reads incrementally, as a pytest class to inherit: each row once, whatever happens at the edges.

class TestMine(IncrementalSuite):
    @pytest.fixture
    def growing(self, my_server) -> GrowingTable: ...
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Protocol

import pytest

from dsl.contracts.changes import OPERATION, Deletes
from dsl.contracts.connectors import ReadRequest, Source
from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.rows import Batch
from dsl.contracts.state import State
from resources.sql import NullCursor
from resources.sql_deletes import SoftColumn

TABLE = "CREATE TABLE events (id {int} PRIMARY KEY, changed {time}, note VARCHAR(40), gone BOOLEAN)"
Run = Callable[[str], None]


class GrowingTable(Protocol):
    """The table `events` of `TABLE`, which is read incrementally by `changed`."""

    def source(self, **options: Any) -> Source:
        """Returns a source of it, with more options or others."""

    def execute(self, *statements: str) -> None:
        """Runs statements by other means than the connector, each in a transaction of its own."""

    def late(self) -> AbstractContextManager[Run] | None:
        """Opens a transaction that commits when it is left; None where a file has one writer at a time."""

    def now(self) -> str:
        """Returns the system's words for the time of the transaction, as `changed` would hold it."""

    def settle(self) -> None:
        """Waits until what was committed is read by the next run."""


class IncrementalSuite:
    """The promises of incremental reads. Subclasses give the fixture `growing`."""

    @pytest.fixture
    def growing(self) -> GrowingTable:
        """Must be overridden."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'growing'")

    def test_the_seven_rows(self, growing: GrowingTable) -> None:
        """Ties with the last value, newer rows, late commits, NULLs: each row exactly once, in some run."""
        reading = _Reading(growing, null_cursor=NullCursor.INCLUDE_ONCE)
        _insert(growing, (1, "2024-01-01 00:00:00"), (2, "2024-01-02 00:00:00"), (3, None))
        late = growing.late()
        if late is None:
            assert reading.run() == [1, 2, 3]
            _insert(growing, (6, "2024-01-02 00:00:00"))
        else:
            with late as run:
                run(f"INSERT INTO events (id, changed) VALUES (6, {growing.now()})")
                assert reading.run() == [1, 2, 3]
        _insert(growing, (4, "2024-01-02 00:00:00"), (5, "2024-01-03 00:00:00"), (7, None))
        growing.settle()
        reading.run()
        assert reading.run() == []
        assert reading.seen == Counter(range(1, 8))

    def test_rows_without_a_value_are_refused_with_their_count(self, growing: GrowingTable) -> None:
        _insert(growing, (1, None), (2, "2024-01-01 00:00:00"), (3, None))
        with pytest.raises(FatalError, match=r"2 rows have no value in 'changed'.*null_cursor: include_once"):
            _Reading(growing).run()

    def test_ties_are_cut_and_resumed_anywhere(self, growing: GrowingTable) -> None:
        _insert(growing, *((number, f"2024-01-01 00:00:{number // 15:02d}") for number in range(60)))
        batches = _Reading(growing).batches(batch_rows=7)
        for at, each in enumerate(batches):
            if each.state is not None:
                resumed = _Reading(growing, state=each.state)
                resumed.note(batches[: at + 1])
                resumed.run(batch_rows=4)
                assert resumed.seen == Counter(range(60)), f"resumed after batch {at}"

    def test_ties_that_come_between_two_runs(self, growing: GrowingTable) -> None:
        reading = _Reading(growing)
        for number in (5, 1, 9, 3):
            _insert(growing, (number, "2024-01-01 00:00:00"))
            assert reading.run() == [number]
        assert reading.run() == []

    def test_a_row_that_a_program_dates_back(self, growing: GrowingTable) -> None:
        """As long as it is newer than the last row that was read; older ones are for `full_compare`."""
        reading = _Reading(growing)
        _insert(growing, (1, "2024-01-01 00:00:00"))
        assert reading.run() == [1]
        _insert(growing, (2, "2024-01-01 00:00:01"))
        assert reading.run() == [2]

    def test_a_row_that_changes_while_it_is_read(self, growing: GrowingTable) -> None:
        _insert(growing, *((number, f"2024-01-01 00:00:{number:02d}") for number in range(1, 21)))
        reading = _Reading(growing)
        with growing.source().read(ReadRequest(batch_rows=5), None) as reader:
            batches = iter(reader)
            first = next(batches)
            growing.execute("UPDATE events SET note = 'again', changed = '2024-01-02 00:00:00' WHERE id IN (2, 18)")
            reading.note([first, *batches])
        assert reading.seen == Counter(range(1, 21)), "each as it stood when the read began"
        assert reading.run() == [2, 18]
        assert reading.run() == []

    def test_a_row_that_is_deleted_while_it_is_read(self, growing: GrowingTable) -> None:
        _insert(growing, *((number, f"2024-01-01 00:00:{number:02d}") for number in range(1, 21)))
        reading = _Reading(growing)
        with growing.source().read(ReadRequest(batch_rows=5), None) as reader:
            batches = iter(reader)
            first = next(batches)
            growing.execute("DELETE FROM events WHERE id IN (1, 20)")
            reading.note([first, *batches])
        assert reading.seen == Counter(range(1, 21)), "each as it stood when the read began"
        assert reading.run() == []

    def test_a_commit_that_comes_late(self, growing: GrowingTable) -> None:
        late = growing.late()
        if late is None:
            pytest.skip("a file has one writer at a time")
        reading = _Reading(growing)
        with late as run:
            run(f"INSERT INTO events (id, changed) VALUES (1, {growing.now()})")
            growing.execute(f"INSERT INTO events (id, changed) VALUES (2, {growing.now()})")
            growing.settle()
            assert reading.run() == [], "nothing beside the open transaction is settled"
        growing.settle()
        assert reading.run() == [1, 2]
        assert reading.run() == []

    def test_rows_that_a_column_marks_as_deleted(self, growing: GrowingTable) -> None:
        reading = _Reading(growing, deletes=Deletes.SOFT_COLUMN, soft_column=SoftColumn(column="gone"))
        _insert(growing, (1, "2024-01-01 00:00:00"), (2, "2024-01-01 00:00:01"))
        growing.execute("UPDATE events SET gone = false WHERE id = 2")
        assert reading.told(columns=("id", OPERATION)) == [(1, "upsert"), (2, "upsert")]
        growing.execute("UPDATE events SET gone = true, changed = '2024-01-01 00:00:02' WHERE id = 1")
        assert reading.told(columns=("id", OPERATION)) == [(1, "delete")]

    def test_a_marking_column_that_is_not_there_is_said(self, growing: GrowingTable) -> None:
        missing = SoftColumn(column="no_such_column")
        with pytest.raises(SchemaError, match="no column 'no_such_column'"):
            _Reading(growing, deletes=Deletes.SOFT_COLUMN, soft_column=missing).run()

    def test_a_value_that_marks_rows_as_deleted(self, growing: GrowingTable) -> None:
        soft = SoftColumn(column="note", value="D")
        reading = _Reading(growing, deletes=Deletes.SOFT_COLUMN, soft_column=soft)
        _insert(growing, (1, "2024-01-01 00:00:00"), (2, "2024-01-01 00:00:01"))
        growing.execute("UPDATE events SET note = 'D' WHERE id = 1")
        assert reading.told() == [(1, "delete"), (2, "upsert")]

    def test_a_full_comparison_comes_when_it_is_due(self, growing: GrowingTable) -> None:
        options: dict[str, Any] = {"deletes": Deletes.FULL_COMPARE, "compare_every": timedelta(microseconds=1)}
        reading = _Reading(growing, **options)
        _insert(growing, (1, "2024-01-01 00:00:00"), (2, "2024-01-01 00:00:01"))
        assert reading.told() == [(1, "upsert"), (2, "upsert")], "there is nothing yet to compare with"
        growing.execute("DELETE FROM events WHERE id = 1")
        _insert(growing, (3, "2023-01-01 00:00:00"))
        compared = [(None, "compare"), (2, "present"), (3, "present"), (None, "sweep")]
        assert reading.told() == compared, "a row that was dated back is found as well"
        rarely = _Reading(growing, state=reading.state, deletes=Deletes.FULL_COMPARE)
        assert rarely.told() == []
        without = _Reading(growing, state=reading.state)
        assert without.run() == [], "the place is the same where nothing is compared any more"

    def test_a_comparison_resumes_after_every_batch(self, growing: GrowingTable) -> None:
        options: dict[str, Any] = {"deletes": Deletes.FULL_COMPARE, "compare_every": timedelta(microseconds=1)}
        _insert(growing, *((number, f"2024-01-01 00:00:{number:02d}") for number in range(1, 21)))
        first = _Reading(growing, **options)
        first.run()
        batches = first.batches(batch_rows=3)
        cuts = [at for at, each in enumerate(batches[:-1]) if each.state is not None]
        assert len(cuts) > 5
        for at in cuts:
            resumed = _Reading(growing, state=batches[at].state, **options)
            before = [row["id"] for each in batches[: at + 1] for row in each.rows.to_pylist()]
            after = [number for number, _ in resumed.told(batch_rows=4)]
            assert [*before, *after] == [None, *range(1, 21), None], f"resumed after batch {at}"


class _Reading:
    """Runs of one workflow: each goes on where the one before ended."""

    def __init__(self, growing: GrowingTable, *, state: State | None = None, **options: Any) -> None:
        self._growing, self._options, self.state = growing, options, state
        self.seen: Counter[int] = Counter()

    def batches(self, **request: Any) -> list[Batch]:
        """Reads once, moves nothing."""
        with self._growing.source(**self._options).read(ReadRequest(**request), self.state) as reader:
            return list(reader)

    def note(self, batches: list[Batch]) -> list[Batch]:
        """Counts what came, and goes on after it."""
        for each in batches:
            self.seen.update(row["id"] for row in each.rows.to_pylist())
            self.state = self.state if each.state is None else each.state
        return batches

    def run(self, **request: Any) -> list[int]:
        """Reads what is new; returns the ids, sorted."""
        found = self.note(self.batches(**request))
        return sorted(row["id"] for each in found for row in each.rows.to_pylist())

    def told(self, **request: Any) -> list[tuple[int | None, str]]:
        """Reads what is new; returns the ids and what happened to each, in order."""
        found = self.note(self.batches(**request))
        return [(row["id"], row[OPERATION]) for each in found for row in each.rows.to_pylist()]


def _insert(growing: GrowingTable, *rows: tuple[int, str | None]) -> None:
    values = ", ".join(f"({number}, {'NULL' if at is None else repr(at)})" for number, at in rows)
    growing.execute(f"INSERT INTO events (id, changed) VALUES {values}")
