"""Texts with `{{ expression }}` in them; a value can fill its place in the template and never change the template's shape.

- "json": outside quotes a value is a JSON value (NULL is null, NaN and infinities are null, moments are RFC 3339 texts); inside
  quotes it is the escaped content of the text (NULL is empty). The template around the values must be valid JSON, and a value may not
  be, or be part of, a key.
- "url": the value is percent-encoded. It may stand in path, query and fragment, not in scheme, host or port. In the path a NULL, an
  empty text and one of dots alone would name another resource: such a row's URL is NULL. In the query NULL is empty.
- "path": folders, each of which begins with a literal text (`date=`). The value is percent-encoded; NULL and the empty text become
  the word that Hive has for them. So no value can leave its folder, or hide it.
- "text": the value's text in one line: control characters become spaces; NULL is empty.

A `{{` that is meant literally is written `{{ '{{' }}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import pyarrow as pa
from sqlglot import exp

from dsl.codes import Code
from dsl.contracts.folders import NO_VALUE
from dsl.expressions.check import check
from dsl.expressions.compile import compile_value, write
from dsl.expressions.compiled import Compiled, CompiledTemplate, Context, ExpressionError
from dsl.expressions.lexer import MAX_LENGTH
from dsl.expressions.typed import Typed, cast, enclose, function, settle, text
from dsl.expressions.types import MOMENTS, NESTED, Family, family, fields_of, item_of, settled, show

MAX_TEMPLATE: Final = 10 * MAX_LENGTH
_EXPRESSION = re.compile(r"\{\{((?:'[^']*'|\"[^\"]*\"|`[^`]*`|(?!\}\}).)*)\}\}", re.DOTALL)
_STATEMENT = re.compile(r"\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#{}\s]+(?=[/?#])")


@dataclass(frozen=True)
class _Hole:
    """One `{{ expression }}`: its text, where that begins, and where the braces begin and end."""

    expression: str
    index: int
    start: int
    end: int


@lru_cache(maxsize=1024)
def compile_template(template: str, schema: pa.Schema | None, context: Context) -> CompiledTemplate:
    """Compiles a text with `{{ expression }}` in it, escaped for where it will stand.

    Args:
        template: The text.
        schema: Of the input, or None while it is unknown.
        context: What the whole text is.

    Raises:
        ExpressionError: E507 for the template, E501 to E506 for an expression; the place is in the whole text.
    """
    pieces = _split(template)
    escape = {"json": _json_pieces, "url": _url_pieces, "text": _text_pieces, "path": _folder_pieces}[context](pieces)
    parts: list[str | Compiled] = []
    trees: list[exp.Expr] = []
    total = True
    for piece, writes in zip(pieces, escape, strict=True):
        if isinstance(piece, str):
            parts.append(piece)
            trees.append(text(piece))
            continue
        try:
            root = check(piece.expression, schema).root
            parts.append(compile_value(piece.expression, schema))
            trees.append(writes(root))
        except ExpressionError as error:
            raise ExpressionError(error.code, error.message, error.hint, piece.index + error.index) from error
        total = total and root.total and _renders_totally(root.type)
    return CompiledTemplate(template, tuple(parts), context, write(_joined(trees)), total)


def _joined(trees: list[exp.Expr]) -> exp.Expr:
    if not trees:
        return text("")
    whole = enclose(trees[0]) if len(trees) > 1 else trees[0]
    for each in trees[1:]:
        whole = exp.DPipe(this=whole, expression=enclose(each))
    return whole


def _renders_totally(kind: pa.DataType) -> bool:
    """Tells whether the type is known and no timestamp has to be widened."""
    name = family(kind)
    if name is Family.LIST:
        return _renders_totally(item_of(kind))
    if name is Family.STRUCT:
        return all(_renders_totally(each.type) for each in fields_of(kind))
    return name is not Family.UNKNOWN and (name is not Family.TIMESTAMP or kind == pa.timestamp("us"))


_Writer: TypeAlias = Callable[[Typed], exp.Expr]


def _split(template: str) -> list[str | _Hole]:
    if len(template) > MAX_TEMPLATE:
        raise ExpressionError(Code.TEMPLATE, f"the template is longer than {MAX_TEMPLATE} characters")
    if bad := re.search("[\x00\ud800-\udfff]", template):
        raise ExpressionError(Code.TEMPLATE, f"the character {bad[0]!r} is not allowed", index=bad.start())
    pieces: list[str | _Hole] = []
    at = 0
    for found in _EXPRESSION.finditer(template):
        inner = found[1]
        if not inner.strip():
            raise ExpressionError(Code.TEMPLATE, "the braces are empty", "{{ field }}", found.start())
        index = found.start(1) + len(inner) - len(inner.lstrip())
        pieces += [template[at : found.start()], _Hole(inner.strip(), index, found.start(), found.end())]
        at = found.end()
    pieces.append(template[at:])
    _check_literals(pieces)
    return [each for each in pieces if each]


def _check_literals(pieces: list[str | _Hole]) -> None:
    at = 0
    for each in pieces:
        if isinstance(each, _Hole):
            at = each.end
            continue
        if (unclosed := each.find("{{")) >= 0:
            raise ExpressionError(Code.TEMPLATE, "the expression is not closed", "{{ field }}", at + unclosed)
        if statement := _STATEMENT.search(each):
            index = at + statement.start()
            raise ExpressionError(Code.TEMPLATE, "templates have no statements", "only {{ expression }}", index)


# ---- text -------------------------------------------------------------------------------------------------------------


def _scalar_text(piece: Typed) -> exp.Expr:
    """The value's text, or NULL."""
    found = settle(piece)
    if found.family in NESTED | {Family.BINARY, Family.INTERVAL}:
        hint = "take one of its fields" if found.family in NESTED else "cast it"
        raise ExpressionError(Code.TEMPLATE, f"{show(found.type)} has no text to put here", hint)
    if found.family in MOMENTS - {Family.DATE}:
        return _rfc3339(found.sql, found.family)
    return found.sql if found.family is Family.STRING else cast(found.sql, pa.string())


