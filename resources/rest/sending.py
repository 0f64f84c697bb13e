"""Writes rows into requests and reads which of them an API refused; sends each request patiently, notes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from dsl.contracts.errors import FatalError, HeadraceError, RetryableError, SchemaError
from resources.formats.json_values import to_lines, to_rows
from resources.http_answers import Answer, Request, refusal
from resources.http_client import HttpClient
from resources.http_json import MISSING, Path, document_of, filled
from resources.rest.pages import address_below, path_part
from resources.rest.resource import PLACEHOLDER, Body, RestDestination
from resources.sql import suggestion
from resources.stores.secrets import reveal

if TYPE_CHECKING:
    from resources.rest.journal import Noted

ROWS: Final = "rows"
_LONGEST_REASON: Final = 300
Refused = dict[int, tuple[str, str]]


class RefusedWhole(Exception):
    """A request of several rows that the API refuses as one.

    Args:
        code: The status.
        reason: What it says.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Sending:
    """How rows become requests.

    Args:
        destination: What the options say.
        schema: The columns of the rows.
        client: The server.

    Raises:
        SchemaError: A column that path or template name is missing.
    """

    def __init__(self, destination: RestDestination, schema: pa.Schema, client: HttpClient) -> None:
        self._to, self._client, self.where = destination, client, client.where
        self._named = [each for each in PLACEHOLDER.findall(destination.path) if each != "input"]
        missing = [each for each in (*self._named, *destination.primary_key) if each not in schema.names]
        if missing:
            raise SchemaError(
                f"the path names column '{missing[0]}', which does not arrive",
                where=self.where,
                hint=suggestion(missing[0], schema.names),
            )
        self._headers = {name.lower(): reveal(each) for name, each in destination.headers.items()}
        kind = "application/x-ndjson" if destination.form is Body.JSONL else "application/json"
        self._headers.setdefault("content-type", kind)
        texts = (destination.errors_path or "$", destination.error_row, destination.error_reason)
        self._errors, self._row, self._reason = (Path(each, self.where) for each in texts)

    def texts(self, rows: pa.RecordBatch) -> list[str]:
        """Returns the rows as JSON."""
        return to_lines(rows)

    def urls(self, rows: pa.RecordBatch) -> list[str | HeadraceError]:
        """Returns where each row goes, or why it goes nowhere."""
        if not self._named:
            return [address_below(self._to.connection, self._to.path)] * rows.num_rows
        values = to_rows(rows.select(list(dict.fromkeys(self._named))))
        return [self._url(each) for each in values]

    def _url(self, values: Mapping[str, Any]) -> str | HeadraceError:
        try:
            parts = {name: path_part(values[name], name, self.where) for name in self._named}
        except FatalError as error:
            return error
        path = PLACEHOLDER.sub(lambda found: parts.get(found[1], found[0]), self._to.path)
        return address_below(self._to.connection, path)

    def body(self, texts: Sequence[str]) -> bytes:
        """Returns some rows as the body of one request."""
        form = self._to.form
        if form is Body.OBJECT:
            return texts[0].encode()
        if form is Body.JSONL:
            return "".join(f"{each}\n" for each in texts).encode()
        if form is Body.ARRAY:
            return f"[{','.join(texts)}]".encode()
        rows = [json.loads(each) for each in texts]
        values = {**rows[0], ROWS: rows} if len(rows) == 1 else {ROWS: rows}
        return json.dumps(filled(self._to.template, values, self.where), ensure_ascii=False).encode()

    def send(self, noted: Noted) -> Refused:
        """Sends a request until it is answered; returns the rows that were refused.

        Raises:
            RefusedWhole: All of several were, without saying which is at fault.
            RetryableError: It is not known what became of it.
            FatalError: The API cannot be used.
        """
        headers = dict(self._headers)
        if self._to.idempotency_header is not None:
            headers[self._to.idempotency_header.lower()] = noted.idempotency
        request = Request(self._to.method.value, noted.url, (), headers, noted.body)
        place = self._client.place(request)
        return self._client.repeat(lambda: self._judged(self._client.send(request), noted.count, place))

    def _judged(self, answer: Answer, count: int, place: str) -> Refused:
        if answer.status in self._to.reject_status:
            code, reason = f"http_{answer.status}", self._said(answer, place)
            if count > 1:
                raise RefusedWhole(code, reason)
            return {0: (code, reason)}
        if not answer.succeeded:
            raise refusal(answer, place)
        if self._to.errors_path is None or not answer.body.strip():
            return {}
        entries = self._errors.records(document_of(answer.body, place), place)
        return dict(self._entry(each, count, place) for each in entries)

    def _entry(self, entry: Any, count: int, place: str) -> tuple[int, tuple[str, str]]:
        row, reason = self._row.one(entry), self._reason.one(entry)
        if not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < count:
            raise FatalError(
                f"the answer refuses a row that it does not name by a number below {count}",
                where=place,
                hint="check errors_path and error_row; what was sent before is not sent again",
            )
        return row, ("refused", _line(reason) or "the API refuses it")

    def _said(self, answer: Answer, place: str) -> str:
        told = f"HTTP status {answer.status}"
        try:
            found = self._reason.one(document_of(answer.body, place))
        except (RetryableError, FatalError):
            found = MISSING  # a refusal counts whatever its body is
        line = _line(found)
        return f"{told}: {line}" if line else told


def _line(value: Any) -> str:
    return " ".join(value.split())[:_LONGEST_REASON] if isinstance(value, str) else ""
