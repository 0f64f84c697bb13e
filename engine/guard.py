"""The circuit breakers of one stage: all are asked before it opens, and the one at fault is told afterwards; calls no system itself."""

from __future__ import annotations

from dsl.contracts.connectors import Destination
from dsl.contracts.errors import UnavailableError
from dsl.contracts.policies import Policies
from dsl.plan.physical import Scan, Stage, leaves_of
from engine.breaker import Breaker, OpenBreakerError
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

    def admit(self) -> None:
        """Lets the stage open, or refuses.

        Raises:
            OpenBreakerError: One of its systems is being left alone.
        """
        # A stage that reads and writes one system has one probe, not two of which the second is refused.
        for breaker in {each.key: each for _, each in self._breakers}.values():
            breaker.admit()

    def succeeded(self) -> None:
        """Notes that every system answered."""
        for _, breaker in self._breakers:
            breaker.succeeded()

    def failed(self, error: UnavailableError, node: str) -> None:
        """Notes that a system could not be reached.

        Args:
            error: What was raised; the refusal of a breaker says nothing about the system.
            node: The source at fault, or "" for the destination.
        """
        if isinstance(error, OpenBreakerError):
            return
        for each, breaker in self._breakers:
            if each == node:
                breaker.failed()

    def _breaker(self, system: tuple[str, ...], policies: Policies) -> Breaker | None:
        policy = policies.circuit_breaker
        if policy is None:
            return None
        return Breaker("/".join(system[:2]), policy, self._context.breakers, self._context.clock)
