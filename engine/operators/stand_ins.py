"""What stands in where a service failed a row for good: another endpoint, an old answer, a default, nothing; rejects no row itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import pyarrow as pa

from dsl.expressions import parse_type
from dsl.processors.enrich import EnrichOptions
from dsl.processors.fallback import EnrichFallback, StandIn
from engine.operators.http_asking import Found
from engine.operators.http_call import CallError
from engine.operators.http_endpoint import Endpoint
from engine.operators.http_requests import Asked
from engine.operators.http_results import REQUIRED, Results, Values
from engine.operators.json_results import converter, parsed
from engine.operators.kept_answers import KeptAnswers
from engine.operators.loop import LoopThread
from engine.operators.tools import OperatorTools


@dataclass(frozen=True)
class _Batch:
    """The rows that are asked about: row -> place, place -> what it asks, place -> what was found."""

    rows: pa.RecordBatch
    places: Sequence[int]
    asked: Sequence[Asked]
    found: Sequence[Found]

    def failed(self) -> list[int]:
        """Places without an answer."""
        return [place for place, each in enumerate(self.found) if isinstance(each, CallError) and each.code != REQUIRED]

    def unanswered(self) -> list[int]:
        """Those of them that the service did not refuse."""
        return [
            place
            for place in self.failed()
            if place < len(self.asked) and isinstance(each := self.found[place], CallError) and each.unanswered
        ]


_Step: TypeAlias = Callable[[_Batch], dict[int, Values]]


class StandIns:
    """Finds something for rows whose request failed for good.

    Args:
        fallback: What the document says; None for nothing.
        options: The node's.
        schema: What enters.
        tools: What it works with.
        results: What is taken from an answer.
        kept: The answers that are kept.
        loop: Runs the calls.
    """

    def __init__(
        self,
        fallback: EnrichFallback | None,
        options: EnrichOptions,
        schema: pa.Schema,
        tools: OperatorTools,
        results: Results,
        kept: KeptAnswers[Values],
        loop: LoopThread,
    ) -> None:
        self._results, self._kept, self._loop = results, kept, loop
        self._other: Endpoint | None = None
        if fallback is not None and fallback.url is not None:
            address = replace(options, url=fallback.url)
            self._other = Endpoint(address, schema, tools, results, stops=False, waits=not fallback.always)
        self._always = results.nothing if fallback is None else _defaults(fallback, options)
        self._steps = tuple(self._steps_of(fallback)) if fallback is not None else ()

    def help(
        self, rows: pa.RecordBatch, places: Sequence[int], asked: Sequence[Asked], found: list[Found]
    ) -> dict[int, StandIn]:
        """Replaces failures among what was found; returns what stood in at which place.

        Args:
            rows: The rows.
            places: The place of each row's answer in `found`.
            asked: What was asked for each place; a last place may have asked nothing.
            found: The answers, changed.
        """
        helped: dict[int, StandIn] = {}
        for name, step in self._steps:
            for place, values in step(_Batch(rows, places, asked, found)).items():
                found[place], helped[place] = values, name
        return helped

    async def close(self) -> None:
        """Closes every connection."""
        if self._other is not None:
            await self._other.close()

    def _steps_of(self, fallback: EnrichFallback) -> Iterator[tuple[StandIn, _Step]]:
        if self._other is not None:
            yield StandIn.OTHER_ENDPOINT, self._elsewhere
        if fallback.stale_cache is not None:
            yield StandIn.STALE_CACHE, self._stale
        if fallback.always:
            yield StandIn.SKIP_FIELD if fallback.skip_field else StandIn.DEFAULT, self._whatever

    def _elsewhere(self, batch: _Batch) -> dict[int, Values]:
        failed = batch.unanswered()
        if self._other is None or not failed:
            return {}
        row_of = {place: row for row, place in reversed(list(enumerate(batch.places)))}
        asked = self._other.asked(batch.rows.take(pa.array([row_of[each] for each in failed], pa.int64())))
        wanted = list(dict.fromkeys(filter(None, asked)))
        answers = dict(zip(wanted, self._loop.run(self._other.ask(wanted)) if wanted else (), strict=True))
        found = {place: answers[each] for place, each in zip(failed, asked, strict=True) if each is not None}
        return {place: each for place, each in found.items() if not isinstance(each, CallError)}

    def _stale(self, batch: _Batch) -> dict[int, Values]:
        found = {place: self._kept.stale(*batch.asked[place]) for place in batch.unanswered()}
        return {place: each for place, each in found.items() if each is not None}

    def _whatever(self, batch: _Batch) -> dict[int, Values]:
        return dict.fromkeys(batch.failed(), self._always)


def _defaults(fallback: EnrichFallback, options: EnrichOptions) -> Values:
    """The default of each mapping, of its type; None for NULL."""

    def value(destination: str, kind: str) -> object:
        if destination not in fallback.default:
            return None
        given = parsed(json.dumps(fallback.default[destination]).encode())
        return converter(parse_type(kind))(given)

    return tuple(value(each.destination, each.type) for each in options.result_mapping)
