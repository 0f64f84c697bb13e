"""One leaf of a document to one Python value; knows no option and notes no fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from dsl.contracts.secret import Secret
from dsl.document import Scalar
from dsl.interpolate import Reference
from dsl.quantities import parse_duration, parse_size

_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
FAULTY: Any = object()
"""Stands for a value that could not be read; what holds it cannot be constructed."""


def _text(node: Scalar, unit: str) -> Any:
    del unit
    if isinstance(node, Reference):
        return node.value
    return FAULTY if node.value is None else node.text


def _integer(node: Scalar, unit: str) -> Any:
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return node.value
    if unit == "size" and isinstance(node.value, str) and (size := parse_size(node.value)) is not None:
        return size
    text = str(node.value) if isinstance(node, Reference) else ""
    return int(text) if _WHOLE.fullmatch(text) else FAULTY


def _number(node: Scalar, unit: str) -> Any:
    del unit
    if isinstance(node.value, bool) or not isinstance(node.value, int | float | str):
        return FAULTY
    if isinstance(node.value, str) and not isinstance(node, Reference):
        return FAULTY
    try:
        return float(node.value)
    except ValueError:
        return FAULTY


def _boolean(node: Scalar, unit: str) -> Any:
    del unit
    if isinstance(node, Reference) and node.value in {"true", "false"}:
        return node.value == "true"
    return node.value if isinstance(node.value, bool) else FAULTY


def _duration(node: Scalar, unit: str) -> Any:
    del unit
    text = str(node.value) if isinstance(node, Reference) else node.text
    read = None if node.value is None or isinstance(node.value, bool) else parse_duration(text)
    return FAULTY if read is None else read


def _secret(node: Scalar, unit: str) -> Any:
    del unit
    if isinstance(node, Reference) and not node.literal:
        return Secret(node.shown)
    return FAULTY if node.value is None else Secret(_text(node, ""), literal=True)


READERS: dict[Any, Callable[[Scalar, str], Any]] = {
    str: _text,
    int: _integer,
    float: _number,
    bool: _boolean,
    timedelta: _duration,
    Secret: _secret,
}
"""Type -> what reads it from a leaf and the option's unit; FAULTY where the leaf is something else."""

_WANTED: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    timedelta: "a duration such as 30s or 5m",
    Secret: "a secret, such as ${PASSWORD}",
}


def wanted(kind: Any, unit: str = "") -> str:
    """Returns what a leaf of a type must be, for messages."""
    return "a size such as 64MiB" if unit == "size" else _WANTED.get(kind, "a block")
