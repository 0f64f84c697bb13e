"""The token of a load, kept in a small stream whose order decides which run owns it; sends none of the load's rows."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pika import exceptions

from dsl.contracts.connectors import Committed, Token
from dsl.contracts.errors import ErrorType, FatalError, RetryableError
from dsl.contracts.state import State
from resources.rabbitmq.client import Tap, properties, worded
from resources.rabbitmq.messages import OFFSET

_FACTS = {
    "x-queue-type": "stream",
    "x-max-length-bytes": 8 * 2**20,
    "x-stream-max-segment-size-bytes": 2**20,
}


def name_of(token: Token, target: str) -> str:
    """Returns the name of the stream that keeps a load's tokens."""
    digest = hashlib.sha256(f"{token.key}\0{target}".encode()).hexdigest()[:24]
    return f"headrace.token.{digest}"


@dataclass
class Standing:
    """What the records of a token's stream say so far, each counting only if its owner had not lost the stream before it.

    Attributes:
        owner: The writer that opened the stream last.
        load: Names the load; ids of messages are made of it.
        rows: Rows that were sent up to the last commit.
        committed: The last commit.
    """

    owner: str = ""
    load: str = ""
    rows: int = 0
    committed: Committed | None = None

    def follow(self, record: Mapping[str, Any]) -> None:
        """Takes the next record."""
        if record["kind"] == "fence":
            self.owner, self.load = record["owner"], self.load or record["load"]
            return
        # The oldest records are removed: what the first that is left says was so.
        if record["owner"] == self.owner or not self.owner:
            self.owner, self.load, self.rows = record["owner"], record["load"], record["rows"]
            self.committed = Committed(record["epoch"], record["state"])


class TokenLog:
    """The stream of one load's tokens, opened by one writer.

    Args:
        connection: The connection, which is not closed with it.
        token: The load.
        target: What it is loaded into.
        where: Names it in errors.
        seconds: How long the broker may be silent.

    Raises:
        HeadraceError: The stream cannot be made or read.
    """

    def __init__(self, connection: Any, token: Token, target: str, where: str, seconds: float) -> None:
        self._where, self._seconds, self._token = where, seconds, token
        self._name, self._owner = name_of(token, target), uuid.uuid4().hex
        self.standing = Standing()
        with worded(where):
            self._channel = connection.channel()
            self._channel.queue_declare(self._name, durable=True, arguments=_FACTS)
            self._channel.confirm_delivery()
        self._tap = Tap(connection, self._name, 100, where, {OFFSET: "first"})
        self._append({"kind": "fence", "load": uuid.uuid4().hex, "stream": token.key, "target": target})
        held = self.standing
        if held.committed is not None and self.owns():
            # Repeated, so that it is kept when what came before is removed.
            self.commit(held.committed.epoch, held.committed.state, held.rows)

    def owns(self) -> bool:
        """Tells whether no newer writer has opened the stream, as far as is known here."""
        self._read(0)
        return self.standing.owner == self._owner

    def commit(self, epoch: int, state: State, rows: int) -> bool:
        """Appends a commit; tells whether it counts.

        Raises:
            FatalError: The stream is gone.
            RetryableError: Unknown whether it counts.
        """
        facts = {"epoch": epoch, "state": dict(state), "rows": rows, "load": self.standing.load}
        self._append({"kind": "commit", **facts, "run": self._token.run_id})
        return self.standing.owner == self._owner

    def _append(self, record: Mapping[str, Any]) -> None:
        """Appends a record and reads the stream up to it."""
        mark = uuid.uuid4().hex
        body = json.dumps({**record, "owner": self._owner, "mark": mark}, allow_nan=False).encode()
        kept = properties(content_type="application/json")
        try:
            with worded(self._where):
                self._channel.basic_publish("", self._name, body, kept, mandatory=True)
        except RetryableError as error:
            if isinstance(error.__cause__, exceptions.UnroutableError):
                hint = "who removed it? stop, and reset the state to load again"
                raise FatalError("the stream of tokens is gone", where=self._where, hint=hint) from error
            raise
        ends = time.monotonic() + self._seconds
        while not self._read(0.1, mark):
            if time.monotonic() > ends:
                said = "the stream of tokens does not show what was written to it"
                raise RetryableError(said, where=self._where, error_type=ErrorType.TIMEOUT)

    def _read(self, seconds: float, mark: str = "") -> bool:
        """Follows records that have come; tells whether the one with a mark is among them."""
        got = self._tap.take(100, seconds)
        found = False
        for each in got:
            try:
                record = json.loads(each.body)
                self.standing.follow(record)
                found = found or record["mark"] == mark
            except (ValueError, KeyError, TypeError) as error:
                hint = f"does something else write '{self._name}'?"
                raise FatalError("a token cannot be read", where=self._where, hint=hint) from error
        if got:
            self._tap.acknowledge(got[-1].tag)
        return found
