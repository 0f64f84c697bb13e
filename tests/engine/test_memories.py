"""Keys and windows over any history of batches, crashes, lost answers, overtaking and growth: equal to what one gets by hand."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsl.contracts.errors import FencedError, RetryableError
from dsl.contracts.policies import OnError
from dsl.plan.memory import BUCKET, Keys, Late, Memory, Windows
from dsl.plan.physical import PhysicalNode, Remember, Stage
from engine.report import StageReport
from engine.run import run_stage
from tests.engine.fakes import (
    Checkpoints,
    Crash,
    DeadLetters,
    Events,
    Power,
    Table,
    Tape,
    context,
    policies,
    scan,
    stage,
)

Row = tuple[int | None, int | None]
SCHEMA = pa.schema([pa.field("key", pa.int64()), pa.field("at", pa.timestamp("us"))])
TIME = 'epoch_us("at")'
SUMS = (
    f'SELECT key, "{BUCKET}" AS start, count(*) AS n, list("at" ORDER BY "at") AS ats '
    f'FROM {{0}} GROUP BY key, "{BUCKET}"'
)


def micro(number: int | None) -> timedelta:
    return timedelta(microseconds=number or 0)


def table_of(rows: list[Row]) -> pa.Table:
    start = datetime(2000, 1, 3, tzinfo=UTC).replace(tzinfo=None)
    times = [None if at is None else start + micro(at) for _, at in rows]
    return pa.table({"key": [key for key, _ in rows], "at": times}, schema=SCHEMA)


def windows(**changes: Any) -> Windows:
    given: dict[str, Any] = {
        "time": TIME, "size": micro(10), "every": micro(10), "lateness": micro(0), "idle": None, "late": Late.REJECT,
        "columns": ("at", "key"), "sql": SUMS,
    }  # fmt: skip
    return Windows(**(given | changes))


@dataclass
class World:
    """What outlives a process."""

    home: Path
    memory: Memory
    tape: Tape = field(default_factory=lambda: Tape(table_of([]), incremental=True))
    table: Table = field(default_factory=Table)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    letters: DeadLetters = field(default_factory=DeadLetters)
    runs: int = 0
    epoch: int = 3

    def switch_on(self, power: Power) -> None:
        self.tape.power = self.table.power = self.checkpoints.power = self.letters.power = power

    def run(self) -> StageReport:
        self.runs += 1
        held = context(self.home, checkpoints=self.checkpoints, dead_letters=self.letters, events=Events())
        return run_stage(self.stage(), replace(held, run_id=f"run-{self.runs}", memory_limit=64 * 2**20))

    def stage(self) -> Stage:
        held = policies(epoch=self.epoch, on_error=OnError.DLQ)
        root: PhysicalNode = scan(self.tape, held=held)
        return stage(Remember("step", root, '"input"', self.memory, None, held), self.table, held)

    def files(self) -> list[Path]:
        return sorted(self.home.glob("state/**/*.arrow"))


@pytest.fixture
def world(home: Path) -> World:
    return World(home, windows())


# ---- by hand --------------------------------------------------------------------------------------------------------------


def unique(rows: list[Row], span: int | None, *, whole: bool = False) -> tuple[Counter[Row], Counter[Row]]:
    """What passes and what is refused of rows with keys."""
    passed, refused = Counter[Row](), Counter[Row]()
    seen: dict[int | None, int] = {}
    every = set[object]()
    newest = None
    for key, at in rows:
        if span is None:
            name = (key, at) if whole else key
            passed[key, at] += name not in every
            every.add(name)
            continue
        if at is None:
            refused[key, at] += 1
            continue
        newest = at if newest is None else max(newest, at)
        if at < newest - span:
            refused[key, at] += 1
            continue
        if seen.get(key, -(10**9)) < newest - span:
            passed[key, at] += 1
        seen[key] = max(at, seen.get(key, at))
    return passed, refused


def summed(rows: list[Row], memory: Windows) -> tuple[dict[tuple[int | None, int], list[int]], Counter[Row], int]:
    """The windows that are closed with what is in them, the rows that are refused, and when time stands still."""
    held: dict[tuple[int | None, int], list[int]] = {}
    refused = Counter[Row]()
    newest, late = -(10**9), memory.lateness // micro(1)
    size, every = memory.size // micro(1), memory.every // micro(1)
    for key, at in rows:
        if at is None:
            refused[key, at] += 1
            continue
        newest = max(newest, at)
        starts = [each for each in range(at // every * every, at - size, -every) if each + size > newest - late]
        if not starts:
            refused[key, at] += 1
        for each in starts:
            held.setdefault((key, each), []).append(at)
    closed = {name: sorted(ats) for name, ats in held.items() if name[1] + size <= newest - late}
    return closed, refused, newest


def found_windows(table: Table) -> dict[tuple[int | None, int], list[int]]:
    start = datetime(2000, 1, 3, tzinfo=UTC).replace(tzinfo=None)
    origin = 946_857_600_000_000
    found = {}
    for row in table.rows():
        name = (row["key"], row["start"] - origin)
        assert name not in found, "a window came twice"
        found[name] = [(each - start) // micro(1) for each in row["ats"]]
        assert row["n"] == len(row["ats"])
    return found


def counted(rows: list[dict[str, Any]]) -> Counter[Row]:
    start = datetime(2000, 1, 3, tzinfo=UTC).replace(tzinfo=None)
    return Counter((each["key"], None if each["at"] is None else (each["at"] - start) // micro(1)) for each in rows)


def check(world: World, rows: list[Row]) -> None:
    """Compares what was written and refused with what one gets by hand."""
    memory = world.memory
    if isinstance(memory, Windows):
        closed, refused, _ = summed(rows, memory)
        assert found_windows(world.table) == closed
    else:
        passed, refused = unique(rows, memory.span // micro(1) if memory.time else None, whole=not memory.keys)
        assert counted(world.table.rows()) == +passed
    assert counted(world.letters.rows()) == refused


# ---- histories ------------------------------------------------------------------------------------------------------------

ROWS = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(0, 3)), st.one_of(st.none(), st.integers(-60, 200))),
    min_size=1,
    max_size=40,
)
SORTED = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=40)
MEMORIES = st.one_of(
    st.just(Keys(("key",))),
    st.just(Keys(())),
    st.integers(1, 60).map(lambda span: Keys(("key",), TIME, micro(span), Late.REJECT)),
    st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(0, 25)).map(
        lambda each: windows(size=micro(max(each[:2])), every=micro(min(each[:2])), lateness=micro(each[2]))
    ),
)


@st.composite
def steady(draw: st.DrawFn) -> list[Row]:
    """Rows whose times grow more or less, as they do in earnest."""
    rows: list[Row] = []
    now = 0
    for key, step in draw(SORTED):
        now += step
        rows.append((key, now - draw(st.integers(0, 15))))
    return rows


HISTORY = {
    "memory": MEMORIES,
    "rows": st.one_of(ROWS, steady()),
    "cuts": st.lists(st.integers(1, 40), max_size=3),
    "batch": st.integers(1, 6),
    "page": st.integers(1, 3),
    "epoch": st.integers(1, 9),
    "deaths": st.lists(st.integers(1, 30), max_size=4),
    "lost": st.lists(st.sampled_from(["committed", "commit", "overtaken"]), max_size=2),
}


def _history(  # noqa: PLR0913 - what a history is made of
    *,
    memory: Memory,
    rows: list[Row],
    cuts: list[int],
    batch: int,
    page: int,
    epoch: int,
    deaths: list[int],
    lost: list[str],
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as home:
        world = World(Path(home), memory, epoch=epoch)
        world.tape.batch, world.tape.page = batch, page
        for end in (*sorted(each for each in cuts if each < len(rows)), len(rows)):
            world.tape.rows = table_of(rows[:end])
            for at in deaths:
                world.switch_on(Power(at))
                with suppress(Crash):
                    world.run()
            world.switch_on(Power())
            for each in lost:
                _suffer(world, each)
            assert world.run().reconciliation.balanced
            check(world, rows[:end])


@given(**HISTORY)
@settings(max_examples=15, deadline=None)
def test_any_history(**history: Any) -> None:
    _history(**history)


@pytest.mark.slow
@given(**HISTORY)
@settings(max_examples=400, deadline=None)
def test_many_histories(**history: Any) -> None:
    _history(**history)


def _suffer(world: World, fault: str) -> None:
    """One run during which a commit's answer is lost, a commit fails, or another run takes over."""
    left = [2]

    def reach(point: str) -> None:
        left[0] -= point == ("commit" if fault == "overtaken" else fault)
        if left[0] or point not in {fault, "commit"}:
            return
        left[0] = -1
        if fault == "overtaken":
            world.table.before = lambda _: None
            world.run()
        else:
            raise RetryableError("the connection broke")

    world.table.before = reach
    with suppress(FencedError):
        world.run()
    world.table.before = lambda _: None


