"""Validating folders: every fault of every file, sorted; what is told as JSON; advice; a thousand files."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl_defs import library
from server.cli.deployment import workflow_files
from tests.server.conftest import ORDERS, Here


@pytest.fixture
def several(orders: Path) -> Path:
    (orders / "b.yaml").write_text(
        ORDERS.replace("name: orders", "name: b")
        .replace("condition:", "conditoin:")
        .replace("type: duckdb", "type: duck", 1),
        encoding="utf-8",
    )
    (orders / "deep").mkdir()
    (orders / "deep" / "a.yml").write_text("workflow: {}\n", encoding="utf-8")
    (orders / ".hidden").mkdir()
    (orders / ".hidden" / "c.yaml").write_text("not: one\n", encoding="utf-8")
    return orders


def test_every_fault_of_every_file_is_told_sorted(several: Path, here: Here) -> None:
    told = here("validate", ".", "--json")
    assert told.code == 3
    found = [(each["path"], each["line"], each["column"]) for each in told.json["diagnostics"]]
    assert found == sorted(found)
    assert {path for path, _, _ in found} == {"b.yaml", "deep/a.yml"}
    assert {each["code"] for each in told.json["diagnostics"] if each["path"] == "b.yaml"} == {"E302", "E303", "E401"}
    assert all(set(each) == {"path", "line", "column", "code", "message", "hint"} for each in told.json["diagnostics"])
    assert told.json["valid"] is False
    assert told.json["workflows"] == [{"name": "orders", "path": "orders.yaml"}]
    shown = here("validate", ".")
    assert shown.code == 3
    assert "b.yaml:8:" in shown.err
    assert f"{len(found)} faults" in shown.out
    del several


def test_a_caret_stands_under_the_place(orders: Path, here: Here) -> None:
    (orders / "orders.yaml").write_text(ORDERS.replace("'paid'", "'paid' && stauts == 1"), encoding="utf-8")
    del orders
    lines = here("plan", "orders.yaml", "--discover").err.splitlines()
    assert lines[0].startswith("orders.yaml:")
    _, line, column = lines[0].split(" ")[0].rstrip(":").split(":")
    assert lines[1] == f"{line:>5} | " + ORDERS.replace("'paid'", "'paid' && stauts == 1").splitlines()[int(line) - 1]
    assert lines[2].index("^") == len("      | ") + int(column) - 1
    assert lines[1][lines[2].index("^") :].startswith("stauts")
    assert "did you mean 'status'?" in lines[3]


def test_two_files_with_one_name_are_a_fault(orders: Path, here: Here) -> None:
    (orders / "again.yaml").write_text(ORDERS.replace("table: paid", "table: again"), encoding="utf-8")
    told = here("validate", "orders.yaml", "again.yaml", "--json")
    assert [each["code"] for each in told.json["diagnostics"]] == ["E701"]
    assert here("validate", "again.yaml").code == 0


def test_a_file_named_twice_is_compiled_once(orders: Path, here: Here) -> None:
    told = here("validate", "orders.yaml", ".", "orders.yaml", "--json")
    assert (told.code, len(told.json["workflows"])) == (0, 1)
    del orders


def test_advice_ends_with_zero_unless_it_is_strict(orders: Path, here: Here) -> None:
    (orders / "orders.yaml").write_text(ORDERS.replace(", write_mode: overwrite", ""), encoding="utf-8")
    shown = here("validate", "orders.yaml")
    assert (shown.code, "W104" in shown.err) == (0, True)
    assert shown.out == "1 workflow in 1 file compiles; 1 to look at\n"
    assert [each["code"] for each in here("validate", "orders.yaml", "--json").json["advice"]] == ["W104"]
    assert here("validate", "orders.yaml", "--strict").code == 3


def test_a_folder_without_workflows(folder: Path, here: Here) -> None:
    (folder / "empty").mkdir()
    told = here("validate", "empty")
    assert (told.code, "'headrace init' writes a first one" in told.err) == (2, True)


def test_the_command_and_the_code_location_take_the_same_files(several: Path) -> None:
    assert workflow_files(several) == library.workflow_files(several) != []


def test_a_thousand_files_are_compiled_once_each(folder: Path, here: Here) -> None:
    for number in range(1000):
        text = ORDERS.replace("name: orders", f"name: w{number}").replace("table: paid", f"table: paid_{number}")
        (folder / f"w{number}.yaml").write_text(text, encoding="utf-8")
    assert here("validate", ".").out == "1000 workflows in 1000 files compile\n"
