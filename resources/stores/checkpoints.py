"""Checkpoints, the operator's copy of every stream's token: in Dagster's run storage, or in memory. It decides nothing.

The token beside the data is the truth; a checkpoint that is behind it is repaired from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from dsl.contracts.errors import FatalError
from dsl.contracts.stores import Checkpoint

if TYPE_CHECKING:
    from dagster import DagsterInstance

PREFIX = "headrace/checkpoint/v1/"
VERSION = 1
_PLAIN = 150


class _Pairs(Protocol):
    def get(self, key: str) -> str | None: ...
    def put(self, key: str, value: str) -> None: ...
    def delete(self, key: str) -> bool: ...
    def list(self, prefix: str) -> Mapping[str, str]: ...


class KeyValueCheckpoints:
    """Checkpoints in the run storage of a Dagster instance: one key, one small JSON document, for each stream.

    Args:
        instance: The instance whose run storage keeps them.
    """

    def __init__(self, instance: DagsterInstance) -> None:
        from resources.stores.key_values import KeyValues

        self._pairs: _Pairs = KeyValues(instance)

    def get(self, key: str) -> Checkpoint | None:
        """Returns the stream's checkpoint, or None.

        Raises:
            FatalError: What is stored was written by a newer version.
        """
        held = self._pairs.get(_stored_key(key))
        return None if held is None else _decode(held)

    def put(self, checkpoint: Checkpoint) -> None:
        """Replaces the stream's checkpoint."""
        self._pairs.put(_stored_key(checkpoint.key), _encode(checkpoint))

    def list(self, prefix: str) -> Sequence[Checkpoint]:
        """Returns all checkpoints whose key begins so, sorted by key."""
        found = (_decode(each) for each in self._pairs.list(PREFIX + prefix[:_PLAIN]).values())
        return sorted((each for each in found if each.key.startswith(prefix)), key=lambda each: each.key)

    def delete(self, key: str) -> bool:
        """Forgets one; tells whether it was there."""
        return self._pairs.delete(_stored_key(key))


class MemoryCheckpoints:
    """Checkpoints that end with the process, for tests and previews."""

    def __init__(self) -> None:
        self._held: dict[str, str] = {}

    def get(self, key: str) -> Checkpoint | None:
        """Returns the stream's checkpoint, or None."""
        held = self._held.get(key)
        return None if held is None else _decode(held)

    def put(self, checkpoint: Checkpoint) -> None:
        """Replaces the stream's checkpoint."""
        self._held[checkpoint.key] = _encode(checkpoint)

    def list(self, prefix: str) -> Sequence[Checkpoint]:
        """Returns all checkpoints whose key begins so, sorted by key."""
        return [_decode(held) for key, held in sorted(self._held.items()) if key.startswith(prefix)]

    def delete(self, key: str) -> bool:
        """Forgets one; tells whether it was there."""
        return self._held.pop(key, None) is not None


def _stored_key(key: str) -> str:
    """Returns the key in run storage: readable, and never longer than its index allows."""
    if len(key) <= _PLAIN:
        return PREFIX + key
    return f"{PREFIX}{key[:_PLAIN]}~{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def _encode(checkpoint: Checkpoint) -> str:
    facts = {
        "v": VERSION,
        "key": checkpoint.key,
        "epoch": checkpoint.epoch,
        "state": dict(checkpoint.state),
        "run_id": checkpoint.run_id,
        "committed_at": checkpoint.committed_at.isoformat(),
    }
    return json.dumps(facts, sort_keys=True, allow_nan=False)


def _decode(text: str) -> Checkpoint:
    facts = json.loads(text)
    if facts.get("v") != VERSION:
        raise FatalError(
            f"a checkpoint has version {facts.get('v')}, and this Headrace knows version {VERSION}",
            where=f"checkpoint '{facts.get('key')}'",
            hint="run with the Headrace that wrote it, or delete the checkpoint: the token beside the data is kept",
        )
    return Checkpoint(
        key=facts["key"],
        epoch=facts["epoch"],
        state=facts["state"],
        run_id=facts["run_id"],
        committed_at=datetime.fromisoformat(facts["committed_at"]),
    )
