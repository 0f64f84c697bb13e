"""What a row takes from an answer: the mapped values, of their declared types; asks nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

import pyarrow as pa

from dsl.contracts.errors import ErrorType
from dsl.expressions import parse_type
from dsl.processors.columns import Path, split
from dsl.processors.enrich import ResultMapping
from engine.operators.http_call import CallError
from engine.operators.json_results import MISSING, Convert, converter, found_at

Values: TypeAlias = tuple[Any, ...]
"""One value for each mapping, None for NULL."""

REQUIRED: Final = "required"
"""The code of a row whose answer lacks a required value: rejected even where `on_error: keep`."""


@dataclass(frozen=True)
class _Reader:
    mapping: ResultMapping
    convert: Convert

    def read(self, document: Any) -> Any:
        value = found_at(document, self.mapping.steps)
        if value is MISSING or value is None:
            if self.mapping.required:
                raise CallError(REQUIRED, f"the answer has no {self.mapping.source}", error_type=ErrorType.POISON)
            return None
        try:
            return self.convert(value)
        except ValueError as error:
            raise CallError("http_result", f"{self.mapping.source}: {error}") from error


class Results:
    """Reads answers as a node's `result_mapping` says.

    Args:
        mappings: Where the values go.
    """

    def __init__(self, mappings: Sequence[ResultMapping]) -> None:
        self._mappings = tuple(mappings)
        self._readers = tuple(_Reader(each, converter(parse_type(each.type))) for each in mappings)

    @property
    def nothing(self) -> Values:
        """NULL everywhere."""
        return (None,) * len(self._mappings)

    def read(self, document: Any) -> Values:
        """The values of an answer, or of `MISSING` for a status that means that there is nothing.

        Raises:
            CallError: A required value is missing, or one is not of its type.
        """
        return tuple(each.read(document) for each in self._readers)

    def arrays(self, answers: Sequence[Values]) -> dict[Path, pa.Array[Any]]:
        """One array for each mapping, by destination."""
        return {
            split(each.destination): pa.array([answer[index] for answer in answers], each.field.type)
            for index, each in enumerate(self._mappings)
        }


def size_of(values: Any) -> int:
    """Bytes that values take in memory, about."""
    if isinstance(values, tuple | list):
        return 64 + sum(map(size_of, values))
    if isinstance(values, str | bytes):
        return 56 + len(values)
    return 104 if isinstance(values, Decimal) else 32
