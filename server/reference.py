"""The reference as data: connectors, options and promises in the words of their own specs; writes no file by itself."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import pyarrow as pa

from dsl.contracts.capabilities import SyncMode, WriteMode
from dsl.contracts.connectors import ConnectorKind, Destination, Source
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import Option, spec_of
from dsl.expressions.types import show
from resources.registry import InstalledCatalog

_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
_INSIDE = re.compile(r""", unread|, or None|, or ""|; None if it gives none""")
"""What a docstring tells programmers only."""
_TYPES: tuple[pa.DataType, ...] = (
    pa.bool_(),
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint16(),
    pa.uint32(),
    pa.uint64(),
    pa.float32(),
    pa.float64(),
    pa.decimal128(18, 4),
    pa.string(),
    pa.binary(),
    pa.date32(),
    pa.time64("us"),
    pa.timestamp("us"),
    pa.timestamp("us", "UTC"),
    pa.list_(pa.int64()),
    pa.struct([pa.field("name", pa.string())]),
)


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
        name, kind = f"{prefix}{each.name}", _modes(cls) if each.type in {WriteMode, SyncMode} else type_name(each)
        yield OptionRow(name, kind, each.required, _default(each), each.doc)
        inner = _block(each.type)
        if inner is not None:
            suffix = "[]." if typing.get_origin(each.type) is tuple else "."
            yield from option_rows(inner, f"{name}{suffix}")


def _modes(cls: type) -> str:
    """Returns the sync or write modes that a source or a destination has; the option's own type knows them all."""
    able: frozenset[StrEnum] = frozenset()
    if issubclass(cls, Source):
        able = cls.capabilities.sync_modes
    elif issubclass(cls, Destination):
        able = cls.capabilities.write_modes
    return " | ".join(each for each in (*SyncMode, *WriteMode) if each in able)


def promise_of(destination: type[Destination]) -> str:
    """Returns what a destination promises, and how that was proven, in a few words."""
    able = destination.capabilities
    keyed = f" ({able.keyed_guarantee} with a key)" if able.keyed_guarantee not in {None, able.guarantee} else ""
    return f"{able.guarantee}{keyed}, {able.proof}"


def prose_of(cls: type, *, joined: bool = False) -> str:
    """Returns a class's docstring without its lists of arguments and attributes.

    Args:
        cls: The class.
        joined: Whether its paragraphs become one.
    """
    paragraphs = inspect.cleandoc(cls.__doc__ or "").split("\n\n")
    kept = [" ".join(each.split()) for each in paragraphs if not _SECTION.match(each)]
    return (" " if joined else "\n\n").join(kept)


def attribute_rows(cls: type) -> Iterator[tuple[str, str]]:
    """Yields (name, sentence) of every attribute that a class's docstring lists."""
    listed = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    for each in re.split(r"\n(?= {4}\S)", listed):
        name, _, doc = each.strip().partition(": ")
        yield name, _INSIDE.sub("", " ".join(doc.split()))


def column_types(kind: ConnectorKind) -> Iterator[tuple[str, str]]:
    """Yields (type of the language, type of the column that holds it) as a connector's `types` module says, if it has one."""
    package = kind.connection.__module__.rpartition(".")[0]
    try:
        type_name_of = importlib.import_module(f"{package}.types").type_name
    except (ImportError, AttributeError):  # a store of files, a search index: nothing to tell
        return
    key = {"key": False} if "key" in inspect.signature(type_name_of).parameters else {}
    for each in _TYPES:
        try:
            yield show(each), type_name_of(pa.field("column", each), **key)
        except HeadraceError:
            yield show(each), "none: cast it in a mapping"


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
        return duration(value)
    if isinstance(value, bool):
        return str(value).lower()
    return _size(value) if option.unit == "size" and isinstance(value, int) else str(value)


def duration(value: timedelta) -> str:
    """Returns a duration as it would stand in a document."""
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
