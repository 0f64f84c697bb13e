"""What a stage tells while it runs: started, progress, committed, retrying, finished; per run and table, never per batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from dsl.contracts.redaction import scrub
from dsl.contracts.state import Json
from dsl.contracts.stores import Event
from engine.context import RunContext

PERIOD = timedelta(seconds=5)


@dataclass
class Teller:
    """Tells the events of one stage.

    Attributes:
        context: The run.
        stage: The stage's id.
    """

    context: RunContext
    stage: str
    _next: datetime | None = None

    def tell(self, name: str, **fields: Json) -> None:
        """Tells one event; texts lose their secrets."""
        clean = {key: scrub(value) if isinstance(value, str) else value for key, value in fields.items()}
        self.context.events.emit(Event(name, self.context.workflow, self.stage, self.context.clock.now(), clean))

    def progress(self, fields: Callable[[], Mapping[str, Json]]) -> None:
        """Tells how far the stage is, unless it did so within the last seconds: then nobody is asked for it."""
        now = self.context.clock.now()
        if self._next is None:
            self._next = now + self.context.progress
        if now >= self._next:
            self._next = now + self.context.progress
            self.tell("progress", **fields())


@dataclass
class Watch:
    """Tells when a stage that never ends has nothing to do, and when it has again; once each.

    Attributes:
        teller: Tells it.
    """

    teller: Teller
    _since: datetime | None = None
    _idle: bool = False

    def see(self, rows: int, **fields: Json) -> None:
        """Notes how many rows came since the last call, which may be none."""
        now = self.teller.context.clock.now()
        if rows or self._since is None:
            self._since = now
        if self._idle and rows:
            self._idle = False
            self.teller.tell("busy", **fields)
        elif not self._idle and now - self._since >= PERIOD:
            self._idle = True
            self.teller.tell("idle", since=self._since.isoformat(), **fields)
