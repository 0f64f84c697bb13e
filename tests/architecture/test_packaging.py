"""What the project declares about itself: each dependency has a reason, locks are complete and name no host."""

import re
import tomllib
from importlib.metadata import entry_points

from sqlalchemy.engine import make_url

from tests.architecture.sources import ROOT, connectors

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_LOCKS = ("requirements.lock", "tests/services.lock")


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert found, requirement
    return found.group().lower().replace("_", "-")


def _declared() -> set[str]:
    extras = _PROJECT["project"]["optional-dependencies"].values()
    groups = _PROJECT["dependency-groups"].values()
    listed = [*_PROJECT["project"]["dependencies"], *(item for part in (*extras, *groups) for item in part)]
    return {_name(requirement) for requirement in listed} - {"headrace"}


def _locked(lock: str) -> dict[str, str]:
    entries = re.findall(r"^([a-z0-9_.-]+)==(\S+)(.*(?:\n    --hash=.*)*)", (ROOT / lock).read_text(), re.MULTILINE)
    assert entries
    assert not [name for name, _, hashes in entries if "--hash=sha256:" not in hashes]
    return {name: version for name, version, _ in entries}


def test_each_dependency_has_a_reason() -> None:
    reasons = (ROOT / "docs/dependencies.md").read_text().lower()
    servers = {_name(line) for line in (ROOT / "tests/services.in").read_text().splitlines() if line[0] != "#"}
    missing = [
        n for n in _declared() | servers if not re.search(rf"(?<![a-z0-9-]){re.escape(n)}(?![a-z0-9-])", reasons)
    ]
    assert not missing


def test_the_lock_has_every_dependency() -> None:
    assert not _declared() - set(_locked("requirements.lock"))


def test_locks_are_hashed_and_name_no_host() -> None:
    for lock in _LOCKS:
        assert _locked(lock)
        assert "://" not in (ROOT / lock).read_text()


def test_entry_points_are_installed() -> None:
    assert {point.name for point in entry_points(group="headrace.connectors")} >= set(connectors())


def test_dagsters_storage_keeps_its_driver() -> None:
    """SQLAlchemy 2.1 would make this psycopg, with which Dagster's PostgreSQL storage fails on every run."""
    assert make_url("postgresql://somewhere/db").get_dialect().driver == "psycopg2"
