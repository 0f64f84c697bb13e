"""No connector escapes: each that is installed inherits the suites of its roles, and what its specs say can be believed."""

from __future__ import annotations

import ast
import dataclasses
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import ConnectorKind
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, spec_of
from resources.base import resource_of
from resources.registry import InstalledCatalog
from resources.testing import CANARY, lacking, required
from tests.kit.process import ROOT

CATALOG = InstalledCatalog()
TESTS = ROOT / "tests" / "resources"
WAIVED: Mapping[tuple[str, str], str] = {
    ("kafka", "MergeSuite"): "a topic keeps the changes themselves, under their keys: no table is there to compare",
    (
        "redis",
        "MergeSuite",
    ): "keys are set and deleted one by one, by a reader that tells which: no table is there to compare",
}
"""(connector, suite) with the reason why it inherits none; one that is not needed any more fails."""
_SECRET = re.compile(r"password|passphrase|secret|token$|access_key|private_key|account_key|api_key")


def kind_of(name: str) -> ConnectorKind:
    found = CATALOG.get(name)
    assert found is not None
    return found


@cache
def classes() -> dict[str, tuple[Path, list[str]]]:
    """Every class of the tests with the names of its bases; a name of many classes has all their bases, by file."""
    return {
        f"{file}:{node.name}": (file, [ast.unparse(each).rpartition(".")[2] for each in node.bases])
        for file in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }


def inherited(bases: list[str], known: Mapping[str, list[str]]) -> set[str]:
    """All that classes inherit, by name."""
    found, left = set[str](), list(bases)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += known.get(name, [])
    return found


def held_by(kind: ConnectorKind) -> set[str]:
    """The suites that the test classes of a connector's own folder inherit."""
    everything = classes()
    known = {name.rpartition(":")[2]: bases for name, (_, bases) in everything.items()}
    folder = TESTS / kind.connection.__module__.split(".")[1]
    own = {name: bases for name, (file, bases) in everything.items() if folder in file.parents and ":Test" in name}
    return {each for bases in own.values() for each in inherited(bases, known)}


@pytest.mark.parametrize("name", CATALOG.kinds())
def test_every_connector_inherits_the_suites_of_its_roles(name: str) -> None:
    kind, held = kind_of(name), held_by(kind_of(name))
    missing = {each.__name__ for each in required(kind)} - held
    waived = {suite for connector, suite in WAIVED if connector == name}
    assert missing <= waived, f"'{name}' has no test class that inherits {', '.join(sorted(missing - waived))}"
    assert waived <= missing, f"waivers of '{name}' are stale: {', '.join(sorted(waived - missing))}"


def test_a_connector_without_suites_is_found() -> None:
    kind = dataclasses.replace(kind_of("memory"), connection=ConnectorKind)  # type: ignore[arg-type] # of no connector's folder
    assert held_by(kind) & {each.__name__ for each in required(kind)} == set()
    assert set(lacking(kind, [])) == {"SourceSuite", "DestinationSuite", "MergeSuite"}


@pytest.mark.parametrize("name", CATALOG.kinds())
def test_what_a_connector_says_of_itself_can_be_believed(name: str) -> None:
    kind = kind_of(name)
    assert re.fullmatch(r"[a-z0-9_]+", kind.kind)
    assert kind.title
    assert kind.source or kind.destination
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not kind.extra or kind.extra in extras
    example = yaml.safe_load(kind.example)
    assert example["type"] == name
    if kind.source is not None:
        assert kind.source.capabilities.sync_modes
    if kind.destination is not None:
        able = kind.destination.capabilities
        assert able.write_modes
        assert able.proof
        defaults = {each.name: each.default for each in spec_of(kind.destination).options}
        assert defaults.get("write_mode", WriteMode.APPEND) in able.write_modes


@pytest.mark.parametrize("name", CATALOG.kinds())
def test_what_is_secret_is_a_secret_and_stays_one(name: str) -> None:
    kind = kind_of(name)
    specs = [kind.connection, *filter(None, (kind.source, kind.destination))]
    plain = [
        f"{spec.__name__}.{each.name}"
        for spec in specs
        for each in spec_of(spec).options
        if each.type is str and _SECRET.search(each.name)
    ]
    assert not plain, "an option of that name holds a secret: its type is Secret"
    secret: dict[str, Any] = {
        each.name: Secret(CANARY, literal=True) for each in spec_of(kind.connection).options if each.type is Secret
    }
    given = {
        each.name: _value(each, yaml.safe_load(kind.example)["config"]) for each in spec_of(kind.connection).options
    }
    whole = {name: value for name, value in given.items() if value is not None}
    for key, value in secret.items():
        assert CANARY not in _shown(kind, {**whole, key: value})


def _shown(kind: ConnectorKind, options: Mapping[str, Any]) -> str:
    """What is printed of a connection, or of the error where options exclude one another."""
    try:
        made = kind.connection(**options)
    except OptionError as error:
        return f"{error} {error!r} {error.message}"
    return f"{made} {made!r} {resource_of(made)!r}"


def _value(option: Any, example: Mapping[str, Any]) -> Any:
    if not option.required or option.name not in example:
        return None
    return Secret(str(example[option.name])) if option.type is Secret else example[option.name]
