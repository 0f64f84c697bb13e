"""A process that writes ten epochs into a SQLite file and goes on where the token says; tests kill it."""

from __future__ import annotations

import sys

import pyarrow as pa

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Token
from resources.sqlite.resource import SQLiteConnection, SQLiteDestination

EPOCHS, BATCHES, ROWS = 10, 3, 40
SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("epoch", pa.int64())])


def batch(epoch: int, number: int) -> pa.RecordBatch:
    """Rows of an epoch's batch."""
    first = (epoch * BATCHES + number) * ROWS
    ids = range(first, first + ROWS)
    return pa.RecordBatch.from_pydict({"id": list(ids), "epoch": [epoch] * ROWS}, schema=SCHEMA)


def expected() -> list[tuple[int, int]]:
    """What must stand in the table at the end."""
    rows = (row for epoch in range(EPOCHS) for number in range(BATCHES) for row in batch(epoch, number).to_pylist())
    return sorted((row["id"], row["epoch"]) for row in rows)


def write(path: str, mode: WriteMode) -> None:
    """Writes what is left to write."""
    key = ("id",) if mode is WriteMode.UPSERT else ()
    target = SQLiteDestination(connection=SQLiteConnection(path=path), table="target", write_mode=mode, primary_key=key)
    with target.open_writer(SCHEMA, Token("crash", "load")) as writer:
        committed = writer.get_state()
        for epoch in range(committed.epoch if committed else 0, EPOCHS):
            for number in range(BATCHES):
                writer.write(batch(epoch, number))
            writer.commit(epoch + 1, {"v": 1, "epoch": epoch + 1}, final=epoch + 1 == EPOCHS)


if __name__ == "__main__":
    write(sys.argv[1], WriteMode(sys.argv[2]))
