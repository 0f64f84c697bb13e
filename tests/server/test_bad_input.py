"""What people get wrong, for every command: the exit code says what it was, one sentence says what to do, no traceback."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from tests.kit.postgres import PostgresServer
from tests.kit.process import free_port
from tests.server.command import Ended, headrace
from tests.server.conftest import ORDERS, Here

COMMANDS = {
    "validate": ("validate", "FILE"),
    "plan": ("plan", "FILE"),
    "preview": ("preview", "FILE", "source"),
    "run": ("run", "FILE"),
    "check": ("connectors", "check", "FILE"),
    "discover": ("connectors", "discover", "FILE", "source"),
}
BAD = {
    "missing.yaml": (None, 2, "there is no file or folder missing.yaml"),
    "list.yaml": ("- a\n- b\n", 3, "E301"),
    "broken.yaml": ("workflow: {name: [\n", 3, "E101"),
    "tab.yaml": ("workflow:\n\tname: x\n", 3, "E101"),
    "kind.yaml": (ORDERS.replace("type: duckdb", "type: duckbd", 1), 3, "did you mean 'duckdb'?"),
    "variable.yaml": (ORDERS.replace("in.duckdb", '"${NOWHERE_SET}"'), 3, "NOWHERE_SET"),
    "key.yaml": (ORDERS.replace("condition:", "conditoin:"), 3, "did you mean 'condition'?"),
    "empty.yaml": ("", 3, "E107"),
}
SOURCE = """\
workflow:
  name: far
  source:
    type: postgres
    config: {{host: 127.0.0.1, port: {port}, database: {database}, username: {user}, password: "${{FAR_PASSWORD}}",
             table: nothing}}
  destination: {{type: duckdb, config: {{path: out.duckdb, table: t, write_mode: overwrite}}}}
