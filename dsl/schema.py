"""The JSON Schema of workflow files, for editors; made from the very specs that compile them; reads no document.

The dialect is draft 2020-12 (https://json-schema.org/draft/2020-12). A value that may be written as a reference (`${PORT}`) is
allowed as a text beside its own type.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum
from typing import Any

from dsl.blocks import BLOCKS, SINGLE
from dsl.contracts.connectors import Catalog, ConnectorKind
from dsl.contracts.policies import OnError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import Option, spec_of
from dsl.processors import PROCESSORS
from dsl.schedule import Schedule, Trigger
from dsl.workflow import NAME, Mode

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
            "connection": _node([_case(each.kind, _options(each.connection)) for each in kinds], ("name",)),
            "source": _node(
                [_endpoint(each, each.source) for each in kinds if each.source], ("connection", "schema", "persist")
            ),
            "destination": _node(
                [_endpoint(each, each.destination) for each in kinds if each.destination], ("connection",)
            ),
            "transformation": _node(
                [_case(each.kind, _options(each.options)) for each in PROCESSORS.values()], ("persist", "name")
            ),
            **{name: _block(cls) for name, cls in BLOCKS.items()},
        },
    }


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
            "schedule": {"oneOf": [{"type": "string"}, _block(Schedule)]},
            "trigger": _block(Trigger),
            "mode": {"enum": [each.value for each in Mode]},
            "owners": {"type": "array", "items": {"type": "string"}},
            "tags": {"type": "object", "additionalProperties": {"type": "string"}},
            "source": {"$ref": "#/$defs/source"},
            "destination": {"$ref": "#/$defs/destination"},
            **named,
            "transformations": {"anyOf": [steps, named["transformations"]]},
            **_policies(),
        },
        "oneOf": [{"required": ["source", "destination"]}, {"required": ["sources", "destinations"]}],
    }


def _policies() -> Schema:
    fallback = {
        "type": "object",
        "required": ["fallback"],
        "additionalProperties": False,
        "properties": {"fallback": {}},
    }
    return {
        **{name: {"$ref": f"#/$defs/{name}"} for name in BLOCKS},
        **{name: _type(kind) for name, kind in SINGLE.items()},
        "on_error": {"oneOf": [{"enum": [each.value for each in OnError]}, fallback]},
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
}


def _node(cases: Iterable[Schema], keys: Iterable[str]) -> Schema:
    listed = list(cases)
    return {
        "type": "object",
        "required": ["type"],
        "additionalProperties": False,
        "properties": {
            "type": {"enum": [each["if"]["properties"]["type"]["const"] for each in listed]},
            "config": {"type": ["object", "null"]},
            "inputs": {"type": "array", "items": {"$ref": "#/$defs/name"}},
            "description": {"type": "string"},
            **{key: _OWN_KEYS[key] for key in keys},
            **_policies(),
        },
        "allOf": listed,
    }


def _endpoint(kind: ConnectorKind, cls: type) -> Schema:
    own = [*spec_of(kind.connection).options, *spec_of(cls).options]
    return _case(kind.kind, {**_object(own), "required": []})


def _case(kind: str, config: Schema) -> Schema:
    return {"if": {"properties": {"type": {"const": kind}}}, "then": {"properties": {"config": config}}}


def _options(cls: type) -> Schema:
    return _object(spec_of(cls).options)


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
    if option.example is not None:
        found["examples"] = [option.example]
    if isinstance(option.default, str | int | float | bool) and not isinstance(option.default, StrEnum):
        found["default"] = option.default
    return found


def _type(kind: Any, unit: str = "") -> Schema:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        item = _type(arguments[0])
        return {"anyOf": [{"type": "array", "items": item}, item]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(arguments[1])}
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"enum": [each.value for each in kind]}
    if kind in {str, Secret, timedelta} or unit == "size":
        return {"type": ["string", "number", "boolean"]}
    if kind in _PLAIN:
        return {"anyOf": [{"type": _PLAIN[kind]}, REFERENCE]}
    return _block(kind) if isinstance(kind, type) and dataclasses.is_dataclass(kind) else {}


_PLAIN: dict[Any, str] = {int: "integer", float: "number", bool: "boolean"}
