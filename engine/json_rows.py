"""One row as JSON for a dead letter at a destination: no value is too odd to be shown; it is read by people, not read back."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def row_as_json(row: pa.RecordBatch) -> str:
    """One row as JSON: bytes as base64; what JSON lacks (dates, decimals, NaN) as text."""
    values = {name: _value(row.column(at)[0]) for at, name in enumerate(row.schema.names)}
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def _value(scalar: Any) -> Any:
    if not scalar.is_valid:
        return None
    if isinstance(scalar, pa.DictionaryScalar):
        return _value(scalar.value)
    if isinstance(scalar, pa.StructScalar):
        return {name: _value(each) for name, each in scalar.items()}
    if isinstance(scalar, pa.ListScalar):
        return [_value(each) for each in scalar.values or ()]
    return _plain(scalar)


def _plain(scalar: Any) -> Any:
    try:
        value = scalar.as_py()
    except (ArithmeticError, ValueError):
        # Beyond what Python's own types hold: the year 148108, a nanosecond.
        return _text(scalar)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, bool | int | str) else str(value)


def _text(scalar: Any) -> str:
    try:
        return str(pc.cast(scalar, pa.string()).as_py())
    except pa.ArrowException:
        return str(scalar.value)
