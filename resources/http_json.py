"""JSON answers within limits: documents, JSON paths (RFC 9535), records and what becomes of them as rows; asks nothing."""

from __future__ import annotations

import decimal
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from dsl.contracts.errors import FatalError, RetryableError, SchemaError
from dsl.contracts.rows import Rejection
from resources.formats.json_values import from_rows
from resources.formats.jsonl import fitted, schema_of
from resources.http_options import INSTALL

try:
    import jsonpath
except ModuleNotFoundError as error:
    raise FatalError(
        "the library of JSON paths is not installed", hint=f"{INSTALL}, which brings python-jsonpath"
    ) from error

DEEPEST: Final = 100
MISSING: Final = object()
"""What a path leads to where there is nothing."""
_SHOWN: Final = 1000
_PLACES: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ENVIRONMENT: Final = jsonpath.JSONPathEnvironment(strict=True)
_COLUMNS: Final[dict[str, pa.DataType]] = {"page": pa.string(), "record": pa.int64(), "text": pa.string()}
_REJECTED: Final = pa.schema(_COLUMNS)


def document_of(body: bytes, where: str, *, exact: bool = True) -> Any:
    """Reads a body that must be one whole JSON document.

    Args:
        body: As it came.
        where: Names the answer in errors.
        exact: Whether fractions become Decimals, which keep every digit.

    Raises:
        RetryableError: It is empty, cut off, or a page of something else: worth another try.
        FatalError: It is nested too deeply.
    """
    if not body.strip():
        raise RetryableError("the answer is empty", where=where)
    kept = decimal.Decimal if exact else float
    try:
        found = json.loads(body.decode("utf-8-sig"), parse_float=kept, parse_constant=_refuse)
    except RecursionError as error:
        raise _too_deep(where) from error
    except UnicodeDecodeError as error:
        raise RetryableError("the answer is not UTF-8", where=where) from error
    except ValueError as error:
        told = "the answer is not one whole JSON document: cut off, or a page of something in between"
        raise RetryableError(told, where=where) from error
    if body.count(b"{") + body.count(b"[") > DEEPEST and _deeper(found):
        raise _too_deep(where)
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _too_deep(where: str) -> FatalError:
    return FatalError(f"the answer is nested more than {DEEPEST} levels deep", where=where)


