"""The token beside the data: a transaction mark in the table's log that names the file with the state; moves with the rows only."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError

from dsl.contracts.connectors import Committed, Token
from dsl.contracts.errors import FatalError, FencedError, RetryableError
from dsl.contracts.state import State
from resources.delta.client import TableStore, told

FOLDER: Final = "_headrace"
_ATTEMPTS: Final = 20
_CHANCE: Final = 32
Result = TypeVar("Result")
Act = Callable[[DeltaTable, CommitProperties], Result]


@dataclass(frozen=True)
class Held:
    """A stream as its owner found or left it.

    Attributes:
        version: The stream's mark in the table's log; 0 before the first.
        committed: The last commit, or None before the first.
        staged: The files that gather an overwrite under way.
    """

    version: int = 0
    committed: Committed | None = None
    staged: tuple[str, ...] = ()


class StreamToken:
    """The token of one stream in one table.

    A mark is a number that grows by one with every act, followed by 32 random bits: two writers that act at the same time
    name different files, and the one whose entry stands in the log is right.

    Args:
        store: Where the table lies.
        token: Which stream.
    """

    def __init__(self, store: TableStore, token: Token) -> None:
        self._store, self._token = store, token
        self._app = f"headrace/{token.key}"
        self.folder = f"{FOLDER}/{hashlib.sha256(token.key.encode()).hexdigest()[:32]}"
        self._where = f"{store.place}: stream {token.key}"

    def fence(self, create: Act[None], touch: Act[None]) -> Held:
        """Makes this writer the stream's only owner.

        Args:
            create: Creates the table, where there is none.
            touch: Adds an entry without rows to the log.

        Raises:
            RetryableError: Others keep writing at the same moment.
        """
        for _ in range(_ATTEMPTS):
            table = self._store.load()
            held = Held() if table is None else self._read(table)
            try:
                return self._act(table, held, held.committed, held.staged, create if table is None else touch)[0]
            except CommitFailedError:
                continue
        raise RetryableError("others write this table all the time", where=self._where)

    def move(
        self, held: Held, epoch: int, state: State, staged: tuple[str, ...], act: Act[Result]
    ) -> tuple[Held, Result]:
        """Moves the token in the entry of the log that `act` adds.

        Raises:
            FencedError: Another run owns the stream.
            RetryableError: Another writer changed the same rows at the same moment.
        """
        self._must_own(held)
        try:
            return self._act(self._table(), held, Committed(epoch, dict(state)), staged, act)
        except CommitFailedError as error:
            self._must_own(held)
            told_text = "another writer changed the table at the same moment; nothing was committed"
            raise RetryableError(told_text, where=self._where) from error

    def _table(self) -> DeltaTable:
        table = self._store.load()
        if table is None:
            raise FatalError("the table is gone", where=self._where)
        return table

    def _must_own(self, held: Held) -> None:
        if self._table().transaction_version(self._app) != held.version:
            told_text = "another run owns this stream now; nothing of this epoch was committed"
            raise FencedError(told_text, where=self._where)

    def _act(
        self,
        table: Any,
        held: Held,
        committed: Committed | None,
        staged: tuple[str, ...],
        act: Act[Result],
    ) -> tuple[Held, Result]:
        version = ((held.version >> _CHANCE) + 1 << _CHANCE) | secrets.randbits(_CHANCE)
        content = {
            "v": 1,
            "stream": self._token.key,
            "run_id": self._token.run_id,
            "epoch": committed.epoch if committed else 0,
            "state": dict(committed.state) if committed else None,
            "staged": staged,
        }
        self._store.put(self._file(version), json.dumps(content, sort_keys=True).encode())
        properties = CommitProperties(
            custom_metadata={"headrace_stream": self._token.key, "headrace_run": self._token.run_id},
            app_transactions=[Transaction(self._app, version)],
        )
        with told(self._where):
            result = act(table, properties)
        if held.version:
            self._store.discard(self._file(held.version))
        return Held(version, committed, staged), result

    def _file(self, version: int) -> str:
        return f"{self.folder}/{version}.json"

    def _read(self, table: DeltaTable) -> Held:
        for _ in range(_ATTEMPTS):
            version = table.transaction_version(self._app)
            if version is None:
                return Held()
            found = self._store.get(self._file(version))
            if found is not None:
                content = json.loads(found)
                epoch, state = content["epoch"], content["state"]
                committed = Committed(epoch, state) if epoch else None
                return Held(version, committed, tuple(content["staged"]))
            # Its owner has moved on between the two looks; or the file was removed.
            table = self._table()
            if table.transaction_version(self._app) == version:
                break
        raise FatalError(
            f"the state of this stream is gone: '{self._file(version or 0)}' is missing beside the table",
            where=self._where,
            hint="restore the file, or load the table anew under another name",
        )
