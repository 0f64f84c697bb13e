"""JSON rows as chunks and back: one object a line, or one array of objects, read with bounded memory; no store.

Each line is parsed by itself, so one bad line costs one row. (pyarrow's JSON reader is faster, but ends the process on a
line that is `null` or nested deeply.) `schema` may be declared; else the first block suggests it, and a later field that it
does not have makes its row malformed rather than being lost.
"""

from __future__ import annotations

import codecs
import decimal
import json
from collections.abc import Iterator, Sequence
from typing import IO, Any, BinaryIO

import pyarrow as pa

from dsl.contracts.errors import SchemaError
from resources.formats.chunks import Chunk, Malformed, shortened
from resources.formats.columns import Wanted
from resources.formats.json_values import from_rows, to_lines
from resources.formats.options import Limits
from resources.formats.streams import DecodeError

BLOCK = 1 << 20
ROWS = 4096
DEEPEST = 200


def infer_lines(opened: BinaryIO, limits: Limits, where: str) -> pa.Schema:
    """Returns the schema that the first block of lines suggests."""
    for lines in _blocks(opened, limits, where):
        rows = [parsed for _, line in lines if (parsed := _object(line, _PLAIN)[0]) is not None]
        if rows:
            return schema_of(rows)
    raise SchemaError("it holds no JSON object", where=where, hint="declare `schema`")


def infer_array(opened: BinaryIO, limits: Limits, where: str) -> pa.Schema:
    """Returns the schema that the first rows of an array suggest."""
    rows = []
    for value, _ in _elements(opened, limits, where, _PLAIN):
        rows += [value] if isinstance(value, dict) else []
        if len(rows) >= ROWS:
            break
    if not rows:
        raise SchemaError("it holds no JSON object", where=where, hint="declare `schema`")
    return schema_of(rows)


def decode_lines(opened: BinaryIO, wanted: Wanted, limits: Limits, where: str) -> Iterator[Chunk]:
    """Reads one object a line; a record is a line that is not blank.

    Args:
        opened: The file, decompressed.
        wanted: The fields; one that is absent is NULL, one too many makes its row malformed.
        limits: How long a line may be.
        where: Names the file in errors.
    """
    decoder = _decoder_for(wanted.schema)
    first = 0
    for lines in _blocks(opened, limits, where):
        for at in range(0, len(lines), ROWS):
            part = lines[at : at + ROWS]
            chunk = _chunk(first, [(*_object(line, decoder), number, line) for number, line in part], wanted)
            first = chunk.end
            yield chunk


def decode_array(opened: BinaryIO, wanted: Wanted, limits: Limits, where: str) -> Iterator[Chunk]:
    """Reads the elements of one array, or objects one after the other; arguments as `decode_lines`."""
    first = 0
    part: list[tuple[Any, str, int, bytes]] = []
    for value, text in _elements(opened, limits, where, _decoder_for(wanted.schema)):
        good = isinstance(value, dict)
        part.append((value if good else None, "" if good else "it is not an object", 0, text.encode(errors="replace")))
        if len(part) >= ROWS:
            yield (chunk := _chunk(first, part, wanted))
            first, part = chunk.end, []
    if part:
        yield _chunk(first, part, wanted)


def infer_values(values: Sequence[bytes], where: str) -> pa.Schema:
    """Returns the schema that some texts, each of one object, suggest."""
    rows = [parsed for each in values if (parsed := _object(each, _PLAIN)[0]) is not None]
    if not rows:
        raise SchemaError("it holds no JSON object", where=where, hint="declare `schema`")
    return schema_of(rows)


def decode_values(values: Sequence[bytes | None], wanted: Wanted) -> Chunk:
    """Reads texts, each of one object; None is a row of NULLs."""
    decoder = _decoder_for(wanted.schema)
    return _chunk(
        0, [({}, "", 0, b"") if each is None else (*_object(each, decoder), 0, each) for each in values], wanted
    )


class JsonEncoder:
    """Writes batches as JSON: one object a line, or an array of them.

    Args:
        sink: Takes the bytes; stays open.
        array: Whether the rows stand in one array.
    """

    def __init__(self, sink: IO[bytes], *, array: bool) -> None:
        self._sink, self._array, self._any = sink, array, False

    def write(self, rows: pa.RecordBatch) -> None:
        """Adds rows."""
        lines = to_lines(rows)
        if not lines:
            return
        between = ",\n" if self._array else "\n"
        before = ("[\n" if not self._any else between) if self._array else ""
        self._sink.write((before + between.join(lines) + ("" if self._array else "\n")).encode())
        self._any = True

    def close(self) -> None:
        """Ends the file; the sink stays open."""
        if self._array:
            self._sink.write(b"\n]\n" if self._any else b"[]\n")


