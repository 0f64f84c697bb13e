"""`python`: what a function may do, what it is held to, and whose fault it is when it does not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dsl.contracts.errors import ErrorType, FatalError, SchemaError
from dsl.contracts.policies import OnError, Policies
from dsl.plan.physical import Apply
from dsl.processors.python import PythonOptions
from engine.run import run_stage
from tests.engine.fakes import SCHEMA, DeadLetters, Table, Tape, context, numbers, policies, scan, stage
from tests.engine.operators.opened import Workbench

ROWS = pa.RecordBatch.from_pylist([{"id": n, "text": str(n)} for n in range(10)], schema=SCHEMA)


OFFSETS = "pa.array(range(11), pa.int32()).buffers()[1]"
BROKEN = f"pa.Array.from_buffers(pa.string(), 10, [None, {OFFSETS}, pa.py_buffer(b'\\xff' * 10)])"


def code(body: str, **options: Any) -> PythonOptions:
    """A step whose function has this body."""
    lines = "\n".join(f"    {each}" for each in body.splitlines())
    return PythonOptions(
        code=f"import pyarrow as pa\nimport pyarrow.compute as pc\ndef process(batch):\n{lines}\n", **options
    )


def run(bench: Workbench, options: PythonOptions, rows: pa.RecordBatch = ROWS) -> pa.RecordBatch:
    return bench.open(options, rows.schema, allow_python=True).process(rows).passed


def stage_run(
    home: Path, options: PythonOptions, *, rows: int = 40, on_error: OnError = OnError.DLQ, poison: tuple[int, ...] = ()
) -> tuple[Table, DeadLetters]:
    table, letters, held = Table(), DeadLetters(), policies(on_error=on_error)
    node = Apply("py", scan(Tape(numbers(rows, poison=poison), batch=16)), options, None, held)
    report = run_stage(stage(node, table, held), context(home, allow_python=True, dead_letters=letters))
    assert report.reconciliation.balanced
    return table, letters


def test_it_is_off_unless_it_is_allowed(bench: Workbench, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="HEADRACE_ALLOW_PYTHON"):
        bench.open(code("return batch"), SCHEMA)
    mark = tmp_path / "ran"
    options = PythonOptions(code=f"open({str(mark)!r}, 'w')\ndef process(batch): return batch")
    with pytest.raises(FatalError, match="HEADRACE_ALLOW_PYTHON"):
        run_stage(stage(Apply("py", scan(Tape(numbers(3))), options, None), Table()), context(tmp_path))
    assert not mark.exists(), "the code ran"


def test_rows_pass_and_change(bench: Workbench) -> None:
    assert run(bench, code("return batch")).equals(ROWS)
    body = "return pa.RecordBatch.from_arrays([pc.multiply(batch['id'], 2), batch['text']], names=['id', 'text'])"
    assert run(bench, code(body)).column("id").to_pylist() == list(range(0, 20, 2))


def test_an_installed_function(bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cleaning_of_this_test.py").write_text("def clean(batch):\n    return batch.slice(0, 3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    options = PythonOptions(function="cleaning_of_this_test:clean", filters=True)
    assert run(bench, options).num_rows == 3
    sys.modules.pop("cleaning_of_this_test")


@pytest.mark.parametrize(
    "options",
    [
        PythonOptions(function="no.such.module:f"),
        PythonOptions(function="os.path:no_such_function"),
        PythonOptions(function="os.path:sep"),
        PythonOptions(code="raise ValueError('at the top')\ndef process(batch): ..."),
        PythonOptions(code="import sys\nsys.exit(3)\ndef process(batch): ..."),
        PythonOptions(code="process = 3 # def process"),
    ],
)
def test_what_cannot_be_loaded_is_an_error_of_the_node(bench: Workbench, options: PythonOptions) -> None:
    with pytest.raises(FatalError) as caught:
        bench.open(options, SCHEMA, allow_python=True)
    assert caught.value.where == "step"


# ---- what comes back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return None", "returned NoneType"),
        ("return 7", "returned int"),
        ("return batch.to_pylist()", "returned list"),
        ("pass", "returned NoneType"),
        ("yield batch", "returned generator"),
        ("return batch.slice(0, 3)", "returned 3 rows for 10.*filters: true"),
        ("return pa.Table.from_batches([batch, batch])", "returned 20 rows for 10.*expands: true"),
        ("return batch.select(['id'])", "column 'text' is missing"),
        ("return batch.append_column('more', batch['id'])", "column 'more', which is not declared"),
        ("return pa.RecordBatch.from_arrays([batch['id'], batch['id']], names=['id', 'id'])", "'id' twice"),
        ("return batch.set_column(0, 'id', batch['id'].cast('string'))", "column 'id' is string in .*, not int64"),
        ("return batch.set_column(0, 'id', batch['id'].cast('int32'))", "column 'id' is int32 in .*, not int64"),
        ("return batch.set_column(0, 'ID', batch['id'])", "column 'ID', which is not declared"),
        ("return batch.set_column(1, 'text', batch['text'].cast('binary'))", "column 'text' is binary in .*, not string"),
        (f"return batch.set_column(1, 'text', {BROKEN})", "column 'text' .* is broken"),
    ],
)  # fmt: skip
def test_garbage_is_named(bench: Workbench, body: str, told: str) -> None:
    with pytest.raises(FatalError, match=told):
        run(bench, code(body))


def test_a_declared_schema_is_kept_exactly(bench: Workbench) -> None:
    body = "return pa.RecordBatch.from_pylist([{'n': 1, 'at': None} for _ in range(batch.num_rows)])"
    done = run(bench, code(body, schema={"at": "timestamptz", "n": "int64"}))
    assert [str(each.type) for each in done.schema] == ["timestamp[us, tz=UTC]", "int64"]
    assert done.to_pylist()[0] == {"at": None, "n": 1}
    with pytest.raises(SchemaError, match=r"column 'n' is int64 in .*, not int32"):
        run(bench, code(body, schema={"at": "timestamptz", "n": "int32"}))


@pytest.mark.parametrize(
    "body",
    [
        "return batch.set_column(1, 'text', batch['text'].cast('large_string'))",
        "return batch.set_column(1, 'text', batch['text'].dictionary_encode())",
        "return batch.set_column(1, 'text', pa.nulls(10))",
        "return batch.select(['text', 'id'])",
        "return pa.Table.from_batches([batch.slice(0, 4), batch.slice(4)])",
        "return pa.RecordBatch.from_pandas(batch.to_pandas(), preserve_index=False)",
    ],
)
def test_the_same_type_in_another_encoding_is_brought_to_the_declared_one(bench: Workbench, body: str) -> None:
    done = run(bench, code(body))
    assert done.schema.equals(SCHEMA)
    assert done.column("id").to_pylist() == list(range(10))


def test_rows_may_be_left_out_or_added_where_that_is_declared(bench: Workbench) -> None:
    operator = bench.open(code("return batch.slice(0, 3)", filters=True), SCHEMA, allow_python=True)
    done = operator.process(ROWS)
    assert (done.passed.num_rows, done.filtered, done.expanded) == (3, 7, 0)
    operator = bench.open(code("return pa.Table.from_batches([batch] * 3)", expands=True), SCHEMA, allow_python=True)
    done = operator.process(ROWS)
    assert (done.passed.num_rows, done.filtered, done.expanded) == (30, 0, 20)


def test_a_batch_cannot_be_changed_in_place(bench: Workbench) -> None:
    options = code("batch['id'].to_numpy()[0] = 99\nreturn batch")
    with pytest.raises(FatalError, match="read-only"):
        bench.open(options, SCHEMA, Policies(), allow_python=True).process(ROWS.slice(0, 1))
    assert ROWS.column("id")[0].as_py() == 0


# ---- whose fault -----------------------------------------------------------------------------------------------------

PICKY = "for each in batch['text'].to_pylist():\n    int(each)\nreturn batch"


def test_the_row_at_fault_is_found_and_told_with_the_last_line_of_the_traceback(tmp_path: Path) -> None:
    table, letters = stage_run(tmp_path, code(PICKY), poison=(5, 6, 33))
    assert table.ids() == [each for each in range(40) if each not in {5, 6, 33}]
    assert sorted(each["id"] for each in letters.rows()) == [5, 6, 33]
    found = {(each.rejection.code, each.rejection.reason) for each in letters.kept.values()}
    assert found == {("python", "ValueError: invalid literal for int() with base 10: 'poison' (line 5)")}


def test_where_one_row_fails_a_run_the_others_are_not_looked_for(tmp_path: Path) -> None:
    counter = tmp_path / "calls"
    counter.write_text("")
    body = f"with open({str(counter)!r}, 'a') as file:\n    file.write('.')\nraise ValueError('all of them')"
    with pytest.raises(FatalError, match=r"a row was refused: ValueError: all of them \(line 6\)") as caught:
        stage_run(tmp_path, code(body), on_error=OnError.FAIL, rows=16)
    assert caught.value.error_type is ErrorType.POISON
    assert len(counter.read_text()) == 5, "16, 8, 4, 2, 1"


@pytest.mark.parametrize("fault", ["missing_name", "import no_such_module", "raise MemoryError('too large')"])
def test_what_no_row_is_to_blame_for_ends_the_run_at_once(tmp_path: Path, fault: str) -> None:
    counter = tmp_path / "calls"
    counter.write_text("")
    body = f"with open({str(counter)!r}, 'a') as file:\n    file.write('.')\n{fault}"
    with pytest.raises(FatalError, match="cannot run"):
        stage_run(tmp_path, code(body))
    assert len(counter.read_text()) == 1


def test_a_function_that_ends_the_process_does_not(tmp_path: Path) -> None:
    _, letters = stage_run(tmp_path, code("import sys\nsys.exit(1)"), rows=3)
    assert len(letters.kept) == 3


def test_a_function_may_name_the_rows_itself(tmp_path: Path) -> None:
    body = (
        "from dsl.contracts.errors import RejectedRows\n"
        "bad = [n for n, each in enumerate(batch['text'].to_pylist()) if each == 'poison']\n"
        "if bad:\n    raise RejectedRows('a poisonous text', rows=bad)\n"
        "return batch"
    )
    table, letters = stage_run(tmp_path, code(body), poison=(1, 2, 20))
    assert sorted(each["id"] for each in letters.rows()) == [1, 2, 20]
    assert len(table.ids()) == 37


def test_rows_that_are_not_there_cannot_be_refused(bench: Workbench) -> None:
    body = "from dsl.contracts.errors import RejectedRows\nraise RejectedRows('x', rows=[10])"
    with pytest.raises(FatalError, match="row 10 of a batch of 10"):
        run(bench, code(body))


def test_a_row_that_may_be_left_out_is_not_lost_beside_one_that_fails(tmp_path: Path) -> None:
    body = "even = batch.filter(pc.equal(pc.bit_wise_and(batch['id'], 1), 0))\n" + PICKY.replace(
        "return batch", "return even"
    )
    table, letters = stage_run(tmp_path, code(body, filters=True), poison=(4, 7))
    assert table.ids() == [each for each in range(0, 40, 2) if each != 4]
    assert sorted(each["id"] for each in letters.rows()) == [4, 7]
