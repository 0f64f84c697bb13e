"""Canaries: secrets in every place where people put them are in no output, report, event, log or file after any command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from server.cli.faults import veiled, written_secrets
from tests.kit.postgres import PostgresServer
from tests.kit.process import free_port
from tests.server.command import Ended, headrace
from tests.server.conftest import Here

ENVIRONMENT = {
    "CANARY_PASSWORD": "canary-password-01!",
    "CANARY_HEADER": "Bearer canary.header.02",
    "CANARY_KEY": "canary-mask-key-03",
    "CANARY_UNUSED_TOKEN": "canary-unused-04",
    "CANARY_JSON": '{"user": "canary-json-user-05", "password": "canary-json-password-06"}',
}
WRITTEN = (
    "canary-literal-07",
    "canary-default-08",
    "canary-plain-header-09",
    "canary-address-10",
    "canary-literal-key-11",
)
FILED = ("canary-file-12", "canary-file-json-13")
VALUES = (
    *ENVIRONMENT.values(),
    *WRITTEN,
    *FILED,
    "canary-json-user-05",
    "canary-json-password-06",
    "canary.header.02",
)
FAILING = """\
workflow:
  name: leaky-{number}
  source:
    type: postgres
    config: {{host: 127.0.0.1, port: {port}, database: {database}, username: {user}, password: {password}, table: {table}}}
  transformations:
    - type: mask
      config: {{rules: [{{field: email, method: hash, key: {key}}}]}}
    - type: enrich
      config:
        type: http
        url: "http://127.0.0.1:{api}/{{{{ email }}}}"
        method: GET
        headers: {{Authorization: {header}, X-Plain: canary-plain-header-09}}
        result_mapping: [{{source: response.score, destination: score, type: int64}}]
        on_error: fail
  destination: {{type: duckdb, config: {{path: out.duckdb, table: t, write_mode: overwrite}}}}
"""
PASSWORDS = (
    '"${CANARY_PASSWORD}"',
    "canary-literal-07",
    '"${NOT_SET_ANYWHERE:-canary-default-08}"',
    '"${secret:file/password}"',
    '"${secret:file/login#password}"',
    '"${secret:env/CANARY_JSON#password}"',
)


def commands(file: str) -> Iterator[tuple[str, ...]]:
    yield from (
        ("plan", file, "--discover"),
        ("preview", file, "source"),
        ("preview", file, "2_enrich", "--json"),
        ("run", file),
        ("run", file, "--json"),
        ("connectors", "check", file),
        ("connectors", "discover", file, "source"),
    )


def leaks(ended: Ended, folder: Path, *, but: frozenset[Path] = frozenset()) -> list[str]:
    """Every canary that was said, or stands in a file that the test did not write."""
    written = {each: each.read_bytes() for each in folder.rglob("*") if each.is_file() and each not in but}
    found = [f"output: {each}" for each in VALUES if each in ended.said]
    return found + [f"{path}: {each}" for each in VALUES for path, held in written.items() if each.encode() in held]


def secrets_folder(folder: Path) -> Path:
    kept = folder / "secrets"
    kept.mkdir()
    (kept / "password").write_text("canary-file-12\n", encoding="utf-8")
    (kept / "login").write_text('{"password": "canary-file-json-13"}', encoding="utf-8")
    return kept


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    return {
        **ENVIRONMENT,
        "HEADRACE_SECRETS_DIR": str(secrets_folder(folder)),
        "HEADRACE_HOME": str(folder / "home"),
        "DAGSTER_HOME": str(folder / "instance"),
    }


def document(number: int, password: str, port: int, *, api: int = 1, login: tuple[str, str] = ("d", "u")) -> str:
    return FAILING.format(
        number=number,
        port=port,
        password=password,
        table="users",
        api=api,
        database=login[0],
        user=login[1],
        key='"${CANARY_KEY}"' if number % 2 else "canary-literal-key-11",
        header='"${CANARY_HEADER}"',
    )


@pytest.mark.parametrize(
    "number", [0, *(pytest.param(each, marks=pytest.mark.slow) for each in range(1, len(PASSWORDS)))]
)
def test_nothing_is_said_where_nothing_can_be_reached(number: int, folder: Path, environment: dict[str, str]) -> None:
    file = folder / f"leaky-{number}.yaml"
    file.write_text(document(number, PASSWORDS[number], free_port()), encoding="utf-8")
    lines: list[tuple[str, ...]] = [("run", file.name)]
    if number == 1:  # a literal: what looks at a document has it before it
        lines += [("connectors", "check", file.name)]
        lines += [("validate", file.name), ("plan", file.name, "--json"), ("plan", file.name, "--discover", "--json")]
    for line in lines:
        ended = headrace(*line, cwd=folder, env=environment)
        assert "Traceback" not in ended.said
        assert not leaks(ended, folder, but=frozenset({file, *(folder / "secrets").iterdir()}))


def test_nothing_is_said_where_runs_succeed_and_fail(
    postgres: PostgresServer, folder: Path, environment: dict[str, str]
) -> None:
    database = postgres.new_database()
    database.execute("CREATE TABLE users (id int primary key, email text)", "INSERT INTO users VALUES (1, 'a@b.c')")
    login = (database.database, database.user)
    failing = folder / "leaky-1.yaml"
    failing.write_text(document(1, '"${PG_CANARY}"', database.port, api=free_port(), login=login), encoding="utf-8")
    good = folder / "leaky-3.yaml"
    text = document(3, '"${PG_CANARY}"', database.port, login=login)
    head, _, rest = text.partition("    - type: enrich")
    good.write_text(head + rest[rest.index("  destination:") :], encoding="utf-8")
    env = {**environment, "PG_CANARY": database.password}
    own = frozenset({failing, good, *(folder / "secrets").iterdir()})
    for file, line in ((failing, line) for line in commands(failing.name)):
        ended = headrace(*line, cwd=folder, env=env)
        assert "Traceback" not in ended.said
        assert not leaks(ended, folder, but=own), (file, line)
        assert database.password not in ended.said
    ended = headrace("run", good.name, cwd=folder, env=env)
    assert ended.code == 0, ended.said
    assert not leaks(ended, folder, but=own)
    with duckdb.connect(str(folder / "out.duckdb"), read_only=True) as out:
        assert out.sql("SELECT id FROM t").fetchall() == [(1,)], "the run did its work"
    held = [each for each in folder.rglob("*") if each.is_file() and each not in own]
    assert not [each for each in held if database.password.encode() in each.read_bytes()]
    assert len(held) > 3, "there are an instance and a target to search"


FAULTY = """\
workflow:
  name: faulty
  source: {{type: postgres, config: {{host: h, database: d, username: u, {line}, table: t, tabel: x}}}}
  destination: {{type: duckdb, config: {{path: out.duckdb, table: t}}}}
