"""What an import brings into a process, seen in a process of its own. It may not measure how long that takes."""

import json
import subprocess
import sys

import pytest

from tests.architecture.sources import ROOT, connectors, sources

DRIVERS = (
    "aiohttp",
    "boto3",
    "botocore",
    "confluent_kafka",
    "duckdb",
    "urllib3",
    "fastavro",
    "pandas",
    "pika",
    "psycopg",
    "mssql_python",
    "oracledb",
    "pymysql",
    "redis",
    "snowflake",
)


_SCRIPT = """
import importlib, json, sys
brought = {}
for name in sys.argv[1:]:
    before = set(sys.modules)
    importlib.import_module(name)
    brought[name] = sorted({module.partition(".")[0] for module in set(sys.modules) - before})
print(json.dumps(brought))
"""


def _brought_by(*modules: str) -> dict[str, list[str]]:
    """Import modules one after another in a new process; return the top-level packages that each was the first to load."""
    command = [sys.executable, "-c", _SCRIPT, *modules]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    brought: dict[str, list[str]] = json.loads(done.stdout)
    return brought


def _offenders(modules: list[str], forbidden: set[str]) -> dict[str, set[str]]:
    return {name: set(found) & forbidden for name, found in _brought_by(*modules).items() if set(found) & forbidden}


def _all_modules(folder: str) -> list[str]:
    paths = (source.path.removesuffix(".py").removesuffix("/__init__") for source in sources(folder))
    return [path.replace("/", ".") for path in paths if not path.endswith("__main__")]


@pytest.mark.parametrize("room", ["dsl", "engine"])
def test_a_room_below_dagster_never_loads_it(room: str) -> None:
    assert not _offenders(_all_modules(room), {"dagster", "dagster_shared", "dagster_postgres"})


def test_the_language_loads_neither_drivers_nor_engines() -> None:
    assert not _offenders(_all_modules("dsl"), {*DRIVERS, "sqlalchemy", "polars"})


def test_declaring_a_connector_loads_no_driver() -> None:
    assert not _offenders(sorted(connectors().values()), set(DRIVERS))
