"""Asks a service about many rows at once: bounded in flight, several rows in a request where it takes them; keeps nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from dsl.contracts.errors import FatalError
from dsl.processors.columns import split
from dsl.processors.enrich import EnrichOptions
from engine.operators.http_call import CallError, Request
from engine.operators.http_requests import Asked
from engine.operators.http_results import Results, Values, size_of
from engine.operators.http_service import Service
from engine.operators.json_results import MISSING, found_at

Found: TypeAlias = Values | CallError


@dataclass
class Asking:
    """Asks about rows.

    Attributes:
        service: Answers.
        options: The node's.
        results: What is taken from an answer.
        stops: Whether one failure ends it all, so that no further call is made.
        limit: Bytes that the answers about one batch may take.
    """

    service: Service
    options: EnrichOptions
    results: Results
    stops: bool
    limit: int
    _held: int = 0

    async def all(self, asked: Sequence[Asked]) -> list[Found]:
        """What was found for each, in order.

        Raises:
            CallError: One failed, and failures end it.
            FatalError: No row can be asked about, or the answers do not fit into memory.
        """
        self._held = 0
        found: list[Found] = [self.results.nothing] * len(asked)
        size = self.options.batch.rows if self.options.batch is not None else 1
        waiting = deque(range(start, min(start + size, len(asked))) for start in range(0, len(asked), size))
        count = min(self.options.concurrency, len(waiting))
        workers = [asyncio.create_task(self._work(asked, waiting, found)) for _ in range(count)]
        try:
            await asyncio.gather(*workers)
        finally:
            for each in workers:
                each.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return found

    async def _work(self, asked: Sequence[Asked], waiting: deque[range], found: list[Found]) -> None:
        while waiting:
            group = waiting.popleft()
            try:
                answers = await self._answers([asked[each] for each in group])
            except CallError as error:
                if error.splits and len(group) > 1:
                    # The rows at fault are found by asking about fewer.
                    half = len(group) // 2
                    waiting.extendleft((group[half:], group[:half]))
                    continue
                answers = [error] * len(group)
            for index, answer in zip(group, answers, strict=True):
                if self.stops and isinstance(answer, CallError):
                    raise answer
                found[index] = answer
            self._weigh(answers)

    def _weigh(self, answers: Sequence[Found]) -> None:
        self._held += sum(size_of(each) for each in answers if not isinstance(each, CallError))
        if self._held > self.limit:
            raise FatalError(
                f"the answers about one batch take more than {self.limit >> 20} MiB",
                where=self.service.where,
                hint="lower `batch.rows` at this node, take less of each answer, or raise HEADRACE_MEMORY",
            )

    async def _answers(self, asked: Sequence[Asked]) -> list[Found]:
        document = await self.service.document(_request(asked, together=self.options.batch is not None), len(asked))
        if self.options.batch is None:
            return [self._read(document)]
        if document is MISSING:
            if len(asked) > 1:
                raise CallError("http_missing", "the service has nothing for one of several rows", splits=True)
            return [self._read(MISSING)]
        return [self._read(each) for each in self._items(document, len(asked))]

    def _items(self, document: Any, count: int) -> list[Any]:
        batch = self.options.batch
        assert batch is not None  # noqa: S101 - asked for only then
        items = found_at(document, split(batch.items)[1:])
        if not isinstance(items, list):
            raise CallError("http_items", f"the answer has no list at {batch.items}")
        if len(items) != count:
            raise CallError("http_items", f"the answer holds {len(items)} items for {count} rows")
        return items

    def _read(self, document: Any) -> Found:
        try:
            return self.results.read(document)
        except CallError as error:
            return error


def _request(asked: Sequence[Asked], *, together: bool) -> Request:
    url, body = asked[0]
    if together:
        return Request(url, f"[{','.join(each or '' for _, each in asked)}]".encode())
    return Request(url, None if body is None else body.encode())
