"""What a run is given by whoever starts it: stores, clock, limits, places; data only."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dsl.contracts.connectors import Clock, Destination
from dsl.contracts.errors import ErrorType, FatalError
from dsl.contracts.redaction import remember
from dsl.contracts.secret import Secret
from dsl.contracts.stores import BreakerStore, CheckpointStore, DeadLetterStore, Event, EventSink
from engine.breaker import MemoryBreakers
from engine.control import Control


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        return datetime.now(UTC)

    def sleep(self, pause: timedelta) -> None:
        """Waits."""
        time.sleep(pause.total_seconds())


class SilentEvents:
    """An event sink that forgets everything."""

    def emit(self, event: Event) -> None:
        """Forgets the event."""


def reveal_literal(secret: Secret) -> str:
    """The value of a secret that the document itself holds; a run that is to resolve references is given another `reveal`.

    Raises:
        FatalError: It is a reference.
    """
    if secret.literal or "${" not in secret.text:
        return remember(secret.text)
    raise FatalError(
        f"secret '{secret}' cannot be resolved here",
        hint="give the run a store of secrets: RunContext(reveal=…)",
        error_type=ErrorType.AUTH,
    )


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Everything a run needs besides its plan.

    Attributes:
        workflow: The workflow's name: first part of every token.
        run_id: Names the run in tokens, checkpoints and dead letters.
        load_id: The first run of those that try the same load again; `run_id` where there is no other.
        logical_time: The run's time, aware: `now()` in expressions, bounds of incremental reads.
        home: Folder for exchanges and spilled data; made if absent.
        checkpoints: Keeps the copies of the tokens.
        dead_letters: Keeps rejected rows.
        events: Told what happens.
        control: Carries stop and pause.
        clock: Tells the time.
        memory_limit: Bytes that the relational operators of one stage may hold before they spill; the process needs about
            300 MiB besides (benchmarks/memory.py).
        spill_limit: Bytes they may spill to disk.
        threads: Threads of the relational operators of one stage.
        allow_python: Whether `python` nodes may run.
        allow_private_addresses: Whether `enrich` may call private addresses although its options do not say so.
        reveal: Resolves a secret when an operator opens.
        dead_letter_destination: Where dead letters are written as rows, instead of `dead_letters`; opened once for each stage.
        breakers: The health of systems, shared by the stages.
        preview_rows: Rows kept for the report.
        grace: How long a stage that should end may go on to reach its next batch boundary.
        progress: How often a stage tells how far it is, at most.
        fingerprint: `PhysicalPlan.fingerprint`, kept with the token.
    """

    workflow: str
    run_id: str
    logical_time: datetime
    home: Path
    checkpoints: CheckpointStore
    dead_letters: DeadLetterStore
    events: EventSink = field(default_factory=SilentEvents)
    control: Control = field(default_factory=Control)
    clock: Clock = field(default_factory=SystemClock)
    memory_limit: int = 128 * 2**20
    spill_limit: int = 64 * 2**30
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allow_python: bool = False
    allow_private_addresses: bool = False
    reveal: Callable[[Secret], str] = reveal_literal
    dead_letter_destination: Destination | None = None
    breakers: BreakerStore = field(default_factory=MemoryBreakers)
    preview_rows: int = 10
    grace: timedelta = timedelta(seconds=5)
    progress: timedelta = timedelta(seconds=5)
    fingerprint: str = ""
    load_id: str = ""

    @property
    def load(self) -> str:
        """Names the load in the state: a retry finds by it that nothing is left to do."""
        return self.load_id or self.run_id
