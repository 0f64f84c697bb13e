"""A load of numbered rows that goes on where the token says it is; also a process of its own, to be killed. It asserts nothing."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pyarrow as pa

from dsl.contracts import failpoints
from dsl.contracts.connectors import Destination, Token
from dsl.contracts.secret import Secret
from resources.rabbitmq.resource import QueueType, RabbitMQConnection, RabbitMQDestination

SCHEMA = pa.schema([pa.field("id", pa.int64())])
TOKEN = Token("crash", "load", run_id="run-1")


def load(destination: Destination, total: int, size: int) -> None:
    """Writes the rows from where the load stands to the last; the writer is closed only at the end: whoever dies does not close."""
    writer = destination.open_writer(SCHEMA, TOKEN)
    committed = writer.get_state()
    at = int(str(committed.state["row"])) if committed else 0
    epoch = committed.epoch if committed else 0
    while at < total:
        rows = range(at, min(at + size, total))
        writer.write(pa.RecordBatch.from_pylist([{"id": each} for each in rows], schema=SCHEMA))
        at = rows.stop
        epoch += 1
        writer.commit(epoch, {"v": 1, "row": at}, final=at == total)
    writer.close()


def destination_at(port: int, name: str) -> Destination:
    """The destination of a load; its password is in the environment."""
    connection = RabbitMQConnection(
        host="127.0.0.1", port=port, username="headrace", password=Secret("${TEST_RABBITMQ_PASSWORD}")
    )
    return RabbitMQDestination(connection=connection, routing_key=name, queue_type=QueueType.QUORUM)


if __name__ == "__main__":
    given: dict[str, Any] = json.loads(sys.argv[1])
    failpoints.arm_from(os.environ)
    load(destination_at(given["port"], given["name"]), given["total"], given["size"])
