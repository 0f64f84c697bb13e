"""A driver that is not installed: every command that needs it names the extra that brings it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.command import Ended, environment

WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
from server.cli.main import run_command
sys.exit(run_command(sys.argv[2:]))
"""
DRIVERS = {
    "postgres": ("psycopg", "{host: h, database: d, username: u, password: x, table: t}"),
    "mysql": ("pymysql", "{host: h, database: d, username: u, password: x, table: t}"),
    "s3": ("boto3,botocore", "{bucket: b, path: p, format: parquet}"),
}


def without(driver: str, *line: str, cwd: Path) -> Ended:
    command = [sys.executable, "-c", WITHOUT, driver, *line]
    done = subprocess.run(command, check=False, cwd=cwd, env=environment(), capture_output=True, text=True)
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("kind", DRIVERS)
def test_the_extra_is_named(kind: str, folder: Path) -> None:
    driver, config = DRIVERS[kind]
    text = f"""\
workflow:
  name: far
  source: {{type: {kind}, config: {config}}}
  destination: {{type: duckdb, config: {{path: out.duckdb, table: t, write_mode: overwrite}}}}
"""
    (folder / "far.yaml").write_text(text, encoding="utf-8")
    for line in (("connectors", "check"), ("plan", "--discover")):
        ended = without(driver, *line, "far.yaml", cwd=folder)
        assert ended.code in {1, 4}, ended.said
        assert f"headrace[{kind}]" in ended.said
        assert "fault of Headrace" not in ended.said
        assert "Traceback" not in ended.said
