"""What rows ask for: URLs and bodies rendered by DuckDB, every value escaped for its place; sends nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

import pyarrow as pa

from dsl.contracts.errors import FatalError
from dsl.contracts.secret import Secret
from dsl.expressions import CompiledTemplate, ExpressionError, compile_template
from dsl.processors.enrich import EnrichOptions
from engine.operators.tools import OperatorTools

Asked: TypeAlias = tuple[str, str | None]
"""URL and body."""

_SAFE: Final = "%/:?#[]@!$&'()*+,;=~"
_AUTHORITY: Final = re.compile(r"https?://[^/?#]*")
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection"})


class Rendering:
    """Renders what each row asks for.

    Args:
        options: The node's.
        schema: What enters.
        origin: Scheme, host and port of the URL, in plain letters.
        tools: For the queries.
    """

    def __init__(self, options: EnrichOptions, schema: pa.Schema, origin: str, tools: OperatorTools) -> None:
        self._origin, self._where = origin, tools.node
        self._url = self._compiled(options.url, schema, "url")
        body = options.body_template
        self._body = None if body is None else self._compiled(body, schema, "json")
        templates = [each for each in (self._url, self._body) if each is not None]
        self._columns = sorted(frozenset[str]().union(*(each.columns for each in templates)))
        columns = ", ".join(f"{each.render_sql()} AS c{index}" for index, each in enumerate(templates))
        uses_now = any(each.uses_now for each in templates)
        self._chunk = tools.session.chunk(f"SELECT {columns} FROM input", uses_now=uses_now, where=tools.node)

    def asked(self, rows: pa.RecordBatch) -> list[Asked | None]:
        """What each row asks for, in order; None for a row whose value may not stand in the path of a URL.

        Raises:
            DataFaultError: A value of some row cannot be rendered.
        """
        read = rows.select(self._columns) if self._columns else _nothing(rows.num_rows)
        table = self._chunk.run(read)
        urls = table.column(0).to_pylist()
        bodies = [None] * len(urls) if self._body is None else table.column(1).to_pylist()
        return [None if url is None else (self._plain(url), body) for url, body in zip(urls, bodies, strict=True)]

    def _plain(self, url: str) -> str:
        """The URL as it is sent: values are escaped already, what the document wrote around them may not be."""
        rest = _AUTHORITY.sub("", url, count=1)
        return self._origin + quote(rest, safe=_SAFE)

    def _compiled(self, text: str, schema: pa.Schema, context: Literal["url", "json"]) -> CompiledTemplate:
        try:
            return compile_template(text, schema, context)
        except ExpressionError as error:
            told = f"the template does not fit the columns that arrive: {error.message}"
            raise FatalError(told, where=self._where, hint=error.hint) from error


def _nothing(rows: int) -> pa.RecordBatch:
    """Rows without columns: a query needs one to count them by."""
    return pa.RecordBatch.from_arrays([pa.nulls(rows, pa.int8())], names=["nothing"])


def headers_of(options: EnrichOptions, reveal: Callable[[Secret], str], where: str) -> dict[str, str]:
    """The headers of every call, their secrets resolved; what the document says wins over what is sent by default.

    Raises:
        FatalError: A secret cannot be had, or a header cannot be sent.
    """
    found = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": "headrace"}
    if options.body_template is not None:
        found["Content-Type"] = "application/json"
    for name, secret in options.headers.items():
        _check_name(name, where)
        value = reveal(secret)
        if not value.isprintable() or value != value.strip():
            told = f"the value of header '{name}' has a line break, a control character, or blanks around it"
            raise FatalError(told, where=where, hint="is there a line break at the end of the secret?")
        found = {key: each for key, each in found.items() if key.lower() != name.lower()}
        found[name] = value
    return found


def _check_name(name: str, where: str) -> None:
    if not _HEADER.fullmatch(name) or name.lower() in _FRAMING:
        raise FatalError(f"header '{name}' cannot be set", where=where, hint="leave it out")
