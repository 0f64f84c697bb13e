"""`mask`: hides values before they leave; vectorised, except for the hashes, which are made once for each value that differs.

What is hidden is the text of a value, as a cast to string gives it. `hash` is HMAC-SHA-256 of that text in hex; `tokenise` is the
first 128 bits of the HMAC of "token:" and the text, in base64 for URLs: so a token tells nothing of the hash under the same key.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dsl.contracts.connectors import Operator
from dsl.contracts.errors import ErrorType, FatalError, SchemaError
from dsl.contracts.rows import Outcome
from dsl.contracts.secret import Secret
from dsl.contracts.state import State
from dsl.processors.columns import Path, field_at, split
from dsl.processors.mask import MaskMethod, MaskOptions, MaskRule, Side
from engine.operators.relational import Chunk
from engine.operators.struct_paths import value_at, with_values
from engine.operators.tools import OperatorTools, open_operator, output_schema

_TOKEN_BYTES = 16


@output_schema.register(MaskOptions)
def _(processor: MaskOptions, schema: pa.Schema, tools: OperatorTools) -> pa.Schema:
    for rule in processor.rules:
        if field_at(schema, split(rule.field)) is None:
            raise SchemaError(
                f"there is no {rule.field!r} to mask; what arrives has {', '.join(schema.names)}",
                where=tools.node,
                hint="names are case-sensitive; was a column renamed?",
            )
    return processor.output_schema(schema)


@open_operator.register(MaskOptions)
def _(processor: MaskOptions, schema: pa.Schema, state: State | None, tools: OperatorTools) -> Operator:
    del state
    return Mask(processor, schema, tools)


class Mask(Operator):
    """Hides values.

    Args:
        options: The node's.
        schema: What enters.
        tools: What it works with.
    """

    def __init__(self, options: MaskOptions, schema: pa.Schema, tools: OperatorTools) -> None:
        self._schema = tools.output_schema(options, schema)
        sql = "SELECT CAST(value AS VARCHAR) AS value FROM input"
        self._texts = tools.session.chunk(sql, uses_now=False, where=tools.node)
        self._rules = tuple((split(each.field), _hiding(each, tools)) for each in options.rules)

    def process(self, rows: pa.RecordBatch) -> Outcome:
        hidden = {path: self._hidden(rows, path, hide) for path, hide in self._rules}
        return Outcome(with_values(rows, self._schema, hidden))

    def _hidden(self, rows: pa.RecordBatch, path: Path, hide: Callable[[Any], Any] | None) -> Any:
        values = value_at(rows, path)
        if hide is None:
            return pa.nulls(len(values), values.type)
        return hide(_as_texts(values, self._texts))


def _as_texts(values: Any, chunk: Chunk) -> Any:
    if pa.types.is_string(values.type):
        return values
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        return values.cast(pa.string())
    found = chunk.run(pa.RecordBatch.from_arrays([values], names=["value"])).column(0).combine_chunks()
    return found.cast(pa.string())


def _hiding(rule: MaskRule, tools: OperatorTools) -> Callable[[Any], Any] | None:
    """What hides the texts of a rule; None where the value becomes NULL."""
    match rule.method:
        case MaskMethod.NULLIFY:
            return None
        case MaskMethod.FULL:
            return lambda texts: _or_null(texts, rule.replacement)
        case MaskMethod.PARTIAL:
            return lambda texts: _partly(texts, rule)
        case MaskMethod.HASH:
            key = _key_of(rule.key, rule, tools)
            return lambda texts: _each_once(texts, lambda text: hmac.digest(key, text, "sha256").hex())
        case MaskMethod.TOKENISE:
            key = _key_of(rule.key, rule, tools)
            return lambda texts: _each_once(texts, lambda text: _token(key, text))


def _key_of(secret: Secret | None, rule: MaskRule, tools: OperatorTools) -> bytes:
    key = "" if secret is None else tools.context.reveal(secret)
    if not key:
        raise FatalError(
            f"the key of {rule.method} for {rule.field!r} is empty",
            where=tools.node,
            hint="anybody could hash guesses and compare: set the secret that `key` refers to",
            error_type=ErrorType.AUTH,
        )
    return key.encode()


def _or_null(texts: Any, replacement: Any) -> Any:
    return pc.if_else(texts.is_valid(), replacement, pa.scalar(None, pa.string()))


def _partly(texts: Any, rule: MaskRule) -> Any:
    """Keeps some characters at one end; a value that has no more than those is hidden whole."""
    shown = rule.show_chars
    if shown == 0:
        return _or_null(texts, rule.replacement)
    long = pc.greater(pc.utf8_length(texts), pa.scalar(shown))
    if rule.side is Side.START:
        kept = pc.binary_join_element_wise(pc.utf8_slice_codeunits(texts, 0, shown), rule.replacement, "")
    else:
        kept = pc.binary_join_element_wise(rule.replacement, pc.utf8_slice_codeunits(texts, -shown), "")
    return pc.if_else(long, kept, _or_null(texts, rule.replacement))


def _each_once(texts: Any, make: Callable[[bytes], str]) -> Any:
    coded = texts.dictionary_encode()
    made = pa.array([make(each.encode()) for each in coded.dictionary.to_pylist()], pa.string())
    return made.take(coded.indices)


def _token(key: bytes, text: bytes) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, b"token:" + text, "sha256")[:_TOKEN_BYTES]).decode().rstrip("=")
