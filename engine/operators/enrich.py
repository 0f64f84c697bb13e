"""`enrich`: adds what an HTTP API answers to each row; every row leaves in its order or is accounted for; aiohttp comes when it opens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from dsl.contracts.connectors import Operator
from dsl.contracts.errors import ErrorType, FatalError
from dsl.contracts.policies import OnError
from dsl.contracts.rows import Outcome, Rejection
from dsl.contracts.state import State
from dsl.processors.enrich import EnrichError, EnrichOptions
from engine.breaker import Breaker
from engine.operators.http_asking import Asking, Found
from engine.operators.http_call import CallError
from engine.operators.http_requests import Asked, Rendering, headers_of
from engine.operators.http_results import REQUIRED, Results, Values, size_of
from engine.operators.http_service import Service
from engine.operators.kept_answers import KeptAnswers
from engine.operators.loop import LoopThread
from engine.operators.struct_paths import with_values
from engine.operators.tools import OperatorTools, open_operator, output_schema
from engine.retry import Pace

if TYPE_CHECKING:
    from engine.operators.http_client import HttpClient

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
        self._options, self._tools = options, tools
        self._schema = options.output_schema(schema)
        self._keeps = options.on_error is EnrichError.KEEP
        self._client, origin = _client(options, tools)
        self._rendering = Rendering(options, schema, origin, tools)
        self._results = Results(options.result_mapping)
        cache = options.cache
        self._kept: KeptAnswers[Values] = KeptAnswers(cache.entries, CACHE_BYTES, cache.ttl.total_seconds())
        self._stops = tools.policies.on_error is OnError.FAIL and not self._keeps
        self._asking: Asking | None = None
        self._loop = LoopThread(f"headrace-{tools.node}-http", tools.ended)
        self._origin = origin

    def process(self, rows: pa.RecordBatch) -> Outcome:
        """Asks about every row that differs from the others, once.

        Raises:
            DataFaultError: A value of some row cannot be rendered; nothing was asked.
            FatalError: The API cannot be used, or a row failed and `on_error` is `fail`.
            CancelledError: The run should end.
        """
        asked = self._rendering.asked(rows)
        slots = {each: slot for slot, each in enumerate(dict.fromkeys(filter(None, asked)))}
        places = [None if each is None else slots[each] for each in asked]
        try:
            found = self._found(list(slots))
            if self._stops and None in places:
                raise _no_address()
        except CallError as error:
            raise self._failure(error) from error
        return self._outcome(rows, places, found)

    def close(self) -> None:
        self._loop.close(self._client.close)

    def _found(self, asked: Sequence[Asked]) -> list[Found]:
        known = [self._kept.get(*each) for each in asked]
        unknown = [each for each, answer in zip(asked, known, strict=True) if answer is None]
        fresh = iter(self._loop.run(self._ask(unknown)) if unknown else ())
        found: list[Found] = [next(fresh) if each is None else each for each in known]
        for each, before, answer in zip(asked, known, found, strict=True):
            if before is None and not isinstance(answer, CallError):
                self._kept.put(*each, answer, size_of(answer))
        return found

    async def _ask(self, asked: Sequence[Asked]) -> list[Found]:
        if self._asking is None:
            await self._client.open()
            limit = self._tools.context.memory_limit
            self._asking = Asking(self._service(), self._options, self._results, self._stops, limit)
        return await self._asking.all(asked)

    def _service(self) -> Service:
        tools, limit, breaker = self._tools, self._tools.policies.rate_limit, self._tools.policies.circuit_breaker
        clock = tools.context.clock
        return Service(
            self._client,
            tools.node,
            self._options,
            tools.policies.retry,
            clock.now,
            partial(headers_of, self._options, tools.context.reveal, tools.node),
            None if breaker is None else Breaker(f"http/{self._origin}", breaker, tools.context.breakers, clock),
            None if limit is None else Pace(limit, clock, tools.ended),
        )

    def _outcome(self, rows: pa.RecordBatch, places: Sequence[int | None], found: Sequence[Found]) -> Outcome:
        errors = [_no_address() if place is None else _error(found[place]) for place in places]
        failed = [index for index, error in enumerate(errors) if error is not None and not self._overlooks(error)]
        refused = tuple(self._rejection(rows, index, errors[index]) for index in failed)
        answers = [self._results.nothing if isinstance(each, CallError) else each for each in found]
        passed, taken = rows, pa.array(places, pa.int64())
        if failed:
            gone = set(failed)
            left = pa.array([each for each in range(rows.num_rows) if each not in gone], pa.int64())
            passed, taken = rows.take(left), taken.take(left)
        values = {path: array.take(taken) for path, array in self._results.arrays(answers).items()}
        return Outcome(with_values(passed, self._schema, values), refused)

    def _overlooks(self, error: CallError) -> bool:
        return self._keeps and error.code != REQUIRED

    def _rejection(self, rows: pa.RecordBatch, index: int, error: CallError | None) -> Rejection:
        assert error is not None  # noqa: S101 - failed rows have one
        return Rejection(rows.slice(index, 1), error.message, error.code, self._tools.node)

    def _failure(self, error: CallError) -> FatalError:
        if error.error_type is ErrorType.POISON:
            told = f"a row was refused: {error.message}"
            hint = "mend the row, or say `on_error: dlq`, `drop` or `keep` (NULL results) at this node"
        else:
            told = error.message
            hint = "run again when the service answers: what was committed stays; `retry` at this node makes it more patient"
        return FatalError(told, where=self._tools.node, hint=hint, error_type=error.error_type)


def _no_address() -> CallError:
    return CallError("url_value", "the url's path has no value here: it is NULL, empty, or dots alone")


def _error(found: Found) -> CallError | None:
    return found if isinstance(found, CallError) else None


def _client(options: EnrichOptions, tools: OperatorTools) -> tuple[HttpClient, str]:
    try:
        from engine.operators import http_client, wall  # noqa: PLC0415 - aiohttp is an extra, needed only here
    except ModuleNotFoundError as error:
        told = f"enrich over HTTP needs a package that is not installed: {error.name}"
        raise FatalError(told, where=tools.node, hint="pip install 'headrace[http]'") from error
    guard = wall.Wall(tools.node, options.allow_private_hosts or tools.context.allow_private_addresses)
    origin = str(http_client.origin_of(options.url, guard)).rstrip("/")
    calling = http_client.Calling(
        where=tools.node,
        method=options.method.value,
        timeout=options.timeout,
        connections=options.concurrency,
        largest=options.max_response_bytes,
        wall=guard,
    )
    return http_client.HttpClient(calling, headers_of(options, tools.context.reveal, tools.node)), origin
