"""The JSON Schema of workflow files, for editors; made from the very specs that compile them; reads no document.

The dialect is draft 2020-12 (https://json-schema.org/draft/2020-12). A value that may be written as a reference (`${PORT}`) is
allowed as a text beside its own type.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Any

from dsl.blocks import BLOCKS, SINGLE
from dsl.contracts.capabilities import SyncMode
from dsl.contracts.connectors import Catalog, ConnectorKind
from dsl.contracts.policies import OnError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import Option, spec_of
from dsl.endpoints import SYNC_MODE
from dsl.processors import PROCESSORS
from dsl.processors.fallback import EnrichFallback
from dsl.schedule import Schedule, Trigger
from dsl.workflow import NAME, Mode, Role

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = {"type": "string", "pattern": r"\$\{"}

Schema = dict[str, Any]


def document_schema(catalog: Catalog) -> Schema:
    """Returns the schema of one document: a workflow, a connection or a policy."""
    kinds = [each for each in map(catalog.get, catalog.kinds()) if each is not None]
    return {
        "$schema": DIALECT,
        "title": "Headrace workflow",
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": {
            "workflow": {"$ref": "#/$defs/workflow"},
            "connection": {"$ref": "#/$defs/connection"},
            "policy": {"type": "object"},
        },
        "$defs": {
            "name": {"type": "string", "pattern": f"^{NAME.pattern}$"},
            "workflow": _workflow(),
            "connection": _connection(kinds),
            "source": _endpoint(kinds, Role.SOURCE),
            "destination": _endpoint(kinds, Role.DESTINATION),
            "transformation": _transformation(),
            **{name: _block(cls) for name, cls in BLOCKS.items()},
        },
    }


def _connection(kinds: Iterable[ConnectorKind]) -> Schema:
    cases: list[Schema] = []
    for each in kinds:
        options = spec_of(each.connection).options
        cases += _cases(each.kind, options, options)
    found = _node([each.kind for each in kinds], cases, ("name",), policies=False)
    return {**found, "required": ["name", "type"]}


def _transformation() -> Schema:
    cases: list[Schema] = []
    for each in PROCESSORS.values():
        options = spec_of(each.options).options
        cases += _cases(each.kind, options, options)
    return _node(PROCESSORS, cases, ("name", "inputs", "persist"))


def _workflow() -> Schema:
    named = {key: _map_of(key[:-1]) for key in ("sources", "transformations", "destinations")}
    steps = {"type": ["array", "null"], "items": {"$ref": "#/$defs/transformation"}}
    return {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"$ref": "#/$defs/name"},
            "description": {"type": "string"},
            "schedule": {"anyOf": [{"type": "string"}, _block(Schedule)]},
            "trigger": _block(Trigger),
            "mode": _type(Mode),
            "owners": _type(tuple[str, ...]),
            "tags": _type(dict[str, str]),
            "source": {"$ref": "#/$defs/source"},
            "destination": {"$ref": "#/$defs/destination"},
            **named,
            "transformations": {"anyOf": [steps, named["transformations"]]},
            **_policies(),
        },
        "oneOf": [{"required": ["source", "destination"]}, {"required": ["sources", "destinations"]}],
    }


def _policies() -> Schema:
    words: Schema = {"enum": [each.value for each in OnError]}
    fallback = {
        "type": "object",
        "required": ["fallback"],
        "additionalProperties": False,
        "properties": {"fallback": _type(EnrichFallback), "otherwise": words},
    }
    return {
        **{name: {"$ref": f"#/$defs/{name}"} for name in BLOCKS},
        **{name: _type(kind) for name, kind in SINGLE.items()},
        "on_error": {"oneOf": [words, fallback]},
    }


def _map_of(definition: str) -> Schema:
    return {
        "type": "object",
        "propertyNames": {"$ref": "#/$defs/name"},
        "additionalProperties": {"$ref": f"#/$defs/{definition}"},
    }


_OWN_KEYS: dict[str, Schema] = {
    "name": {"$ref": "#/$defs/name"},
    "connection": {"type": "string", "description": "Name of a shared connection."},
    "schema": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Columns and their types."},
    "persist": {"type": "boolean", "description": "Whether the plan is cut behind it."},
    "inputs": {
        "anyOf": [{"type": "array", "items": {"$ref": "#/$defs/name"}}, {"$ref": "#/$defs/name"}],
        "description": "Names of the nodes that feed it.",
    },
}


def _node(kinds: Iterable[str], cases: Iterable[Schema], keys: Iterable[str], *, policies: bool = True) -> Schema:
    return {
        "type": "object",
        "required": ["type"],
        "additionalProperties": False,
        "properties": {
            "type": {"enum": list(kinds)},
            "config": {"type": ["object", "null"]},
            "description": {"type": "string"},
            **{key: _OWN_KEYS[key] for key in keys},
            **(_policies() if policies else {}),
        },
        "allOf": list(cases),
    }


def _endpoint(kinds: Iterable[ConnectorKind], role: Role) -> Schema:
    cases: list[Schema] = []
    names: list[str] = []
    for kind in kinds:
        cls = kind.source if role is Role.SOURCE else kind.destination
        if cls is not None:
            reached, own = spec_of(kind.connection).options, spec_of(cls).options
            names.append(kind.kind)
            cases += _cases(kind.kind, [*reached, *own, *(_SYNC_MODE if role is Role.SOURCE else ())], own)
            cases += _cases(kind.kind, None, reached, unless="connection")
    keys = ("connection", "schema", "persist") if role is Role.SOURCE else ("connection", "inputs")
    return _node(names, cases, keys)


def _cases(kind: str, options: Iterable[Option] | None, needed: Iterable[Option], unless: str = "") -> Iterator[Schema]:
    """Yields what the config of a node of one type must be: the options it may have, and those it needs."""
    condition: Schema = {"properties": {"type": {"const": kind}}, "required": ["type"]}
    if unless:
        condition["not"] = {"required": [unless]}
    if options is not None:
        config = {**_object(options), "type": ["object", "null"], "required": []}
        yield {"if": condition, "then": {"properties": {"config": config}}}
    required = [each.name for each in needed if each.required]
    if required:
        config = {"type": "object", "required": required}
        yield {"if": condition, "then": {"required": ["config"], "properties": {"config": config}}}


def _block(cls: type) -> Schema:
    return {**_object(spec_of(cls).options), "description": spec_of(cls).summary}


def _object(options: Iterable[Option]) -> Schema:
    listed = list(options)
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [each.name for each in listed if each.required],
        "properties": {each.name: _property(each) for each in listed},
    }


def _property(option: Option) -> Schema:
    found = {**_type(option.type, option.unit), "description": option.doc}
    if option.nullable:
        found = {"anyOf": [_type(option.type, option.unit), {"type": "null"}], "description": option.doc}
    if option.example is not None:
        found["examples"] = [option.example]
    if isinstance(option.default, str | int | float | bool) and not isinstance(option.default, StrEnum):
        found["default"] = option.default
    return found


def _type(kind: Any, unit: str = "") -> Schema:
    """Returns the schema of a type of option, as `dsl.options` reads it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        item = _type(arguments[0])
        return {"anyOf": [{"type": "array", "items": item}, item]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(arguments[1])}
    if origin in {typing.Union, types.UnionType} and "Json" not in str(kind):
        return {"anyOf": [_type(each) for each in arguments if each is not type(None)]}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"anyOf": [{"enum": [each.value for each in kind]}, REFERENCE]}
    if kind in {str, Secret, timedelta} or unit == "size":
        return {"type": ["string", "number", "boolean"]}
    if kind in _PLAIN:
        return {"anyOf": [{"type": _PLAIN[kind]}, REFERENCE]}
    return _block(kind) if isinstance(kind, type) and dataclasses.is_dataclass(kind) else {}


_PLAIN: dict[Any, str] = {int: "integer", float: "number", bool: "boolean"}
_SYNC_MODE = (
    Option(
        name=SYNC_MODE,
        type=SyncMode,
        nullable=False,
        required=False,
        default=None,
        doc="How it is read, where the options that are given do not say so already.",
        example="full_refresh",
        expression="",
        template="",
        unit="",
        advanced=True,
    ),
)
