"""Which casts the language has, and which of them cannot fail; performs none."""

from __future__ import annotations

import pyarrow as pa

from dsl.expressions.types import MOMENTS, NESTED, NUMBERS, SCALARS, Family, digits, family, holds, item_of

_NOT_FROM_TEXT = frozenset({Family.INTERVAL})


def castable(source: pa.DataType, target: pa.DataType) -> bool:
    """Tells whether `cast(x as target)` means something for an x of type `source`."""
    a, b = family(source), family(target)
    if Family.UNKNOWN in {a, b} or source == target:
        return True
    if a is Family.LIST and b is Family.LIST:
        return castable(item_of(source), item_of(target))
    if b is Family.JSON:
        return a not in {Family.BINARY, Family.INTERVAL}
    if a in NESTED or b in NESTED:
        return a is Family.JSON and b is Family.LIST
    if a is Family.JSON:
        return b is not Family.BINARY
    if a is Family.STRING or b is Family.STRING:
        return not {a, b} & _NOT_FROM_TEXT or b is Family.STRING
    if {a, b} <= NUMBERS | {Family.BOOLEAN}:
        return True
    return {a, b} <= MOMENTS or (a in MOMENTS and b is Family.TIME and a is not Family.DATE)


def casts_totally(source: pa.DataType, target: pa.DataType) -> bool:
    """Tells whether that cast cannot fail."""
    a, b = family(source), family(target)
    if Family.UNKNOWN in {a, b}:
        return False
    if source == target:
        return True
    if b is Family.STRING:
        return a in SCALARS
    if b is Family.JSON:
        return a not in {Family.STRING, Family.MAP}
    if b is Family.BOOLEAN:
        return a in NUMBERS
    if a is Family.BOOLEAN:
        return b in {Family.INTEGER, Family.FLOAT}
    if {a, b} <= {Family.INTEGER, Family.DECIMAL, Family.FLOAT}:
        return _number_casts_totally(source, target)
    return {a, b} == {Family.TIMESTAMP, Family.DATE} and b is Family.DATE


def _number_casts_totally(source: pa.DataType, target: pa.DataType) -> bool:
    a, b = family(source), family(target)
    if b is Family.FLOAT:
        return a is not Family.FLOAT or target.bit_width >= source.bit_width
    if a is Family.FLOAT:
        return False
    if a is b is Family.INTEGER:
        bits, unsigned = source.bit_width, pa.types.is_unsigned_integer(source)
        low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return holds(target, low) and holds(target, high)
    if b is Family.INTEGER:
        return False
    (p1, s1), (p2, s2) = digits(source), digits(target)
    return p2 - s2 >= p1 - s1 and s2 >= s1
