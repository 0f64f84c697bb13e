"""What a document means once it is read: forms, names, policies, shared connections, outlines, faults kept together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from dsl.codes import Code
from dsl.compile import Allow, CompiledWorkflow, compile_text, outline
from dsl.contracts.policies import OnError, OnRegression
from dsl.contracts.secret import Secret
from dsl.diagnostics import CompileError
from dsl.plan.explain import explain
from dsl.read import read_document
from dsl.workflow import ConnectionDocument, Mode, Role
from tests.dsl.catalog import CATALOG, ShopSource

LINEAR = """
workflow:
  name: same
  source: {type: shop, schema: {id: int64, price: double}, config: {host: a, table: orders}}
  transformations:
    - {name: dear, type: filter, config: {condition: price > 10}}
    - {name: few, type: limit, config: {rows: 5}}
  destination: {type: lake}
"""
_COLUMNS: dict[str, pa.DataType] = {"id": pa.int32(), "price": pa.float64()}
ASKED = pa.schema(_COLUMNS)
GRAPH = """
workflow:
  name: same
  sources:
    source: {type: shop, schema: {id: int64, price: double}, config: {host: a, table: orders}}
  destinations:
    destination: {type: lake, inputs: [few]}
  transformations:
    few: {type: limit, inputs: dear, config: {rows: 5}}
    dear: {type: filter, inputs: [source], config: {condition: price > 10}}
"""


def _compile(text: str, **given: Any) -> tuple[CompiledWorkflow, ...]:
    return compile_text(text, "x.yaml", catalog=CATALOG, environment={}, **given)


def _codes(text: str, **given: Any) -> list[Code]:
    with pytest.raises(CompileError) as caught:
        _compile(text, **given)
    return [each.code for each in caught.value.diagnostics]


def test_both_forms_give_the_same_plan() -> None:
    (linear,), (graph,) = _compile(LINEAR), _compile(GRAPH)
    assert explain(linear.logical, linear.physical) == explain(graph.logical, graph.physical)
    assert linear.physical.fingerprint == graph.physical.fingerprint
    assert linear.physical == graph.physical


def test_nodes_stand_behind_their_inputs_whatever_the_documents_order() -> None:
    (graph,) = _compile(GRAPH)
    assert [each.name for each in graph.bound.nodes] == ["source", "dear", "few", "destination"]


def test_steps_of_the_linear_form_are_called_by_number_and_type() -> None:
    (compiled,) = _compile(LINEAR.replace("name: dear, ", ""))
    assert [(each.name, each.role) for each in compiled.bound.nodes] == [
        ("source", Role.SOURCE),
        ("1_filter", Role.TRANSFORMATION),
        ("few", Role.TRANSFORMATION),
        ("destination", Role.DESTINATION),
    ]


@pytest.mark.parametrize("name", ["source", "destination", "Source", "few"])
def test_a_step_cannot_take_a_name_that_is_taken(name: str) -> None:
    assert Code.DUPLICATE_NAME in _codes(LINEAR.replace("name: dear", f"name: {name}"))


@pytest.mark.parametrize("name", ["class", "config", "input", "True"])
def test_a_workflow_cannot_be_called_what_dagster_reserves(name: str) -> None:
    assert _codes(LINEAR.replace("name: same", f'name: "{name}"')) == [Code.NAME]


def test_policies_are_inherited_field_by_field() -> None:
    (compiled,) = _compile("""
workflow:
  name: careful
  retry: {max_attempts: 3, max_backoff: 5s}
  on_error: dlq
  timeout: 1h
  source: {type: feed, retry: {max_attempts: 7}, batch: {rows: 10}}
  transformations:
    - {type: filter, on_error: drop, config: {condition: a = 1}}
    - {type: limit, on_error: fail, timeout: 1m, config: {rows: 1}}
  destination: {type: lake, parallelism: 4, on_regression: rewind}
""")
    source, kept, limited, lake = (each.policies for each in compiled.bound.nodes)
    assert (source.retry.max_attempts, source.retry.max_backoff) == (7, timedelta(seconds=5))
    assert (source.batch.rows, lake.batch.rows) == (10, 65_536)
    assert (source.on_error, kept.on_error, limited.on_error) == (OnError.DLQ, OnError.DROP, OnError.FAIL)
    assert (source.timeout, limited.timeout) == (timedelta(hours=1), timedelta(minutes=1))
    assert (source.parallelism, lake.parallelism) == (1, 4)
    assert (source.on_regression, lake.on_regression) == (OnRegression.FAIL, OnRegression.REWIND)
    assert compiled.workflow.policies.retry.max_attempts == 3


SHARED = """
connection:
  name: ware-house
  type: shop
  config: {host: db.example.com, password: "${secret:vault/shop}"}
"""
USES = """
workflow:
  name: uses-it
  source: {type: shop, connection: ware-house, config: {table: orders}}
  destination: {type: lake}
