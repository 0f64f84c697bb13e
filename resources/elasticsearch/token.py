"""The token of a stream, a document beside the data: who owns it, how far it is committed, what may lie uncommitted; writes no rows.

Every change names the sequence number of the document it replaces (`if_seq_no`), so that exactly one of any number of
writers moves it. Before an epoch's first document is sent, the ids that it may get are noted under `open`: they follow
from the stream, a number and their order. Whoever opens the stream next finds them there, on any machine.

That number is the time in milliseconds, but always more than the last one noted. It makes ids unique, and versions that
grow: with the row's order behind it, it fits the 63 bits of a version until the year 2109.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from dsl.contracts.connectors import Committed, Token
from dsl.contracts.errors import FatalError, FencedError, RetryableError
from dsl.contracts.state import State
from resources.elasticsearch.client import Answer, Client

ORDER_BITS = 21
MOST_ROWS = 2**ORDER_BITS
"""Rows under one number."""
_ATTEMPTS = 20
_MAPPINGS = {"dynamic": False, "properties": {"stream": {"type": "keyword"}, "index": {"type": "keyword"}}}


@dataclass(frozen=True)
class Block:
    """Ids that an epoch may have written.

    Attributes:
        number: The number in them.
        rows: How many, counted from 0.
    """

    number: int
    rows: int

    def versions(self) -> Iterator[int]:
        """Yields the version of each."""
        return (self.number << ORDER_BITS | order for order in range(self.rows))


@dataclass(frozen=True)
class Held:
    """A stream as its owner holds it.

    Attributes:
        fence: The owner's number.
        last: The last number drawn for ids and versions.
        committed: The last commit, or None before the first.
        staging: The index that gathers an overwrite under way, or "".
        owed: Whether that index has still to take the target's name.
        open: Ids that the open epoch may have written.
        open_in: The index that they are in.
        place: Sequence number and primary term of the document.
    """

    fence: int = 0
    last: int = 0
    committed: Committed | None = None
    staging: str = ""
    owed: bool = False
    open: tuple[Block, ...] = ()
    open_in: str = ""
    place: tuple[int, int] | None = None

    @property
    def epoch(self) -> int:
        """The last committed epoch, 0 before the first."""
        return self.committed.epoch if self.committed else 0

    def drawn(self) -> int:
        """Returns the next number: the time, or one more than the last."""
        return max(time.time_ns() // 1_000_000, self.last + 1)


@dataclass(frozen=True)
class TokenDocument:
    """The token of one stream for one index.

    Attributes:
        client: The cluster.
        index: The index that keeps tokens.
        target: The index or alias that is written.
        token: Which stream.
    """

    client: Client
    index: str
    target: str
    token: Token
    key: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(f"{self.token.key}\0{self.target}".encode()).hexdigest()
        object.__setattr__(self, "key", digest)

    @property
    def where(self) -> str:
        """How errors name it."""
        return f"{self.client.place}: stream {self.token.key}"

    def id_of(self, version: int) -> str:
        """Returns the id of the row that has this version; ids of one number lie side by side in the index."""
        name = bytes.fromhex(self.key[:20]) + version.to_bytes(8, "big")
        return base64.urlsafe_b64encode(name).decode()

    def fence(self) -> Held:
        """Makes this writer the stream's only owner.

        Raises:
            RetryableError: Other runs keep doing the same.
        """
        self._ensure_index()
        for attempt in range(_ATTEMPTS):
            found = self._read()
            held = self._try(replace(found, fence=found.fence + 1, last=found.drawn()))
            if held is not None:
                return held
            time.sleep(0.01 * attempt)
        raise RetryableError("several runs open this stream at once", where=self.where, hint="run one of them")

    def put(self, held: Held) -> Held:
        """Replaces the document this writer holds.

        Raises:
            FencedError: Another run owns the stream.
        """
        written = self._try(held)
        if written is None:
            raise self._fenced()
        return written

    def check(self, held: Held) -> None:
        """Makes sure that this writer still owns the stream.

        Raises:
            FencedError: It does not.
        """
        if self._read().fence != held.fence:
            raise self._fenced()

    def _fenced(self) -> FencedError:
        return FencedError(
            "another run owns this stream now, or its token was deleted; nothing of this epoch was committed",
            where=self.where,
        )

    def _ensure_index(self) -> None:
        body = {"settings": {"number_of_shards": 1, "auto_expand_replicas": "0-1"}, "mappings": _MAPPINGS}
        if self.client.ask("GET", self.index).status == 404:
            self.client.create_index(self.index, body, where=self.where)

    def _read(self) -> Held:
        answer = self.client.ask("GET", self.index, "_doc", self.key, where=self.where)
        if answer.status == 404:
            return Held()
        return self._held(answer)

    def _held(self, answer: Answer) -> Held:
        source: dict[str, Any] = answer.body["_source"]
        try:
            state = source["state"]
            return Held(
                int(source["fence"]),
                int(source["last"]),
                None if state is None else Committed(int(source["epoch"]), json.loads(state)),
                str(source["staging"]),
                bool(source["owed"]),
                tuple(Block(int(number), int(rows)) for number, rows in source["open"]),
                str(source["open_in"]),
                (int(answer.body["_seq_no"]), int(answer.body["_primary_term"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FatalError(
                f"the token '{self.key}' in '{self.index}' is damaged: {error}",
                where=self.where,
                hint="delete it to load the index from the beginning",
            ) from error

    def _try(self, held: Held) -> Held | None:
        """Replaces the document; None if it is not the one that `held` was read from."""
        query = {"op_type": "create"}
        if held.place is not None:
            query = {"if_seq_no": str(held.place[0]), "if_primary_term": str(held.place[1])}
        answer = self.client.ask(
            "PUT", self.index, "_doc", self.key, body=self._source(held), where=self.where, **query
        )
        if answer.status in {404, 409}:
            return None
        return replace(held, place=(int(answer.body["_seq_no"]), int(answer.body["_primary_term"])))

    def _source(self, held: Held) -> dict[str, Any]:
        committed = held.committed
        return {
            "stream": self.token.key,
            "index": self.target,
            "fence": held.fence,
            "last": held.last,
            "epoch": held.epoch,
            "state": None if committed is None else json.dumps(dict(committed.state), sort_keys=True),
            "staging": held.staging,
            "owed": held.owed,
            "open": [[each.number, each.rows] for each in held.open],
            "open_in": held.open_in,
            "run_id": self.token.run_id,
            "written_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            **{f"run_{name}": value for name, value in self.token.retain.items()},
        }


def moved(held: Held, epoch: int, state: State, **changes: Any) -> Held:
    """Returns the token after an epoch."""
    return replace(held, committed=Committed(epoch, dict(state)), open=(), open_in="", **changes)
