"""The token beside the data: who owns a stream, and how far it is committed; moves only inside the caller's transaction.

One table `_headrace_tokens` in the target's schema holds one row for each stream:
`stream_key` (key), `fence`, `epoch`, `state` (JSON text), `run_id`, `committed_at`, `staging`, `owed`.
Opening a writer adds one to `fence` and commits: from then on every other writer of the stream fails at its commit,
because the token moves only `WHERE fence = mine AND epoch = expected`. The row lock that the fence takes waits for a
commit whose outcome its own writer never heard of, so what is read after it is final.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from dsl.contracts.connectors import Committed, Token
from dsl.contracts.errors import FatalError, FencedError, RejectedRows
from dsl.contracts.state import State
from resources.sql import TOKEN_TABLE, TableName
from resources.sql_session import Session

_ATTEMPTS = 5


@dataclass(frozen=True)
class Held:
    """A stream as its owner found it.

    Attributes:
        fence: The owner's number.
        committed: The last commit, or None before the first.
        staging: The table that gathers an overwrite under way, or "".
        owed: Whether that table has still to take the target's place.
    """

    fence: int
    committed: Committed | None
    staging: str
    owed: bool

    @property
    def epoch(self) -> int:
        """The last committed epoch, 0 before the first."""
        return self.committed.epoch if self.committed else 0


class TokenTable:
    """The token of one stream in one schema.

    Args:
        session: The connection that also writes the rows.
        target: The table that is written; the tokens live in its schema.
        token: Which stream.
    """

    def __init__(self, session: Session, target: TableName, token: Token) -> None:
        self._session, self._token = session, token
        self._table = session.qualified(target.beside(session.spell(TOKEN_TABLE)))
        self._where = f"{session.place}: stream {token.key}"

    def fence(self) -> Held:
        """Makes this writer the stream's only owner and commits that; waits for a commit that is under way.

        Raises:
            FatalError: The table holds the stream twice.
            RetryableError: The owner before holds its lock too long.
        """
        session = self._session
        session.ensure(f"CREATE TABLE IF NOT EXISTS {self._table} ({session.token_columns()}){session.table_options}")
        for _ in range(_ATTEMPTS):
            session.begin()
            try:
                held = self._take()
            except RejectedRows:  # another run inserted the same new stream at this moment
                session.rollback()
                continue
            except BaseException:
                session.rollback()
                raise
            session.commit()
            return held
        raise FatalError("several runs keep creating this stream at once", where=self._where, hint="run one of them")

    def _take(self) -> Held:
        session, key = self._session, self._token.key
        if not session.run(f"UPDATE {self._table} SET fence = fence + 1 WHERE stream_key = ?", (key,)):
            session.run(f"INSERT INTO {self._table} (stream_key, fence, epoch, owed) VALUES (?, 1, 0, 0)", (key,))
        found = session.rows(
            f"SELECT fence, epoch, state, staging, owed FROM {self._table} WHERE stream_key = ?", (key,)
        )
        if len(found) != 1:
            raise FatalError(f"{len(found)} tokens where one must be", where=self._where, hint="delete the older one")
        fence, epoch, state, staging, owed = found[0]
        committed = Committed(int(epoch), json.loads(state)) if state is not None else None
        return Held(int(fence), committed, staging or "", bool(int(owed)))

    def move(self, held: Held, epoch: int, state: State, *, staging: str = "", owed: bool = False) -> Held:
        """Moves the token inside the open transaction.

        Raises:
            FencedError: Another run owns the stream, or has committed this epoch.
        """
        changed = self._session.run(
            f"UPDATE {self._table} SET epoch = ?, state = ?, run_id = ?, committed_at = ?, staging = ?, owed = ? "
            "WHERE stream_key = ? AND fence = ? AND epoch = ?",
            (
                epoch,
                json.dumps(dict(state), sort_keys=True),
                self._token.run_id,
                datetime.now(UTC).isoformat(timespec="microseconds"),
                staging or None,
                int(owed),
                self._token.key,
                held.fence,
                held.epoch,
            ),
        )
        self._must_own(changed)
        return Held(held.fence, Committed(epoch, dict(state)), staging, owed)

    def settle(self, held: Held) -> Held:
        """Notes that an owed swap is done."""
        changed = self._session.run(
            f"UPDATE {self._table} SET staging = NULL, owed = 0 WHERE stream_key = ? AND fence = ?",
            (self._token.key, held.fence),
        )
        self._must_own(changed)
        return Held(held.fence, held.committed, "", owed=False)

    def _must_own(self, changed: int) -> None:
        if changed != 1:
            raise FencedError(
                "another run owns this stream now; nothing of this epoch was committed", where=self._where
            )
