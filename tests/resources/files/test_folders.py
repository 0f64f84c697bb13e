"""Folders that values choose: what a workflow writes can be read back, no value leads elsewhere, and every crash leaves each row once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsl.compile import CompiledWorkflow, compile_text
from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import ReadRequest, Token
from dsl.contracts.errors import FatalError, SchemaError
from dsl.contracts.folders import FOLDER, NO_VALUE
from dsl.contracts.rows import Rejection
from dsl.contracts.spec import OptionError
from dsl.replay import Refused, rest_of
from engine.run import run_plan
from resources.file_parts import Bounds, OpenParts
from resources.files.local_store import LocalStore
from resources.files.resource import FileConnection, FileDestination, FileSource
from resources.formats.options import FileOptions, Format
from resources.registry import InstalledCatalog
from tests.engine.fakes import Checkpoints, context
from tests.resources.files.test_crashes import leftovers, points
from tests.resources.files.test_store import opening_of
from tests.resources.object_store_faults import expected, load

TOKEN = Token(workflow="w", stage="load", run_id="r")
HOSTILE = [
    "..", ".", "../..", "/etc/passwd", "a/b", "a=b", "", None, " ", "\0", "a\nb", "\x7f", "_headrace", ".hidden", "%2F", "..%2f", "*",
    "C:\\x", "CON", "é", "日本", "a.", "x" * 200, NO_VALUE, "'", '"', "{{ x }}", "~", "-", "\u202e", "👍",
]  # fmt: skip


def compiled_of(root: Path, path: str, destination: str = "", on_error: str = "fail") -> CompiledWorkflow:
    """Compiles what copies `in/*` to a path."""
    text = f"""workflow:
  name: flow
  on_error: {on_error}
  source: {{type: file, config: {{root: {root}, path: in}}}}
  transformations:
  destination: {{type: file, config: {{root: {root}, path: '{path}', {destination}}}}}
