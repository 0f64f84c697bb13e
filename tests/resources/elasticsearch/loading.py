"""A load of numbered rows that goes on where the index says it is; also a process of its own, to be killed. It asserts nothing.

Each opening cuts the rows into other batches and epochs, as a source may after a crash.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import count
from typing import Any

import pyarrow as pa

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination, Token
from dsl.contracts.state import State
from resources.elasticsearch.resource import ElasticsearchConnection, ElasticsearchDestination

SCHEMA = pa.schema([pa.field("id", pa.int64())]).append(pa.field("text", pa.string()))
TOKEN = Token("crash", "load", run_id="run-1")
_openings = count()


def rows_of(numbers: Sequence[int]) -> pa.RecordBatch:
    """Rows with these numbers."""
    return pa.RecordBatch.from_pylist([{"id": each, "text": f"row {each}"} for each in numbers], schema=SCHEMA)


def state_at(row: int, *, final: bool = False) -> State:
    """The state after so many rows."""
    return {"v": 1, "row": row, "final": final}


def load(destination: Destination, total: int, *, sizes: Sequence[int] = (7, 4, 5)) -> None:
    """Writes the rows from where the index stands to the last; does nothing when it is loaded already.

    The writer is closed only at the end: whoever dies does not close.
    """
    size = sizes[next(_openings) % len(sizes)]
    writer = destination.open_writer(SCHEMA, TOKEN)
    committed = writer.get_state()
    at = int(committed.state["row"]) if committed else 0  # type: ignore[arg-type]
    epoch = committed.epoch if committed else 0
    if not (committed and committed.state["final"]):
        for start in range(at, total, size):
            writer.write(rows_of(range(start, min(start + size, total))))
            at = min(start + size, total)
            if (start // size) % 2 or at == total:
                epoch += 1
                writer.commit(epoch, state_at(at, final=at == total), final=at == total)
    writer.close()


def destination_at(port: int, index: str, mode: str) -> Destination:
    """The destination of a load."""
    key = "id" if mode == WriteMode.UPSERT else None
    connection = ElasticsearchConnection(host="127.0.0.1", port=port)
    return ElasticsearchDestination(connection=connection, index=index, write_mode=WriteMode(mode), id_field=key)


if __name__ == "__main__":
    given: dict[str, Any] = json.loads(sys.argv[1])
    load(destination_at(given["port"], given["index"], given["mode"]), given["total"], sizes=given["sizes"])