def _deeper(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


class Path:
    """One JSON path.

    Args:
        text: As it is written.
        where: Whose it is, for errors.

    Raises:
        FatalError: It is none.
    """

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where
        try:
            self._path = _compiled(text)
            self._single = self._path.singular_query()
            self._holder = self._path if self._single else _compiled(_plain_beginning(self._path))
        except jsonpath.JSONPathError as error:
            told = f"'{text}' is no JSON path: {(str(error).splitlines() or [''])[0]}"
            raise FatalError(told, where=where, hint="write it as RFC 9535 says: $.data.items") from error

    def one(self, document: Any) -> Any:
        """Returns the value it leads to, or MISSING.

        Raises:
            FatalError: It leads to several.
        """
        found = self._path.findall(document)
        if len(found) > 1:
            raise FatalError(f"'{self.text}' leads to {len(found)} values, not to one", where=self.where)
        return found[0] if found else MISSING

    def all(self, document: Any) -> list[Any]:
        """Returns the records it leads to; none where there is nothing, for documents that are known to be whole."""
        found = list(self._path.findall(document))
        if not self._single:
            return found
        held = found[0] if found else None
        return [] if held is None else held if isinstance(held, list) else [held]

    def records(self, document: Any, where: str) -> list[Any]:
        """Returns the records it leads to: the elements of an array, one object, or all values that it matches.

        Raises:
            RetryableError: It leads to nothing: no page of records, whatever its status says.
        """
        held = self._holder.findall(document)
        if not held or held[0] is None or not isinstance(held[0], dict | list):
            told = f"the answer has no records at '{self.text}': it is an error, or not whole"
            raise RetryableError(told, where=where, hint="check `records`")
        if not self._single:
            return list(self._path.findall(document))
        return held[0] if isinstance(held[0], list) else [held[0]]


def _compiled(text: str) -> jsonpath.JSONPath:
    found = _ENVIRONMENT.compile(text)
    if not isinstance(found, jsonpath.JSONPath):
        raise jsonpath.JSONPathError("it joins several paths", token=None)
    return found


def _plain_beginning(path: jsonpath.JSONPath) -> str:
    """Returns the part of a path that leads to one place, before its first wildcard, slice or filter."""
    text = "$"
    for each in path.segments:
        longer = text + str(each)
        if not _compiled(longer).singular_query():
            break
        text = longer
    return text


def digest_of(value: Any) -> str:
    """Returns a short name for a JSON value, equal for equal values."""
    text = json.dumps(value, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


def infer(records: Sequence[Any], where: str) -> pa.Schema:
    """Returns the schema that some records suggest.

    Raises:
        SchemaError: None of them is an object.
    """
    objects = [each for each in records if isinstance(each, dict)]
    if not objects or not any(objects):
        raise SchemaError("it holds no records that tell a schema", where=where, hint="declare `schema`")
    return schema_of(objects)


@dataclass(frozen=True)
class Rows:
    """Makes rows of records.

    Attributes:
        schema: The columns that are wanted.
        names: All that there are.
        strict: Whether a record may have no others; else those are passed over.
    """

    schema: pa.Schema
    names: tuple[str, ...]
    strict: bool

    def of(self, records: Sequence[Any], page: str, first: int = 0) -> tuple[pa.RecordBatch, list[Rejection]]:
        """Returns the rows, and the records that are none with the reasons.

        Args:
            records: As they came.
            page: Names their page in reasons.
            first: The number of the first of them in its page.
        """
        rejected: list[Rejection] = []
        good: list[tuple[int, Any]] = []
        for at, each in enumerate(records, first):
            reason = self._fault(each)
            if reason:
                rejected.append(_rejection(page, at, each, reason))
            else:
                good.append((at, each))
        return self._built(good, page, rejected), rejected

    def _fault(self, record: Any) -> str:
        if not isinstance(record, dict):
            return "it is not an object"
        unknown = sorted(set(record) - set(self.names)) if self.strict else []
        if unknown:
            return f"field '{unknown[0]}' is not in the schema that the first page suggested: declare `schema`"
        return ""

    def _built(self, good: list[tuple[int, Any]], page: str, rejected: list[Rejection]) -> pa.RecordBatch:
        wanted = self.schema.names
        values = [
            {name: each[name] for name in wanted if name in each} if self.strict else fitted(each, self.schema)
            for _, each in good
        ]
        try:
            return from_rows(values, self.schema)
        except (ValueError, OverflowError, RecursionError) as error:
            if len(good) == 1:
                rejected.append(_rejection(page, *good[0], (str(error).splitlines() or ["it does not fit"])[0]))
                return pa.RecordBatch.from_pylist([], self.schema)
        half = len(good) // 2
        parts = [self._built(part, page, rejected) for part in (good[:half], good[half:])]
        batches = pa.Table.from_batches(parts).combine_chunks().to_batches()
        return batches[0] if batches else parts[0]


def _rejection(page: str, number: int, record: Any, reason: str) -> Rejection:
    text = json.dumps(record, default=str)
    row = {"page": page, "record": number, "text": text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"}
    return Rejection(
        pa.RecordBatch.from_pylist([row], _REJECTED), f"{page}: record {number}: {reason}", "malformed", ""
    )


def filled(value: Any, values: Mapping[str, Any], where: str) -> Any:
    """Returns a JSON value with `{name}` replaced: a text that is nothing else becomes the value itself, of its own type.

    Raises:
        FatalError: A value that stands among other text is not one.
    """
    if isinstance(value, dict):
        return {key: filled(each, values, where) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [filled(each, values, where) for each in value]
    if not isinstance(value, str):
        return value
    for name, each in values.items():
        if value == f"{{{name}}}":
            return each
    # One pass: what a value brings in is never looked through again.
    return _PLACES.sub(lambda found: _among(found, values, where), value)


def _among(found: re.Match[str], values: Mapping[str, Any], where: str) -> str:
    if found[1] not in values:
        return found[0]
    return plain_text(values[found[1]], found[1], where)


def plain_text(value: Any, name: str, where: str) -> str:
    """Returns a value as it stands in an address or a parameter.

    Raises:
        FatalError: It has no such form: NULL, an object or a list.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float | decimal.Decimal):
        return str(value)
    raise FatalError(f"'{name}' has no value that an address can hold", where=where)