def _rfc3339(sql: exp.Expr, kind: Family) -> exp.Expr:
    if kind is Family.TIMESTAMPTZ:
        return function("strftime", function("timezone", text("UTC"), sql), text("%Y-%m-%dT%H:%M:%S.%fZ"))
    return function("strftime", sql, text("%Y-%m-%dT%H:%M:%S.%f"))


def _or_empty(sql: exp.Expr) -> exp.Expr:
    return exp.Coalesce(this=sql, expressions=[text("")])


def _one_line(piece: Typed) -> exp.Expr:
    return _or_empty(function("regexp_replace", _scalar_text(piece), text(r"[\x00-\x1F\x7F]"), text(" "), text("g")))


def _text_pieces(pieces: Iterable[str | _Hole]) -> list[_Writer]:
    return [_one_line for _ in pieces]


# ---- URLs -------------------------------------------------------------------------------------------------------------


def _query_value(piece: Typed) -> exp.Expr:
    return _or_empty(function("url_encode", _scalar_text(piece)))


def _path_value(piece: Typed) -> exp.Expr:
    found = _scalar_text(piece)
    harmless = exp.Not(this=function("regexp_full_match", found, text(r"\.*")))
    return exp.Case(ifs=[exp.If(this=harmless, true=function("url_encode", found))])


def _url_pieces(pieces: list[str | _Hole]) -> list[_Writer]:
    first = pieces[0] if pieces else ""
    holes = [each for each in pieces if isinstance(each, _Hole)]
    if holes and (isinstance(first, _Hole) or not _AUTHORITY.match(first)):
        raise ExpressionError(
            Code.TEMPLATE,
            "data may not choose where a URL leads",
            "write scheme and host out: https://api.example.com/{{ id }}",
            holes[0].start,
        )
    writers: list[_Writer] = []
    before = ""
    for each in pieces:
        writers.append(_query_value if re.search(r"[?#]", before) else _path_value)
        before += each if isinstance(each, str) else ""
    return writers


# ---- folders ----------------------------------------------------------------------------------------------------------


def _folder_value(piece: Typed) -> exp.Expr:
    found = _scalar_text(piece)
    # Azure and Windows drop a dot at the end of a name; all other dots are harmless behind the literal text.
    encoded = function("regexp_replace", function("url_encode", found), text(r"\.$"), text("%2E"))
    there = exp.NEQ(this=enclose(found.copy()), expression=text(""))
    return exp.Case(ifs=[exp.If(this=there, true=encoded)], default=text(NO_VALUE))


def _folder_pieces(pieces: list[str | _Hole]) -> list[_Writer]:
    begins = True
    for each in pieces:
        if isinstance(each, _Hole):
            if begins:
                told, hint = "data may not choose a folder's whole name", "begin it with a name: date={{ day }}"
                raise ExpressionError(Code.TEMPLATE, told, hint, each.start)
            continue
        first, *others = each.split("/")
        folders = ([first] if begins else []) + others
        _check_folders(folders[:-1] if each.endswith("/") else folders, each)
        begins = each.endswith("/")
    return [_folder_value for _ in pieces]


def _check_folders(names: list[str], literal: str) -> None:
    bad = next((name for name in names if not name or name[0] in "._"), None)
    if bad is not None:
        told, hint = f"the folder {bad!r} would be hidden or has no name", "begin each with a name: date={{ day }}"
        raise ExpressionError(Code.TEMPLATE, told, hint)
    if strange := re.search(r"[\x00-\x1f\x7f*?\[]", literal):
        raise ExpressionError(Code.TEMPLATE, f"a folder's name holds {strange[0]!r}", "leave it out")


# ---- JSON -------------------------------------------------------------------------------------------------------------


