"""The JSON Schema for editors says of the cases of the compiler what the compiler says, as far as a schema can."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dsl.document import parse, plain
from dsl.schema import document_schema
from tests.dsl.catalog import CATALOG
from tests.dsl.json_schema import Validator

CASES = Path(__file__).parent / "cases"
OK = sorted(CASES.glob("ok/*.yaml"))
ERRORS = sorted(CASES.glob("errors/*.yaml"))
SCHEMA = document_schema(CATALOG)

_SEES = {"E302", "E303", "E304"}
# What only the compiler knows: where a document stands in its file, what a variable holds, what a form may not have.
_CANNOT_SEE = {
    "e302_connection_option_beside_a_shared_connection",
    "e302_inputs_in_the_linear_form",
    "e303_no_inputs",
    "e304_number_from_a_variable",
    "e304_size",
}


def _faults(path: Path) -> list[str]:
    documents = parse(path.read_text(encoding="utf-8"), path.name)
    return [fault for each in documents for fault in Validator(SCHEMA).faults(plain(each))]


@pytest.mark.parametrize("path", OK, ids=lambda path: path.stem)
def test_what_compiles_fits_the_schema(path: Path) -> None:
    assert _faults(path) == []


@pytest.mark.parametrize("path", ERRORS, ids=lambda path: path.stem)
def test_the_schema_refuses_what_it_can_see(path: Path) -> None:
    codes = set(re.findall(r"^# error: \S+ (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    if path.stem in _CANNOT_SEE:
        assert not _faults(path), "it sees this now: take it off the list"
    elif codes <= _SEES:
        assert _faults(path)


def test_the_schema_is_json_in_the_dialect_that_it_names() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_reference_inside_leads_somewhere() -> None:
    names = set(re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(SCHEMA)))
    assert names <= set(SCHEMA["$defs"])


def test_an_editor_can_show_what_an_option_is_for() -> None:
    text = json.dumps(SCHEMA)
    assert "The host." in text
    assert '"examples": ["db.example.com"]' in text
    assert '"default": 7000' in text
