"""Workflows that somebody holds back: their schedule and triggers pass them over, and their runs refuse; ends no run itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from dagster import DagsterInstance

from dsl.contracts.errors import FatalError
from resources.stores.key_values import KeyValues

PREFIX = "holds/"
"""Before the workflow's Dagster name, in the key-value table of Dagster's run storage."""
VERSION = 1


@dataclass(frozen=True)
class Hold:
    """A workflow that is held.

    Attributes:
        workflow: Its Dagster name.
        since: When it was held, aware.
        by: Who held it.
    """

    workflow: str
    since: datetime
    by: str


def is_held(instance: DagsterInstance, workflow: str) -> bool:
    """Tells whether a workflow, by its Dagster name, is held."""
    return KeyValues(instance).get(PREFIX + workflow) is not None


def why_held(instance: DagsterInstance, workflow: str) -> str:
    """Returns since when a workflow is held, by whom, and what to do, as one sentence; "" if it is not held."""
    text = KeyValues(instance).get(PREFIX + workflow)
    if text is None:
        return ""
    held = _decoded(workflow, text)
    return (
        f"{workflow} is held by {held.by} since {held.since:%Y-%m-%d %H:%M %Z}; headrace resume {workflow} releases it"
    )


def holds(instance: DagsterInstance) -> dict[str, Hold]:
    """Returns every hold by its workflow's Dagster name."""
    found = (_decoded(key.removeprefix(PREFIX), text) for key, text in KeyValues(instance).list(PREFIX).items())
    return {each.workflow: each for each in found}


def hold(instance: DagsterInstance, workflow: str, by: str) -> Hold:
    """Holds a workflow; one that is held already keeps its first hold. Returns the one that counts."""
    pairs, made = KeyValues(instance), Hold(workflow, datetime.now(UTC), by)
    text = json.dumps({"v": VERSION, "since": made.since.isoformat(timespec="seconds"), "by": by})
    pairs.insert(PREFIX + workflow, text)
    return holds(instance).get(workflow, made)


def release(instance: DagsterInstance, workflow: str) -> bool:
    """Lets a workflow start again; tells whether it was held."""
    return KeyValues(instance).delete(PREFIX + workflow)


def _decoded(workflow: str, text: str) -> Hold:
    facts = json.loads(text)
    if facts.get("v") != VERSION:
        raise FatalError(
            f"the hold of workflow {workflow!r} has version {facts.get('v')}, and this Headrace knows version {VERSION}",
            where="run storage",
            hint="release it with the Headrace that wrote it",
        )
    return Hold(workflow, datetime.fromisoformat(facts["since"]), str(facts["by"]))
