"""What the documents say holds: their YAML compiles, their code runs, the reference is what the specs say."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from dsl.compile import compile_text
from dsl.contracts.connectors import ConnectorKind, ReadRequest
from dsl.contracts.state import is_complete
from dsl.processors import PROCESSORS
from resources.registry import CatalogOf, InstalledCatalog
from server.cli.main import cli
from server.docs import ROOT as REFERENCE
from server.docs import reference_pages

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOTS = ("workflow", "connection", "policy")
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, (found, text) in enumerate(FENCE.findall(page.read_text(encoding="utf-8"))):
            if found == language:
                yield f"{page.relative_to(ROOT)}#{number}", text


class Variables(dict[str, str]):
    """Every variable that a document may name, with a value that any option can hold."""

    def __missing__(self, name: str) -> str:
        return "1"

    def get(self, name: str, default: object = None) -> str:
        del default
        return self[name]


def calendar() -> ConnectorKind:
    code = next(text for name, text in blocks("python") if "writing-a-connector" in name)
    module = types.ModuleType("calendar_connector")
    sys.modules[module.__name__] = module
    exec(compile(code, "writing-a-connector.md", "exec"), module.__dict__)  # noqa: S102 - the page is the program under test
    found: ConnectorKind = module.CONNECTOR
    return found


def wrapped(text: str) -> str:
    """A node of the reference as the workflow that it would stand in."""
    node = yaml.safe_load(text)
    memory = {"type": "memory", "config": {"table": "there"}}
    if node["type"] in PROCESSORS:
        inputs = node.setdefault("inputs", ["left", "right"][: PROCESSORS[node["type"]].min_inputs])
        document = {
            "sources": dict.fromkeys(inputs, memory),
            "transformations": {"step": node},
            "destinations": {"end": {**memory, "inputs": ["step"]}},
        }
    else:
        kind = InstalledCatalog().get(node["type"])
        assert kind is not None
        document = {"source": node, "destination": memory} if kind.source else {"source": memory, "destination": node}
    return yaml.safe_dump({"workflow": {"name": "example", **document}})


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in blocks("yaml")])
def test_every_yaml_block_compiles(text: str) -> None:
    kinds = [each for each in map(InstalledCatalog().get, InstalledCatalog().kinds()) if each is not None]
    document = text if text.startswith(ROOTS) else wrapped(text)
    found = compile_text(document, "docs.yaml", catalog=CatalogOf(calendar(), *kinds), environment=Variables())
    assert found or text.startswith(ROOTS[1:])


def test_the_connector_of_the_guide_is_short_and_keeps_its_promises() -> None:
    code = next(text for name, text in blocks("python") if "writing-a-connector" in name)
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


def test_the_reference_is_what_the_specs_say() -> None:
    pages = dict(reference_pages())
    written = {str(each.relative_to(REFERENCE)) for each in REFERENCE.rglob("*.md")}
    assert written == set(pages), "run `make docs`"
    behind = [name for name, text in pages.items() if (REFERENCE / name).read_text(encoding="utf-8") != text]
    assert not behind, "run `make docs`"


def test_every_link_between_documents_leads_somewhere() -> None:
    links = [(page, to) for page in PAGES for to in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))]
    broken = [f"{page}: {to}" for page, to in links if "://" not in to and not (page.parent / to).exists()]
    assert not broken


def test_every_command_that_the_documents_name_exists() -> None:
    named = {name for page in PAGES for name in re.findall(r"`?headrace ([a-z]+)", page.read_text(encoding="utf-8"))}
    known = set(cli.commands) | set(cli.list_commands(None))  # type: ignore[arg-type]
    assert CliRunner().invoke(cli, ["--help"]).exit_code == 0
    assert {each for each in named if each in known} >= {
        "validate",
        "plan",
        "run",
        "preview",
        "connectors",
        "schema",
        "ui",
    }
