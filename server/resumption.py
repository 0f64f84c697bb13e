"""Where the next run of a workflow goes on, source by source, by the copies of its tokens; asks no system and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from dagster import DagsterInstance

from dsl.contracts.redaction import scrub
from dsl.contracts.state import Json, State, is_complete
from dsl.contracts.stores import Checkpoint
from dsl.plan.physical import PhysicalPlan, Scan, Stage
from engine.flow import part
from engine.identity import identity_of, judge
from engine.opening import leaf_keys
from resources.stores.checkpoints import KeyValueCheckpoints

_LONGEST = 120
_BOOKS = frozenset({"v", "records_read", "bytes_read", "complete"})


@dataclass(frozen=True)
class Resumption:
    """What the next run does with one source.

    Attributes:
        stage: The stage that reads it.
        source: Its name.
        outcome: `begins`, `resumes`, `starts_over`, `void` or `refuses`.
        why: The same for people, as a clause.
    """

    stage: str
    source: str
    outcome: str
    why: str

    def as_json(self) -> dict[str, Json]:
        """Returns it for machines."""
        return {"stage": self.stage, "source": self.source, "outcome": self.outcome, "why": self.why}


def resumptions(plan: PhysicalPlan) -> list[Resumption]:
    """Returns what the next run does with every source."""
    with DagsterInstance.get() as instance:
        checkpoints = KeyValueCheckpoints(instance)
        return [each for stage in plan.stages for each in _of(stage, checkpoints.get(f"{plan.workflow}/{stage.id}/0"))]


def _of(stage: Stage, copy: Checkpoint | None) -> Iterator[Resumption]:
    for key, leaf in leaf_keys(stage.root).items():
        if isinstance(leaf, Scan):
            yield Resumption(stage.id, key, *_outcome(stage, key, copy))


def _outcome(stage: Stage, key: str, copy: Checkpoint | None) -> tuple[str, str]:
    if copy is None:
        return "begins", "begins at the beginning: nothing is committed yet"
    before, now = copy.state.get("to"), identity_of(stage).get("to")
    if None not in {before, now} and before != now:
        said = f"the destination was {before} and is {now}; without a token there the next run reads everything"
        return "void", f"state void because {said}"
    found = judge(stage, copy.state)
    if found.refused:
        return "refuses", f"state void because {found.why}; the next run refuses: {found.refused}"
    if found.why:
        return "void", f"state void because {found.why}; the next run reads everything"
    reached = part(copy.state, "inputs", key)
    if reached is None:
        return "begins", "begins at the beginning: this source has no state yet"
    if is_complete(reached):
        return "starts_over", f"starts over: its last full read is complete (epoch {copy.epoch})"
    return (
        "resumes",
        f"resumes from {_place(reached)} (epoch {copy.epoch}); what it has read already stays as it was written",
    )


def _place(state: State) -> str:
    told = {name: value for name, value in state.items() if name not in _BOOKS and value not in (None, [], {})}
    text = scrub(json.dumps(told, ensure_ascii=False, sort_keys=True))
    cut = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    rows = state.get("records_read")
    return f"{cut}, {rows:,} rows read" if isinstance(rows, int) else cut
