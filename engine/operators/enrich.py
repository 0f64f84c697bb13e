"""`enrich`: adds what an HTTP API answers to each row; every row leaves in its order or is accounted for; aiohttp comes when it opens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from dsl.contracts.connectors import Operator
from dsl.contracts.errors import ErrorType, FatalError
from dsl.contracts.policies import OnError
from dsl.contracts.rows import Outcome, Rejection
from dsl.contracts.state import State
from dsl.processors.enrich import EnrichError, EnrichOptions
from dsl.processors.fallback import EnrichFallback, StandIn
from engine.operators.http_asking import Found
from engine.operators.http_call import CallError
from engine.operators.http_endpoint import Endpoint
from engine.operators.http_requests import Asked
from engine.operators.http_results import Results, Values, size_of
from engine.operators.kept_answers import KeptAnswers
from engine.operators.loop import LoopThread
from engine.operators.stand_ins import StandIns
from engine.operators.struct_paths import with_values
from engine.operators.tools import OperatorTools, open_operator, output_schema

CACHE_BYTES = 32 * 2**20


@output_schema.register(EnrichOptions)
def _(processor: EnrichOptions, schema: pa.Schema, tools: OperatorTools) -> pa.Schema:
    del tools
    return processor.output_schema(schema)


@open_operator.register(EnrichOptions)
def _(processor: EnrichOptions, schema: pa.Schema, state: State | None, tools: OperatorTools) -> Operator:
    del state
    return Enrich(processor, schema, tools)


class Enrich(Operator):
    """Asks an API about rows.

    Args:
        options: The node's.
        schema: What enters.
        tools: What it works with.
    """

    def __init__(self, options: EnrichOptions, schema: pa.Schema, tools: OperatorTools) -> None:
        self._tools, self._schema = tools, options.output_schema(schema)
        self._results = Results(options.result_mapping)
        fallback = options.fallback
        keeps = EnrichFallback(skip_field=True) if options.on_error is EnrichError.KEEP else None
        self._fails = tools.policies.on_error is OnError.FAIL
        self._stops = self._fails and fallback is None and keeps is None
        waits = fallback is None or not (fallback.url or fallback.always)
        self._own = Endpoint(options, schema, tools, self._results, self._stops, waits)
        self._loop = LoopThread(f"headrace-{tools.node}-http", tools.ended)
        self._kept = _kept(options)
        self._stand_ins = StandIns(fallback or keeps, options, schema, tools, self._results, self._kept, self._loop)
        self._stamp = None if fallback is None else fallback.stamp

    def process(self, rows: pa.RecordBatch) -> Outcome:
        """Asks about every row that differs from the others, once.

        Raises:
            DataFaultError: A value of some row cannot be rendered; nothing was asked.
            FatalError: The API cannot be used, or a row failed, nothing stood in for it, and `on_error` is `fail`.
            CancelledError: The run should end.
        """
        asked = self._own.asked(rows)
        slots = {each: slot for slot, each in enumerate(dict.fromkeys(filter(None, asked)))}
        # The last slot is that of rows that have no address.
        places = [len(slots) if each is None else slots[each] for each in asked]
        try:
            found = self._found(list(slots))
            if len(slots) in places:
                found.append(_no_address())
            if self._stops and len(found) > len(slots):
                raise _no_address()
        except CallError as error:
            raise self._failure(error) from error
        return self._outcome(rows, places, found, self._stand_ins.help(rows, places, list(slots), found))

    def close(self) -> None:
        self._loop.close(self._closed)

    async def _closed(self) -> None:
        await self._own.close()
        await self._stand_ins.close()

    def _found(self, asked: Sequence[Asked]) -> list[Found]:
        known = [self._kept.get(*each) for each in asked]
        unknown = [each for each, answer in zip(asked, known, strict=True) if answer is None]
        fresh = iter(self._loop.run(self._own.ask(unknown)) if unknown else ())
        found: list[Found] = [next(fresh) if each is None else each for each in known]
        for each, before, answer in zip(asked, known, found, strict=True):
            if before is None and not isinstance(answer, CallError):
                self._kept.put(*each, answer, size_of(answer))
        return found

    def _outcome(
        self, rows: pa.RecordBatch, places: Sequence[int], found: Sequence[Found], helped: Mapping[int, StandIn]
    ) -> Outcome:
        failed = [(index, each) for index, place in enumerate(places) if isinstance(each := found[place], CallError)]
        if failed and self._fails:
            raise self._failure(failed[0][1])
        refused = tuple(self._rejection(rows, index, error) for index, error in failed)
        answers = [self._results.nothing if isinstance(each, CallError) else each for each in found]
        gone = {index for index, _ in failed}
        kept = [each for each in range(rows.num_rows) if each not in gone]
        passed = rows.take(pa.array(kept, pa.int64())) if failed else rows
        taken = pa.array([places[each] for each in kept], pa.int64())
        values = {path: array.take(taken) for path, array in self._results.arrays(answers).items()}
        stamps = [helped.get(places[index]) for index in kept]
        if self._stamp is not None:
            values[self._stamp,] = pa.array(stamps, pa.string())
        counts = Counter(each.value for each in stamps if each is not None)
        return Outcome(with_values(passed, self._schema, values), refused, fallbacks=counts)

    def _rejection(self, rows: pa.RecordBatch, index: int, error: CallError) -> Rejection:
        return Rejection(rows.slice(index, 1), error.message, error.code, self._tools.node)

    def _failure(self, error: CallError) -> FatalError:
        if error.error_type is ErrorType.POISON:
            told = f"a row was refused: {error.message}"
            hint = "mend the row, or say `on_error: dlq`, `drop` or `keep` (NULL results) at this node"
        else:
            told = error.message
            hint = "run again when the service answers: what was committed stays; `retry` at this node makes it more patient"
        return FatalError(told, where=self._tools.node, hint=hint, error_type=error.error_type)


def _kept(options: EnrichOptions) -> KeptAnswers[Values]:
    stale = None if options.fallback is None else options.fallback.stale_cache
    longest = 0.0 if stale is None else stale.total_seconds()
    return KeptAnswers(options.cache.entries, CACHE_BYTES, options.cache.ttl.total_seconds(), stale=longest)


def _no_address() -> CallError:
    return CallError("url_value", "the url's path has no value here: it is NULL, empty, or dots alone")
