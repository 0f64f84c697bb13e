"""The session is locked: SQL reaches no file, no network, no setting, no Python; what spills is bounded and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.errors import FatalError, HeadraceError
from engine.channel import CancelledError
from engine.operators.relational import Chunk, Limits, Session, StreamRun
from engine.spill import SpillFolder
from tests.engine.fakes import NOW

ROWS = pa.RecordBatch.from_pydict({"id": [1, 2, 3]})
secret_of_this_module = pa.table({"x": ["must not be reachable"]})


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    opened = Session(Limits(64 * 2**20, 2, tmp_path / "spill", 256 * 2**20), NOW)
    yield opened
    opened.close()


def _chunk(session: Session, sql: str) -> Chunk:
    return session.chunk(sql, uses_now=False, where="query")


def _stream(session: Session, sql: str, *, now: bool = False) -> StreamRun:
    return session.stream(sql, uses_now=now, where="query")


def _run(run: StreamRun, **inputs: pa.RecordBatch) -> list[dict[str, object]]:
    given = {name: (rows.schema, lambda rows=rows: iter([rows])) for name, rows in inputs.items()}
    return [row for each in run.run(given) for row in each.to_pylist()]


HOSTILE = (
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM '{file}'",
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM read_blob('{file}')",
    "SELECT * FROM read_json('{file}')",
    "SELECT * FROM read_parquet('{file}')",
    "SELECT * FROM parquet_metadata('{file}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM sniff_csv('{file}')",
    "SELECT * FROM read_csv('http://127.0.0.1:{port}/x.csv')",
    "SELECT * FROM 'https://127.0.0.1:{port}/x.parquet'",
    "SELECT * FROM read_text('s3://bucket/x')",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{spill}/out.csv'",
    "EXPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/new.duckdb' AS other",
    "ATTACH 'postgres:host=127.0.0.1 port={port}' AS other (TYPE postgres)",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{file}'",
    "SET enable_external_access = true",
    "SET memory_limit = '100GB'",
    "SET threads = 64",
    "SET temp_directory = '{folder}'",
    "SET python_enable_replacements = true",
    "SET TimeZone = 'Asia/Tokyo'",
    "RESET lock_configuration",
    "PRAGMA enable_external_access = true",
    "CREATE SECRET s (TYPE s3, KEY_ID 'x', SECRET 'y')",
    "SELECT * FROM secret_of_this_module",
    "SELECT * FROM ROWS",
    "SELECT getenv('PATH')",
    "CALL pragma_database_list()",
    "SELECT 1; SELECT 2",
    "EXPLAIN SELECT 1",
    "CREATE TEMP TABLE t AS SELECT 1",
    "",
    "SELEC 1",
)


@pytest.mark.parametrize("sql", HOSTILE)
def test_nothing_outside_is_reached(session: Session, tmp_path: Path, sql: str) -> None:
    file, folder = tmp_path / "canary.csv", tmp_path / "outside"
    file.write_text("canary\n")
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        _chunk(session, "SELECT id FROM input").run(ROWS)
        (spill,) = (tmp_path / "spill").iterdir()
        asked = sql.format(file=file, folder=folder, port=server.getsockname()[1], spill=spill)
        found = []
        for each in (lambda: _chunk(session, asked).run(ROWS).to_pylist(), lambda: _run(_stream(session, asked))):
            with pytest.raises(HeadraceError) as raised:
                found.append(each())
            assert "canary" not in str(raised.value).replace(str(file), "")
        with pytest.raises(TimeoutError):
            server.accept()
    assert found == []
    assert list(folder.iterdir()) == []
    assert list(spill.iterdir()) == []


def test_one_session_does_not_see_another(tmp_path: Path) -> None:
    limits = Limits(64 * 2**20, 1, tmp_path, 2**30)
    one, other = Session(limits, NOW), Session(limits, NOW)
    _chunk(one, "SELECT id FROM input").run(ROWS)
    with pytest.raises(HeadraceError):
        _chunk(other, "SELECT id FROM input").run(pa.RecordBatch.from_pydict({"x": [1]}))
    with pytest.raises(HeadraceError, match="input"):
        _run(_stream(one, "SELECT * FROM input"))
    one.close()
    other.close()


def test_now_is_the_logical_time_and_zones_are_utc(session: Session) -> None:
    (row,) = _run(_stream(session, "SELECT $now AS at, current_setting('TimeZone') AS zone", now=True))
    assert row["at"] == NOW
    assert row["zone"] in {"UTC", "Etc/UTC"}
    chunk = session.chunk("SELECT $now AS at FROM input LIMIT 1", uses_now=True, where="query")
    assert chunk.run(ROWS).to_pylist() == [{"at": NOW}]


def _numbers(count: int, width: int = 40) -> Iterator[pa.RecordBatch]:
    for start in range(0, count, 10_000):
        ids = range(start, start + 10_000)
        yield pa.RecordBatch.from_pydict({"id": list(ids), "text": [f"{each * 7919 % count:0{width}}" for each in ids]})


def test_a_sort_larger_than_memory_spills_is_right_and_cleans_up(tmp_path: Path) -> None:
    session, count = Session(Limits(48 * 2**20, 2, tmp_path, 2**30), NOW), 600_000
    schema = next(_numbers(10_000)).schema
    seen: list[int] = []
    rows, last = 0, ""
    for each in _stream(session, "SELECT * FROM a ORDER BY text").run({"a": (schema, lambda: _numbers(count))}):
        seen.append(sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()))
        texts: list[Any] = each.column("text").to_pylist()
        assert texts == sorted(texts)
        assert texts[0] >= last
        last, rows = texts[-1], rows + len(texts)
    assert rows == count
    assert max(seen) > 2**20
    session.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM a",
        "SELECT a.id, b.id AS other FROM a LEFT JOIN b ON a.id = b.id AND b.id < 0",
        "SELECT id, $now AS at FROM a WHERE id % 2 = 0",
        "SELECT id FROM a UNION ALL SELECT id FROM b",
    ],
)
def test_what_need_not_be_held_flows_through(tmp_path: Path, sql: str) -> None:
    """A tenth of the rows would fill memory and spill; a result that is a tenth of the way in was not waited for."""
    session = Session(Limits(32 * 2**20, 2, tmp_path, 2**20), NOW)
    schema, pulled = next(_numbers(10_000)).schema, [0]

    def pull() -> Iterator[pa.RecordBatch]:
        for each in _numbers(1_000_000, 200):
            pulled[0] += 1
            yield each

    inputs = {"a": (schema, pull), "b": (schema, lambda: _numbers(10_000))}
    given = {name: each for name, each in inputs.items() if f" {name}" in sql}
    rows = _stream(session, sql, now="$now" in sql).run(given)
    next(rows)
    assert pulled[0] < 50
    assert sum(1 for _ in rows) > 10
    assert pulled[0] == 100
    session.close()


def test_more_than_may_be_spilled_is_a_clear_error(tmp_path: Path) -> None:
    session = Session(Limits(24 * 2**20, 2, tmp_path, 8 * 2**20), NOW)
    schema = next(_numbers(10_000)).schema
    run = _stream(session, "SELECT * FROM a ORDER BY text")
    with pytest.raises(FatalError, match=r"does not fit into memory and spill.*HEADRACE_MEMORY"):
        list(run.run({"a": (schema, lambda: _numbers(400_000, 60))}))
    session.close()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_from_another_thread_ends_a_query_that_computes(session: Session) -> None:
    run = _stream(
        session, "SELECT count(*) AS n FROM range(1000000) a, range(1000000) b WHERE hash(a.range, b.range) = 1"
    )
    threading.Timer(0.3, session.interrupt).start()
    with pytest.raises(CancelledError):
        _run(run)


def test_a_stage_without_relational_work_opens_nothing(tmp_path: Path) -> None:
    session = Session(Limits(64 * 2**20, 2, tmp_path / "spill", 2**30), NOW)
    session.interrupt()
    session.close()
    assert list(tmp_path.iterdir()) == []


def test_a_session_may_be_closed_twice_and_left_half_read(session: Session) -> None:
    rows = _stream(session, "SELECT * FROM a").run({"a": (ROWS.schema, lambda: iter([ROWS] * 100))})
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    session.close()
    session.close()


def test_the_spill_of_a_living_process_is_kept_and_that_of_a_dead_one_swept(tmp_path: Path) -> None:
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from engine.spill import SpillFolder\n"
        "held = SpillFolder(Path(sys.argv[2]), 'run'); (held.path / 'x').write_text('x'); print(held.path, flush=True)\n"
        "time.sleep(60)\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", script, root, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        mine = SpillFolder(tmp_path, "run")
        assert (theirs / "x").exists()
        assert mine.path != theirs
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    third = SpillFolder(tmp_path, "run")
    assert not theirs.exists()
    assert mine.path.exists()
    mine.close()
    third.close()
    assert list(tmp_path.iterdir()) == []


def test_sweeping_and_taking_at_once_takes_nobody_s_folder(tmp_path: Path) -> None:
    lost: list[Path] = []

    def take() -> None:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            held = SpillFolder(tmp_path, "run")
            (held.path / "x").touch()
            if not held.path.exists():
                lost.append(held.path)
            held.close()

    threads = [threading.Thread(target=take) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert lost == []
    assert list(tmp_path.iterdir()) == []
