"""A process that follows a table of SQLite through keys and windows into another one, to be killed at any moment; checks nothing itself.

python -m tests.faults.streaming HOME RUN
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from dsl.compile import compile_text
from dsl.contracts.stores import Event
from engine.context import SystemClock
from engine.run import Control, run_plan
from resources.registry import InstalledCatalog
from resources.stores.dead_letters import LocalDeadLetters
from tests.engine.fakes import context

FLOW = """
workflow:
  name: flow
  mode: stream
  poll: 20ms
  on_error: dlq
  batch: {rows: 150}
  checkpoint: {rows: 60, period: 50ms}
  source: {type: sqlite, config: {path: SOURCE, table: events, incremental_column: id}}
  transformations:
    - {type: deduplicate, config: {keys: [name], remember: 600s, time: at, late: reject}}
    - type: aggregate
      config:
        window: {column: at, size: 60s, every: 20s, lateness: 30s, late: reject}
        group_by: [kind]
        aggregates:
          - {function: count, destination: n}
          - {function: string_agg, field: label, separator: " ", order_by: [id], destination: ids}
  destination: {type: sqlite, config: {path: TARGET, table: sums}}
"""


class Aloud:
    """Says what happens, and stops the run when nothing comes any more."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def emit(self, event: Event) -> None:
        sys.stdout.write(f"{event.name}\n")
        sys.stdout.flush()
        if event.name == "idle":
            self._control.stop()


def main() -> None:
    """Runs until nothing comes for a while; says `done` at the end."""
    home, run = Path(sys.argv[1]), sys.argv[2]
    text = FLOW.replace("SOURCE", str(home / "source.db")).replace("TARGET", str(home / "target.db"))
    (workflow,) = compile_text(text, "flow.yaml", catalog=InstalledCatalog(), environment={})
    control, letters = Control(), LocalDeadLetters(home / "letters")
    given = context(home, dead_letters=letters, events=Aloud(control), control=control, clock=SystemClock())
    report = run_plan(workflow.physical, replace(given, run_id=run, logical_time=datetime.now(UTC)))
    assert all(each.reconciliation.balanced for each in report.stages)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
