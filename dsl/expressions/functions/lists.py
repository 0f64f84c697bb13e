"""Functions of lists; an item by its place is `items[0]`, rows from items are an unnest node."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
from sqlglot import exp

from dsl.expressions.casts import casts_totally
from dsl.expressions.functions.signature import Argument, Arguments, Function, any_argument, any_null, literal_text
from dsl.expressions.typed import bring, function
from dsl.expressions.types import Family, common, comparable, family, item_of

_GROUP: Final = "Lists"
_LIST = Argument("list", frozenset({Family.LIST}))


def _known(given: Arguments) -> bool:
    return given[0].family is Family.LIST


def _contains_type(given: Arguments) -> pa.DataType | None:
    if not _known(given):
        return pa.bool_()
    inner = item_of(given[0].type)
    fits = common(inner, given[1].type) == inner or given[1].is_null
    return pa.bool_() if fits and comparable(inner, given[1].type, order=False) else None


def _contains(given: Arguments) -> exp.Expr:
    value = bring(given[1], item_of(given[0].type)) if _known(given) else given[1].sql
    return function("list_contains", given[0].sql, value)


def _contains_total(given: Arguments) -> bool:
    return _known(given) and (given[1].constant is not None or casts_totally(given[1].type, item_of(given[0].type)))


def _join_type(given: Arguments) -> pa.DataType | None:
    return pa.string() if not _known(given) or family(item_of(given[0].type)) is Family.STRING else None


def _ordered_type(given: Arguments) -> pa.DataType | None:
    if not _known(given):
        return pa.null()
    inner = item_of(given[0].type)
    return given[0].type if comparable(inner, inner, order=True) else None


FUNCTIONS: Final[tuple[Function, ...]] = (
    Function(
        "len", _GROUP, (_LIST,), pa.int64(), "len",
        "How many items the list has; NULL items count.", "len(split('a,b', ','))", nullable=any_null,
    ),
    Function(
        "list_contains", _GROUP, (_LIST, any_argument("item")), _contains_type, _contains,
        "Whether the item is in the list; NULL for a NULL item.", "list_contains(split('a,b', ','), 'b')", _contains_total,
    ),
    Function(
        "list_join", _GROUP, (_LIST, literal_text("separator")), _join_type, "array_to_string",
        "The texts of the list joined with a separator; NULL items are left out.", "list_join(split('a,b', ','), '-')", nullable=any_null,
    ),
    Function(
        "list_sort", _GROUP, (_LIST,), _ordered_type, "list_sort",
        "The items in ascending order, NULL items first.", "list_sort(split('b,a', ','))", nullable=any_null,
    ),
)  # fmt: skip
