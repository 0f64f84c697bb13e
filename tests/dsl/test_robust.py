"""Whatever stands in a document, the compiler returns plans or says what is wrong; it never breaks, and never shows a secret."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsl.compile import Allow, compile_text, outline
from dsl.contracts.spec import spec_of
from dsl.diagnostics import CompileError, Diagnostic
from dsl.document import parse, plain
from dsl.lint import lint
from dsl.processors import PROCESSORS
from tests.dsl.catalog import CATALOG

CASES = Path(__file__).parent / "cases"
CANARY = "canary-7f3a9c"
ENVIRONMENT = {
    **dict.fromkeys(("SHOP_PASSWORD", "SHOP_HOST", "CANARY", "REGION", "MASKING_KEY"), CANARY),
    "SHOP_PORT": "1",
}
# Where a variable chooses a connector or a time, the fault says what it chose.
SAYS_THE_VALUE = {"E401", "E313"}


def _documents() -> list[Any]:
    found = []
    for path in sorted(CASES.glob("ok/*.yaml")):
        found += [plain(each) for each in parse(path.read_text(encoding="utf-8"), path.name)]
    for kind in PROCESSORS.values():
        (step,) = parse(kind.example, kind.kind)
        found.append(_around(plain(step)))
    return found


def _around(step: Any) -> Any:
    inputs = step.pop("inputs", ["a"])
    return {
        "workflow": {
            "name": "around",
            "sources": {each: {"type": "feed", "schema": {"id": "int64", "email": "string"}} for each in inputs},
            "transformations": {"step": {**step, "inputs": inputs}},
            "destinations": {"lake": {"type": "lake", "inputs": ["step"]}},
        }
    }


DOCUMENTS = _documents()
STRANGE: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        2**70,
        1.5,
        "",
        " ",
        "a.b.c",
        "${CANARY}",
        "${secret:env/X}",
        "${",
        "{{ a }}",
        "{{",
        "😀",
        "x" * 5000,
    ),
    *(
        [],
        {},
        [[]],
        [None],
        {"a": None},
        {"": 1},
        ["source"],
        "source",
        "select 1",
        "id",
        "(((",
        "a = 'b",
        "1 / 0",
        "*",
        "{input}",
    ),
]


def _mutate(value: Any, chance: random.Random) -> Any:
    """Returns a value with one place in it changed, moved, doubled or taken out."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.15:
        return chance.choice(STRANGE)
    copy = dict(value) if isinstance(value, dict) else list(value)
    keys = list(copy) if isinstance(copy, dict) else list(range(len(copy)))
    key = chance.choice(keys)
    act = chance.random()
    if act < 0.1:
        del copy[key]
    elif act < 0.2 and isinstance(copy, list):
        copy.append(copy[key])
    elif act < 0.3 and isinstance(copy, dict):
        copy[chance.choice([*map(str, keys), "name", "type", "inputs", "config", "connection"])] = copy[key]
    else:
        copy[key] = _mutate(copy[key], chance)
    return copy


def _compile(text: str) -> tuple[Diagnostic, ...]:
    try:
        compiled = compile_text(text, "x.yaml", catalog=CATALOG, environment=ENVIRONMENT, allow=Allow(python=True))
    except CompileError as error:
        return error.diagnostics
    for each in compiled:
        lint(each.bound)
    return ()


def _outline(text: str) -> tuple[Diagnostic, ...]:
    try:
        outline(text, "x.yaml", ENVIRONMENT)
    except CompileError as error:
        return error.diagnostics
    return ()


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_any_mutation_of_a_document_compiles_or_is_refused(seed: int, times: int) -> None:
    chance = random.Random(seed)
    document = chance.choice(DOCUMENTS)
    for _ in range(times):
        document = _mutate(document, chance)
    text = json.dumps(document)
    for each in (*_compile(text), *_outline(text)):
        assert each.span.line >= 1
        assert each.message
        assert CANARY not in str(each) or each.code in SAYS_THE_VALUE


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: str(next(iter(each.values())).get("name")))
def test_what_is_mutated_compiles_or_lacks_only_its_connection_as_it_is(document: Any) -> None:
    assert {each.code for each in _compile(json.dumps(document))} <= {"E404", "E503", "E601", "E608", "E305"}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_every_option_of_a_processor_refuses_nonsense_with_its_place(kind: str) -> None:
    for option in spec_of(PROCESSORS[kind].options).options:
        for strange in STRANGE:
            inputs = ["a", "b"] if PROCESSORS[kind].min_inputs > 1 else ["a"]
            _compile(json.dumps(_around({"type": kind, "inputs": inputs, "config": {option.name: strange}})))
