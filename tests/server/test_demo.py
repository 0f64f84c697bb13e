"""`make demo`: the numbers that it shows are those of the data, the second run gives the same, nothing is written elsewhere."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from dagster import DagsterInstance

from tests.server.command import Ended, environment


def demo(folder: Path) -> Ended:
    folder.mkdir(exist_ok=True)
    env = environment(
        DAGSTER_HOME=str(folder / "instance"), HEADRACE_DEMO=str(folder / "demo"), HEADRACE_HOME=str(folder / "home")
    )
    done = subprocess.run(
        [sys.executable, "-m", "server.demo"], check=False, cwd=folder, env=env, capture_output=True, text=True
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def records(file: Path) -> Iterator[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        yield from csv.DictReader(opened)


def expected(data: Path) -> dict[str, tuple[int, float]]:
    """Flights and mean delay by airline, counted by the standard library."""
    names = {each["carrier"]: each["name"] for each in records(data / "airlines.csv")}
    counts: Counter[str] = Counter()
    delays: defaultdict[str, float] = defaultdict(float)
    for each in records(data / "flights.csv"):
        if each["dep_delay"] not in {"", "NA"}:
            counts[names[each["carrier"]]] += 1
            delays[names[each["carrier"]]] += float(each["dep_delay"])
    return {name: (count, delays[name] / count) for name, count in counts.items()}


def test_the_demo_shows_what_is_in_the_data(tmp_path: Path) -> None:
    first = demo(tmp_path / "all")
    assert first.code == 0, first.said
    assert "Traceback" not in first.said
    assert "finished in" in first.out
    assert "make ui" in first.out
    assert "≠" not in first.out
    assert max(map(len, first.out.splitlines())) <= 120
    second = demo(tmp_path / "all")
    assert second.code == 0, second.said
    home = tmp_path / "all"
    with duckdb.connect(str(home / "demo" / "warehouse.duckdb"), read_only=True) as out:
        rows = out.execute("SELECT airline, flights, mean_delay FROM delays_by_airline").fetchall()
    wanted = expected(home / "demo" / "data")
    assert {name: count for name, count, _ in rows} == {name: count for name, (count, _) in wanted.items()}
    assert {name: delay for name, _, delay in rows} == {name: pytest.approx(mean) for name, (_, mean) in wanted.items()}
    lake = sum(pq.read_metadata(each).num_rows for each in (home / "demo" / "lake").rglob("*.parquet"))
    assert lake == sum(count for count, _ in wanted.values())
    assert {each.name for each in home.iterdir()} == {"demo", "home", "instance"}
    with DagsterInstance.from_config(str(home / "instance")) as instance:
        assert [each.status.value for each in instance.get_runs()] == ["SUCCESS", "SUCCESS"]