def _inside_quotes(piece: Typed) -> exp.Expr:
    quoted = cast(function("to_json", _or_empty(_scalar_text(piece))), pa.string())
    return function(
        "left", function("right", quoted, exp.Neg(this=exp.Literal.number(1))), exp.Neg(this=exp.Literal.number(1))
    )


def _json_value(piece: Typed) -> exp.Expr:
    if piece.is_null:
        return text("null")
    if piece.family is Family.UNKNOWN:
        found = cast(function("to_json", piece.sql), pa.string())
        infinite = exp.In(
            this=found.copy(),
            expressions=[text(each) for each in ("NaN", "Infinity", "-Infinity", "nan", "inf", "-inf")],
        )
        return exp.Coalesce(
            this=exp.Case(ifs=[exp.If(this=infinite, true=text("null"))], default=found), expressions=[text("null")]
        )
    value = _plain(settle(piece).sql, settled(piece.type), 0)
    return exp.Coalesce(this=cast(function("to_json", value), pa.string()), expressions=[text("null")])


def _plain(sql: exp.Expr, kind: pa.DataType, depth: int) -> exp.Expr:
    """Replaces, at every depth, what JSON cannot say: NaN and infinities by null, moments by RFC 3339 texts."""
    name = family(kind)
    if name in {Family.BINARY, Family.INTERVAL, Family.MAP} or (name is Family.UNKNOWN and depth):
        raise ExpressionError(Code.TEMPLATE, f"{show(kind)} has no JSON", "take one of its values, or cast it")
    if name is Family.FLOAT:
        finite = function("isfinite", sql.copy())
        return exp.Case(ifs=[exp.If(this=finite, true=sql)])
    if name in {Family.TIMESTAMP, Family.TIMESTAMPTZ}:
        as_moment = sql if not depth or name is Family.TIMESTAMPTZ else cast(sql, pa.timestamp("us"))
        return _rfc3339(as_moment, name)
    if name is Family.LIST and not _is_plain(item_of(kind)):
        item = f"_item{depth}"
        body = _plain(exp.Column(this=exp.to_identifier(item, quoted=True)), item_of(kind), depth + 1)
        return function(
            "list_transform", sql, exp.Lambda(this=body, expressions=[exp.to_identifier(item, quoted=True)])
        )
    if name is Family.STRUCT and not _is_plain(kind):
        fields = [
            exp.PropertyEQ(
                this=exp.to_identifier(each.name, quoted=True),
                expression=_plain(function("struct_extract", sql.copy(), text(each.name)), each.type, depth + 1),
            )
            for each in fields_of(kind)
        ]
        missing = exp.Is(this=enclose(sql.copy()), expression=exp.Null())
        return exp.Case(ifs=[exp.If(this=missing, true=exp.Null())], default=function("struct_pack", *fields))
    return sql


def _is_plain(kind: pa.DataType) -> bool:
    name = family(kind)
    if name is Family.LIST:
        return _is_plain(item_of(kind))
    if name is Family.STRUCT:
        return all(_is_plain(each.type) for each in fields_of(kind))
    return name not in {
        Family.FLOAT,
        Family.TIMESTAMP,
        Family.TIMESTAMPTZ,
        Family.BINARY,
        Family.INTERVAL,
        Family.MAP,
        Family.UNKNOWN,
    }


def _json_pieces(pieces: list[str | _Hole]) -> list[_Writer]:
    writers: list[_Writer] = []
    inside = False
    for each in pieces:
        writers.append(_inside_quotes if inside else _json_value)
        if isinstance(each, str):
            inside = _ends_inside(each, inside=inside)
    _check_shape(pieces, writers)
    return writers


def _ends_inside(literal: str, *, inside: bool) -> bool:
    escaped = False
    for each in literal:
        if escaped:
            escaped = False
        elif inside and each == "\\":
            escaped = True
        elif each == '"':
            inside = not inside
    return inside


def _check_shape(pieces: list[str | _Hole], writers: list[_Writer]) -> None:
    """Fills the holes with a text and with a number: only where both are JSON can a value stand."""
    mark = "\ue000hole\ue000"

    def no_hole_in(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if any(mark in key for key, _ in pairs):
            raise ValueError("a key comes from data")
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key is there twice")
        return dict(pairs)

    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is not JSON")

    for filler in (f'"{mark}"', "0"):
        filled = ""
        for piece, writes in zip(pieces, writers, strict=True):
            filled += piece if isinstance(piece, str) else mark if writes is _inside_quotes else filler
        try:
            json.loads(filled, object_pairs_hook=no_hole_in, parse_constant=refuse)
        except (ValueError, RecursionError) as error:
            shown = re.sub(r": line .*", "", str(error))
            place = next((each.start for each in pieces if isinstance(each, _Hole)), 0)
            raise ExpressionError(
                Code.TEMPLATE,
                f"with its values filled in, the template is no JSON: {shown}",
                "values stand for JSON values or inside quotes",
                place,
            ) from error