"""
    schema = FileSource(connection=FileConnection(root=str(root)), path="in").discover_schema()
    schemas = {"source": schema}
    (compiled,) = compile_text(text, "flow.yaml", catalog=InstalledCatalog(), environment={}, schemas=schemas)
    return compiled


def workflow(root: Path, path: str, options: str = "", checkpoints: Checkpoints | None = None, run: int = 1) -> None:
    """Copies `in/*` to a path."""
    compiled = compiled_of(root, path, options)
    run_plan(compiled.physical, context(root / "home", checkpoints=checkpoints or Checkpoints(), run_id=f"r{run}"))


def given(root: Path, **columns: Any) -> None:
    (root / "in").mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), root / "in" / "rows.parquet")


def visible(root: Path, below: str = "out") -> list[Path]:
    found = (each.relative_to(root) for each in root.rglob("*") if each.is_file())
    shown = [each for each in found if not any(name[0] in "._" for name in each.parts)]
    return sorted(each for each in shown if each.parts[0] == below)


def read(root: Path, path: str) -> list[dict[str, Any]]:
    with FileSource(connection=FileConnection(root=str(root)), path=path).read(ReadRequest(), None) as reader:
        return [row for each in reader for row in each.rows.to_pylist()]


def divided(folders: list[str | None], **columns: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({**columns, FOLDER: pa.array(folders, pa.string())})


def destination(root: Path, **options: Any) -> FileDestination:
    return FileDestination(**{"connection": FileConnection(root=str(root)), "path": "out/f={{ n }}", **options})


def commit(opened: FileDestination, *rows: pa.RecordBatch) -> list[Rejection]:
    with opened.open_writer(rows[0].schema, TOKEN) as writer:
        before = writer.get_state()
        refused = [each for batch in rows for each in writer.write(batch)]
        writer.commit(1 if before is None else before.epoch + 1, {"v": 1}, final=True)
    return refused


# ---- values --------------------------------------------------------------------------------------


def test_no_value_leads_elsewhere_and_every_row_comes_back(tmp_path: Path) -> None:
    given(tmp_path, n=list(range(len(HOSTILE))), v=pa.array(HOSTILE, pa.string()))
    before = {each.name for each in tmp_path.iterdir()}
    workflow(tmp_path, "out/k={{ v }}")
    assert {each.name for each in tmp_path.iterdir()} <= before | {"out", "home"}
    found = visible(tmp_path)
    assert all(len(each.parts) == 3 and each.parts[1].startswith("k=") for each in found)
    said = {unquote(each.parts[1].removeprefix("k=")) for each in found}
    assert said == {each or NO_VALUE for each in HOSTILE}, "a folder's name says its value, and nothing else"
    for each in ("out", "out/**/*.parquet", "out/*/*.parquet"):
        back = {row["n"]: row["v"] for row in read(tmp_path, each)}
        assert back == dict(enumerate(HOSTILE))


def test_other_engines_find_the_values_in_the_names(tmp_path: Path) -> None:
    given(tmp_path, n=[1, 2, 3], v=["a b", None, "x/y=z"])
    workflow(tmp_path, "out/k={{ v }}/odd={{ n % 2 == 1 }}")
    asked = f"select n, k, odd from read_parquet('{tmp_path}/out/**/part-*.parquet', hive_partitioning=true) order by n"
    assert duckdb.connect().execute(asked).fetchall() == [(1, "a b", "true"), (2, None, "false"), (3, "x/y=z", "true")]


def test_a_folder_whose_name_is_too_long_refuses_its_rows_alone(tmp_path: Path) -> None:
    long = "f=" + "x" * 300
    deep = "/".join(f"f{each}=" + "x" * 200 for each in range(6))
    bad = [long, deep, "f=a/../..", "_headrace/x", "", None]
    refused = commit(destination(tmp_path), divided(["f=1", *bad, "f=2"], n=list(range(8))))
    assert sorted(each.row.column("n")[0].as_py() for each in refused) == [1, 2, 3, 4, 5, 6]
    assert {each.code for each in refused} == {"folder"}
    assert sorted(row["n"] for row in read(tmp_path, "out")) == [0, 7]


def test_rows_that_come_without_their_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="values choose the folder"):
        destination(tmp_path).open_writer(pa.schema({"n": pa.int64()}), TOKEN)


@pytest.mark.parametrize(
    "options", [{"path": "x={{ n }}"}, {"path": "../x={{ n }}"}, {"open_files": 0}, {"path": "a/../b={{ n }}"}]
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        destination(tmp_path, **options)


def test_each_input_has_folders_of_its_own(tmp_path: Path) -> None:
    one = destination(tmp_path).for_input("orders")
    assert one.path == "out/orders/f={{ n }}"  # type: ignore[attr-defined]
    assert one.physical_name[-2:] == ("out", "orders")


def test_a_row_whose_folder_cannot_be_computed_is_kept_and_may_take_the_way_again(tmp_path: Path) -> None:
    given(tmp_path, n=[1, 2, 3], v=["2026-01-31", "no day", "2026-02-01"])
    compiled, held = (
        compiled_of(tmp_path, "out/m={{ month(cast(v as date)) }}", on_error="dlq"),
        context(tmp_path / "home"),
    )
    run_plan(compiled.physical, held)
    assert [each.parts[1] for each in visible(tmp_path)] == ["m=1", "m=2"]
    (letter,) = held.dead_letters.kept.values()  # type: ignore[attr-defined]
    assert letter.rejection.row.to_pylist() == [{"n": 2, "v": "no day"}]
    given(tmp_path, n=[2], v=["2026-03-01"])
    fixed = FileSource(connection=FileConnection(root=str(tmp_path)), path="in")
    refused = Refused("destination", letter.entry, fixed.discover_schema(), "again")
    (rest,) = rest_of(compiled, refused, lambda _: fixed, lambda _: fixed)
    run_plan(rest.physical, context(tmp_path / "home"))
    assert sorted((row["n"], row["v"]) for row in read(tmp_path, "out/m=3")) == [(2, "2026-03-01")]


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(Format))
def test_each_value_has_files_of_its_own_in_the_order_of_the_rows(tmp_path: Path, kind: Format) -> None:
    batches = [divided([f"f={each % 3}" for each in range(30)], n=list(range(at, at + 30))) for at in (0, 30)]
    assert commit(destination(tmp_path, format=kind), *batches) == []
    assert Counter(each.parts[1] for each in visible(tmp_path)) == {"f=0": 1, "f=1": 1, "f=2": 1}
    for value in range(3):
        assert [row["n"] for row in read(tmp_path, f"out/f={value}")] == [
            each for each in range(60) if each % 3 == value
        ]


class Watched(LocalStore):
    """A store that says how many files were open at a time."""

    now = most = 0

    def stage(self, key: str, home: str = "") -> Any:
        Watched.now += 1
        Watched.most = max(Watched.most, Watched.now)
        staged = super().stage(key, home)
        seal = staged.seal

        def sealed() -> Any:
            Watched.now -= 1
            return seal()

        staged.seal = sealed  # type: ignore[method-assign]
        return staged


@pytest.mark.parametrize(("files", "size", "most"), [(3, 2**30, 3), (1000, 400, 4), (1000, 2**30, 50)])
def test_few_files_are_open_at_a_time(tmp_path: Path, files: int, size: int, most: int) -> None:
    Watched.now = Watched.most = 0
    store = Watched(str(tmp_path), create=True)
    bounds = Bounds(2**30, None, files, size)
    parts = OpenParts(store, FileOptions(format=Format.CSV), bounds, lambda f, n: f"out/{f}/part-{n}.csv", "out")
    for _ in range(2):
        for folder in range(50):
            parts.write(pa.RecordBatch.from_pydict({"n": list(range(16))}), f"f={folder}")
    done = parts.finish()
    assert Watched.now == 0
    assert Watched.most <= most
    assert len({each.key for each in done}) == len(done)
    assert sum(each.rows for each in done) == 2 * 50 * 16
    store.close()


# ---- overwriting ---------------------------------------------------------------------------------


def test_an_overwrite_swaps_all_folders_also_those_of_another_layout(tmp_path: Path) -> None:
    given(tmp_path, n=[1, 2, 3], v=["a", "b", "c"])
    kept = Checkpoints()
    workflow(tmp_path, "out/k={{ v }}", "write_mode: overwrite", kept)
    given(tmp_path, n=[4, 5], v=["b", "d"])
    workflow(tmp_path, "out/k={{ v }}", "write_mode: overwrite", kept, 2)
    assert {each.parts[1] for each in visible(tmp_path)} == {"k=b", "k=d"}
    workflow(tmp_path, "out/by={{ n }}", "write_mode: overwrite", kept, 3)
    assert {each.parts[1] for each in visible(tmp_path)} == {"by=4", "by=5"}
    workflow(tmp_path, "out", "write_mode: overwrite", kept, 4)
    assert len(visible(tmp_path)) == 1
    assert [row["n"] for row in read(tmp_path, "out")] == [4, 5]


def test_an_overwrite_deletes_nothing_of_others_below(tmp_path: Path) -> None:
    opened = destination(tmp_path, write_mode=WriteMode.OVERWRITE)
    other = FileDestination(connection=FileConnection(root=str(tmp_path)), path="out/other")
    rows = pa.RecordBatch.from_pydict({"n": [9]})
    with other.open_writer(rows.schema, Token(workflow="other", stage="load")) as writer:
        writer.write(rows)
        writer.commit(1, {"v": 1}, final=True)
    for _ in range(2):
        commit(opened, divided(["f=1"], n=[1]))
    assert read(tmp_path, "out/other") == [{"n": 9}]
    (tmp_path / "out" / "f=1" / "precious.csv").write_text("n\n1\n")
    with pytest.raises(FatalError, match=r"'precious\.csv' was not written by a workflow"):
        commit(opened, divided(["f=1"], n=[1]))


# ---- crashes -------------------------------------------------------------------------------------


def seen(root: Path) -> list[int]:
    files = list((root / "lake").glob("f=*/part-*"))
    return sorted(row["id"] for each in files for row in pq.ParquetFile(each).read().to_pylist())


def killed(root: Path, point: tuple[str, str, int], first: int, *, overwrite: bool) -> None:
    code = f"""