POINTS = ("read", "write", "commit", "committed", "checkpoint")


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_every_point(home: Path, point: str) -> None:
    rows: list[Row] = [(each % 3, each * 2 if each != 7 else 1) for each in range(10)]
    for at in range(1, 40):
        world = World(home / str(at), windows(size=micro(6), every=micro(4)))
        world.tape.rows, world.epoch = table_of(rows), 2
        power = Power(at, point)
        world.switch_on(power)
        with suppress(Crash):
            world.run()
        if not power.dead:
            break
        world.switch_on(Power())
        world.run()
        check(world, rows)
    assert at > 1, "no process died there"


def test_the_log_is_swept_and_condensed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many runs, each with a file of its own: a few files stay, and what closed windows held is gone."""
    monkeypatch.setattr("engine.remember.FILES", 3)
    rows: list[Row] = []
    for number in range(12):
        rows += [(1, number * 20), (2, number * 20 + 5)]
        world.tape.rows = table_of(rows)
        world.run()
        assert len(world.files()) <= 4
        check(world, rows)
    assert sum(each.stat().st_size for each in world.files()) < 20_000


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_a_file_that_cannot_be_read_is_said(world: World, how: str) -> None:
    world.tape.rows = table_of([(1, 1), (1, 2)])
    world.run()
    for each in world.files():
        _damage(each) if how == "damaged" else each.unlink()
    world.tape.rows = table_of([(1, 1), (1, 2), (1, 30)])
    with pytest.raises(Exception, match="what a step remembers cannot be read"):
        world.run()
    assert world.table.rows() == []


def test_another_window_does_not_read_what_this_one_kept(world: World) -> None:
    world.tape.rows = table_of([(1, 1)])
    world.run()
    world.memory = windows(size=micro(20), every=micro(20))
    with pytest.raises(Exception, match="kept for other keys or another window"):
        world.run()
