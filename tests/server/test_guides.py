"""The guides as a reader follows them: what their blocks say is typed, saved, installed and run."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dsl.contracts.connectors import ReadRequest
from dsl.contracts.state import is_complete
from tests.kit.postgres import PostgresServer
from tests.kit.process import ROOT
from tests.kit.s3 import S3Server
from tests.server.command import environment, headrace
from tests.server.documents import blocks_of
from tests.server.test_docs import GUIDE, calendar

README = ROOT / "README.md"
FIRST = ROOT / "docs" / "guide" / "first-workflow.md"


def typed(block: str, folder: Path) -> str:
    """Types a shell block into a shell that ends at the first command that fails; returns what was said."""
    env = environment(PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], check=False, cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_first_workflow_is_what_the_page_says(folder: Path) -> None:
    start, look = blocks_of(FIRST, "sh")
    said = typed(start, folder)
    promised = re.search(r"`(destination: .*?)`", FIRST.read_text(encoding="utf-8"))
    assert promised is not None
    assert promised[1] in said
    shop = folder / "shop"
    file = shop / "workflows" / "first-workflow.yaml"
    assert file.read_text(encoding="utf-8") == blocks_of(FIRST, "yaml")[0]
    assert "fused 1_filter + 2_mapping" in typed(look, shop)
    file.write_text(file.read_text(encoding="utf-8").replace("status ==", "statu =="), encoding="utf-8")
    broken = headrace("plan", "workflows/first-workflow.yaml", "--discover", cwd=shop)
    assert broken.code == 3
    [shown] = blocks_of(FIRST, "text")
    assert broken.err == shown


def test_the_fault_that_the_language_page_shows_is_the_one(folder: Path) -> None:
    [shown] = blocks_of(ROOT / "docs" / "guide" / "language.md", "text")
    line, column, key = 14, 7, "incremental_colum: updated_at"
    config = ["host: h", "database: d", "username: u", "table: orders", "columns: [id]", "primary_key: id", "port: 1"]
    head = ["workflow:", "  name: orders", "  description: x", "  source:", "    type: postgres", "    config:"]
    text = "\n".join([*head, *(f"      {each}" for each in config), f"      {key}"])
    destination = "  destination: {type: duckdb, config: {path: o.duckdb, table: o}}"
    (folder / "orders.yaml").write_text(f"{text}\n{destination}\n", encoding="utf-8")
    assert text.splitlines()[line - 1][column - 1 :] == key
    assert headrace("validate", "orders.yaml", cwd=folder).err == shown


def test_the_connector_of_the_guide_is_short_and_keeps_its_promises() -> None:
    [code] = blocks_of(GUIDE, "python")
    assert len(code.splitlines()) < 60
    kind = calendar()
    assert kind.source is not None
    source = kind.source(connection=kind.connection(), start="2026-01-01", end="2026-03-31")  # type: ignore[call-arg]
    with source.read(ReadRequest(batch_rows=40), None) as reader:
        batches = list(reader)
    days = [row["day"].isoformat() for each in batches for row in each.rows.to_pylist()]
    assert (len(days), days[0], days[-1]) == (90, "2026-01-01", "2026-03-31")
    assert [is_complete(each.state) for each in batches] == [False, False, True]
    for index, each in enumerate(batches[:-1]):
        with source.read(ReadRequest(batch_rows=7), each.state) as reader:
            rest = [row["day"].isoformat() for again in reader for row in again.rows.to_pylist()]
        assert rest == days[(index + 1) * 40 :]


def test_the_connector_of_the_guide_is_built_installed_and_run(folder: Path) -> None:
    package, installed = folder / "package", folder / "installed"
    package.mkdir()
    (package / "calendar_connector.py").write_text(blocks_of(GUIDE, "python")[0], encoding="utf-8")
    (package / "pyproject.toml").write_text(blocks_of(GUIDE, "toml")[0], encoding="utf-8")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, check=True, cwd=package, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)  # what installing a wheel of one module comes to
    env = {"PYTHONPATH": str(installed)}
    assert "Calendar (type: calendar)" in headrace("connectors", "show", "calendar", cwd=folder, env=env).out
    (folder / "days.yaml").write_text(blocks_of(GUIDE, "yaml")[0], encoding="utf-8")
    assert headrace("validate", "days.yaml", cwd=folder).code == 3, "it is not known without the package"
    done = headrace("run", "days.yaml", cwd=folder, env=env)
    assert done.code == 0, done.said
    with closing(sqlite3.connect(folder / "days.db")) as database:
        [(count,)] = database.execute("SELECT count(*) FROM working_days").fetchall()
    year = (date(2026, 1, 1) + timedelta(each) for each in range(365))
    assert count == sum(day.weekday() < 5 for day in year)


def test_the_workflow_of_the_first_page_runs(postgres: PostgresServer, s3_server: S3Server, folder: Path) -> None:
    database, bucket = postgres.new_database(), s3_server.new_bucket()
    database.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, status text, email text, updated_at timestamptz)",
        "INSERT INTO orders SELECT n, CASE n % 2 WHEN 0 THEN 'paid' ELSE 'open' END,"
        " CASE n % 3 WHEN 0 THEN NULL ELSE 'me@x.org' END, '2026-01-01' FROM generate_series(1, 12) n",
    )
    text = blocks_of(README, "yaml")[0]
    placed = {
        "database: shop": f"database: {database.database}\n      port: {database.port}",
        "bucket: lake": f"bucket: {bucket.bucket}\n      endpoint: {bucket.endpoint}",
    }
    for written, here in placed.items():
        assert written in text
        text = text.replace(written, here)
    (folder / "orders.yaml").write_text(text, encoding="utf-8")
    env = {
        "POSTGRES_HOST": database.host,
        "POSTGRES_USER": database.user,
        "POSTGRES_PASSWORD": database.password,
        "AWS_ACCESS_KEY_ID": bucket.access_key,
        "AWS_SECRET_ACCESS_KEY": bucket.secret_key,
    }
    lines = [line.partition(" #")[0].split() for line in blocks_of(README, "sh")[1].splitlines()]
    commands = [line[1:] for line in lines if line[0] == "headrace"]
    assert [line[0] for line in commands] == ["validate", "plan", "preview", "run"]
    for line in commands:
        done = headrace(*line, cwd=folder, env=env)
        assert done.code == 0, done.said
        assert database.password not in done.said
    files = [bucket.get(key) for key in bucket.keys("orders/") if key.endswith(".parquet")]
    arrived = pa.concat_tables(pq.read_table(pa.BufferReader(each)) for each in files)
    assert set(arrived["id"].to_pylist()) == {n for n in range(1, 13) if n % 2 == 0 and n % 3}
    assert arrived.num_rows == 4
