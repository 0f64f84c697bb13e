"""Options of every type, from the document to the dataclass, and where each one stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsl.codes import Code
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import Json
from dsl.diagnostics import Diagnostic, Diagnostics, Span
from dsl.document import Map, parse
from dsl.interpolate import interpolate
from dsl.options import OptionReader
from dsl.quantities import parse_duration, parse_size
from dsl.scalars import FAULTY
from tests.dsl.catalog import Header, Login, Tls


@dataclass(frozen=True, kw_only=True)
class Everything:
    """One option of each type."""

    text: str = option(default="", doc="")
    whole: int = option(default=0, doc="")
    number: float = option(default=0.0, doc="")
    flag: bool = option(default=False, doc="")
    pause: timedelta = option(default=timedelta(), doc="")
    size: int = option(default=0, doc="", unit="size")
    secret: Secret | None = option(default=None, doc="")
    word: Tls = option(default=Tls.ON, doc="")
    block: Login | None = option(default=None, doc="")
    texts: tuple[str, ...] = option(default=(), doc="")
    numbers: tuple[int, ...] = option(default=(), doc="")
    words: tuple[Tls, ...] = option(default=(), doc="")
    blocks: tuple[Header, ...] = option(default=(), doc="")
    table: dict[str, int] = option(default={}, doc="")
    secrets: dict[str, Secret] = option(default={}, doc="")
    either: str | tuple[str, ...] | Login | None = option(default=None, doc="")
    anything: Json = option(default=None, doc="")

    def __post_init__(self) -> None:
        if self.whole == 13:
            raise OptionError("whole", "13 brings bad luck", "take 12")
        if "x" in self.table:
            raise OptionError("table.x", "no x")


def _read(text: str, environment: Mapping[str, str] | None = None) -> tuple[Any, list[Diagnostic], OptionReader]:
    found = Diagnostics()
    (node,) = parse(text, "x.yaml")
    node = interpolate(node, environment or {}, found)
    assert isinstance(node, Map)
    reader = OptionReader(found, "everything", node.span)
    return reader.options(node, Everything), found.found, reader


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("text: abc", "text", "abc"),
        ("text: 12", "text", "12"),
        ("text: 012", "text", "012"),
        ("text: true", "text", "true"),
        ("text: ''", "text", ""),
        ("text: 2024-01-01", "text", "2024-01-01"),
        ("whole: 12", "whole", 12),
        ('whole: "${N}"', "whole", 7),
        ("whole: ${N}", "whole", 7),
        ("number: 1", "number", 1.0),
        ("number: ${F}", "number", 2.5),
        ("flag: true", "flag", True),
        ("flag: ${B}", "flag", True),
        ("pause: 30s", "pause", timedelta(seconds=30)),
        ("pause: 1h30m", "pause", timedelta(minutes=90)),
        ("pause: PT1M30S", "pause", timedelta(seconds=90)),
        ("pause: P1DT1H", "pause", timedelta(hours=25)),
        ("pause: 45", "pause", timedelta(seconds=45)),
        ("pause: ${N}m", "pause", timedelta(minutes=7)),
        ("size: 64MiB", "size", 64 * 2**20),
        ("size: 1.5GB", "size", 1_500_000_000),
        ("size: 1000", "size", 1000),
        ('size: "${N}KiB"', "size", 7 * 1024),
        ("secret: abc", "secret", Secret("abc", literal=True)),
        ("secret: ${N}", "secret", Secret("${N}")),
        ("secret:", "secret", None),
        ('word: "off"', "word", Tls.OFF),
        ("block: {user: me}", "block", Login(user="me")),
        ("block: {user: me, level: 3, token: '${N}'}", "block", Login(user="me", level=3, token=Secret("${N}"))),
        ("block:", "block", None),
        ("texts: [a, 1]", "texts", ("a", "1")),
        ("texts: a", "texts", ("a",)),
        ("texts: []", "texts", ()),
        ("numbers: 3", "numbers", (3,)),
        ('words: ["on", "off"]', "words", (Tls.ON, Tls.OFF)),
        ('words: "on"', "words", (Tls.ON,)),
        ("blocks: [{name: a, value: b}]", "blocks", (Header(name="a", value="b"),)),
        ("blocks: {name: a, value: b}", "blocks", (Header(name="a", value="b"),)),
        ("table: {a: 1, b: 2}", "table", {"a": 1, "b": 2}),
        ("secrets: {a: '${N}'}", "secrets", {"a": Secret("${N}")}),
        ("either: a", "either", "a"),
        ("either: [a, b]", "either", ("a", "b")),
        ("either: {user: me}", "either", Login(user="me")),
        ("anything: {a: [1, null, '${N}']}", "anything", {"a": [1, None, "7"]}),
        ("anything: 3", "anything", 3),
    ],
)
def test_a_value_of_each_type(text: str, name: str, value: object) -> None:
    read, found, _ = _read(text, {"N": "7", "F": "2.5", "B": "true"})
    assert not found
    assert getattr(read, name) == value


@pytest.mark.parametrize(
    ("text", "code", "column"),
    [
        ("texts: {a: b}", Code.WRONG_TYPE, 8),
        ("text: [a]", Code.WRONG_TYPE, 7),
        ("whole: 1.5", Code.WRONG_TYPE, 8),
        ("whole: true", Code.WRONG_TYPE, 8),
        ("whole: '1'", Code.WRONG_TYPE, 8),
        ('whole: "${N}0x"', Code.WRONG_TYPE, 8),
        ("number: true", Code.WRONG_TYPE, 9),
        ("flag: 1", Code.WRONG_TYPE, 7),
        ("flag: ${N}", Code.WRONG_TYPE, 7),
        ("pause: -5s", Code.WRONG_TYPE, 8),
        ("pause: 5 parsecs", Code.WRONG_TYPE, 8),
        ("pause: true", Code.WRONG_TYPE, 8),
        ("pause: P", Code.WRONG_TYPE, 8),
        ("size: 5 lots", Code.WRONG_TYPE, 7),
        ("size: -1MiB", Code.WRONG_TYPE, 7),
        ("secret: [a]", Code.WRONG_TYPE, 9),
        ("word: on1", Code.BAD_VALUE, 7),
        ("block: me", Code.WRONG_TYPE, 8),
        ("block: {}", Code.MISSING_KEY, 8),
        ("block: {user: me, token: {}}", Code.WRONG_TYPE, 26),
        ("block: {user: me, tken: 1}", Code.UNKNOWN_KEY, 19),
        ("numbers: [1, a]", Code.WRONG_TYPE, 14),
        ("blocks: [a]", Code.WRONG_TYPE, 10),
        ("blocks: [{name: a}]", Code.MISSING_KEY, 10),
        ("table: {a: b}", Code.WRONG_TYPE, 12),
        ("table: [a]", Code.WRONG_TYPE, 8),
        ("text:", Code.EMPTY_VALUE, 1),
        ("texts: [a, null]", Code.WRONG_TYPE, 12),
        ("anything: {a: '${secret:env/X}'}", Code.SECRET_PLACE, 15),
        ("texts: ['${secret:env/X}']", Code.SECRET_PLACE, 9),
        ("table: {a: '${secret:env/X}'}", Code.SECRET_PLACE, 12),
        ("whole: 13", Code.OPTIONS, 8),
        ("table: {x: 1}", Code.OPTIONS, 12),
        ("txt: a", Code.UNKNOWN_KEY, 1),
    ],
)
def test_a_fault_has_its_code_and_place(text: str, code: Code, column: int) -> None:
    read, found, _ = _read(text, {"N": "7"})
    assert [(each.code, each.span.line, each.span.column) for each in found] == [(code, 1, column)]
    assert (read is FAULTY) == (code is not Code.UNKNOWN_KEY)


def test_all_faults_come_at_once() -> None:
    _, found, _ = _read("whole: a\nnumber: b\nblock: {level: c}\nwhat: d\n")
    assert sorted(each.span.line for each in found) == [1, 2, 3, 3, 4]


def test_spans_fall_back_to_what_is_around() -> None:
    _, _, reader = _read("blocks:\n  - name: a\n    value: 'b c'\ntexts: [x]\n")
    spans = reader.spans()
    assert spans.at("blocks", 0, "value") == Span("x.yaml", 3, 12)
    assert spans.at("blocks", 0, "value", index=2) == Span("x.yaml", 3, 15)
    assert spans.at("blocks", 0, "other") == spans.at("blocks", 0) == Span("x.yaml", 2, 5)
    assert spans.at("whole") == spans.at() == spans.node
    assert spans.at("texts", 7) == Span("x.yaml", 4, 8)


def test_a_place_inside_a_block_of_text_is_the_place_of_the_block() -> None:
    _, _, reader = _read("text: |\n  a\n  b\n")
    assert reader.spans().at("text", index=3) == Span("x.yaml", 1, 7)


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d", "w"]))
def test_durations_scale(number: int, unit: str) -> None:
    seconds = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[unit]
    read = parse_duration(f"{number}{unit}")
    assert read is not None
    assert abs(read.total_seconds() - number * seconds) < 1e-3


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_none(text: str) -> None:
    duration, size = parse_duration(text), parse_size(text)
    assert duration is None or duration >= timedelta()
    assert size is None or size >= 0
