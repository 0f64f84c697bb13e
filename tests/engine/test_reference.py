"""Queries over whole inputs against plain Python: joins of every kind, self-joins, sort, limit, deduplicate, union, aggregate, unnest."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsl.contracts.errors import FatalError
from engine.operators.relational import Limits, Session
from engine.run import run_stage
from tests.engine.fakes import NOW, Table, Tape, chunk, context, policies, scan, stage, stream

Row = tuple[Any, ...]
KEYS = st.one_of(st.none(), st.integers(0, 4))
SIDE = st.lists(st.tuples(KEYS, st.one_of(st.none(), st.sampled_from("abc"))), max_size=12)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    opened = Session(Limits(64 * 2**20, 2, tmp_path_factory.mktemp("spill"), 2**30), NOW)
    yield opened
    opened.close()


def _rows(values: list[Row], names: str = "k v") -> list[pa.RecordBatch]:
    kinds = {"k": pa.int64(), "v": pa.string()}
    schema = pa.schema([pa.field(name, kinds[name]) for name in names.split()])
    dicts = [dict(zip(schema.names, row, strict=True)) for row in values]
    return pa.Table.from_pylist(dicts, schema).to_batches(max_chunksize=3) or [pa.RecordBatch.from_pylist([], schema)]


def _query(session: Session, sql: str, **inputs: list[Row]) -> list[Row]:
    given_ = {}
    for name, values in inputs.items():
        batches = _rows(values)
        given_[name] = (batches[0].schema, lambda batches=batches: iter(batches))
    run = session.stream(sql, uses_now=False, where="q")
    return [tuple(row.values()) for each in run.run(given_) for row in each.to_pylist()]


def _equal(one: Row, other: Row) -> bool:
    return one[0] is not None and one[0] == other[0]


def _inner(left: list[Row], right: list[Row]) -> list[Row]:
    return [a + b for a in left for b in right if _equal(a, b)]


def _left(left: list[Row], right: list[Row]) -> list[Row]:
    return _inner(left, right) + [(*a, None, None) for a in left if not any(_equal(a, b) for b in right)]


def _right(left: list[Row], right: list[Row]) -> list[Row]:
    return _inner(left, right) + [(None, None, *b) for b in right if not any(_equal(a, b) for a in left)]


def _full(left: list[Row], right: list[Row]) -> list[Row]:
    return _left(left, right) + [(None, None, *b) for b in right if not any(_equal(a, b) for a in left)]


def _semi(left: list[Row], right: list[Row]) -> list[Row]:
    return [a for a in left if any(_equal(a, b) for b in right)]


def _anti(left: list[Row], right: list[Row]) -> list[Row]:
    return [a for a in left if not any(_equal(a, b) for b in right)]


JOINS: dict[str, Callable[[list[Row], list[Row]], list[Row]]] = {
    "INNER": _inner,
    "LEFT": _left,
    "RIGHT": _right,
    "FULL": _full,
    "SEMI": _semi,
    "ANTI": _anti,
}


@pytest.mark.parametrize("kind", JOINS)
@settings(max_examples=40)
@given(left=SIDE, right=SIDE)
def test_joins(session: Session, kind: str, left: list[Row], right: list[Row]) -> None:
    columns = "l.k, l.v" if kind in {"SEMI", "ANTI"} else "l.k, l.v, r.k AS k2, r.v AS v2"
    found = _query(session, f"SELECT {columns} FROM l {kind} JOIN r ON l.k = r.k", l=left, r=right)
    assert Counter(found) == Counter(JOINS[kind](left, right))


@settings(max_examples=30)
@given(rows=SIDE, other=SIDE)
def test_an_input_read_twice(session: Session, rows: list[Row], other: list[Row]) -> None:
    """A stream can be read once only; here one input is read twice, and another never."""
    joined = "SELECT x.k, x.v, y.k AS k2, y.v AS v2 FROM a x JOIN a y ON x.k = y.k"
    assert Counter(_query(session, joined, a=rows)) == Counter(_inner(rows, rows))
    assert Counter(_query(session, joined, a=rows, unused=other)) == Counter(_inner(rows, rows))
    both = _query(session, "SELECT * FROM a UNION ALL SELECT * FROM b UNION ALL SELECT * FROM a", a=rows, b=other)
    assert Counter(both) == Counter(rows + other + rows)
    counted = _query(session, "SELECT (SELECT count(*) FROM a) AS n, (SELECT count(k) FROM a) AS k", a=rows)
    assert counted == [(len(rows), sum(row[0] is not None for row in rows))]


@settings(max_examples=30)
@given(rows=SIDE, limit=st.integers(0, 5), offset=st.integers(0, 5))
def test_sort_and_limit(session: Session, rows: list[Row], limit: int, offset: int) -> None:
    sql = f"SELECT * FROM a ORDER BY k DESC NULLS LAST, v ASC NULLS FIRST LIMIT {limit} OFFSET {offset}"
    expected = sorted(rows, key=lambda row: (row[0] is None, -(row[0] or 0), row[1] is not None, row[1] or ""))
    assert _query(session, sql, a=rows) == expected[offset : offset + limit]


@settings(max_examples=30)
@given(rows=SIDE)
def test_deduplicate_and_aggregate(session: Session, rows: list[Row]) -> None:
    assert sorted(_query(session, "SELECT DISTINCT * FROM a", a=rows), key=str) == sorted(set(rows), key=str)
    sums: dict[Any, list[Any]] = defaultdict(list)
    for key, value in rows:
        sums[key].append(value)
    found = _query(
        session, "SELECT k, count(*) AS n, count(v) AS m, min(v) AS lo, max(v) AS hi FROM a GROUP BY k", a=rows
    )
    expected = {}
    for key, values in sums.items():
        known = [each for each in values if each is not None]
        expected[key] = (len(values), len(known), min(known, default=None), max(known, default=None))
    assert {row[0]: row[1:] for row in found} == expected
    assert _query(session, "SELECT count(*) AS n, sum(k) AS s FROM a", a=rows) == [
        (
            len(rows),
            sum(row[0] for row in rows if row[0] is not None) if any(row[0] is not None for row in rows) else None,
        )
    ]


@settings(max_examples=60)
@given(parts=st.lists(SIDE, min_size=1, max_size=5))
def test_few_rows_and_many_rows_give_the_same(session: Session, parts: list[list[Row]]) -> None:
    """Small batches run a prepared query; each of them must see its own rows, and none twice."""
    sql = "SELECT k * 2 AS k, upper(v) AS v, $now AS at FROM input WHERE k IS NOT NULL"
    one = session.chunk(sql, uses_now=True, where="q")
    for values in parts:
        (rows,) = pa.Table.from_batches(_rows(values)).combine_chunks().to_batches() or _rows([])
        few = one.run(rows).to_pylist()
        padding = pa.RecordBatch.from_pylist([{"k": None, "v": None}] * 2_000, rows.schema)
        many = one.run(pa.Table.from_batches([rows, padding]).combine_chunks().to_batches()[0]).to_pylist()
        assert few == many == [{"k": k * 2, "v": v and v.upper(), "at": NOW} for k, v in values if k is not None]


@settings(max_examples=30)
@given(lists=st.lists(st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=4)), max_size=8))
def test_unnest_in_a_stage(lists: list[list[int] | None]) -> None:
    rows = pa.table({"id": pa.array(range(len(lists))), "xs": pa.array(lists, pa.list_(pa.int64()))})
    table = Table()
    root = chunk(scan(Tape(rows)), "SELECT id, unnest(xs) AS x FROM input", expands=True)
    with tempfile.TemporaryDirectory() as home:
        books = run_stage(stage(root, table), context(Path(home))).reconciliation
    assert [(row["id"], row["x"]) for row in table.rows()] == [
        (number, x) for number, xs in enumerate(lists) for x in xs or ()
    ]
    assert books.balanced


def _spread(count: int, keys: int, width: int) -> pa.Table:
    return pa.table(
        {
            "id": list(range(count)),
            "key": [(each * 7919) % keys for each in range(count)],
            "text": [f"{each:0{width}}" for each in range(count)],
        }
    )


@pytest.mark.parametrize("kind", ["INNER", "FULL"])
def test_a_join_larger_than_memory_is_exact(tmp_path: Path, kind: str) -> None:
    left, right = _spread(200_000, 150_000, 60), _spread(100_000, 10, 200)
    held = policies()
    root = stream(
        {"l": scan(Tape(left, batch=20_000), "left", held), "r": scan(Tape(right, batch=20_000), "right", held)},
        f"SELECT l.id AS id, l.key AS key, r.id AS other, length(r.text) AS n FROM l {kind} JOIN r ON l.key = r.id",
        held,
    )
    table = Table()
    report = run_stage(stage(root, table), context(tmp_path, memory_limit=40 * 2**20))
    found = Counter((row["id"], row["key"], row["other"]) for row in table.rows())
    keys: list[Any] = left.column("key").to_pylist()
    expected: Counter[Row] = Counter((id_, key, key) for id_, key in enumerate(keys) if key < 100_000)
    if kind == "FULL":
        expected += Counter((id_, key, None) for id_, key in enumerate(keys) if key >= 100_000)
        expected += Counter((None, None, each) for each in set(range(100_000)) - set(keys))
    assert found == expected
    assert report.reconciliation.balanced
    assert list((tmp_path / "spill").iterdir()) == []


def test_the_books_of_a_fold_say_what_entered_and_left(home: Path) -> None:
    rows = _spread(50, 5, 3)
    root = stream(
        {"a": chunk(scan(Tape(rows)), "SELECT * FROM input WHERE id % 2 = 0", filters=True)},
        "SELECT key, count(*) AS id FROM a GROUP BY key",
    )
    books = run_stage(stage(root, Table()), context(home)).reconciliation
    assert (books.read, books.filtered, books.folded_in, books.folded_out, books.written) == (50, 25, 25, 5, 5)
    assert books.balanced


def test_a_limit_reads_its_input_to_the_end_so_that_the_state_is_true(home: Path) -> None:
    table, tape = Table(), Tape(_spread(100, 10, 3), batch=5, incremental=True)
    report = run_stage(stage(stream({"a": scan(tape)}, "SELECT * FROM a LIMIT 3"), table), context(home))
    assert len(table.ids()) == 3
    assert report.reconciliation.read == 100
    assert run_stage(stage(stream({"a": scan(tape)}, "SELECT * FROM a LIMIT 3"), table), context(home)).epochs == 0


@pytest.mark.parametrize("sql", ["SELECT nothing FROM a", "SELECT id FROM b", "SELECT id +", "SELECT text + 1 FROM a"])
def test_a_query_that_cannot_be_planned_says_so_before_anything_is_read(home: Path, sql: str) -> None:
    tape = Tape(_spread(3, 3, 3))
    with pytest.raises(FatalError, match="fold: the query cannot be"):
        run_stage(stage(stream({"a": scan(tape)}, sql), Table()), context(home))
    assert tape.opened == []