from tests.resources.object_store_faults import Killer, KillingStore, load
load(KillingStore(store, Killer{point!r}), {first}, overwrite={overwrite}, folders=3)
print("survived")
"""
    assert opening_of(root).elsewhere(code) == []


def test_a_load_into_several_folders_is_killed_and_goes_on(tmp_path: Path) -> None:
    every = points(tmp_path / "undisturbed", 1, overwrite=False, folders=3)
    assert len([each for each in every if each[0] == "publish"]) >= 2 * 3 * 3, "three folders in each of three epochs"
    crash_everywhere(tmp_path, every[::5])


@pytest.mark.slow
def test_a_load_into_several_folders_is_killed_at_every_request(tmp_path: Path) -> None:
    crash_everywhere(tmp_path, points(tmp_path / "undisturbed", 1, overwrite=False, folders=3))


def crash_everywhere(home: Path, every: list[tuple[str, str, int]]) -> None:
    for number, point in enumerate(every):
        root = home / str(number)
        killed(root, point, 1, overwrite=False)
        assert set(seen(root)) <= set(expected(1)), point
        assert len(seen(root)) == len(set(seen(root))), point
        load(LocalStore(str(root)), 1, folders=3)
        assert seen(root) == expected(1), point
        assert leftovers(root) == [], point
        assert list((root / "lake").rglob("_headrace")) == [root / "lake" / "_headrace"]


@pytest.mark.parametrize(
    "point", [("publish", "after", 4), ("delete", "before", 1), ("delete", "after", 3), ("seal", "after", 5)]
)
def test_an_overwrite_of_several_folders_is_killed_and_goes_on(tmp_path: Path, point: tuple[str, str, int]) -> None:
    load(LocalStore(str(tmp_path), create=True), 1, overwrite=True, folders=3)
    killed(tmp_path, point, 4, overwrite=True)
    found = set(seen(tmp_path))
    assert found >= set(expected(1)) or found >= set(expected(4)), "old or new is there, whole"
    load(LocalStore(str(tmp_path)), 4, overwrite=True, folders=3)
    assert seen(tmp_path) == expected(4)
    assert leftovers(tmp_path) == []
