"""The truth table, line by line, through DuckDB."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from dsl.expressions import compile_condition, compile_value
from tests.dsl.expressions.session import SCHEMA, Session

_TABLE = yaml.safe_load((Path(__file__).parent / "truth_table.yaml").read_text(encoding="utf-8"))
_READERS: dict[str, Callable[[str], object]] = {
    "day": date.fromisoformat,
    "at": datetime.fromisoformat,
    "tz": datetime.fromisoformat,
    "d": Decimal,
}


def _row(written: dict[str, object]) -> dict[str, object]:
    row = {name: _READERS[name](str(value)) if name in _READERS else value for name, value in written.items()}
    if isinstance(labels := row.get("labels"), dict):
        row["labels"] = list(labels.items())
    return row


def _same(found: object, expected: object) -> bool:
    if isinstance(expected, float) and math.isnan(expected):
        return isinstance(found, float) and math.isnan(found)
    if isinstance(found, date | datetime | Decimal):
        found = str(found)
    return found == expected and (type(found) is type(expected) or found is None)


@pytest.mark.parametrize(("text", "row", "expected"), _TABLE["values"])
def test_value(session: Session, text: str, row: dict[str, object], expected: object) -> None:
    found = session.value(compile_value(text, SCHEMA), _row(row))
    assert _same(found, expected), f"{text} over {row}: {found!r}, not {expected!r}"


@pytest.mark.parametrize(("text", "row", "expected"), _TABLE["conditions"])
def test_condition(session: Session, text: str, row: dict[str, object], expected: object) -> None:
    assert session.value(compile_condition(text, SCHEMA), _row(row)) is expected


def test_the_table_is_large() -> None:
    assert len(_TABLE["values"]) + len(_TABLE["conditions"]) >= 200
