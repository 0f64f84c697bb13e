"""A load of numbered rows that goes on where the journal says it is; a process of its own, to be killed. It asserts nothing.

Each opening cuts the rows into other batches, as a source may after a crash.
"""

from __future__ import annotations

import sys

import pyarrow as pa

from dsl.contracts.connectors import Token
from resources.rest.resource import RestConnection, RestDestination

TYPES: dict[str, pa.DataType] = {"id": pa.int64(), "text": pa.string()}
SCHEMA = pa.schema(TYPES)
TOKEN = Token("crash", "load", run_id="run-1")
TOTAL = 24


def rows_of(numbers: range) -> pa.RecordBatch:
    """Rows with these numbers."""
    return pa.RecordBatch.from_pylist([{"id": each, "text": f"row {each}"} for each in numbers], schema=SCHEMA)


def load(destination: RestDestination, size: int) -> None:
    """Writes what is not committed yet, in batches of a size, in epochs of twelve rows."""
    with destination.open_writer(SCHEMA, TOKEN) as writer:
        committed = writer.get_state()
        for epoch in range(1 if committed is None else committed.epoch + 1, 3):
            first = 12 * (epoch - 1)
            for at in range(first, first + 12, size):
                writer.write(rows_of(range(at, min(at + size, first + 12))))
            writer.commit(epoch, {"v": 1, "epoch": epoch}, final=epoch == 2)


def destination_at(url: str, folder: str) -> RestDestination:
    """The endpoint that the tests serve."""
    connection = RestConnection(base_url=url, allow_private_hosts=True, attempts=1)
    return RestDestination(
        connection=connection, path="/rows", batch_rows=5, journal=folder, idempotency_header="Idempotency-Key"
    )


if __name__ == "__main__":
    load(destination_at(sys.argv[1], sys.argv[2]), int(sys.argv[3]))