"""


def test_a_shared_connection_is_one_resource() -> None:
    (compiled,) = _compile(f"{SHARED}---{USES}")
    source = compiled.bound.node("source")
    assert source.connection_name == "ware_house"
    assert isinstance(source.options, ShopSource)
    assert source.options.connection.password == Secret("${secret:vault/shop}")
    assert compiled.bound.node("destination").connection_name == "uses_it__destination"


def test_a_shared_connection_may_come_from_another_file() -> None:
    from dsl.compile import read_text

    (shared,) = read_text(SHARED, "shared.yaml", {})
    assert isinstance(shared, ConnectionDocument)
    (compiled,) = _compile(USES, connections={shared.name: shared})
    assert compiled.bound.node("source").connection_name == "ware_house"


def test_a_fault_of_a_connection_in_another_file_is_told_with_that_files_name() -> None:
    from dsl.compile import read_text

    (shared,) = read_text(SHARED.replace("host:", "hots:"), "shared.yaml", {})
    with pytest.raises(CompileError, match=r"shared\.yaml:\d+:\d+: E302"):
        _compile(USES, connections={"ware-house": shared})


def test_only_one_workflow_of_a_file_gets_the_schemas_of_its_sources() -> None:
    first = LINEAR.replace("schema: {id: int64, price: double}, ", "")
    second = first.replace("name: same", "name: other").replace("price", "cost").replace("{type: lake}", "{type: feed}")
    both = f"{first}---{second.replace('{type: feed}', '{type: index, config: {index: b}}')}"
    asked = {"source": ASKED}
    (compiled,) = _compile(both, schemas=asked, only="same")
    assert compiled.logical.node("source").schema == ASKED
    assert _codes(both, schemas=asked) == [Code.UNKNOWN_FIELD]


def test_what_a_run_asked_goes_before_what_the_document_declares() -> None:
    (compiled,) = _compile(LINEAR, schemas={"source": ASKED})
    assert compiled.logical.node("source").schema == ASKED


def test_a_policy_document_is_kept_and_compiles_to_nothing() -> None:
    assert _compile("policy:\n  name: masking\n  masking_rules: [{field: email}]\n") == ()


def test_python_needs_the_deployments_leave() -> None:
    text = """
workflow:
  name: own
  source: {type: feed}
  transformations: [{type: python, config: {function: "a.b:c"}}]
  destination: {type: lake}
"""
    assert _codes(text) == [Code.DISABLED]
    assert _compile(text, allow=Allow(python=True))


def test_a_deployment_may_refuse_literal_secrets() -> None:
    text = USES.replace(
        "connection: ware-house, config: {", "config: {host: a, password: hunter2, login: {user: u, token: t0ps3cret}, "
    )
    assert _compile(text)
    with pytest.raises(CompileError) as caught:
        _compile(text, allow=Allow(literal_secrets=False))
    assert [each.code for each in caught.value.diagnostics] == [Code.SECRET_LITERAL] * 2
    assert "hunter2" not in str(caught.value)


def test_sync_mode_is_checked_against_what_the_source_can_do() -> None:
    def with_(options: str) -> str:
        return USES.replace("connection: ware-house, config: {", f"config: {{host: a, {options}, ")

    assert _compile(with_("sync_mode: incremental, incremental_column: at"))
    assert _codes(with_("sync_mode: incremental")) == [Code.OPTIONS]
    assert _codes(with_("sync_mode: full_refresh, incremental_column: at")) == [Code.OPTIONS]
    assert _codes(with_("sync_mode: cdc")) == [Code.CAPABILITY]
    assert _codes(with_("sync_mode: sometimes")) == [Code.BAD_VALUE]


def test_an_outline_looks_at_the_heading_only() -> None:
    text = """
workflow:
  name: early-bird
  description: Reads what nobody has written yet.
  schedule: {cron: "${WHEN:-@daily}", timezone: Asia/Tokyo}
  trigger: {type: asset, asset: [a, b]}
  mode: stream
  source: {type: nowhere, config: {password: "${UNSET}"}}
---
connection: {name: a, type: nothing}
"""
    (found,) = outline(text, "x.yaml")
    assert (found.name, found.dagster_name, found.mode) == ("early-bird", "early_bird", Mode.STREAM)
    assert found.schedule is not None
    assert (found.schedule.cron, found.schedule.timezone) == ("0 0 * * *", "Asia/Tokyo")
    assert found.trigger is not None
    assert found.trigger.asset == ("a", "b")
    (found,) = outline(text, "x.yaml", {"WHEN": "5 4 * * *"})
    assert found.schedule is not None
    assert found.schedule.cron == "5 4 * * *"


def test_an_outline_refuses_what_has_no_heading() -> None:
    for text in (
        "workflow: {name: 1x}",
        "workflow: {schedule: never, name: a}",
        "workflw: {name: a}",
        "a: [",
        "workflow: 3",
    ):
        with pytest.raises(CompileError):
            outline(text, "x.yaml")


def test_a_document_that_is_no_mapping_has_nothing_to_read() -> None:
    from dsl.diagnostics import Diagnostics
    from dsl.document import parse

    found = Diagnostics()
    (node,) = parse("[workflow]", "x.yaml")
    assert read_document(node, found) is None
    assert [each.code for each in found.found] == [Code.ROOT]
