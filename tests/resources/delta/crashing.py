"""Loads four epochs into a Delta table and dies at a given step of a commit; run as a process of its own, or called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from dsl.contracts.connectors import Token
from resources.delta.resource import DeltaConnection, DeltaDestination
from resources.testing import sample

EPOCHS = 4


def load(folder: str, call: int, die: Callable[[], None]) -> None:
    """Writes what is missing of four epochs.

    Args:
        folder: Where the table `t` lies.
        call: Dies before or after the act of this number; 0 for never.
        die: How.
    """
    destination = DeltaDestination(connection=DeltaConnection(location=folder), table="t")
    writer: Any = destination.open_writer(sample(0, 1).schema, Token(workflow="flow", stage="load", run_id="run-1"))
    committed = writer.get_state()
    steps = iter(range(1, 1_000))

    def step(act: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*given: Any) -> Any:
            if next(steps) == call:
                die()
            found = act(*given)
            if next(steps) == call:
                die()
            return found

        return stepped

    store = writer._store
    store.put, store.discard, writer._append = step(store.put), step(store.discard), step(writer._append)
    with writer:
        for epoch in range((committed.epoch if committed else 0) + 1, EPOCHS + 1):
            writer.write(sample(epoch * 10, 10))
            writer.commit(epoch, {"v": 1, "epoch": epoch}, final=epoch == EPOCHS)


if __name__ == "__main__":
    load(sys.argv[1], int(sys.argv[2]), lambda: os._exit(9))
