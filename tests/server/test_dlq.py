"""`headrace dlq` as a person uses it: real targets, masked values, edits, replays that are killed; reads the targets itself."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.kit.postgres import PostgresDatabase, PostgresServer
from tests.resources.fork_server import fork_server
from tests.server.command import Ended, environment
from tests.server.conftest import Here

ORDERS = """\
workflow:
  name: orders
  on_error: dlq
  checkpoint: {rows: 2}
  source:
    type: duckdb
    config: {path: in.duckdb, table: orders}
  transformations:
    - type: mapping
      config:
        mappings:
          - {source: id, destination: id}
          - {source: email, destination: contact, cast: int64}
    - type: mask
      config:
        rules:
          - {field: contact, method: nullify}
  destination:
    type: sqlite
    config: {path: out.sqlite, table: paid}
"""
CANARY = "canary-4711"
# Forked from a process that has imported what is slow to import; the kill is real.
CHILD = """
import os, sys
from dsl.contracts.failpoints import arm_from
from server.cli.main import run_command
os.chdir({folder!r})
arm_from(os.environ)
code = run_command({arguments!r})
sys.stdout.flush()
os._exit(code)
"""


def _orders(folder: Path, text: str = ORDERS, rows: int = 7) -> None:
    (folder / "orders.yaml").write_text(text, encoding="utf-8")
    with duckdb.connect(str(folder / "in.duckdb")) as database:
        database.execute("CREATE TABLE orders (id BIGINT, email VARCHAR)")
        database.executemany("INSERT INTO orders VALUES (?, ?)", [(n, f"{CANARY}-{n}") for n in range(rows)])
        database.execute("INSERT INTO orders VALUES (100, '5')")


def _arrived(folder: Path) -> list[int]:
    with sqlite3.connect(folder / "out.sqlite") as database:
        found = [row[0] for row in database.execute("SELECT id FROM paid ORDER BY id")]
    database.close()
    return found


def command(folder: Path, *arguments: str, **more: str) -> tuple[int, list[str]]:
    """The command in a process that may be killed: its exit code, negative for a signal, and its lines."""
    server = fork_server(
        "server.cli.dlq", "server.letters", "server.letter_views", "etl_defs.replay_job", "server.runs"
    )
    code = CHILD.format(folder=str(folder), arguments=[*arguments])
    return server.run(code, {**environment(**more), "DAGSTER_HOME": str(folder / "home"), "COLUMNS": "160"})


def headrace(*arguments: str, cwd: Path) -> Ended:
    """The command, which must not be killed."""
    code, lines = command(cwd, *arguments)
    text = "\n".join(lines)
    return Ended(code, text, text)


def _letters(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    code, lines = command(folder, "dlq", "show", "orders.yaml", "--json", *arguments)
    assert code == 0, lines
    found: list[dict[str, Any]] = json.loads("\n".join(lines))["letters"]
    return found


def test_a_masked_value_is_never_shown(folder: Path) -> None:
    _orders(folder)
    assert headrace("run", "orders.yaml", cwd=folder).code == 0
    for arguments in (
        ("list",),
        ("list", "orders"),
        ("list", "--json"),
        ("show", "orders.yaml"),
        ("show", "orders", "--json"),
    ):
        done = headrace("dlq", *arguments, cwd=folder)
        assert done.code == 0, done.said
        assert CANARY not in done.said
        assert "conversion" in done.out
    shown = headrace("dlq", "show", "orders", "--limit", "2", "--json", cwd=folder).json
    assert (len(shown["letters"]), shown["total"]) == (2, 7)
    assert shown["letters"][0]["hidden"] == ["email"]
    after = headrace("dlq", "show", "orders", "--after", shown["next"], "--limit", "1000", "--json", cwd=folder).json
    assert len(after["letters"]) == 5
    one = shown["letters"][0]["id"]
    edited = headrace("dlq", "edit", "orders", one[:12], "--set", f"email={CANARY}-x", cwd=folder)
    assert edited.code == 0, edited.said
    assert CANARY not in edited.said
    plain = headrace("dlq", "show", "orders", "--id", one, "--unmasked", cwd=folder)
    assert f"{CANARY}-x" in plain.out
    assert "it was" in plain.out


def test_nothing_is_shown_where_nobody_knows_what_is_masked(folder: Path) -> None:
    _orders(folder)
    assert command(folder, "run", "orders.yaml")[0] == 0
    for each in (folder / "home" / "headrace" / "dead_letters" / "code").iterdir():
        each.unlink()
    assert {value for each in _letters(folder) for value in each["row"].values()} == {"***"}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("place", "visit"),
    [
        pytest.param("sql.fenced", 1, marks=SLOW),
        pytest.param("sql.token_moved", 1, marks=SLOW),
        pytest.param("sql.token_moved", 4, marks=SLOW),
        pytest.param("sql.committed", 1, marks=SLOW),
        pytest.param("sql.committed", 4, marks=SLOW),
        pytest.param("replay.committed", 1, marks=SLOW),
        ("replay.committed", 2),
        pytest.param("replay.committed", 4, marks=SLOW),
    ],
)
def test_a_replay_that_is_killed_anywhere_arrives_once(folder: Path, place: str, visit: int) -> None:
    _orders(folder)
    assert command(folder, "run", "orders.yaml")[0] == 0
    mended = ORDERS.replace("{source: email, destination: contact, cast: int64}", "{source: id, destination: contact}")
    (folder / "orders.yaml").write_text(mended, encoding="utf-8")
    armed = {"HEADRACE_TEST": "1", "HEADRACE_FAILPOINTS": f"{place}=kill@{visit}"}
    assert command(folder, "dlq", "replay", "orders.yaml", **armed)[0] == -9
    code, lines = command(folder, "dlq", "replay", "orders.yaml", "--json")
    assert code == 0, lines
    assert _arrived(folder) == [*range(7), 100]
    assert {each["status"] for each in _letters(folder, "--all")} == {"replayed"}


def _to_postgres(target: PostgresDatabase) -> str:
    head, _, _ = ORDERS.partition("  transformations:")
    reached = f"host: {target.host}, port: {target.port}, database: {target.database}, username: {target.user}"
    config = f"{reached}, password: '${{PAID_PASSWORD}}', table: paid"
    return f"{head}  destination:\n    type: postgres\n    config: {{{config}}}\n"


def test_a_row_that_its_writer_refused_is_mended_and_arrives(
    folder: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = postgres.new_database()
    target.execute("CREATE TABLE paid (id bigint PRIMARY KEY, email text NOT NULL)")
    monkeypatch.setenv("PAID_PASSWORD", target.password)
    with duckdb.connect(str(folder / "in.duckdb")) as database:
        database.execute("CREATE TABLE orders (id BIGINT, email VARCHAR)")
        database.execute("INSERT INTO orders VALUES (1, 'a'), (2, NULL), (3, 'c')")
    (folder / "orders.yaml").write_text(_to_postgres(target), encoding="utf-8")
    assert command(folder, "run", "orders.yaml")[0] == 0
    [letter] = _letters(folder)
    assert (letter["node"], letter["entry"]) == ("destination", "destination")
    for bad in (["--set", "id=x"], ["--set", "emial=x"], ["--set", "id"], []):
        code, lines = command(folder, "dlq", "edit", "orders.yaml", letter["id"], *bad)
        assert code == 2, lines
    assert command(folder, "dlq", "edit", "orders.yaml", letter["id"], "--set", "email=b")[0] == 0
    assert command(folder, "dlq", "replay", "orders.yaml", "--dry-run")[0] == 0
    assert len(target.rows("SELECT id FROM paid")) == 2
    for _ in range(2):
        assert command(folder, "dlq", "replay", "orders.yaml")[0] == 0
    assert target.rows("SELECT id, email FROM paid ORDER BY id") == [(1, "a"), (2, "b"), (3, "c")]


def test_bad_input_is_one_sentence(folder: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(folder / "home"))
    _orders(folder)
    for arguments, said in (
        (("show", "nothing"), "no workflow 'nothing'"),
        (("edit", "orders.yaml", "ab", "--set", "email=1"), "too short"),
        (("edit", "orders.yaml", "abcdef012345", "--set", "email=1"), "no dead letter"),
        (("edit", "orders.yaml", "abcdef012345"), "say what to change"),
        (("discard", "orders.yaml", "--reason", "x"), "say which with a filter"),
        (("discard", "orders.yaml", "--everything", "--reason", " "), "says nothing"),
        (("discard", "orders.yaml", "--everything"), "--reason"),
    ):
        done = here("dlq", *arguments)
        assert (done.code, "Traceback" in done.said) == (2, False), done.said
        assert said in done.said


def test_discarded_letters_say_who_and_why(folder: Path) -> None:
    _orders(folder)
    assert headrace("run", "orders.yaml", cwd=folder).code == 0
    assert (
        headrace(
            "dlq", "discard", "orders.yaml", "--code", "conversion", "--reason", "test data", "--json", cwd=folder
        ).json["discarded"]
        == 7
    )
    assert (
        headrace("dlq", "discard", "orders.yaml", "--everything", "--reason", "again", "--json", cwd=folder).json[
            "discarded"
        ]
        == 0
    )
    assert "no dead letters" in headrace("dlq", "list", cwd=folder).out
    found = headrace("dlq", "show", "orders.yaml", "--all", "--json", cwd=folder).json["letters"]
    assert {(each["status"], each["changes"][0]["why"]) for each in found} == {("discarded", "test data")}
    assert headrace("dlq", "replay", "orders.yaml", cwd=folder).code == 0
    assert _arrived(folder) == [100]