# ---- parsing ------------------------------------------------------------------------------------


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_PLAIN = json.JSONDecoder(parse_constant=_refuse)
_EXACT = json.JSONDecoder(parse_constant=_refuse, parse_float=decimal.Decimal)


def _decoder_for(schema: pa.Schema) -> json.JSONDecoder:
    """Returns a decoder that keeps every digit where a column wants them."""
    return _EXACT if any("decimal" in str(each.type) or pa.types.is_string(each.type) for each in schema) else _PLAIN


def _object(line: bytes, decoder: json.JSONDecoder) -> tuple[Any, str]:
    """Returns the object of a line, or None and why it is none."""
    try:
        value = decoder.decode(line.decode())
    except UnicodeDecodeError:
        return None, "it is not UTF-8"
    except RecursionError:
        return None, "it is nested too deeply"
    except ValueError as error:
        return None, f"it is not JSON: {error}"
    if not isinstance(value, dict):
        return None, "it is not an object"
    if line.count(b"{") + line.count(b"[") > DEEPEST and _depth(value) > DEEPEST:
        return None, "it is nested too deeply"
    return value, ""


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


def _blocks(opened: BinaryIO, limits: Limits, where: str) -> Iterator[list[tuple[int, bytes]]]:
    """Yields numbered lines that are not blank, about a block at a time."""
    rest, number = b"", 1
    start = True
    while data := opened.read(BLOCK):
        if start:
            data, start = data.removeprefix(codecs.BOM_UTF8), False
        *whole, rest = (rest + data).split(b"\n")
        yield [(number + at, line) for at, line in enumerate(whole) if line.strip()]
        number += len(whole)
        if len(rest) > limits.value_bytes:
            raise DecodeError(
                f"line {number} is longer than {limits.value_bytes} bytes",
                where=where,
                hint="raise `limits.value_bytes`, or is it `format: json`?",
            )
    if rest.strip():
        yield [(number, rest)]


def _elements(opened: BinaryIO, limits: Limits, where: str, decoder: json.JSONDecoder) -> Iterator[tuple[Any, str]]:
    """Yields the elements of an array, or values one after the other, with their text."""
    text = _Text(opened, limits, where)
    array = text.skip(" \t\r\n") == "["
    if array:
        text.take(1)
    number = 0
    while True:
        sign = text.skip(" \t\r\n")
        if array and sign == "]":
            text.take(1)
            if text.skip(" \t\r\n"):
                raise DecodeError("something stands after the array", where=where, hint="is it `format: jsonl`?")
            return
        if not sign:
            if array:
                raise DecodeError("it ends inside the array", where=where, hint="is it complete?")
            return
        if array and number:
            if sign != ",":
                raise DecodeError(f"no comma after element {number}", where=where, hint="is it JSON?")
            text.take(1)
            text.skip(" \t\r\n")
        number += 1
        yield text.value(decoder, number)


class _Text:
    """A window on a stream of text."""

    def __init__(self, opened: BinaryIO, limits: Limits, where: str) -> None:
        self._opened, self._limits, self._where = opened, limits, where
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
        self._held, self._at, self._ended = "", 0, False

    def skip(self, blanks: str) -> str:
        """Passes over blanks; returns the next character, or "" at the end."""
        while True:
            while self._at < len(self._held):
                if self._held[self._at] not in blanks:
                    return self._held[self._at]
                self._at += 1
            if not self._more():
                return ""

    def take(self, count: int) -> None:
        """Passes over characters."""
        self._at += count

    def value(self, decoder: json.JSONDecoder, number: int) -> tuple[Any, str]:
        """Returns the JSON value that begins here, and its text."""
        while True:
            try:
                value, end = decoder.raw_decode(self._held, self._at)
            except RecursionError as error:
                raise DecodeError(f"element {number} is nested too deeply", where=self._where) from error
            except ValueError as error:
                if not self._more():
                    raise DecodeError(f"element {number} is not JSON: {error}", where=self._where) from error
                continue
            if end == len(self._held) and self._more():
                continue  # a number may go on in the next block
            text, self._at = self._held[self._at : end], end
            return value, shortened(text)

    def _more(self) -> bool:
        """Reads on; tells whether anything came."""
        if self._ended:
            return False
        self._held, self._at = self._held[self._at :], 0
        if len(self._held) > self._limits.value_bytes:
            raise DecodeError(f"a row is longer than {self._limits.value_bytes} bytes", where=self._where)
        data = self._opened.read(max(BLOCK, len(self._held)))
        self._ended = not data
        try:
            self._held += self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise DecodeError(f"it is not UTF-8: {error}", where=self._where) from error
        return True


