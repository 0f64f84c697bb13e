"""The circuit breakers of one stage: all are asked before it opens, and the one at fault is told afterwards; calls no system itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dsl.contracts.connectors import Destination
from dsl.contracts.errors import UnavailableError
from dsl.contracts.policies import Policies
from dsl.plan.physical import Scan, Stage, leaves_of
from engine.breaker import Breaker, OpenBreakerError, Permit
from engine.context import RunContext


class Guard:
    """The breakers of the systems that a stage reads and of the one it writes.

    Args:
        stage: The stage.
        destination: Where it writes.
        context: The run.
    """

    def __init__(self, stage: Stage, destination: Destination, context: RunContext) -> None:
        self._context = context
        scans = [each for each in leaves_of(stage.root) if isinstance(each, Scan)]
        found = [(each.node, self._breaker(each.source.physical_name, each.policies)) for each in scans]
        found.append(("", self._breaker(destination.physical_name, stage.writer.policies)))
        self._breakers = [(node, breaker) for node, breaker in found if breaker is not None]
        self._permits: dict[str, Permit] = {}
        self._writer_down = False

    def admit(self) -> None:
        """Lets the stage open, or refuses.

        Raises:
            OpenBreakerError: One of its systems is being left alone.
        """
        # A stage that reads and writes one system has one probe, not two of which the second is refused.
        for breaker in {each.key: each for _, each in self._breakers}.values():
            self._permits[breaker.key] = breaker.admit()

    def succeeded(self) -> None:
        """Notes that every system answered."""
        for _, breaker in self._breakers:
            if breaker.key in self._permits:
                breaker.succeeded(self._permits[breaker.key])

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Within it the destination is called: what is unavailable there is the destination, and not a service of a processor."""
        try:
            yield
        except UnavailableError:
            self._writer_down = True
            raise

    def failed(self, error: UnavailableError, node: str) -> None:
        """Notes that a system could not be reached.

        Args:
            error: What was raised; the refusal of a breaker says nothing about the system.
            node: The source at fault; "" for the destination, if it was called, or else for something without a breaker here.
        """
        if isinstance(error, OpenBreakerError) or not (node or self._writer_down):
            return
        for each, breaker in self._breakers:
            if each == node and breaker.key in self._permits:
                breaker.failed(self._permits[breaker.key])

    def _breaker(self, system: tuple[str, ...], policies: Policies) -> Breaker | None:
        policy = policies.circuit_breaker
        if policy is None:
            return None
        return Breaker("/".join(system[:2]), policy, self._context.breakers, self._context.clock)
