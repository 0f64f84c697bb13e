"""Deletions go from a table, through steps, to a table that is merged or a log, whatever happens to the rows meanwhile; on SQLite files."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dsl.compile import compile_text
from engine.run import run_plan
from resources.registry import InstalledCatalog
from tests.engine.fakes import NOW, Checkpoints, context

NEWER = "changed = strftime('%Y-%m-%d %H:%M:%f', 'now')"


class Flow:
    """A workflow between two files, compiled anew for each run."""

    def __init__(self, home: Path, options: str, steps: str = "", destination: str = "", key: str = "id") -> None:
        self.home, self.here, self.there = home, home / "here.db", home / "there.db"
        mode = destination or f"table: kept, write_mode: merge, primary_key: {key}"
        self._text = f"""workflow:
  name: flow
  batch: {{rows: 3}}
  checkpoint: {{rows: 5}}
  source: {{type: sqlite, config: {{path: {self.here}, table: orders, {options}}}}}
  transformations: [{steps}]
  destination: {{type: sqlite, config: {{path: {self.there}, {mode}}}}}
"""
        self._checkpoints, self._runs = Checkpoints(), 0
        self.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, amount INTEGER, changed TIMESTAMP, gone BOOLEAN)"
        )

    def execute(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.here, isolation_level=None)) as opened:
            for each in statements:
                opened.execute(each)

    def run(self) -> None:
        self._runs += 1
        (unasked,) = compile_text(self._text, "flow.yaml", catalog=InstalledCatalog(), environment={})
        schemas = {"source": unasked.bound.node("source").options.discover_schema()}  # type: ignore[attr-defined]
        (compiled,) = compile_text(self._text, "flow.yaml", catalog=InstalledCatalog(), environment={}, schemas=schemas)
        at = NOW + timedelta(hours=self._runs)
        given = context(self.home, checkpoints=self._checkpoints, run_id=f"run-{self._runs}", logical_time=at)
        run_plan(compiled.physical, given)

    def stored(self, query: str = "SELECT * FROM kept ORDER BY 1") -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.there)) as opened:
            return opened.execute(query).fetchall()

    def wanted(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.here)) as opened:
            return opened.execute(query).fetchall()


STEPS = """{type: filter, config: {condition: "status == 'open'"}},
    {type: mapping, config: {mappings: [{source: id, destination: number}, {expression: "amount * 2", destination: twice}]}}"""
OPEN = "SELECT id, amount * 2 FROM orders WHERE status = 'open' AND gone IS NOT true ORDER BY 1"


@pytest.mark.parametrize("how", ["soft_column", "full_compare"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_table_follows_through_a_filter_and_a_mapping(tmp_path: Path, how: str, seed: int) -> None:
    """Rows that are inserted, changed, moved out of the filter and back, and deleted in either way."""
    soft = "soft_column: {column: gone}" if how == "soft_column" else "compare_every: 1m"
    flow = Flow(tmp_path, f"incremental_column: changed, deletes: {how}, {soft}", STEPS, key="number")
    dice = random.Random(seed)
    for _ in range(6):
        for _ in range(12):
            number, status = dice.randint(1, 15), dice.choice(["open", "closed"])
            flow.execute(
                f"INSERT INTO orders (id, status, amount) VALUES ({number}, '{status}', {dice.randint(1, 99)}) "
                "ON CONFLICT (id) DO UPDATE SET status = excluded.status, amount = excluded.amount, gone = NULL",
                f"UPDATE orders SET {NEWER} WHERE id = {number}",
            )
            victim = dice.randint(1, 15)
            if how == "soft_column":
                flow.execute(f"UPDATE orders SET gone = true, {NEWER} WHERE id = {victim}")
            else:
                flow.execute(f"DELETE FROM orders WHERE id = {victim}")
        flow.run()
        assert flow.stored() == flow.wanted(OPEN)


def test_ignored_deletions_stay(tmp_path: Path) -> None:
    flow = Flow(tmp_path, "incremental_column: changed, deletes: ignored")
    flow.execute("INSERT INTO orders (id, changed) VALUES (1, '2024-01-01'), (2, '2024-01-02')")
    flow.run()
    flow.execute("DELETE FROM orders WHERE id = 1")
    flow.run()
    assert flow.stored("SELECT id FROM kept ORDER BY id") == [(1,), (2,)]


def test_appended_changes_are_a_log(tmp_path: Path) -> None:
    soft = "deletes: soft_column, soft_column: {column: gone}"
    flow = Flow(tmp_path, f"incremental_column: changed, {soft}", destination="table: kept")
    flow.execute("INSERT INTO orders (id, changed) VALUES (1, '2024-01-01 00:00:00'), (2, '2024-01-01 00:00:01')")
    flow.run()
    flow.execute("UPDATE orders SET gone = true, changed = '2024-01-01 00:00:02' WHERE id = 1")
    flow.run()
    assert flow.stored("SELECT id, _op FROM kept ORDER BY rowid") == [(1, "upsert"), (2, "upsert"), (1, "delete")]


def test_a_row_that_cannot_be_read_is_not_taken_for_a_deleted_one(tmp_path: Path) -> None:
    flow = Flow(tmp_path, "incremental_column: changed, deletes: full_compare, compare_every: 1m")
    flow._text = flow._text.replace("  batch:", "  on_error: dlq\n  batch:")
    flow.execute("INSERT INTO orders (id, amount, changed) VALUES (1, 5, '2024-01-01'), (2, 6, '2024-01-02')")
    flow.run()
    flow.execute("UPDATE orders SET amount = x'00' WHERE id = 1", "DELETE FROM orders WHERE id = 2")
    flow.run()
    assert flow.stored("SELECT id, amount FROM kept ORDER BY id") == [(1, 5), (2, 6)], "so nothing was deleted"
    flow.execute("UPDATE orders SET amount = 7 WHERE id = 1")
    flow.run()
    assert flow.stored("SELECT id, amount FROM kept ORDER BY id") == [(1, 5)], "then it was"


def test_the_period_of_comparisons_is_kept(tmp_path: Path) -> None:
    flow = Flow(tmp_path, "incremental_column: changed, deletes: full_compare, compare_every: 1d")
    flow.execute("INSERT INTO orders (id, changed) VALUES (1, '2024-01-01'), (2, '2024-01-02')")
    flow.run()
    flow.execute("DELETE FROM orders WHERE id = 2")
    flow.run()
    assert flow.stored("SELECT id FROM kept ORDER BY id") == [(1,), (2,)]
