"""What the documents say holds: their YAML compiles without advice, their commands parse, the reference is what the specs say."""

from __future__ import annotations

import re
import sys
import tomllib
import types

import click
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config_schema

from dsl.compile import Allow, compile_text
from dsl.contracts.connectors import ConnectorKind
from dsl.contracts.spec import spec_of
from dsl.lint import lint
from dsl.processors import PROCESSORS
from resources.registry import InstalledCatalog
from server.cli.main import COMMANDS, cli
from server.docs import MEASURED, reference_pages
from server.docs import ROOT as REFERENCE
from tests.kit.process import ROOT
from tests.server.documents import PAGES, blocks, blocks_of, command_lines

ALLOW = Allow(python=True)
ROOTS = ("workflow", "connection", "policy")
GUIDE = ROOT / "docs" / "guide" / "writing-a-connector.md"


class Variables(dict[str, str]):
    """Every variable that a document may name, with a value that any option can hold."""

    def __missing__(self, name: str) -> str:
        return "1"

    def get(self, name: str, default: object = None) -> str:
        del default
        return self[name]


class Everything(InstalledCatalog):
    """The connectors that are installed, and the one that the guide builds."""

    def get(self, kind: str) -> ConnectorKind | None:
        return calendar() if kind == "calendar" else super().get(kind)


def calendar() -> ConnectorKind:
    [code] = blocks_of(GUIDE, "python")
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
        kind = Everything().get(node["type"])
        assert kind is not None
        known = {
            each.name for part in (kind.connection, kind.source) if part is not None for each in spec_of(part).options
        }
        reads = kind.source is not None and set(node["config"]) <= known
        document = {"source": node, "destination": memory} if reads else {"source": memory, "destination": node}
    return yaml.safe_dump({"workflow": {"name": "example", **document}})


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in blocks("yaml")])
def test_every_yaml_block_compiles(text: str) -> None:
    if all(
        set(each) <= set(dagster_instance_config_schema()) for each in yaml.safe_load_all(text)
    ):  # of a dagster.yaml
        return
    whole = re.match(rf"(#.*\n)*({'|'.join(ROOTS)}):", text) is not None
    found = compile_text(
        text if whole else wrapped(text), "docs.yaml", catalog=Everything(), environment=Variables(), allow=ALLOW
    )
    assert found
    if whole:
        assert not [str(advice) for each in found for advice in lint(each.bound)]


def test_the_reference_is_what_the_specs_say() -> None:
    pages = dict(reference_pages())
    written = {str(each.relative_to(REFERENCE)) for each in REFERENCE.rglob("*.md")}
    assert written - MEASURED == set(pages), "run `make docs`"
    behind = [name for name, text in pages.items() if (REFERENCE / name).read_text(encoding="utf-8") != text]
    assert not behind, "run `make docs`"


def test_the_reference_has_a_page_for_every_connector_and_names_every_option() -> None:
    pages = dict(reference_pages())
    assert {f"connectors/{kind}.md" for kind in InstalledCatalog().kinds()} <= set(pages)
    assert "`csv.delimiter`" in pages["connectors/file.md"]
    assert "| `rules[].field` |" in pages["processors.md"]
    assert "None" not in pages["workflow.md"]


def test_every_link_between_documents_leads_somewhere() -> None:
    links = [(page, to) for page in PAGES for to in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))]
    assert len(links) > 30
    broken = [f"{page}: {to}" for page, to in links if "://" not in to and not (page.parent / to).exists()]
    assert not broken


def test_every_page_of_the_guide_is_linked_from_the_first_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    guides = [each for each in PAGES if each.parent.name == "guide"]
    assert guides
    assert not [each.name for each in guides if f"docs/guide/{each.name}" not in text]
    decisions = sorted((ROOT / "docs" / "adr").glob("0*.md"))
    listed = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    assert decisions
    assert not [each.name for each in decisions if each.name not in listed]


@pytest.mark.parametrize(
    ("place", "words"), [pytest.param(place, words, id=" ".join(words)[:60]) for place, words in command_lines()]
)
def test_every_command_of_a_shell_block_is_one(place: str, words: list[str]) -> None:
    assert place
    name, arguments = words[0], words[1:]
    if name == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{each}:.*##", makefile, re.MULTILINE) for each in arguments)
    elif name == "headrace":
        parsed(arguments)
    else:
        assert name in {"cd", "dagster", "pip"}


def parsed(arguments: list[str]) -> None:
    """Reads a command line as the command does, without running it."""
    command: click.Command = cli
    rest = list(arguments)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, arguments
        command, rest = found, rest[1:]
    redirected = rest.index(">") if ">" in rest else len(rest)
    command.make_context("headrace", rest[:redirected])


def test_the_documents_show_every_command() -> None:
    shown = {words[1] for _, words in command_lines() if words[0] == "headrace"}
    assert shown == set(COMMANDS) - {"schema"}


def test_every_dependency_that_has_a_reason_is_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    always, _, rest = text.partition("## Always installed")[2].partition("## Extras")
    optional, _, rest = rest.partition("## Tools")
    tools = rest.partition("## Servers")[0]
    declared = {name_of(each) for each in project["project"]["dependencies"]}
    assert set(first_cells(always)) == declared
    assert set(first_cells(optional)) == set(extras) - {"all"}
    group = {name_of(each).lower() for each in project["dependency-groups"]["dev"]}
    named = {each.strip().lower() for cell in first_cells(tools) for each in cell.split(",")}
    assert named == group


def first_cells(table: str) -> list[str]:
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    return [row.split("|")[1].strip() for row in rows if row.split("|")[1].strip() not in {"package", "extra"}]


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert found
    return found.group()
