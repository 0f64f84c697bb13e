"""Each command with good input: what people see, what machines parse, what is changed and what is left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import duckdb
import pytest
from dagster import DagsterInstance

from server.cli.exits import Exit
from server.cli.main import COMMANDS, SUMMARIES, cli
from tests.server.command import COMMAND, Ended, environment, headrace
from tests.server.conftest import ORDERS, Here


def files(folder: Path) -> set[str]:
    return {str(each.relative_to(folder)) for each in folder.rglob("*")}


def test_a_run_moves_the_rows_and_stands_in_the_instance(orders: Path, here: Here) -> None:
    done = headrace("run", "orders.yaml", "--nodes", cwd=orders)
    assert done.code == 0, done.said
    assert "orders: finished in " in done.out
    assert "destination: 3 read = 2 written + 1 filtered" in done.out
    assert "1_filter + 2_mapping" in done.out
    assert "destination: finished: read 3, written 2" in done.err, "a line of progress, since stderr is no terminal"
    with duckdb.connect(str(orders / "out.duckdb"), read_only=True) as out:
        assert out.sql("SELECT id, amount FROM paid ORDER BY id").fetchall() == [(1, 120), (3, 42)]
    told = here("run", "orders.yaml", "--json")
    assert (told.code, told.err) == (0, "")
    assert told.json["success"]
    assert told.json["workflow"] == "orders"
    assert [each["read"] for each in told.json["stages"]] == [3]
    assert told.json["committed"]["destination"]["rows"] == 2
    with DagsterInstance.from_config(str(orders / ".headrace" / "dagster")) as instance:
        runs = instance.get_runs()
        assert [each.status.value for each in runs] == ["SUCCESS", "SUCCESS"]
        assert runs[0].run_id == told.json["run_id"]
        assert {each.job_name for each in runs} == {"orders"}


def test_a_run_may_name_a_connection_of_a_file_beside_it(orders: Path, here: Here) -> None:
    shared = "connection:\n  name: warehouse\n  type: duckdb\n  config: {path: in.duckdb}\n"
    (orders / "connections.yaml").write_text(shared, encoding="utf-8")
    text = ORDERS.replace(
        "config: {path: in.duckdb, table: orders}", "connection: warehouse\n    config: {table: orders}"
    )
    (orders / "orders.yaml").write_text(text, encoding="utf-8")
    assert here("validate", "orders.yaml").code == 0
    assert here("validate", ".").code == 0
    assert here("preview", "orders.yaml", "source").code == 0
    done = here("run", "orders.yaml")
    assert done.code == 0, done.said


def test_the_environment_file_is_read_and_does_not_win(orders: Path) -> None:
    (orders / "named.yaml").write_text(ORDERS.replace("table: orders", 'table: "${TABLE}"'), encoding="utf-8")
    (orders / ".env").write_text("TABLE=orders\nHEADRACE_WORKFLOWS=.\n", encoding="utf-8")
    (orders / "orders.yaml").unlink()
    plan = headrace("plan", "named.yaml", "--json", cwd=orders).json
    assert "orders" in plan["nodes"][0]["kind"]
    assert "elsewhere" in headrace("plan", "named.yaml", cwd=orders, env={"TABLE": "elsewhere"}).out
    assert headrace("validate", "--json", cwd=orders).json["workflows"] == [{"name": "orders", "path": "named.yaml"}]


def test_a_plan_says_what_a_run_does(orders: Path, here: Here) -> None:
    before = files(orders)
    blind, seen = here("plan", "orders.yaml"), here("plan", "orders.yaml", "--discover")
    assert "columns unknown until it runs" in blind.out
    assert "id int64, amount string, status string" in seen.out
    assert "fused 1_filter + 2_mapping" in seen.out
    assert "overwrite, exactly_once (proven_real)" in seen.out
    told = here("plan", "orders.yaml", "--discover", "--json").json
    assert told["nodes"][0]["columns"] == {"id": "int64", "amount": "string", "status": "string"}
    assert here("plan", "orders.yaml", "--mermaid").out.startswith("flowchart LR\n")
    assert files(orders) == before


def test_connectors_are_listed_shown_checked_and_discovered(orders: Path, here: Here) -> None:
    listed = here("connectors", "list", "--json").json
    duck = next(each for each in listed if each["type"] == "duckdb")
    assert duck["write_modes"] == ["append", "merge", "overwrite", "upsert"]
    assert duck["guarantee"] == "exactly_once"
    assert "duckdb" in here("connectors", "list").out
    shown = here("connectors", "show", "postgres")
    assert "headrace[postgres]" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    options = here("connectors", "show", "postgres", "--json").json["options"]
    assert {each["name"] for each in options["connection"]} >= {"host", "password"}
    assert next(each for each in options["connection"] if each["name"] == "password")["type"] == "secret"
    (orders / "out.duckdb").write_bytes((orders / "in.duckdb").read_bytes())
    checked = here("connectors", "check", "orders.yaml")
    assert (checked.code, checked.out.count("healthy  ")) == (0, 2)
    assert here("connectors", "check", "orders.yaml", "--json").json["source"]["healthy"] is True
    found = here("connectors", "discover", "orders.yaml", "source")
    assert "orders  key: id" in found.out
    [stream] = here("connectors", "discover", "orders.yaml", "source", "--json").json
    assert stream["primary_key"] == ["id"]
    assert stream["columns"] == {"id": "int64", "amount": "string", "status": "string"}


def test_the_schema_is_one_that_editors_read(here: Here) -> None:
    schema = here("schema").json
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "duckdb" in json.dumps(schema)


GROUPS = {name: each for name in COMMANDS if isinstance(each := cli.get_command(click.Context(cli), name), click.Group)}
SUBCOMMANDS = [(name, each) for name, group in GROUPS.items() for each in group.commands]


@pytest.mark.parametrize("line", [(), *((each,) for each in COMMANDS), *SUBCOMMANDS])
def test_help_shows_examples_and_fits_a_terminal(line: tuple[str, ...], here: Here) -> None:
    shown = here(*line, "--help")
    assert shown.code == 0
    assert line[:1] in {(each,) for each in GROUPS} or "Examples:" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    assert "..." not in shown.out.partition("Commands:")[2].partition("Examples:")[0].replace("]...", "")


def test_the_first_page_of_help_names_every_command_and_every_exit_code(here: Here) -> None:
    shown = here("--help").out
    assert list(COMMANDS) == list(SUMMARIES) == cli.list_commands(None)  # type: ignore[arg-type]
    assert all(f"\n  {each} " in shown for each in COMMANDS)
    assert all(each.meaning in shown for each in Exit)
    assert here("--version").out.startswith("headrace, version ")


def test_a_shell_completes_commands_and_connectors(orders: Path) -> None:
    def complete(words: str, word: int) -> str:
        env = environment(_HEADRACE_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(word))
        done = subprocess.run(COMMAND, check=False, cwd=orders, env=env, capture_output=True, text=True)
        return done.stdout

    assert "plain,validate" in complete("headrace val", 1)
    assert "plain,postgres" in complete("headrace connectors show post", 3)
    assert "file," in complete("headrace run ord", 2)


def test_a_reader_that_goes_away_is_no_fault(folder: Path) -> None:
    command = f"{' '.join(COMMAND)} schema"
    script = f"set -o pipefail; {command} | head -1 >/dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], check=False, cwd=folder, env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) in {(Exit.BROKEN_PIPE, ""), (Exit.DONE, "")}


LOADED = """
import sys
from server.cli.main import run_command
code = run_command(sys.argv[1:])
print(sorted({each.partition(".")[0] for each in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("line", [("--help",), ("validate", "orders.yaml"), ("plan", "orders.yaml"), ("schema",)])
def test_looking_at_documents_loads_neither_dagster_nor_a_driver(line: tuple[str, ...], orders: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *line],
        check=False,
        cwd=orders,
        env=environment(),
        capture_output=True,
        text=True,
    )
    ended = Ended(done.returncode, done.stdout, done.stderr)
    assert ended.code == 0, ended.said
    loaded = set(json.loads(ended.err.strip().splitlines()[-1].replace("'", '"')))
    assert {"server", "click"} <= loaded
    assert not loaded & {
        "dagster",
        "duckdb",
        "psycopg",
        "pymysql",
        "boto3",
        "pandas",
        "sqlalchemy",
        "aiohttp",
        "pydantic",
    }


def test_the_ui_says_where_it_is_and_what_it_loads(orders: Path) -> None:
    fake = orders / "dagster.py"
    fake.write_text("import os, sys\nprint(os.environ['DAGSTER_HOME'], sys.argv[1:])\n", encoding="utf-8")
    env = {"PYTHONPATH": os.pathsep.join([str(orders), *filter(None, [os.environ.get("PYTHONPATH")])])}
    bare = headrace("ui", "--port", "4000", cwd=orders, env=env)
    assert bare.code == 0
    assert "http://127.0.0.1:4000" in bare.out
    assert f"{orders / '.headrace' / 'dagster'} ['dev', '-m', 'etl_defs.definitions', '-a', 'defs'" in bare.out
    (orders / "workspace.yaml").write_text("load_from: []\n", encoding="utf-8")
    assert (
        f"['dev', '-w', '{orders / 'workspace.yaml'}', '-h', '127.0.0.1', '-p', '3000']"
        in headrace("ui", cwd=orders, env=env).out
    )
