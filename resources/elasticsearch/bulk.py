"""Sends documents by `_bulk` until each is applied or refused; only what failed is sent again, and never for ever.

Each operation has an id and a version (`external`), so that sending it twice changes nothing: the server answers 409 to
the second, which means done. That is also what a lost answer is cured with.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from dsl.contracts.errors import FatalError, HeadraceError, RetryableError
from resources.elasticsearch.client import LINES, Answer, Client, reason_of

ATTEMPTS = 6
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds; a server that asks for more gets it from the run's own retry."""
MOST_OPERATIONS = 10_000
FILTER = "items.*.status,items.*.result,items.*.error.type,items.*.error.reason"
# Faults that come as answers to single items although no document is to blame for them.
_INDEX_FAULTS = frozenset({"index_closed_exception", "index_not_found_exception", "invalid_index_name_exception"})
_AGAIN = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Operation:
    """One document to write, or one to delete.

    Attributes:
        row: The number by which its refusal names it.
        data: Its one or two lines.
    """

    row: int
    data: bytes


@dataclass(frozen=True)
class Refusal:
    """A document that the server does not take.

    Attributes:
        row: `Operation.row`.
        code: The type of the error.
        reason: What the server says, without the row's values.
    """

    row: int
    code: str
    reason: str


@dataclass
class Sent:
    """What came of some operations.

    Attributes:
        refused: Documents that were refused.
        overtaken: Rows that met a newer version at their first attempt: not ours, so somebody else wrote them.
        created: New documents.
        updated: Replaced or deleted ones.
        unknown: Documents that a lost answer may have counted.
        bytes: Bytes sent.
    """

    refused: list[Refusal] = field(default_factory=list)
    overtaken: list[int] = field(default_factory=list)
    created: int = 0
    updated: int = 0
    unknown: int = 0
    bytes: int = 0


@dataclass
class _Open:
    """Operations under way: how often they have been sent, and how often without any progress."""

    operations: Sequence[Operation]
    sends: int = 0
    failures: int = 0


class Bulk:
    """Writes into one index.

    Args:
        client: The cluster.
        index: The index's own name.
        request_bytes: Bytes in a request, about.
        where: Names the index in errors.
    """

    def __init__(self, client: Client, index: str, request_bytes: int, where: str) -> None:
        self._client, self._limit, self._where = client, request_bytes, where
        self._path = f"/{quote(index)}/_bulk?filter_path={FILTER}"

    def send(self, operations: Sequence[Operation]) -> Sent:
        """Sends operations and returns what came of them.

        Raises:
            RetryableError: The server did not take them after some attempts; those that it took stay.
            FatalError: The index is closed, gone or blocked, or the login is refused.
        """
        sent = Sent()
        for part in _parts(operations, self._limit):
            waiting = [_Open(part)]
            while waiting:
                waiting += self._once(waiting.pop(), sent)
        return sent

    def _once(self, part: _Open, sent: Sent) -> list[_Open]:
        """Sends one request; returns what is to be sent again."""
        body = b"".join([each.data for each in part.operations])
        sent.bytes += len(body)
        part.sends += 1
        try:
            answer = self._client.send("POST", self._path, body, kind=LINES, where=self._where)
        except RetryableError as error:
            return [self._later(part, error)]
        if answer.status == 413:
            return self._halves(part, sent)
        if answer.status >= 300:
            fault = self._client.refusal(answer, self._where)
            if not isinstance(fault, RetryableError):
                raise fault
            return [self._later(part, fault)]
        items = _items(answer)
        if len(items) != len(part.operations):
            return [self._later(part, self._client.no_json(answer, self._where))]
        return self._sorted(part, items, sent)

    def _sorted(self, part: _Open, items: Sequence[dict[str, Any]], sent: Sent) -> list[_Open]:
        again: list[Operation] = []
        fault: HeadraceError | None = None
        for operation, item in zip(part.operations, items, strict=True):
            status = int(item.get("status", 0))
            error = item.get("error") or {}
            if status < 300 or (status == 404 and not error):
                _count(item, sent)
            elif status == 409:
                if part.sends == 1:
                    sent.overtaken.append(operation.row)
                sent.unknown += 1
            elif status in _AGAIN:
                again.append(operation)
                fault = self._client.refusal(Answer(status, {"error": error}), self._where)
            else:
                sent.refused.append(self._refused(operation, status, error))
        if not again or fault is None:
            return []
        rest = _Open(again, part.sends, part.failures if len(again) == len(items) else 0)
        return [self._later(rest, fault)]

    def _refused(self, operation: Operation, status: int, error: dict[str, Any]) -> Refusal:
        kind = str(error.get("type", f"http_{status}"))
        if kind in _INDEX_FAULTS:
            raise FatalError(
                reason_of(error),
                where=self._where,
                hint="open the index, or make it again; nothing of it was committed",
            )
        if status in {401, 403}:
            raise self._client.refusal(Answer(status, {"error": error}), self._where)
        return Refusal(operation.row, kind.removesuffix("_exception"), reason_of(error))

    def _later(self, part: _Open, error: HeadraceError) -> _Open:
        """Waits before another attempt, or gives up."""
        part.failures += 1
        after = getattr(error, "after", None)
        if part.failures >= ATTEMPTS or not isinstance(error, RetryableError) or (after or 0) > LONGEST_PAUSE:
            raise error
        longest = min(FIRST_PAUSE * 2 ** (part.failures - 1), LONGEST_PAUSE)
        time.sleep(after if after is not None else random.uniform(longest / 2, longest))  # noqa: S311 - spreads load
        return part

    def _halves(self, part: _Open, sent: Sent) -> list[_Open]:
        count = len(part.operations)
        if count == 1:
            size = len(part.operations[0].data)
            sent.refused.append(
                Refusal(part.operations[0].row, "too_large", f"the server takes no document of {size} bytes")
            )
            return []
        halves = (part.operations[count // 2 :], part.operations[: count // 2])
        return [_Open(each, part.sends - 1, part.failures) for each in halves]


def _parts(operations: Sequence[Operation], limit: int) -> Iterator[Sequence[Operation]]:
    first, size = 0, 0
    for at, each in enumerate(operations):
        if at > first and (size + len(each.data) > limit or at - first >= MOST_OPERATIONS):
            yield operations[first:at]
            first, size = at, 0
        size += len(each.data)
    if first < len(operations):
        yield operations[first:]


def _items(answer: Answer) -> list[dict[str, Any]]:
    found = answer.body.get("items") if isinstance(answer.body, dict) else None
    if not isinstance(found, list):
        return []
    return [inner for each in found if isinstance(each, dict) for inner in each.values() if isinstance(inner, dict)]


def _count(item: dict[str, Any], sent: Sent) -> None:
    if item.get("result") == "created":
        sent.created += 1
    else:
        sent.updated += 1