"""


@pytest.mark.parametrize(
    "line",
    [
        "password: canary-literal-07",
        "pasword: canary-literal-07",
        'password: "canary-literal-07"',
        "password: '${X:-canary-default-08}'",
        "api_token: canary-literal-07",
        "url: 'postgres://me:canary-address-10@host/db'",
        "password: {nested: canary-literal-07}",
        "headers: {X-Own: canary-plain-header-09}",
    ],
)
def test_the_line_at_fault_is_shown_without_its_secret(line: str, folder: Path, here: Here) -> None:
    (folder / "faulty.yaml").write_text(FAULTY.format(line=line), encoding="utf-8")
    ended = here("validate", "faulty.yaml")
    assert ended.code == 3
    assert "tabel" in ended.err
    assert "\n    3 |   source:" in ended.err, "the line is shown"
    assert not [each for each in VALUES if each in ended.said]
    told = here("validate", "faulty.yaml", "--json")
    assert not [each for each in VALUES if each in told.said]


def test_text_that_is_not_even_yaml_is_veiled_by_its_looks(folder: Path, here: Here) -> None:
    (folder / "broken.yaml").write_text("workflow:\n  password: canary-literal-07: [\n", encoding="utf-8")
    ended = here("validate", "broken.yaml")
    assert ended.code == 3
    assert "canary" not in ended.said


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("primary_key: id", "primary_key: id"),
        ("join_key: {left: id, right: user_id}", "join_key: {left: id, right: user_id}"),
        ("password: ${PG}", "password: ${PG}"),
        ('password: "${PG}"', 'password: "${PG}"'),
        ("key: abcdef, method: hash", "key: ***, method: hash"),
        ("Secret-Token: 'a b'  # c", "Secret-Token: ***  # c"),
        ("at https://host:80/x", "at https://host:80/x"),
        ("at https://me:pw@host/x", "at https://***@host/x"),
    ],
)
def test_a_line_keeps_what_is_no_secret(line: str, shown: str) -> None:
    assert veiled(line) == shown


def test_secrets_are_found_by_the_options_that_hold_them() -> None:
    text = FAILING.format(
        number=1, port=1, database="d", user="u", password="'${P:-dflt}'", table="t", key="k-e-y", api=1, header="h-d-r"
    )
    assert set(written_secrets(text)) == {"dflt", "k-e-y", "h-d-r", "canary-plain-header-09"}
