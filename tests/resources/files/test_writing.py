"""What a destination of files leaves behind: which files, which columns, who is fenced, and what a full disk does."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Committed, ReadRequest, Token
from dsl.contracts.errors import FatalError, FencedError, RejectedRows, RetryableError, SchemaError
from dsl.contracts.spec import OptionError
from resources.file_writer import FileWriter, Writing
from resources.files.local_store import LocalStore
from resources.files.resource import FileConnection, FileDestination, FileSource
from resources.formats.options import Compression, CsvOptions, Dictionaries, Format, ParquetOptions
from resources.object_store import ObjectStore
from resources.sql import SchemaEvolution

TOKEN = Token(workflow="w", stage="load", run_id="r")


def destination(root: Path, **options: Any) -> FileDestination:
    return FileDestination(**{"connection": FileConnection(root=str(root)), "path": "out", **options})


def batch(**columns: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def load(opened: FileDestination, *rows: pa.RecordBatch, token: Token = TOKEN, final: bool = True) -> None:
    """Writes batches as one epoch."""
    with opened.open_writer(rows[0].schema, token) as writer:
        before = writer.get_state()
        for each in rows:
            writer.write(each)
        writer.commit(1 if before is None else before.epoch + 1, {"v": 1}, final=final)


def files(root: Path) -> list[Path]:
    return sorted(each for each in (root / "out").iterdir() if each.name[0] not in "._")


def rows(root: Path) -> list[dict[str, Any]]:
    with FileSource(connection=FileConnection(root=str(root)), path="out").read(ReadRequest(), None) as reader:
        return [row for each in reader for row in each.rows.to_pylist()]


# ---- files ---------------------------------------------------------------------------------------


def test_names_sort_in_the_order_of_the_rows(tmp_path: Path) -> None:
    for epoch in range(12):
        load(destination(tmp_path, file_rows=2), batch(n=[epoch * 3, epoch * 3 + 1, epoch * 3 + 2]))
    assert [each["n"] for each in rows(tmp_path)] == list(range(36))
    assert len(files(tmp_path)) == 24
    assert all(each.name.endswith("-0001.parquet") or each.name.endswith("-0002.parquet") for each in files(tmp_path))


@pytest.mark.parametrize("kind", list(Format))
def test_a_file_that_is_large_enough_is_ended(tmp_path: Path, kind: Format) -> None:
    texts = [hashlib.sha512(b"%d" % each).hexdigest() for each in range(2000)]
    parts = [batch(t=texts[at : at + 100]) for at in range(0, 2000, 100)]
    parquet = ParquetOptions(row_group_rows=100)
    load(destination(tmp_path, format=kind, file_bytes=5_000, parquet=parquet), *parts)
    assert len(files(tmp_path)) > 3
    assert [each["t"] for each in rows(tmp_path)] == texts


def test_each_input_has_a_folder_of_its_own(tmp_path: Path) -> None:
    opened = destination(tmp_path, path="lake/")
    assert opened.for_input("orders").physical_name[-2:] == ("lake", "orders")


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"path": "/out"}, "path"),
        ({"path": "a/../../b"}, "path"),
        ({"path": "a/*"}, "path"),
        ({"path": "a/_headrace"}, "path"),
        ({"write_mode": WriteMode.UPSERT}, "write_mode"),
        ({"write_mode": WriteMode.MERGE}, "write_mode"),
        ({"compression": Compression.GZIP}, "compression"),
        ({"format": Format.AVRO, "compression": Compression.ZSTD}, "compression"),
        ({"format": Format.CSV, "csv": CsvOptions(encoding="latin-1")}, "csv.encoding"),
        ({"file_bytes": 0}, "file_bytes"),
        ({"file_rows": 0}, "file_rows"),
    ],
)
def test_options_that_cannot_be_are_refused_when_configured(tmp_path: Path, options: dict[str, Any], at: str) -> None:
    with pytest.raises(OptionError) as caught:
        destination(tmp_path, **options)
    assert caught.value.name == at
    assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "column"),
    [
        (Format.AVRO, pa.array([(1, 2, 3)], pa.month_day_nano_interval())),
        (Format.PARQUET, pa.array([(1, 2, 3)], pa.month_day_nano_interval())),
    ],
)
def test_a_type_that_a_format_cannot_hold_is_said_before_a_row_moves(tmp_path: Path, kind: Format, column: Any) -> None:
    rows = pa.RecordBatch.from_arrays([column], names=["span"])
    with pytest.raises(SchemaError):
        destination(tmp_path, format=kind).open_writer(rows.schema, TOKEN)


def test_a_name_that_avro_does_not_allow_is_said(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="column 'first name' has a name that Avro does not allow"):
        destination(tmp_path, format=Format.AVRO).open_writer(batch(**{"first name": [1]}).schema, TOKEN)


def test_an_overwrite_with_nothing_leaves_a_file_that_tells_the_columns(tmp_path: Path) -> None:
    opened = destination(tmp_path, write_mode=WriteMode.OVERWRITE)
    load(opened, batch(n=[1]))
    load(opened, batch(n=[1]).slice(0, 0))
    assert rows(tmp_path) == []
    assert pq.read_schema(files(tmp_path)[0]).names == ["n"]


def test_dictionaries_are_kept_for_what_repeats(tmp_path: Path) -> None:
    load(destination(tmp_path), batch(id=list(range(5000)), country=["DE", "FR"] * 2500))
    group = pq.ParquetFile(files(tmp_path)[0]).metadata.row_group(0)
    assert [group.column(each).has_dictionary_page for each in (0, 1)] == [False, True]
    assert group.column(0).compression == "ZSTD"


@pytest.mark.parametrize(("choice", "kept"), [("always", [True, True]), ("never", [False, False])])
def test_dictionaries_are_as_the_document_says(tmp_path: Path, choice: str, kept: list[bool]) -> None:
    written = destination(tmp_path, parquet=ParquetOptions(dictionaries=Dictionaries(choice)))
    load(written, batch(id=list(range(5000)), country=["DE", "FR"] * 2500))
    group = pq.ParquetFile(files(tmp_path)[0]).metadata.row_group(0)
    assert [group.column(each).has_dictionary_page for each in (0, 1)] == kept


def test_small_batches_make_large_row_groups(tmp_path: Path) -> None:
    load(destination(tmp_path), *[batch(n=list(range(at, at + 1000))) for at in range(0, 200_000, 1000)])
    found = pq.ParquetFile(files(tmp_path)[0]).metadata
    assert [found.row_group(each).num_rows for each in range(found.num_row_groups)] == [132_000, 68_000]


# ---- overwriting ---------------------------------------------------------------------------------


def test_an_overwrite_replaces_what_any_workflow_wrote(tmp_path: Path) -> None:
    load(destination(tmp_path), batch(n=[1, 2]), token=Token(workflow="other", stage="load"))
    load(destination(tmp_path), batch(n=[3]))
    load(destination(tmp_path, write_mode=WriteMode.OVERWRITE), batch(n=[4]))
    assert rows(tmp_path) == [{"n": 4}]


def test_an_overwrite_deletes_nothing_that_no_workflow_wrote(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.csv").write_text("a\n1\n")
    with pytest.raises(FatalError, match=r"'precious\.csv' was not written by a workflow"):
        destination(tmp_path, write_mode=WriteMode.OVERWRITE).open_writer(batch(n=[1]).schema, TOKEN)
    (tmp_path / "out" / "precious.csv").rename(tmp_path / "out" / "notes.md")
    (tmp_path / "out" / "below").mkdir()
    (tmp_path / "out" / "below" / "other.csv").write_text("a\n1\n")
    load(destination(tmp_path, write_mode=WriteMode.OVERWRITE), batch(n=[1]))
    assert (tmp_path / "out" / "notes.md").exists()
    assert (tmp_path / "out" / "below" / "other.csv").exists()


def test_an_overwrite_that_is_given_up_for_appending_leaves_no_trace(tmp_path: Path) -> None:
    load(destination(tmp_path), batch(n=[1]))
    load(destination(tmp_path, write_mode=WriteMode.OVERWRITE), batch(n=[2]), final=False)
    load(destination(tmp_path), batch(n=[3]))
    assert rows(tmp_path) == [{"n": 1}, {"n": 3}]
    assert not list((tmp_path / "out" / "_headrace" / "tmp").iterdir())


def test_whoever_lists_sees_the_old_rows_or_the_new_while_it_is_overwritten(tmp_path: Path) -> None:
    opened = destination(tmp_path, write_mode=WriteMode.OVERWRITE, file_rows=5, format=Format.CSV)
    load(opened, batch(n=[0] * 20))
    seen: list[set[str]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            try:
                seen.append({line for each in files(tmp_path) for line in each.read_text().split()[1:]})
            except FileNotFoundError:
                continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for generation in range(1, 15):
            load(opened, batch(n=[generation] * 20))
    finally:
        stop.set()
        thread.join()
    assert len(seen) > 10
    assert all(seen), "never nothing"
    assert all(max(map(int, each)) - min(map(int, each)) <= 1 for each in seen), "one generation, or two at a swap"


# ---- columns -------------------------------------------------------------------------------------


def test_new_columns_and_wider_types_are_taken(tmp_path: Path) -> None:
    load(destination(tmp_path), pa.record_batch([pa.array([1], pa.int32()), pa.array(["a"])], names=["n", "t"]))
    load(destination(tmp_path), pa.record_batch([pa.array([2**40]), pa.array([1.5])], names=["n", "x"]))
    second = pq.read_table(files(tmp_path)[1])
    assert second.to_pylist() == [{"n": 2**40, "t": None, "x": 1.5}]
    load(destination(tmp_path), pa.record_batch([pa.array([3], pa.int32())], names=["n"]))
    assert pq.read_schema(files(tmp_path)[2]).field("n").type == pa.int64(), "a type stays as wide as it was"


def test_another_type_is_another_schema(tmp_path: Path) -> None:
    load(destination(tmp_path), batch(n=[1]))
    with pytest.raises(SchemaError, match="column 'n' is string, but was int64 in the files before"):
        load(destination(tmp_path), batch(n=["x"]))
    load(destination(tmp_path, write_mode=WriteMode.OVERWRITE), batch(n=["x"]))
    assert rows(tmp_path) == [{"n": "x"}], "an overwrite may have any columns"


def test_a_value_that_the_kept_type_cannot_hold_is_refused_alone(tmp_path: Path) -> None:
    load(destination(tmp_path), pa.record_batch([pa.array([0], pa.timestamp("us"))], names=["at"]))
    fine = pa.record_batch([pa.array([1, 1000], pa.timestamp("ns"))], names=["at"])
    with destination(tmp_path).open_writer(fine.schema, TOKEN) as writer:
        with pytest.raises(RejectedRows, match="column 'at'"):
            writer.write(fine)
        writer.write(fine.slice(1))
        assert writer.commit(2, {"v": 1}, final=True).rows == 1


def test_frozen_columns_refuse_new_ones(tmp_path: Path) -> None:
    opened = destination(tmp_path, schema_evolution=SchemaEvolution.FREEZE)
    load(opened, pa.record_batch([pa.array([1], pa.int32())], names=["n"]))
    with pytest.raises(SchemaError, match="column 'm' is new"):
        load(opened, pa.record_batch([pa.array([1], pa.int32()), pa.array([2])], names=["n", "m"]))
    with pytest.raises(SchemaError, match="column 'n' is int64, but was int32"):
        load(opened, batch(n=[1]))


# ---- the log -------------------------------------------------------------------------------------


class Lossy(LocalStore):
    """A store whose answer to one `create` is lost, before or after it was done."""

    lose: tuple[int, bool] = (0, False)
    count = 0

    def create(self, key: str, data: bytes) -> bool:
        self.count += 1
        if (self.count, False) == self.lose:
            raise RetryableError("the request was lost", where=self.place)
        created = super().create(key, data)
        if (self.count, True) == self.lose:
            raise RetryableError("the answer was lost", where=self.place)
        return created


def lossy(root: Path, at: int, *, done: bool) -> ObjectStore:
    store = Lossy(str(root), create=True)
    store.lose = (at, done)
    return store


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_lost_answer_is_asked_for(tmp_path: Path, at: int, *, done: bool) -> None:
    schema = batch(n=[1]).schema

    def attempt() -> None:
        with FileWriter(lossy(tmp_path, at, done=done), Writing(path="out"), schema, TOKEN) as writer:
            writer.write(batch(n=[1]))
            writer.commit(1, {"v": 1}, final=True)

    if done and at < 3:
        attempt()
    else:
        with pytest.raises(RetryableError):
            attempt()
        with destination(tmp_path).open_writer(schema, TOKEN) as writer:
            if writer.get_state() is None:
                writer.write(batch(n=[1]))
                writer.commit(1, {"v": 1}, final=True)
    assert rows(tmp_path) == [{"n": 1}]


def test_twenty_writers_at_once_and_one_of_them_commits_each_epoch(tmp_path: Path) -> None:
    start, outcomes = threading.Barrier(20), list[str]()
    opened = destination(tmp_path)

    def work(number: int) -> None:
        start.wait()
        try:
            with opened.open_writer(batch(n=[1]).schema, TOKEN) as writer:
                before = writer.get_state()
                epoch = 1 if before is None else before.epoch + 1
                writer.write(batch(n=[epoch]))
                writer.commit(epoch, {"v": 1, "number": number})
                outcomes.append("committed")
        except FencedError:
            outcomes.append("fenced")
        except Exception as error:  # noqa: BLE001 - the test shows it
            outcomes.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert set(outcomes) <= {"committed", "fenced"}, outcomes
    assert sorted(each["n"] for each in rows(tmp_path)) == list(range(1, outcomes.count("committed") + 1))


def test_a_log_that_was_deleted_begins_anew_beside_the_old_files(tmp_path: Path) -> None:
    load(destination(tmp_path), batch(n=[1]))
    shutil.rmtree(tmp_path / "out" / "_headrace")
    with destination(tmp_path).open_writer(batch(n=[1]).schema, TOKEN) as writer:
        assert writer.get_state() is None
        writer.write(batch(n=[2]))
        writer.commit(1, {"v": 1}, final=True)
    assert sorted(each["n"] for each in rows(tmp_path)) == [1, 2]


def test_an_entry_that_is_missing_or_broken_is_said(tmp_path: Path) -> None:
    load(destination(tmp_path), batch(n=[1]))
    load(destination(tmp_path), batch(n=[2]))
    newest = min((tmp_path / "out" / "_headrace").glob("*/*.json"))
    assert json.loads(newest.read_bytes())["kind"] == "commit"
    newest.write_text("{")
    with pytest.raises(FatalError, match="of its log cannot be read"):
        destination(tmp_path).open_writer(batch(n=[1]).schema, TOKEN)
    with destination(tmp_path).open_writer(batch(n=[1]).schema, Token(workflow="other", stage="load")) as writer:
        assert writer.get_state() is None, "another stream is not disturbed"


def test_the_log_holds_what_a_person_wants_to_know(tmp_path: Path) -> None:
    load(destination(tmp_path), batch(n=[1]))
    entry = json.loads(min((tmp_path / "out" / "_headrace").glob("*/*.json")).read_bytes())
    (part,) = entry["commit"]["parts"]
    assert (entry["stream"], entry["commit"]["run_id"], part["rows"]) == ("w/load/0", "r", 1)
    assert hashlib.sha256((tmp_path / part["key"]).read_bytes()).hexdigest() == part["sha256"]
    assert part["bytes"] == (tmp_path / part["key"]).stat().st_size


# ---- a full disk ---------------------------------------------------------------------------------

FULL = """
import sys
import pyarrow as pa
from dsl.contracts.connectors import Token
from dsl.contracts.errors import FatalError
from resources.files.resource import FileConnection, FileDestination
from resources.formats.options import Format
rows = pa.record_batch([pa.array([str(each) * 20 for each in range(20_000)])], names=["t"])
opened = FileDestination(connection=FileConnection(root=sys.argv[1]), path="out", format=Format(sys.argv[2]))
epoch = 0
try:
    while True:
        with opened.open_writer(rows.schema, Token(workflow="w", stage="load")) as writer:
            writer.write(rows)
            writer.commit(epoch + 1, {"v": 1})
            epoch += 1
except FatalError as error:
    print(epoch, error)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of five megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=5m", "none", path], check=False, capture_output=True
    ).returncode:
        pytest.skip("only root may make a small file system")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("kind", list(Format))
def test_a_full_disk_is_said_and_nothing_is_half_there(small_disk: Path, kind: Format) -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", FULL, small_disk, kind], capture_output=True, text=True, check=True, cwd=root
    )
    epochs, said = done.stdout.split(" ", 1)
    assert "no space is left on the disk: nothing of this epoch was committed" in said, done.stdout
    assert len(rows(small_disk)) == int(epochs) * 20_000 > 0
    for each in files(small_disk)[:1]:
        each.unlink()
    with destination(small_disk, format=kind).open_writer(batch(t=["x"]).schema, TOKEN) as writer:
        assert isinstance(writer.get_state(), Committed)
        writer.write(batch(t=["x"]))
        writer.commit(int(epochs) + 1, {"v": 1}, final=True)
