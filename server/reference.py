"""The reference as data: options, codes and functions in the words of their own specs; writes no file by itself."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Iterator
from datetime import timedelta
from enum import StrEnum

from dsl.contracts.secret import Secret
from dsl.contracts.spec import Option, spec_of


def option_rows(options: Iterable[Option], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yields (name, type, default, doc) of each option, those of nested blocks behind their block with dotted names."""
    for each in sorted(options, key=lambda option: (not option.required, option.advanced)):
        name = f"{prefix}{each.name}"
        yield name, type_name(each), _default(each), each.doc
        inner = _block(each.type)
        if inner is not None:
            suffix = "[]." if typing.get_origin(each.type) is tuple else "."
            yield from option_rows(spec_of(inner).options, f"{name}{suffix}")


def type_name(option: Option) -> str:
    """Returns an option's type as the language calls it."""
    if option.expression:
        return f"expression ({option.expression})"
    if option.template:
        return f"template ({option.template})"
    return "size" if option.unit == "size" else _type_name(option.type)


def _type_name(kind: object) -> str:
    simple = {str: "text", int: "integer", float: "number", bool: "boolean", timedelta: "duration", Secret: "secret"}
    if kind in simple:
        return simple[kind]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " \\| ".join(each.value for each in kind)
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return f"list of {_type_name(arguments[0])}"
    if typing.get_origin(kind) is dict:
        return f"map of {_type_name(arguments[1])}"
    return "block" if dataclasses.is_dataclass(kind) else "any"


def _block(kind: object) -> type | None:
    inner = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind
    return inner if isinstance(inner, type) and dataclasses.is_dataclass(inner) and inner is not Secret else None


def _default(option: Option) -> str:
    if option.required:
        return "required"
    value = option.default
    if value is None or value in ((), {}) or dataclasses.is_dataclass(value):
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return (
        f"{value.total_seconds():g}s"
        if isinstance(value, timedelta)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
