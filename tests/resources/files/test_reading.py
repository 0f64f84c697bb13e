"""What a source of files reads, in which order, and how it goes on: globs, resuming, incremental runs, files that differ."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import SyncMode
from dsl.contracts.connectors import Batch, ReadRequest
from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.spec import OptionError
from dsl.contracts.state import State, is_complete
from resources.file_paths import PathPattern
from resources.file_progress import REMEMBERED, Incremental
from resources.files.resource import FileConnection, FileSource
from resources.formats.options import Format
from resources.object_store import StoredFile
from tests.resources.files.test_suites import write


def source(root: Path, path: str, **options: Any) -> FileSource:
    return FileSource(connection=FileConnection(root=str(root)), path=path, **{"settle": timedelta(0), **options})


def read(
    opened: Any, state: State | None = None, request: ReadRequest | None = None, stop: int | None = None
) -> tuple[list[Batch], list[str]]:
    """Returns the batches, all or the first ones, and the reasons of rejections."""
    batches, reasons = [], []
    with opened.read(request or ReadRequest(), state) as reader:
        for batch in reader:
            batches.append(batch)
            reasons += [each.reason for each in reader.rejections()]
            if len(batches) == stop:
                break
    return batches, reasons


def values(batches: Sequence[Batch], name: str = "n") -> list[Any]:
    return [each for batch in batches for each in batch.rows.column(name).to_pylist()]


def numbers(path: Path, *found: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("n\n" + "".join(f"{each}\n" for each in found))


def reloaded(state: State | None) -> State | None:
    """Returns a state as it comes back from where it is kept."""
    return json.loads(json.dumps(state))  # type: ignore[no-any-return]


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "meant", "others"),
    [
        ("a.csv", ["a.csv"], ["b.csv", "a.csv.gz", "x/a.csv"]),
        ("in", ["in/a.csv", "in/x/y.csv"], ["inn/a.csv", "in/_a.csv", "in/.a", "in/_headrace/s/1.json"]),
        ("in/", ["in/a.csv"], ["ina.csv"]),
        ("in/*.csv", ["in/a.csv"], ["in/a.txt", "in/x/a.csv", "a.csv", "in/_a.csv", "in/.a.csv"]),
        ("in/**/*.csv", ["in/a.csv", "in/x/a.csv", "in/x/y/z.csv"], ["a.csv", "in/_x/a.csv", "in/x/.y/a.csv"]),
        ("in/**", ["in/a", "in/x/y/z"], ["out/a"]),
        ("**/*.csv", ["a.csv", "x/y.csv"], ["x/y.txt"]),
        ("day-?.csv", ["day-1.csv"], ["day-10.csv", "day-/.csv"]),
        ("day-[0-3]*/x.csv", ["day-1/x.csv", "day-31/x.csv"], ["day-4/x.csv", "day-1/y.csv"]),
        ("_in/*.csv", ["_in/a.csv"], ["_in/_a.csv"]),
        ("a/**/b/**/c", ["a/b/c", "a/1/b/2/3/c", "a/b/b/c"], ["a/c", "a/b"]),
        ("year=*/month=*/*.parquet", ["year=2026/month=01/a.parquet"], ["year=2026/a.parquet"]),
    ],
)
def test_what_a_pattern_means(pattern: str, meant: list[str], others: list[str]) -> None:
    found = PathPattern(pattern)
    assert [each for each in (*meant, *others) if found.matches(each)] == meant
    assert all(each.startswith(found.prefix) for each in meant)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not PathPattern("**/a" * 15 + "/*.csv").matches("a/" * 60 + "b.txt")


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/.", "a\0b", "a\nb", "_headrace/x", "a/_headrace"]
)
def test_a_path_that_leads_away_is_refused_when_it_is_configured(path: str) -> None:
    with pytest.raises(OptionError) as caught:
        source(Path("root"), path)
    assert caught.value.name == "path"


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, number in (
        ("b.csv", 2),
        ("a/z.csv", 1),
        ("a.csv", 0),
        ("a-1.csv", -1),
        ("_hidden.csv", 99),
        (".x.csv", 99),
    ):
        numbers(tmp_path / name, number)
    batches, _ = read(source(tmp_path, "**/*.csv"))
    assert values(batches) == [-1, 0, 1, 2]
    assert is_complete(batches[-1].state)


def test_names_are_equal_for_everyone(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    assert source(root, "orders").physical_name == source(root, "orders/*.csv").physical_name
    assert source(root, "orders/").physical_name[-2:] == ("lake", "orders")


def test_no_file_is_said_unless_the_columns_are_declared(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"no file matches 'in/\*.csv'"):
        source(tmp_path, "in/*.csv").discover_schema()
    declared = source(tmp_path, "in/*.csv").declaring(pa.schema([pa.field("n", pa.int64())]))
    batches, _ = read(declared)
    assert values(batches) == []
    assert is_complete(batches[-1].state)


def test_a_name_that_tells_no_format_is_said(tmp_path: Path) -> None:
    numbers(tmp_path / "in" / "README", 1)
    with pytest.raises(SchemaError, match="README: its name does not tell its format"):
        source(tmp_path, "in").discover_schema()
    assert values(read(source(tmp_path, "in", format=Format.CSV))[0]) == [1]


def test_what_is_there_is_listed(tmp_path: Path) -> None:
    for name in ("x/a.csv", "b.parquet", "_c.csv", "d.md"):
        numbers(tmp_path / name, 1)
    connection = FileConnection(root=str(tmp_path))
    assert [each.name for each in connection.discover()] == ["b.parquet", "x/a.csv"]
    assert connection.check().healthy
    missing = FileConnection(root=str(tmp_path / "none")).check()
    assert not missing.healthy
    assert "there is no such folder" in missing.details


# ---- schemas -------------------------------------------------------------------------------------


def test_declared_columns_are_chosen_and_typed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("zip,n,other\n01234,1,x\n99,2,y\n")
    assert source(tmp_path, "a.csv").discover_schema().field("n").type == pa.int64()
    columns: dict[str, pa.DataType] = {"n": pa.decimal128(10, 2), "zip": pa.string()}
    declared = source(tmp_path, "a.csv").declaring(pa.schema(columns))
    batches, _ = read(declared)
    assert batches[0].rows.schema == declared.discover_schema() == pa.schema(columns)
    assert batches[0].rows.to_pylist()[0]["zip"] == "01234"


@pytest.mark.parametrize("kind", list(Format))
def test_files_whose_columns_differ(tmp_path: Path, kind: Format) -> None:
    one = pa.record_batch([pa.array([1]), pa.array(["x"])], names=["n", "t"])
    write(tmp_path / f"1.{kind}", one, kind)
    write(tmp_path / f"2.{kind}", one.select(["n"]), kind)
    if kind is Format.CSV:
        with pytest.raises(SchemaError, match=r"2\.csv: column 't' is missing"):
            read(source(tmp_path, f"*.{kind}"))
    else:
        batches, _ = read(source(tmp_path, f"*.{kind}"))
        assert [row for batch in batches for row in batch.rows.to_pylist()] == [{"n": 1, "t": "x"}, {"n": 1, "t": None}]
    write(tmp_path / f"0.{kind}", one.select(["n"]), kind)
    if kind in {Format.JSON, Format.JSONL}:
        _, reasons = read(source(tmp_path, f"*.{kind}"))
        assert len(reasons) == 1
        assert "'t' is not in the schema" in reasons[0]
    else:
        with pytest.raises(SchemaError, match="column 't' is not in the first file"):
            read(source(tmp_path, f"*.{kind}"))
    declared = source(tmp_path, f"[01].{kind}").declaring(one.schema.remove(1))
    assert values(read(declared)[0]) == [1, 1]


def test_a_declared_column_that_is_nowhere_is_said(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", pa.record_batch([pa.array([1])], names=["n"]), Format.PARQUET)
    with pytest.raises(SchemaError, match="'m' is declared, but is in neither the first nor the last file"):
        source(tmp_path, "1.parquet").declaring(pa.schema([pa.field("m", pa.int64())])).discover_schema()


def test_a_value_that_does_not_fit_its_declared_type_is_rejected(tmp_path: Path) -> None:
    rows = pa.record_batch([pa.array([1, 2**40, 3])], names=["n"])
    for kind in Format:
        write(tmp_path / f"1.{kind}", rows, kind)
        declared = source(tmp_path, f"1.{kind}").declaring(pa.schema([pa.field("n", pa.int32())]))
        batches, reasons = read(declared)
        assert values(batches) == [1, 3]
        assert len(reasons) == 1, kind
        assert reasons[0].startswith(f"1.{kind}")


# ---- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Format.CSV, Format.JSONL])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_bad_lines_are_rejected_once_wherever_the_reading_stops(tmp_path: Path, kind: Format, size: int) -> None:
    for name in "ab":
        lines = [str(n) if n % 4 else "bad" for n in range(20)]
        text = "n\n" + "\n".join(lines) if kind is Format.CSV else "\n".join(f'{{"n": {each}}}' for each in lines)
        (tmp_path / f"{name}.{kind}").write_text(text)
    opened = source(tmp_path, f"*.{kind}").declaring(pa.schema([pa.field("n", pa.int64())]))
    request = ReadRequest(batch_rows=size)
    whole, reasons = read(opened, request=request)
    assert len(values(whole)) == 30
    assert len(reasons) == len(set(reasons)) == 10
    for stop in range(1, len(whole)):
        first, before = read(opened, request=request, stop=stop)
        rest, after = read(opened, reloaded(first[-1].state), ReadRequest(batch_rows=4))
        assert values(first) + values(rest) == values(whole)
        assert before + after == reasons
        last = rest[-1].state
        assert last is not None
        assert last["records_read"] == 30


@pytest.mark.parametrize("fate", ["replaced", "changed", "deleted"])
@pytest.mark.parametrize("mode", [SyncMode.FULL_REFRESH, SyncMode.INCREMENTAL])
def test_a_file_that_was_touched_between_two_runs_is_said(tmp_path: Path, fate: str, mode: SyncMode) -> None:
    numbers(tmp_path / "a.csv", *range(10))
    opened = source(tmp_path, "*.csv", sync_mode=mode).declaring(pa.schema([pa.field("n", pa.int64())]))
    first, _ = read(opened, request=ReadRequest(batch_rows=3), stop=1)
    if fate != "changed":
        (tmp_path / "a.csv").unlink()
    if fate == "replaced":
        numbers(tmp_path / "a.csv", *range(10))
    if fate == "changed":
        numbers(tmp_path / "a.csv", *range(11))
    with pytest.raises(
        FatalError, match=r"a.csv: it was (replaced or changed|deleted) after 3 of its records were read"
    ):
        read(opened, first[-1].state)


def test_a_file_that_was_read_whole_may_go(tmp_path: Path) -> None:
    for name, number in (("a", 1), ("b", 2), ("c", 3)):
        numbers(tmp_path / f"{name}.csv", number)
    opened = source(tmp_path, "*.csv")
    first, _ = read(opened, stop=1)
    (tmp_path / "a.csv").unlink()
    rest, _ = read(opened, reloaded(first[-1].state))
    assert values(rest) == [2, 3]


def test_a_file_that_changes_while_it_is_read_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n\n" + "1\n" * 3_000_000)
    with source(tmp_path, "a.csv").read(ReadRequest(batch_rows=1000), None) as reader:
        rows = iter(reader)
        next(rows)
        with path.open("a") as opened:
            opened.write("2\n")
        with pytest.raises(FatalError, match="it was changed since it was listed"):
            list(rows)


# ---- incremental ---------------------------------------------------------------------------------


def incremental(root: Path) -> FileSource:
    opened = source(root, "*.csv", sync_mode=SyncMode.INCREMENTAL)
    return opened.declaring(pa.schema([pa.field("n", pa.int64())]))  # type: ignore[return-value]


def test_only_new_and_changed_files_are_read(tmp_path: Path) -> None:
    numbers(tmp_path / "b.csv", 1)
    batches, _ = read(incremental(tmp_path))
    state = reloaded(batches[-1].state)
    assert values(batches) == [1]
    assert not is_complete(state)
    batches, _ = read(incremental(tmp_path), state)
    assert values(batches) == []
    numbers(tmp_path / "a.csv", 2)
    numbers(tmp_path / "b.csv", 3, 4)
    batches, _ = read(incremental(tmp_path), reloaded(batches[-1].state))
    assert values(batches) == [2, 3, 4], "by the time of their change"
    assert values(read(incremental(tmp_path), reloaded(batches[-1].state))[0]) == []


def test_a_file_that_keeps_its_old_time_when_it_arrives_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    numbers(tmp_path / "late.csv", 2)
    os.utime(tmp_path / "late.csv", (1, 1))
    numbers(tmp_path / "in" / "a.csv", 1)
    batches, _ = read(incremental(tmp_path / "in"))
    (tmp_path / "late.csv").rename(tmp_path / "in" / "late.csv")
    batches, _ = read(incremental(tmp_path / "in"), reloaded(batches[-1].state))
    assert values(batches) == [2]


def test_a_file_that_was_only_touched_is_not_read_again_because_of_its_rights(tmp_path: Path) -> None:
    numbers(tmp_path / "a.csv", 1)
    batches, _ = read(incremental(tmp_path))
    (tmp_path / "a.csv").chmod(0o600)
    assert values(read(incremental(tmp_path), reloaded(batches[-1].state))[0]) == []


def test_an_incremental_run_goes_on_in_the_middle_of_a_file(tmp_path: Path) -> None:
    numbers(tmp_path / "a.csv", *range(10))
    numbers(tmp_path / "b.csv", *range(10, 15))
    request = ReadRequest(batch_rows=4)
    whole, _ = read(incremental(tmp_path), request=request)
    for stop in range(1, len(whole)):
        first, _ = read(incremental(tmp_path), request=request, stop=stop)
        numbers(tmp_path / f"new{stop}.csv", 99)
        rest, _ = read(incremental(tmp_path), reloaded(first[-1].state), request)
        assert sorted(values(first) + values(rest)) == sorted([*range(15), *[99] * stop])
        again, _ = read(incremental(tmp_path), reloaded(rest[-1].state), request)
        assert values(again) == []


def test_a_file_that_may_still_be_written_waits(tmp_path: Path) -> None:
    numbers(tmp_path / "a.csv", 1)
    opened = source(tmp_path, "*.csv", sync_mode=SyncMode.INCREMENTAL, settle=timedelta(hours=1))
    opened = opened.declaring(pa.schema([pa.field("n", pa.int64())]))  # type: ignore[assignment]
    batches, _ = read(opened)
    assert values(batches) == []
    assert values(read(incremental(tmp_path), reloaded(batches[-1].state))[0]) == [1]


BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LATER = BEGIN + timedelta(days=1000)


def stored(number: int, modified: int | None = None, version: str = "1") -> StoredFile:
    at = BEGIN + timedelta(seconds=number if modified is None else modified)
    return StoredFile(f"{number:06}.csv", 1, version, at)


def one_run(files: Sequence[StoredFile], state: State | None) -> tuple[list[str], State]:
    """Reads all that is to be read; returns the keys and the state."""
    progress = Incremental(files, state, "place", LATER, timedelta(0))
    fields = dict(state or {})
    seen = []
    for todo in progress.todo:
        seen.append(todo.file.key)
        fields |= progress.after(todo.file)
    fields |= progress.end()
    assert len(json.dumps(fields)) < 4096 - 200
    return seen, fields


def test_thousands_of_files_are_each_read_once_in_a_small_state() -> None:
    files: list[StoredFile] = []
    state: State | None = None
    for batch in range(10):
        new = [stored(number) for number in range(batch * 300, batch * 300 + 300)]
        files += new
        seen, state = one_run(files, reloaded(state))
        assert seen == [each.key for each in new]
    del files[:1000]  # old ones are moved away
    assert one_run(files, state)[0] == []


def test_files_of_equal_times_are_each_read_once() -> None:
    files = [stored(number, 7) for number in range(REMEMBERED * 2)]
    seen, state = one_run(files, None)
    assert len(seen) == len(files)
    assert one_run(files, state)[0] == []


def test_a_late_file_among_the_remembered_is_read() -> None:
    files = [stored(number) for number in range(REMEMBERED * 2)]
    _, state = one_run(files, None)
    late = stored(900_000, REMEMBERED + 5)
    assert one_run([*files, late], state)[0] == [late.key]


def test_a_file_that_is_later_than_can_be_told_ends_the_run() -> None:
    files = [stored(number) for number in range(REMEMBERED * 2)]
    _, state = one_run(files, None)
    with pytest.raises(FatalError, match="1 files are new but older than 160 files that were read"):
        one_run([*files, stored(900_000, 3)], state)


def test_a_state_in_the_middle_of_a_run_loses_no_file() -> None:
    files = [stored(number) for number in range(REMEMBERED * 3)]
    progress = Incremental(files, None, "place", LATER, timedelta(0))
    keys: list[str] = []
    for stop in (1, REMEMBERED - 1, REMEMBERED + 7):
        fields: dict[str, Any] = {}
        keys = []
        progress = Incremental(files, None, "place", LATER, timedelta(0))
        for todo in progress.todo[:stop]:
            fields |= progress.after(todo.file)
            keys.append(todo.file.key)
        seen, _ = one_run(files, reloaded(fields))
        assert [*keys, *seen] == [each.key for each in files]


def test_a_limit_ends_a_refresh_and_pauses_an_incremental_run(tmp_path: Path) -> None:
    numbers(tmp_path / "a.csv", *range(10))
    whole, _ = read(source(tmp_path, "*.csv"), request=ReadRequest(limit=4, batch_rows=3))
    assert values(whole) == [0, 1, 2, 3]
    assert is_complete(whole[-1].state)
    part, _ = read(incremental(tmp_path), request=ReadRequest(limit=4, batch_rows=2))
    assert values(part) == [0, 1, 2, 3]
    rest, _ = read(incremental(tmp_path), reloaded(part[-1].state))
    assert values(rest) == [4, 5, 6, 7, 8, 9]


def test_thousands_of_small_files_are_read(tmp_path: Path) -> None:
    for number in range(2000):
        numbers(tmp_path / f"{number:05}.csv", number)
    batches, _ = read(source(tmp_path, "*.csv"))
    assert values(batches) == list(range(2000))
