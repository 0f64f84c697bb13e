"""One service over HTTP, called patiently: tries, pauses, its rate and its circuit breaker; knows no rows and parses no mapping.

- A call is tried again as the node's `retry` says, within its budget. Where the service asks for a pause (`Retry-After`), no other
  call is made meanwhile.
- While the circuit breaker is open, calls wait; each cool-down that passes in vain counts as a failed try. So an outage slows a run
  down instead of sending every row where `on_error` says; `total` bounds what a row waits.
- 401 and 403 end the run: a refused credential is refused for every row, and a service may lock the account that goes on trying. So
  the first call is made alone; when credentials are refused, secrets are resolved once more, and only if they have changed the call
  is made again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from dsl.contracts.errors import ErrorType, FatalError, UnavailableError
from dsl.contracts.policies import RetryPolicy
from dsl.processors.enrich import EnrichOptions
from engine.breaker import Breaker, Permit
from engine.operators.http_call import Answer, CallError, Request, refusal
from engine.operators.json_results import MISSING, parsed
from engine.retry import Pace, RetryBudget, backoff, may_retry

_LOOK_SECONDS = 0.25
BREAKER_OPEN = "http_breaker_open"
_AUTH = frozenset({401, 403, 407})


class Client(Protocol):
    """Makes one call."""

    headers: Mapping[str, str]

    async def call(self, request: Request) -> Answer:
        """Asks once."""


@dataclass
class Service:
    """What is called, and how patiently.

    Attributes:
        client: Makes the calls.
        where: Who makes them, for errors.
        options: The node's.
        retry: The node's.
        now: Tells the time.
        renew: Resolves the headers once more.
        breaker: The service's, if it has one.
        pace: Holds the calls to the node's rate limit, if it has one.
        waits: Whether calls wait for an open breaker; else they fail at once, because something stands in.
        budget: How many calls may be made again.
    """

    client: Client
    where: str
    options: EnrichOptions
    retry: RetryPolicy
    now: Callable[[], datetime]
    renew: Callable[[], Mapping[str, str]]
    breaker: Breaker | None = None
    pace: Pace | None = None
    waits: bool = True
    budget: RetryBudget = field(init=False)
    _door: asyncio.Lock = field(default_factory=asyncio.Lock)
    _renewing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _admits: bool = False
    _refused: CallError | None = None
    _resume_at: float = 0.0

    def __post_init__(self) -> None:
        self.budget = RetryBudget(self.retry.budget)

    async def document(self, request: Request, rows: int) -> Any:
        """The JSON that the service answers, or `MISSING` for a status that means that there is nothing.

        Args:
            request: What to ask.
            rows: How many rows it asks for.

        Raises:
            CallError: It failed for good.
            FatalError: The service refuses the credentials, or may not be called.
        """
        total, last = self.options.total, list[CallError]()
        try:
            async with asyncio.timeout(None if total is None else total.total_seconds()):
                return await self._patiently(request, rows, last)
        except TimeoutError as error:
            seconds = 0.0 if total is None else total.total_seconds()
            told = f"no answer within {seconds:g} s, all tries together" + (f"; {last[-1].message}" if last else "")
            raise CallError("http_total", told, error_type=ErrorType.TIMEOUT) from error

    async def _patiently(self, request: Request, rows: int, last: list[CallError]) -> Any:
        self.budget.called()
        while True:
            try:
                return await self._once(request, rows)
            except CallError as error:
                last.append(error)
                # What the service asks to be made again, and what a breaker kept from it, is no load of ours.
                free = bool(error.after) or error.code == BREAKER_OPEN
                if not may_retry(self.retry, len(last), error) or not (free or self.budget.spend()):
                    raise error.after_tries(len(last)) from error
                await asyncio.sleep(backoff(self.retry, len(last), error).total_seconds())

    async def _once(self, request: Request, rows: int) -> Any:
        if not self._admits:
            async with self._door:
                if not self._admits:
                    return await self._first(request, rows)
        return await self._call(request, rows)

    async def _first(self, request: Request, rows: int) -> Any:
        try:
            document = await self._call(request, rows)
        except CallError as error:
            self._admits = error.error_type is not ErrorType.AUTH
            raise
        self._admits = True
        return document

    async def _call(self, request: Request, rows: int) -> Any:
        await self._turn(rows)
        permit = await self._admitted()
        try:
            document = self._judged(await self._answer(request))
        except CallError as error:
            await self._noted(error, permit)
            raise
        await self._noted(None, permit)
        return document

    def _judged(self, answer: Answer) -> Any:
        if answer.status in self.options.missing_status:
            return MISSING
        if not answer.succeeded:
            raise refusal(answer, self.now())
        try:
            return parsed(answer.body)
        except ValueError as error:
            # Often a page of something between here and the service, so it is worth another try.
            told = f"the answer is not JSON ({error})" if answer.body else f"the answer ({answer.status}) is empty"
            raise CallError("http_not_json", told, error_type=ErrorType.TRANSIENT) from error

    async def _noted(self, error: CallError | None, permit: Permit | None) -> None:
        if error is not None and error.after and error.error_type in {ErrorType.THROTTLED, ErrorType.UNAVAILABLE}:
            self._resume_at = max(self._resume_at, time.monotonic() + error.after)
        if self.breaker is None or permit is None:
            return
        down = error is not None and error.down
        # Where processes share it, a breaker asks a database: other calls go on meanwhile.
        await asyncio.to_thread(self.breaker.failed if down else self.breaker.succeeded, permit)

    async def _turn(self, rows: int) -> None:
        while (left := self._resume_at - time.monotonic()) > 0:  # noqa: ASYNC110 - the pause may have grown meanwhile
            await asyncio.sleep(left)
        if self.pace is not None:
            await asyncio.sleep(self.pace.claim(rows=rows, requests=1).total_seconds())

    async def _admitted(self) -> Permit | None:
        until: float | None = None
        while self.breaker is not None:
            try:
                return await asyncio.to_thread(self.breaker.admit)
            except UnavailableError as refused:
                until = until or time.monotonic() + (refused.after or 0.0)
                if not self.waits or time.monotonic() >= until:
                    message = f"{refused.where}: {refused.message}"
                    raise CallError(BREAKER_OPEN, message, error_type=ErrorType.UNAVAILABLE) from refused
            await asyncio.sleep(min(_LOOK_SECONDS, max(until - time.monotonic(), 0.01)))
        return None

    async def _answer(self, request: Request) -> Answer:
        if self._refused is not None:
            raise self._locked_out(self._refused)
        used = self.client.headers
        answer = await self.client.call(request)
        if self._refuses(answer) and await self._renewed(used):
            answer = await self.client.call(request)
        if self._refuses(answer) and ErrorType.AUTH not in self.retry.retry_on:
            self._refused = refusal(answer, self.now())
            raise self._locked_out(self._refused)
        return answer

    def _refuses(self, answer: Answer) -> bool:
        return answer.status in _AUTH and answer.status not in self.options.missing_status

    async def _renewed(self, used: Mapping[str, str]) -> bool:
        async with self._renewing:
            if self.client.headers is used:
                fresh = await asyncio.to_thread(self.renew)
                if fresh == used:
                    return False
                self.client.headers = fresh
            return True

    def _locked_out(self, error: CallError) -> FatalError:
        return FatalError(
            f"the service refuses the credentials: {error.message}",
            where=self.where,
            hint="mend `headers`; a status that means only that there is nothing for a row goes into `missing_status`",
            error_type=ErrorType.AUTH,
        )
