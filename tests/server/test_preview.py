"""Previews: the rows that leave a node, with types, limited, masked; nothing is written and no state moves."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from tests.kit.enrichment import EnrichmentApi, score_of
from tests.server.conftest import Here

MASKED = """\
workflow:
  name: masked
  source: {type: duckdb, config: {path: in.duckdb, table: users}}
  transformations:
    - type: mapping
      config:
        mappings:
          - {source: id, destination: id}
          - {source: email, destination: user.email}
          - {source: city, destination: city}
          - {source: pin, destination: access_token}
    - type: mask
      config: {rules: [{field: user.email, method: partial, show_chars: 2}]}
    - type: sort
      config: {by: [{column: id, direction: desc}]}
  destination: {type: duckdb, config: {path: out.duckdb, table: users}}
"""

ASKED = """\
workflow:
  name: asked
  source: {type: duckdb, config: {path: in.duckdb, table: users}}
  transformations:
    - type: enrich
      config:
        type: http
        url: "http://PLACE/enrich?email={{ email }}"
        allow_private_hosts: true
        result_mapping: [{source: response.score, destination: score, type: int64}]
  destination: {type: duckdb, config: {path: out.duckdb, table: users}}
"""


@pytest.fixture
def users(folder: Path) -> Path:
    with duckdb.connect(str(folder / "in.duckdb")) as database:
        database.execute("CREATE TABLE users (id BIGINT PRIMARY KEY, email VARCHAR, city VARCHAR, pin VARCHAR)")
        database.execute("INSERT INTO users SELECT range, 'me' || range || '@x.org', 'Bern', '1234' FROM range(50000)")
    (folder / "masked.yaml").write_text(MASKED, encoding="utf-8")
    return folder


def test_rows_come_with_types_and_nothing_is_written(users: Path, here: Here) -> None:
    before = {each.name: each.stat().st_mtime_ns for each in users.iterdir()}
    shown = here("preview", "masked.yaml", "source", "--rows", "3")
    assert shown.code == 0, shown.said
    assert "int64" in shown.out
    assert shown.out.count("Bern") == 3
    told = here("preview", "masked.yaml", "1_mapping", "--rows", "2", "--json").json
    assert list(told["columns"]) == ["id", "user", "city", "access_token"]
    assert [each["id"] for each in told["rows"]] == [0, 1]
    after = {each.name: each.stat().st_mtime_ns for each in users.iterdir()}
    assert after == before


def test_what_a_mask_hides_further_down_is_hidden_from_the_beginning(users: Path, here: Here) -> None:
    del users
    [source] = here("preview", "masked.yaml", "source", "--rows", "1", "--json").json["rows"]
    assert source == {"id": 0, "email": "***", "city": "Bern", "pin": "1234"}
    [mapped] = here("preview", "masked.yaml", "1_mapping", "--rows", "1", "--json").json["rows"]
    assert (mapped["user"], mapped["access_token"]) == ("***", "***")
    [masked] = here("preview", "masked.yaml", "2_mask", "--rows", "1", "--json").json["rows"]
    assert masked["user"]["email"].startswith("me")
    assert "@" not in masked["user"]["email"]
    assert masked["access_token"] == "***"
    assert "@x.org" not in here("preview", "masked.yaml", "source").said


def test_a_node_over_the_whole_input(users: Path, here: Here) -> None:
    del users
    told = here("preview", "masked.yaml", "3_sort", "--rows", "2", "--json").json
    assert [each["id"] for each in told["rows"]] == [49_999, 49_998]


def test_a_source_is_shown_as_it_is_and_not_as_its_workflow_prunes_it(users: Path, here: Here) -> None:
    text = MASKED.replace("    - type: mask", "    - {type: filter, config: {condition: id > 40000}}\n    - type: mask")
    (users / "masked.yaml").write_text(
        text.replace("          - {source: city, destination: city}\n", ""), encoding="utf-8"
    )
    told = here("preview", "masked.yaml", "source", "--rows", "1", "--json").json
    assert list(told["columns"]) == ["id", "email", "city", "pin"]
    assert told["rows"][0]["id"] == 0
    assert here("preview", "masked.yaml", "2_filter", "--rows", "1", "--json").json["rows"][0]["id"] == 40_001


def test_no_row_at_all(users: Path, here: Here) -> None:
    text = MASKED.replace("    - type: mask", "    - {type: filter, config: {condition: id < 0}}\n    - type: mask")
    (users / "masked.yaml").write_text(text, encoding="utf-8")
    shown = here("preview", "masked.yaml", "2_filter")
    assert (shown.code, shown.err) == (0, "no rows\n")
    assert here("preview", "masked.yaml", "2_filter", "--json").json["rows"] == []


def test_an_api_is_called_for_what_is_shown_only(users: Path, here: Here, http_api: EnrichmentApi) -> None:
    text = ASKED.replace("PLACE", f"{http_api.host}:{http_api.port}")
    (users / "asked.yaml").write_text(text, encoding="utf-8")
    told = here("preview", "asked.yaml", "1_enrich", "--rows", "3", "--json")
    assert told.code == 0, told.said
    assert [each["score"] for each in told.json["rows"]] == [score_of(f"me{n}@x.org") for n in range(3)]
    assert len(http_api.requests) < 50, "not one for each of 50,000 users"