"""


def arguments(command: str, file: str) -> list[str]:
    return [file if each == "FILE" else each for each in COMMANDS[command]]


def check_sentence(done: Ended, code: int, word: str) -> None:
    assert done.code == code, done.said
    assert word in done.said
    assert "Traceback" not in done.said


@pytest.mark.parametrize("file", BAD)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_bad_document_is_named_with_its_fault(command: str, file: str, folder: Path, here: Here) -> None:
    text, code, word = BAD[file]
    if text is not None:
        (folder / file).write_text(text, encoding="utf-8")
    check_sentence(here(*arguments(command, file)), code, word)
    told = here(*arguments(command, file), "--json")
    assert told.code == code
    assert told.err == ""
    assert word.split(" ")[0] in str(told.json)
    assert not {"in.duckdb", "out.duckdb", ".headrace"} & {each.name for each in folder.iterdir()}


def test_bytes_that_are_no_text_are_placed(folder: Path, here: Here) -> None:
    (folder / "latin.yaml").write_bytes(ORDERS.encode() + "# caf\xe9\n".encode("latin-1"))
    lines = ORDERS.count("\n") + 1
    check_sentence(here("validate", "latin.yaml"), 3, f"latin.yaml:{lines}:6: E101 the file is not UTF-8 text")


def test_a_folder_and_a_missing_argument(orders: Path, here: Here) -> None:
    check_sentence(here("run", str(orders)), 2, "is a folder")
    check_sentence(here("run"), 2, "Missing argument 'FILE'")
    assert here("run", "--json").json["error"]["exit"] == 2
    check_sentence(here("runn", "orders.yaml"), 2, "No such command")
    check_sentence(here("preview", "orders.yaml", "3_nothing"), 2, "the workflow has: source, 1_filter, 2_mapping")
    check_sentence(here("preview", "orders.yaml", "source", "--rows", "0"), 2, "0 is not in the range")
    check_sentence(here("plan", "orders.yaml", "--workflow", "x"), 2, "it holds: orders")
    check_sentence(here("connectors", "show", "duckbd"), 2, "installed: ")
    check_sentence(
        here("connectors", "discover", "orders.yaml", "1_filter"), 2, "the workflow has: source, destination"
    )


def test_several_workflows_want_a_choice(orders: Path, here: Here) -> None:
    two = ORDERS + "---\n" + ORDERS.replace("name: orders", "name: others").replace("table: paid", "table: other")
    (orders / "two.yaml").write_text(two, encoding="utf-8")
    check_sentence(here("plan", "two.yaml"), 2, "choose one with --workflow: orders, others")
    assert here("plan", "two.yaml", "--workflow", "others", "--json").json["workflow"] == "others"


def test_a_setting_that_cannot_be_read(orders: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    del orders
    monkeypatch.setenv("HEADRACE_MEMORY", "much")
    check_sentence(here("plan", "orders.yaml"), 2, "HEADRACE_MEMORY='much' is not a size")
    assert here("plan", "orders.yaml", "--json").json["error"]["exit"] == 2


def test_nothing_listens_at_the_port(folder: Path, here: Here) -> None:
    text = SOURCE.format(port=free_port(), database="shop", user="app")
    (folder / "far.yaml").write_text(text.replace("${FAR_PASSWORD}", "${FAR_PASSWORD:-x}"), encoding="utf-8")
    for line in (
        ("plan", "far.yaml", "--discover"),
        ("preview", "far.yaml", "source"),
        ("connectors", "check", "far.yaml"),
        ("connectors", "discover", "far.yaml", "source"),
    ):
        check_sentence(here(*line), 4, "cannot connect")
        assert here(*line, "--json").code == 4
    assert here("plan", "far.yaml").code == 0, "without --discover nobody is asked"
    done = here("run", "far.yaml")
    check_sentence(done, 4, "cannot connect")
    assert "'headrace ui' shows its log" in done.err
    told = here("run", "far.yaml", "--json")
    assert (told.code, told.json["success"], told.json["outcome"]) == (4, False, "unavailable")
    assert told.json["error"]["exit"] == 4
    assert told.err == ""


def test_a_wrong_password_and_a_missing_table(postgres: PostgresServer, folder: Path) -> None:
    database = postgres.new_database()
    text = SOURCE.format(port=database.port, database=database.database, user=database.user)
    (folder / "far.yaml").write_text(text, encoding="utf-8")
    wrong = {"FAR_PASSWORD": "wrong-canary-8123"}
    for line in (("connectors", "check", "far.yaml"), ("run", "far.yaml")):
        done = headrace(*line, cwd=folder, env=wrong)
        assert done.code in {1, 4}
        assert "password" in done.said
        assert "canary" not in done.said
        assert "Traceback" not in done.said
    right = {"FAR_PASSWORD": database.password}
    assert headrace("connectors", "check", "far.yaml", "--json", cwd=folder, env=right).json["source"]["healthy"]
    for line in (("plan", "far.yaml", "--discover"), ("run", "far.yaml")):
        check_sentence(headrace(*line, cwd=folder, env=right), 1, "nothing")


def test_a_dropped_column_is_a_fault_of_the_document(orders: Path, here: Here) -> None:
    with duckdb.connect(str(orders / "in.duckdb")) as database:
        database.execute("ALTER TABLE orders DROP COLUMN amount")
    assert here("plan", "orders.yaml").code == 0
    check_sentence(here("plan", "orders.yaml", "--discover"), 3, "orders.yaml:13:")
    check_sentence(here("run", "orders.yaml"), 3, "amount")
    assert not (orders / "out.duckdb").exists(), "nothing has moved"


def test_a_poison_row_fails_the_run_or_goes_where_it_is_told(orders: Path, here: Here) -> None:
    with duckdb.connect(str(orders / "in.duckdb")) as database:
        database.execute("INSERT INTO orders VALUES (4, 'free', 'paid')")
    check_sentence(here("run", "orders.yaml"), 1, "free")
    (orders / "kept.yaml").write_text(ORDERS.replace("name: orders", "name: kept\n  on_error: dlq"), encoding="utf-8")
    kept = here("run", "kept.yaml", "--json")
    assert kept.code == 0, kept.said
    [stage] = kept.json["stages"]
    assert (stage["read"], stage["written"], stage["filtered"], stage["rejected"]) == (4, 2, 1, 1)
    assert stage["balanced"]
    assert sum(stage["rejected_by_code"].values()) == 1
    [group] = here("dlq", "list", "--json").json["groups"]
    assert group["workflow"] == "kept"
    home = orders / ".headrace"
    assert [each.name for each in home.iterdir()] == ["dagster"], "the UI looks for dead letters below DAGSTER_HOME"
    assert list((home / "dagster" / "headrace").glob("dead_letters*"))


@pytest.mark.parametrize("name", ["HEADRACE_HOME", "DAGSTER_HOME"])
def test_a_home_that_is_a_file(name: str, orders: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    (orders / "occupied").write_text("", encoding="utf-8")
    monkeypatch.setenv(name, str(orders / "occupied"))
    done = here("run", "orders.yaml")
    check_sentence(done, 1, "occupied")
    assert "fault of Headrace" not in done.said
