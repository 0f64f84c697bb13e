"""What the tests of this room share: a folder that is the command's own, and the command within this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from server.cli.main import run_command
from tests.server.command import OWN, Ended

Here = Callable[..., Ended]
ORDERS = """\
workflow:
  name: orders
  source:
    type: duckdb
    config: {path: in.duckdb, table: orders}
  transformations:
    - type: filter
      config: {condition: "status == 'paid'"}
    - type: mapping
      config:
        mappings:
          - {source: id, destination: id}
          - {source: amount, destination: amount, cast: int64}
  destination:
    type: duckdb
    config: {path: out.duckdb, table: paid, write_mode: overwrite}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one, with no setting of Headrace's in the environment."""
    monkeypatch.setenv("DAGSTER_HOME", "")  # a run within this process sets it: then this is undone
    for name in list(os.environ):
        if name.startswith(OWN):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def orders(folder: Path) -> Path:
    """A folder with a workflow that runs: three orders in DuckDB, of which two are paid."""
    with duckdb.connect(str(folder / "in.duckdb")) as database:
        database.execute("CREATE TABLE orders (id BIGINT PRIMARY KEY, amount VARCHAR, status VARCHAR)")
        database.execute("INSERT INTO orders VALUES (1, '120', 'paid'), (2, '80', 'open'), (3, '42', 'paid')")
    (folder / "orders.yaml").write_text(ORDERS, encoding="utf-8")
    return folder


@pytest.fixture
def here(folder: Path, capsys: pytest.CaptureFixture[str]) -> Here:
    """Runs the command in this process, which spares it loading Dagster; not for what reveals secrets."""
    del folder

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        code = run_command(arguments)
        return Ended(code, *capsys.readouterr())

    return run
