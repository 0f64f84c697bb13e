"""The reference as data: connectors, options and promises in the words of their own specs; writes no file by itself."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import ConnectorKind, Destination
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import Option, spec_of
from resources.registry import InstalledCatalog


@dataclass(frozen=True)
class Installed:
    """The connectors of this environment.

    Attributes:
        kinds: Those that can be used.
        broken: Type -> why it cannot be used.
    """

    kinds: tuple[ConnectorKind, ...]
    broken: Mapping[str, str]


def installed() -> Installed:
    """Loads every connector that is installed; one that cannot be loaded stops no other."""
    catalog = InstalledCatalog()
    kinds: list[ConnectorKind] = []
    broken: dict[str, str] = {}
    for name in catalog.kinds():
        try:
            kind = catalog.get(name)
        except HeadraceError as error:
            broken[name] = f"{error.message} ({error.hint})"
        else:
            kinds += [kind] if kind is not None else []
    return Installed(tuple(kinds), broken)


@dataclass(frozen=True)
class OptionRow:
    """One option as people read it.

    Attributes:
        name: Its key, behind those of its block with dots.
        type: Its type as the language calls it.
        required: Whether it must be given.
        default: Its value when absent, or "".
        doc: What it is.
    """

    name: str
    type: str
    required: bool
    default: str
    doc: str

    def as_json(self) -> dict[str, object]:
        """Returns it for machines."""
        return dataclasses.asdict(self)


def option_rows(cls: type, prefix: str = "") -> Iterator[OptionRow]:
    """Yields every option of a spec, those of nested blocks behind their block with dotted names."""
    for each in sorted(spec_of(cls).options, key=lambda option: (not option.required, option.advanced)):
        name, kind = f"{prefix}{each.name}", _write_modes(cls) if each.type is WriteMode else type_name(each)
        yield OptionRow(name, kind, each.required, _default(each), each.doc)
        inner = _block(each.type)
        if inner is not None:
            suffix = "[]." if typing.get_origin(each.type) is tuple else "."
            yield from option_rows(inner, f"{name}{suffix}")


def _write_modes(cls: type) -> str:
    """Returns the write modes that a destination has; the option's own type knows them all."""
    able = cls.capabilities.write_modes if issubclass(cls, Destination) else frozenset(WriteMode)
    return " | ".join(each for each in WriteMode if each in able)


def promise_of(destination: type[Destination]) -> str:
    """Returns what a destination promises, and how that was proven, in a few words."""
    able = destination.capabilities
    keyed = f" ({able.keyed_guarantee} with a key)" if able.keyed_guarantee not in {None, able.guarantee} else ""
    return f"{able.guarantee}{keyed}, {able.proof}"


def type_name(option: Option) -> str:
    """Returns an option's type as the language calls it."""
    if option.expression:
        return "condition" if option.expression == "condition" else "expression"
    if option.template:
        return f"template ({option.template})"
    return "size" if option.unit == "size" else _type_name(option.type)


def _type_name(kind: object) -> str:
    simple = {str: "text", int: "integer", float: "number", bool: "boolean", timedelta: "duration", Secret: "secret"}
    if kind in simple:
        return simple[kind]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " | ".join(each.value for each in kind)
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
    value = option.default
    if option.required or value is None or value in ((), {}) or dataclasses.is_dataclass(value):
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, timedelta):
        return _duration(value)
    if isinstance(value, bool):
        return str(value).lower()
    return _size(value) if option.unit == "size" and isinstance(value, int) else str(value)


def _duration(value: timedelta) -> str:
    seconds = value.total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s" if seconds >= 1 or not seconds else f"{seconds * 1000:g}ms"


def _size(value: int) -> str:
    for unit, length in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= length and value % length == 0:
            return f"{value // length}{unit}"
    return str(value)
