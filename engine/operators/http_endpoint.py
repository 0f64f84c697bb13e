"""One address that is asked about rows: what each row asks there, and the answers; keeps none of them and lets nothing stand in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from dsl.contracts.errors import FatalError
from dsl.processors.enrich import EnrichOptions
from engine.breaker import Breaker
from engine.operators.http_asking import Asking, Found
from engine.operators.http_requests import Asked, Rendering, headers_of
from engine.operators.http_results import Results
from engine.operators.http_service import Service
from engine.operators.tools import OperatorTools
from engine.retry import Pace

if TYPE_CHECKING:
    from engine.operators.http_client import HttpClient


@dataclass
class Endpoint:
    """An address.

    Attributes:
        options: The node's, with the address as `url`.
        schema: What enters.
        tools: What it works with.
        results: What is taken from an answer.
        stops: Whether one failure ends it all.
        waits: Whether calls wait for an open breaker.
    """

    options: EnrichOptions
    schema: pa.Schema
    tools: OperatorTools
    results: Results
    stops: bool
    waits: bool
    _asking: Asking | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._client, self._origin = _client(self.options, self.tools)
        self._rendering = Rendering(self.options, self.schema, self._origin, self.tools)

    def asked(self, rows: pa.RecordBatch) -> list[Asked | None]:
        """What each row asks for, in order; None for a row whose value may not stand in the path of a URL.

        Raises:
            DataFaultError: A value of some row cannot be rendered.
        """
        return self._rendering.asked(rows)

    async def ask(self, asked: Sequence[Asked]) -> list[Found]:
        """What was found for each, in order; used inside one event loop.

        Raises:
            CallError: One failed, and failures end it.
            FatalError: No row can be asked about.
        """
        if self._asking is None:
            await self._client.open()
            limit = self.tools.context.memory_limit
            self._asking = Asking(self._service(), self.options, self.results, self.stops, limit)
        return await self._asking.all(asked)

    async def close(self) -> None:
        """Closes every connection."""
        await self._client.close()

    def _service(self) -> Service:
        tools, limit, breaker = self.tools, self.tools.policies.rate_limit, self.tools.policies.circuit_breaker
        clock = tools.context.clock
        return Service(
            self._client,
            tools.node,
            self.options,
            tools.policies.retry,
            clock.now,
            partial(headers_of, self.options, tools.context.reveal, tools.node),
            None if breaker is None else Breaker(f"http/{self._origin}", breaker, tools.context.breakers, clock),
            None if limit is None else Pace(limit, clock, tools.ended),
            self.waits,
        )


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