# ---- rows ---------------------------------------------------------------------------------------


def _chunk(first: int, found: Sequence[tuple[Any, str, int, bytes]], wanted: Wanted) -> Chunk:
    good: list[tuple[int, Any, int, bytes]] = []
    bad: list[Malformed] = []
    names = set(wanted.names)
    for at, (value, reason, number, text) in enumerate(found):
        unknown = sorted(set(value) - names) if wanted.strict and value is not None else []
        if unknown:
            reason = f"field '{unknown[0]}' is not in the schema that the first block suggested: declare `schema`"  # noqa: PLW2901
        if reason:
            bad.append(_malformed(first + at, number, text, reason))
        else:
            good.append((first + at, value, number, text))
    rows = _rows(good, wanted.schema, bad, strict=wanted.strict)
    return Chunk(first, rows, tuple(sorted(bad, key=lambda each: each.record)))


def _rows(
    good: list[tuple[int, Any, int, bytes]], schema: pa.Schema, bad: list[Malformed], *, strict: bool
) -> pa.RecordBatch:
    """Builds a batch, halving it until the rows at fault are alone."""
    values = [value if strict else fitted(value, schema) for _, value, _, _ in good]
    try:
        return from_rows(values, schema)
    except ValueError as error:
        if len(good) == 1:
            record, _, number, text = good[0]
            bad.append(_malformed(record, number, text, str(error)))
            return pa.RecordBatch.from_pylist([], schema)
    half = len(good) // 2
    parts = [_rows(part, schema, bad, strict=strict) for part in (good[:half], good[half:])]
    table = pa.Table.from_batches(parts).combine_chunks()
    batches = table.to_batches()
    return batches[0] if batches else parts[0]


def _malformed(record: int, line: int, text: bytes, reason: str) -> Malformed:
    return Malformed(record, line, shortened(text.decode(errors="backslashreplace").strip()), reason)


def fitted(value: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """Returns the declared fields of an object, and within nested ones the declared ones."""
    return {
        field.name: _pruned(value[field.name], field.type) if pa.types.is_nested(field.type) else value[field.name]
        for field in schema
        if field.name in value
    }


def _pruned(value: Any, kind: Any) -> Any:
    if pa.types.is_struct(kind) and isinstance(value, dict):
        known = [kind.field(each) for each in range(kind.num_fields)]
        return {each.name: _pruned(value[each.name], each.type) for each in known if each.name in value}
    if isinstance(value, list) and hasattr(kind, "value_type"):
        return [_pruned(each, kind.value_type) for each in value]
    return value


# ---- inference ----------------------------------------------------------------------------------


def schema_of(rows: Sequence[dict[str, Any]]) -> pa.Schema:
    """Returns the narrowest schema that holds every row."""
    kind: Any = _type_of(rows)
    return pa.schema([kind.field(each) for each in range(kind.num_fields)])


def _type_of(values: Sequence[Any]) -> pa.DataType:
    """Returns the type that all values of a sample fit; text where they differ, for JSON to be kept as it is."""
    given = [each for each in values if each is not None]
    types = {type(each) for each in given}
    if types == {dict}:
        names = list(dict.fromkeys(name for each in given for name in each))
        return pa.struct([(name, _type_of([each.get(name) for each in given])) for name in names])
    if types == {list}:
        return pa.list_(_type_of([inner for each in given for inner in each]))
    if types == {bool}:
        return pa.bool_()
    if types == {int} and all(-(2**63) <= each < 2**63 for each in given):
        return pa.int64()
    if types and types <= {int, float} and all(isinstance(each, float) or abs(each) <= 2**53 for each in given):
        return pa.float64()
    return pa.string()
