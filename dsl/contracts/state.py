"""Where to resume: small, printable, versioned JSON; never an object, never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
State: TypeAlias = Mapping[str, Json]

VERSION = 1


def new_state(**fields: Json) -> dict[str, Json]:
    """Returns a state of the current version with zero rows and bytes read."""
    return {"v": VERSION, "records_read": 0, "bytes_read": 0, **fields}


def advance(state: State | None, rows: int, size: int, **fields: Json) -> dict[str, Json]:
    """Returns the state after `rows` more rows of `size` bytes, with the given fields replaced."""
    before = new_state() if state is None else dict(state)
    read, held = before.get("records_read"), before.get("bytes_read")
    before["records_read"] = (read if isinstance(read, int) else 0) + rows
    before["bytes_read"] = (held if isinstance(held, int) else 0) + size
    return {**before, **fields}


def is_complete(state: State | None) -> bool:
    """Tells whether a full refresh that this state belongs to has delivered its last row."""
    return state is not None and state.get("complete") is True
