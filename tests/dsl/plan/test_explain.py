"""What the plan says of itself: pushed, fused, cut, promised; and that it keeps secrets."""

from __future__ import annotations

import json

import pyarrow as pa

from dsl.plan.explain import as_json, explain, mermaid
from tests.dsl.plan.executing import compiled, schema_of

SCHEMA = schema_of(id=pa.int64(), name=pa.string(), unused=pa.string())
TEXT = """
workflow:
  name: shop-to-lake
  sources:
    rows: {type: shop, config: {host: h, table: rows, password: canary-literal, login: {user: u, token: "${KEY}"}}}
  transformations:
    kept: {inputs: [rows], type: filter, config: {condition: "id > 1"}}
    masked: {inputs: [kept], type: mask, config: {rules: [{field: name, method: hash, key: canary-key}]}}
    asked:
      inputs: [kept]
      type: enrich
      config:
        url: https://api.example.com/{{ id }}
        headers: {Authorization: canary-header}
        result_mapping: [{source: response.score, destination: score}]
    out: {inputs: [asked], type: mapping, config: {mappings: [{source: id, destination: key}, {source: score, destination: score}]}}
    hidden: {inputs: [masked], type: mapping, config: {mappings: [{source: name, destination: name}]}}
  destinations:
    lake: {type: lake, inputs: [hidden]}
    index: {type: index, inputs: [out], config: {index: users, id_field: key, write_mode: upsert}}
"""


def test_it_says_what_was_pushed_cut_and_promised() -> None:
    workflow = compiled(TEXT, {"rows": SCHEMA})
    text = explain(workflow.logical, workflow.physical)
    assert "pushed columns: id, name" in text
    assert "cut behind kept: 2 consumers" in text
    assert "upsert, effectively_once (contract_only)" in text
    assert '"id" > 1' in text


def test_machines_read_the_same() -> None:
    workflow = compiled(TEXT, {"rows": SCHEMA})
    found = json.loads(json.dumps(as_json(workflow.logical, workflow.physical)))
    assert found["fingerprint"] == workflow.physical.fingerprint
    assert found["cuts"] == {"kept": "2 consumers"}
    nodes = {each["id"]: each for each in found["nodes"]}
    assert nodes["rows"]["pushed"] == {"columns": ["id", "name"]}
    assert nodes["out"]["lineage"] == {"key": ["rows.id"], "score": ["rows.id"]}
    assert [each["id"] for each in found["stages"]] == ["kept", "lake", "index"]
    assert found["stages"][2]["writer"]["guarantee"] == "effectively_once"


def test_the_picture_has_every_node_and_edge() -> None:
    picture = mermaid(compiled(TEXT, {"rows": SCHEMA}).logical)
    assert picture.startswith("flowchart LR\n")
    assert picture.count("-->") == 7


def test_nothing_shows_a_secret() -> None:
    for schemas in (None, {"rows": SCHEMA}):
        workflow = compiled(TEXT, schemas)
        shown = explain(workflow.logical, workflow.physical) + mermaid(workflow.logical)
        shown += json.dumps(as_json(workflow.logical, workflow.physical))
        shown += repr(workflow.logical) + repr(workflow.physical)
        assert "canary" not in shown
