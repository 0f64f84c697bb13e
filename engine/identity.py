"""Whether a state still fits what its workflow has become: what each reader reads and where the stage writes; reads and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Committed
from dsl.contracts.errors import FatalError
from dsl.contracts.state import Json, State, is_complete
from dsl.contracts.stores import Checkpoint
from dsl.plan.physical import Scan, Stage, Write
from engine.events import Teller
from engine.flow import combined, part
from engine.opening import leaf_keys

_DECISIVE = ("incremental_column", "incremental", "sync_mode", "primary_key")
"""Options of a source that say what a place in it means; of filters, columns and sizes a state knows nothing."""


def identity_of(stage: Stage) -> dict[str, Json]:
    """Returns what a stage's state belongs to: `{"of": {reader: {"place": …}}, "to": …}`, kept in the state itself."""
    found: dict[str, Json] = {"of": {key: _source(leaf) for key, leaf in leaf_keys(stage.root).items()}}
    if isinstance(stage.writer, Write):
        found["to"] = "/".join(stage.writer.destination.physical_name)
    return found


def _source(leaf: object) -> dict[str, Json]:
    if not isinstance(leaf, Scan):
        return {}
    options = {name: _text(getattr(leaf.source, name, None)) for name in _DECISIVE}
    return {"place": "/".join(leaf.source.physical_name), **{name: text for name, text in options.items() if text}}


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None or value is False else str(value)


@dataclass(frozen=True)
class Verdict:
    """What becomes of a stage's state in the next run.

    Attributes:
        why: What has changed so that it means nothing any more; "" if it still fits.
        refused: What keeps the next run from reading everything again instead, with what to do; "" if nothing does.
    """

    why: str = ""
    refused: str = ""


def judge(stage: Stage, state: State | None) -> Verdict:
    """Tells whether a stage may go on from a state, must begin again, or may do neither."""
    held = None if state is None else state.get("of")
    if state is None or not isinstance(held, dict):
        return Verdict()
    now = {key: _source(leaf) for key, leaf in leaf_keys(stage.root).items()}
    mode = stage.writer.destination.write_mode if isinstance(stage.writer, Write) else None
    half = mode is WriteMode.OVERWRITE and state.get("final") is False
    why = [*_changed(held, now, state), *(_renamed(held, now) if half else ())]
    if not why:
        return Verdict()
    if half:
        refused = "an overwrite from what it read before is half done: let it end with the workflow as it was"
    elif mode is WriteMode.APPEND:
        refused = (
            "the target is appended to, so that rows it has already would be doubled: put it back; or, if all rows are "
            "new to the target, give the source node another name, and everything is read"
        )
    else:
        refused = ""
    return Verdict("; ".join(why), refused)


def _changed(held: Mapping[str, Json], now: Mapping[str, dict[str, Json]], state: State) -> list[str]:
    told = []
    for key, source in now.items():
        before, reached = held.get(key), part(state, "inputs", key)
        if isinstance(before, dict) and before != source and reached is not None and not is_complete(reached):
            names = sorted(name for name in {*before, *source} if before.get(name) != source.get(name))
            told += [f"{key}: {name} was {_shown(before, name)} and is {_shown(source, name)}" for name in names]
    return told


def _renamed(held: Mapping[str, Json], now: Mapping[str, dict[str, Json]]) -> list[str]:
    return [f"{key}: it is no source of the stage any more" for key in held if key not in now]


def _shown(options: Mapping[str, Json], name: str) -> str:
    return f"'{options[name]}'" if name in options else "not set"


def carried_over(stage: Stage, committed: Committed | None, where: str, teller: Teller) -> Committed | None:
    """Returns the token as this workflow may use it: as it is, or without a state that belongs to something else.

    Raises:
        FatalError: To begin again would double rows, or mix them with those of another source.
    """
    if committed is None:
        return None
    found = judge(stage, committed.state)
    if not found.why:
        return committed
    if found.refused:
        raise FatalError(f"the state means nothing any more: {found.why}", where=where, hint=found.refused)
    teller.tell("state_void", reason=f"{found.why}: everything is read again")
    return replace(committed, state={**combined({}, {}), "final": True})


def copy_of_here(stage: Stage, copy: Checkpoint | None, teller: Teller) -> Checkpoint | None:
    """Returns the checkpoint unless it speaks of another destination: the token there, or that there is none, decides."""
    before = None if copy is None else copy.state.get("to")
    now = identity_of(stage).get("to")
    if before is None or now is None or before == now:
        return copy
    teller.tell(
        "state_void", reason=f"the destination was {before} and is {now}: its own token decides where it goes on"
    )
    return None
