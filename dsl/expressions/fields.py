"""Field paths against a schema: names compared as they are written, items counted from 0; refuses what is not there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pyarrow as pa
from sqlglot import exp

from dsl.codes import Code
from dsl.diagnostics import did_you_mean
from dsl.expressions.compiled import ExpressionError
from dsl.expressions.typed import Typed, function, number, text
from dsl.expressions.types import Family, family, fields_of, item_of, key_of, show, value_of


@dataclass
class Fields:
    """Resolves paths and notes what was read.

    Attributes:
        schema: Of the input, or None while it is unknown.
        columns: Top-level columns that were read.
        paths: Fields that were read, from the column downwards.
    """

    schema: pa.Schema | None
    columns: set[str] = field(default_factory=set)
    paths: set[tuple[str, ...]] = field(default_factory=set)

    def field(self, names: tuple[str, ...], places: tuple[int, ...]) -> Typed:
        """Resolves `a.b.c`, whose names stand at `places`.

        Raises:
            ExpressionError: E503 or E505.
        """
        column, index = names[0], places[0]
        kind = pa.null()
        if self.schema is not None:
            if column not in self.schema.names:
                raise _unknown(column, "the input", self.schema.names, index)
            _check_single(column, self.schema.names, index)
            kind = self.schema.field(self.schema.names.index(column)).type
        self.columns.add(column)
        found = Typed(exp.Column(this=exp.to_identifier(column, quoted=True)), kind, index, path=(column,))
        self.paths.add((column,))
        for name, place in zip(names[1:], places[1:], strict=True):
            found = self.key(found, name, place)
        return replace(found, index=index)

    def key(self, inner: Typed, name: str, index: int) -> Typed:
        """Resolves one struct field or the value of a map's key.

        Raises:
            ExpressionError: E503 or E505.
        """
        kind = inner.type
        if inner.family is Family.MAP:
            if family(key_of(kind)) is not Family.STRING:
                raise ExpressionError(Code.EXPRESSION_TYPE, f"the keys of the map are {show(key_of(kind))}", "", index)
            return Typed(function("map_extract_value", inner.sql, text(name)), value_of(kind), index, inner.total)
        if inner.family not in {Family.STRUCT, Family.UNKNOWN} or inner.is_null:
            raise _no_fields(inner, name, index)
        found = pa.null()
        if inner.family is Family.STRUCT:
            names = [each.name for each in fields_of(kind)]
            if name not in names:
                raise _unknown(name, ".".join(inner.path) or "the struct", names, index, inner.path)
            _check_single(name, names, index)
            found = fields_of(kind)[names.index(name)].type
        path = (*inner.path, name) if inner.path else ()
        if path:
            self.paths.discard(inner.path)
            self.paths.add(path)
        return Typed(function("struct_extract", inner.sql, text(name)), found, index, inner.total, path=path)

    def item(self, inner: Typed, number_from_0: int, index: int) -> Typed:
        """Resolves `items[0]`; negative numbers count from the end; an item that is not there is NULL.

        Raises:
            ExpressionError: E505.
        """
        if inner.family not in {Family.LIST, Family.UNKNOWN} or inner.is_null:
            hint = "substring(text, 1, 1)" if inner.family is Family.STRING else ""
            raise ExpressionError(Code.EXPRESSION_TYPE, f"{show(inner.type)} has no items", hint, index)
        if abs(number_from_0) >= 2**31:
            raise ExpressionError(Code.EXPRESSION_TYPE, "the index is too large", "", index)
        kind = item_of(inner.type) if inner.family is Family.LIST else pa.null()
        counted = number_from_0 + 1 if number_from_0 >= 0 else number_from_0
        return Typed(function("list_extract", inner.sql, number(counted)), kind, index, inner.total)


def _check_single(name: str, known: list[str], index: int) -> None:
    """DuckDB would read either of two names that differ in case only."""
    alike = [each for each in known if each.lower() == name.lower()]
    if len(alike) > 1:
        shown = " and ".join(repr(each) for each in alike)
        raise ExpressionError(
            Code.EXPRESSION_FORBIDDEN, f"{shown} cannot be told apart", "rename one of them at the source", index
        )


def _unknown(name: str, where: str, known: list[str], index: int, parents: tuple[str, ...] = ()) -> ExpressionError:
    near = next((each for each in known if each.lower() == name.lower()), "")
    hint = f"names are case-sensitive: did you mean {near!r}?" if near else did_you_mean(name, known)
    shown = ".".join((*parents, name))
    return ExpressionError(Code.UNKNOWN_FIELD, f"{where} has no field {shown!r}", hint, index)


def _no_fields(inner: Typed, name: str, index: int) -> ExpressionError:
    hint = ""
    if inner.family in {Family.STRING, Family.JSON}:
        path = ".".join(inner.path) or "value"
        hint = f"if it holds JSON: json_extract_string({path}, '$.{name}')"
    elif inner.family is Family.LIST:
        hint = f"an item's field is {'.'.join(inner.path) or 'items'}[0].{name}; all of them need an unnest node"
    return ExpressionError(Code.EXPRESSION_TYPE, f"{show(inner.type)} has no fields", hint, index)
