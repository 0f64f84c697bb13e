"""The two workflows of the founding document, character for character, with the connectors that are installed.

A connector that this checkout does not have is stood in for by one with the options that the document gives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest

from dsl.codes import Code
from dsl.compile import CompiledWorkflow, compile_text, outline
from dsl.contracts.capabilities import DestinationCapabilities, SeveralInputs, WriteMode
from dsl.contracts.connectors import (
    BatchReader,
    BatchWriter,
    Connection,
    ConnectorKind,
    Destination,
    ReadRequest,
    Source,
    Token,
)
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import option
from dsl.contracts.state import State
from dsl.diagnostics import CompileError
from dsl.plan.physical import ExchangeWrite, Write
from resources.registry import InstalledCatalog
from tests.dsl.catalog import CLOSED, SpotConnection

FOUNDING = Path(__file__).parent / "cases" / "founding"
ENVIRONMENT = {
    name: f"value-of-{name.lower()}"
    for name in (
        *(
            "POSTGRES_HOST",
            "POSTGRES_USER",
            "POSTGRES_PASSWORD",
            "ES_HOST",
            "MYSQL_HOST",
            "MYSQL_USER",
            "MYSQL_PASSWORD",
        ),
        *("SNOWFLAKE_ACCOUNT", "SNOWFLAKE_USER", "SNOWFLAKE_PASSWORD"),
    )
}


@dataclass(frozen=True, kw_only=True)
class Server(SpotConnection):
    """Whatever the document says of a server."""

    host: str | None = option(default=None, doc="")
    port: int = option(default=1, doc="")
    database: str | None = option(default=None, doc="")
    account: str | None = option(default=None, doc="")
    username: str | None = option(default=None, doc="")
    password: Secret | None = option(default=None, doc="")


@dataclass(frozen=True, kw_only=True)
class TableSource(Source):
    """Whatever the document says of a source."""

    connection: Server
    table: str = option(doc="")

    @property
    def physical_name(self) -> tuple[str, ...]:
        return (self.connection.host or "", self.table)

    def discover_schema(self) -> pa.Schema:
        raise AssertionError(CLOSED)

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        raise AssertionError(CLOSED)


@dataclass(frozen=True, kw_only=True)
class Target(Destination):
    """Whatever the document says of a destination."""

    capabilities: ClassVar[DestinationCapabilities] = DestinationCapabilities(
        write_modes=frozenset(WriteMode), several_inputs=SeveralInputs.PREFIX, nested=True
    )

    connection: Server
    table: str | None = option(default=None, doc="")
    index: str | None = option(default=None, doc="")
    id_field: str | None = option(default=None, doc="")
    bucket: str | None = option(default=None, doc="")
    path: str | None = option(default=None, doc="")
    format: str | None = option(default=None, doc="")

    @property
    def physical_name(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.table, self.index, self.bucket, self.path)))

    def open_writer(self, schema: pa.Schema, token: Token) -> BatchWriter:
        raise AssertionError(CLOSED)


class Catalog:
    """The installed connectors, and stand-ins for those that are not there."""

    def __init__(self) -> None:
        self._installed = InstalledCatalog()

    def kinds(self) -> tuple[str, ...]:
        """Returns all kinds."""
        return self._installed.kinds()

    def get(self, kind: str) -> ConnectorKind | None:
        """Returns the installed connector, or its stand-in."""
        try:
            return self._installed.get(kind)
        except HeadraceError:
            return ConnectorKind(kind, kind, Server, TableSource, Target)


def _compile(name: str, environment: dict[str, str] | None = None) -> CompiledWorkflow:
    text = (FOUNDING / name).read_text(encoding="utf-8")
    set_here = ENVIRONMENT if environment is None else environment
    (compiled,) = compile_text(text, name, catalog=Catalog(), environment=set_here)
    return compiled


def test_the_linear_example() -> None:
    compiled = _compile("linear.yaml")
    assert [each.name for each in compiled.bound.nodes] == [
        "source",
        "1_mapping",
        "2_filter",
        "3_enrich",
        "destination",
    ]
    assert compiled.workflow.dagster_name == "example_workflow"
    assert compiled.workflow.description == "示例数据集成工作流"
    assert compiled.workflow.schedule is not None
    assert (compiled.workflow.schedule.cron, compiled.workflow.schedule.timezone) == ("0 0 * * *", "UTC")
    (stage,) = compiled.physical.stages
    assert isinstance(stage.writer, Write)


def test_the_linear_example_holds_no_secret_that_it_was_given() -> None:
    assert ENVIRONMENT["POSTGRES_PASSWORD"] not in repr(_compile("linear.yaml"))


def test_the_linear_example_names_all_its_missing_variables() -> None:
    with pytest.raises(CompileError) as caught:
        _compile("linear.yaml", {})
    found = [(each.code, each.span.line, each.span.column) for each in caught.value.diagnostics]
    assert found == [(Code.VARIABLE_MISSING, *place) for place in ((9, 14), (12, 18), (13, 18), (45, 14))]


def test_the_linear_example_in_outline() -> None:
    (found,) = outline((FOUNDING / "linear.yaml").read_text(encoding="utf-8"), "linear.yaml")
    assert found.name == "example-workflow"
    assert found.schedule is not None


def test_the_graph_example_says_what_its_details_lack() -> None:
    """Where the document says "details of the configuration", those are missing, and each is asked for."""
    with pytest.raises(CompileError) as caught:
        _compile("graph.yaml")
    missing = [each for each in caught.value.diagnostics if each.code is Code.MISSING_KEY]
    assert {each.span.line for each in missing} >= {7, 19, 25}
    assert {each.code for each in caught.value.diagnostics} <= {Code.MISSING_KEY, Code.OPTIONS}


def test_the_graph_example_with_its_details_filled_in() -> None:
    compiled = _compile("graph_filled.yaml")
    writers = {each.id: each.writer for each in compiled.physical.stages}
    assert {each.node for each in writers.values() if isinstance(each, Write)} == {"analytics_db", "data_lake"}
    assert {each.node for each in writers.values() if isinstance(each, ExchangeWrite)} == {
        "user_transform",
        "order_transform",
    }
    assert sum(isinstance(each, Write) and each.node == "data_lake" for each in writers.values()) == 2


def test_every_connection_has_a_resource_of_its_own_name() -> None:
    names = {each.name: each.connection_name for each in _compile("graph_filled.yaml").bound.nodes}
    assert names["users"] == "complex_workflow__users"
    assert names["join"] == ""


def test_the_stand_ins_are_connections() -> None:
    assert issubclass(Server, Connection)
