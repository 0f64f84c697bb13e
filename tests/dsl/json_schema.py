"""A validator for the part of JSON Schema 2020-12 that `dsl.schema` writes; refuses a keyword that it does not know."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}
_ANNOTATIONS = {"$schema", "$defs", "title", "description", "examples", "default", "then"}


class Validator:
    """Says where an instance is not what a schema wants."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema

    def faults(self, instance: object, schema: Schema | None = None, path: str = "") -> Iterator[str]:
        """Yields one line for each fault."""
        schema = self._root if schema is None else schema
        unknown = set(schema) - _ANNOTATIONS - set(self._checks)
        assert not unknown, f"keywords {unknown} are unknown to this validator"
        for keyword, check in self._checks.items():
            if keyword in schema:
                yield from check(self, schema[keyword], instance, schema, path)

    def _fits(self, instance: object, schema: Schema) -> bool:
        return not any(True for _ in self.faults(instance, schema))

    def _reference(self, name: str, instance: object, schema: Schema, path: str) -> Iterator[str]:
        yield from self.faults(instance, self._root["$defs"][name.removeprefix("#/$defs/")], path)

    def _type(self, wanted: str | list[str], instance: object, schema: Schema, path: str) -> Iterator[str]:
        names = [wanted] if isinstance(wanted, str) else wanted
        if not any(_is_a(instance, each) for each in names):
            yield f"{path}: {instance!r} is not {names}"

    def _enum(self, values: list[object], instance: object, schema: Schema, path: str) -> Iterator[str]:
        if instance not in values:
            yield f"{path}: {instance!r} is not one of {values}"

    def _const(self, value: object, instance: object, schema: Schema, path: str) -> Iterator[str]:
        if instance != value:
            yield f"{path}: {instance!r} is not {value!r}"

    def _pattern(self, pattern: str, instance: object, schema: Schema, path: str) -> Iterator[str]:
        if isinstance(instance, str) and not re.search(pattern, instance):
            yield f"{path}: {instance!r} does not match {pattern}"

    def _properties(self, wanted: Schema, instance: object, schema: Schema, path: str) -> Iterator[str]:
        for name, each in wanted.items():
            if isinstance(instance, dict) and name in instance:
                yield from self.faults(instance[name], each, f"{path}/{name}")

    def _others(self, wanted: Schema | bool, instance: object, schema: Schema, path: str) -> Iterator[str]:  # noqa: FBT001 - JSON Schema's own form
        others = set(instance) - set(schema.get("properties", {})) if isinstance(instance, dict) else set()
        for name in sorted(others):
            if wanted is False:
                yield f"{path}: {name!r} is not known"
            elif isinstance(instance, dict) and isinstance(wanted, Mapping):
                yield from self.faults(instance[name], wanted, f"{path}/{name}")

    def _names(self, wanted: Schema, instance: object, schema: Schema, path: str) -> Iterator[str]:
        for name in instance if isinstance(instance, dict) else ():
            yield from self.faults(name, wanted, path)

    def _required(self, names: list[str], instance: object, schema: Schema, path: str) -> Iterator[str]:
        if isinstance(instance, dict):
            yield from (f"{path}: {name!r} is missing" for name in names if name not in instance)

    def _least(self, count: int, instance: object, schema: Schema, path: str) -> Iterator[str]:
        if isinstance(instance, dict) and len(instance) < count:
            yield f"{path}: fewer than {count} keys"

    def _most(self, count: int, instance: object, schema: Schema, path: str) -> Iterator[str]:
        if isinstance(instance, dict) and len(instance) > count:
            yield f"{path}: more than {count} keys"

    def _items(self, wanted: Schema, instance: object, schema: Schema, path: str) -> Iterator[str]:
        for index, each in enumerate(instance if isinstance(instance, list) else ()):
            yield from self.faults(each, wanted, f"{path}/{index}")

    def _any(self, wanted: list[Schema], instance: object, schema: Schema, path: str) -> Iterator[str]:
        if not any(self._fits(instance, each) for each in wanted):
            yield f"{path}: {instance!r} fits none of {len(wanted)} schemas"

    def _one(self, wanted: list[Schema], instance: object, schema: Schema, path: str) -> Iterator[str]:
        if sum(self._fits(instance, each) for each in wanted) != 1:
            yield f"{path}: {instance!r} does not fit exactly one of {len(wanted)} schemas"

    def _all(self, wanted: list[Schema], instance: object, schema: Schema, path: str) -> Iterator[str]:
        for each in wanted:
            yield from self.faults(instance, each, path)

    def _not(self, wanted: Schema, instance: object, schema: Schema, path: str) -> Iterator[str]:
        if self._fits(instance, wanted):
            yield f"{path}: {instance!r} fits what it must not"

    def _if(self, condition: Schema, instance: object, schema: Schema, path: str) -> Iterator[str]:
        if self._fits(instance, condition):
            yield from self.faults(instance, schema["then"], path)

    _checks: Mapping[str, Callable[..., Iterator[str]]] = {
        "$ref": _reference,
        "type": _type,
        "enum": _enum,
        "const": _const,
        "pattern": _pattern,
        "properties": _properties,
        "additionalProperties": _others,
        "propertyNames": _names,
        "required": _required,
        "minProperties": _least,
        "maxProperties": _most,
        "items": _items,
        "anyOf": _any,
        "oneOf": _one,
        "allOf": _all,
        "not": _not,
        "if": _if,
    }


def _is_a(instance: object, name: str) -> bool:
    if isinstance(instance, bool):
        return name == "boolean"
    return isinstance(instance, _TYPES[name])
