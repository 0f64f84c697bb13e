"""The token beside the data: a property of the table, set in the very commit that adds a snapshot; moves no other way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table, Transaction

from dsl.contracts.connectors import Committed, Token
from dsl.contracts.errors import FatalError, FencedError, RetryableError
from dsl.contracts.state import State
from resources.iceberg.client import LostRaceError, load, told

_ATTEMPTS: Final = 10
_RETRIES: Final = "commit.retry.num-retries"
Result = TypeVar("Result")
Act = Callable[[Transaction], Result]


@dataclass(frozen=True)
class Held:
    """A stream as its owner found or left it.

    Attributes:
        version: Grows by one with every act of the stream.
        committed: The last commit, or None before the first.
        staged: The files that gather an overwrite under way.
    """

    version: int = 0
    committed: Committed | None = None
    staged: tuple[str, ...] = ()


class StreamToken:
    """The token of one stream in one table.

    Args:
        catalog: Where the table is.
        name: The table.
        token: Which stream.
        where: Names the table in errors.
    """

    def __init__(self, catalog: Catalog, name: str, token: Token, where: str) -> None:
        self._catalog, self._name, self._token = catalog, name, token
        self.mark = hashlib.sha256(token.key.encode()).hexdigest()[:32]
        self._property = f"headrace.stream.{self.mark}"
        self._where = f"{where}: stream {token.key}"

    def table(self) -> Table:
        """Returns the table as it is now.

        Raises:
            FatalError: It is gone.
        """
        found = load(self._catalog, self._name, self._where)
        if found is None:
            raise FatalError("the table is gone", where=self._where)
        return found

    def fence(self, touch: Act[None]) -> Held:
        """Makes this writer the stream's only owner.

        Raises:
            RetryableError: Others keep writing at the same moment.
        """
        for _ in range(_ATTEMPTS):
            table = self.table()
            held = self._read(table)
            try:
                return self._act(table, held, held.committed, held.staged, touch)[0]
            except LostRaceError:
                continue
        raise RetryableError("others write this table all the time", where=self._where)

    def move(
        self, held: Held, epoch: int, state: State, staged: tuple[str, ...], act: Act[Result]
    ) -> tuple[Held, Result]:
        """Moves the token in the commit that `act` belongs to; tries again where other streams came first.

        Raises:
            FencedError: Another run owns the stream.
            RetryableError: Others keep writing at the same moment.
        """
        for _ in range(_ATTEMPTS):
            table = self.table()
            if self._read(table).version != held.version:
                told_text = "another run owns this stream now; nothing of this epoch was committed"
                raise FencedError(told_text, where=self._where)
            try:
                return self._act(table, held, Committed(epoch, dict(state)), staged, act)
            except LostRaceError:
                continue
        raise RetryableError("others write this table all the time; nothing was committed", where=self._where)

    def _act(
        self, table: Table, held: Held, committed: Committed | None, staged: tuple[str, ...], act: Act[Result]
    ) -> tuple[Held, Result]:
        made = Held(held.version + 1, committed, staged)
        content = {
            "v": 1,
            "stream": self._token.key,
            "run_id": self._token.run_id,
            "version": made.version,
            "epoch": committed.epoch if committed else 0,
            "state": dict(committed.state) if committed else None,
            "staged": staged,
        }
        # Only in this process: the driver would repeat a commit on top of the one that has fenced it.
        table.metadata.properties[_RETRIES] = "0"
        with told(self._where):
            transaction = table.transaction()
            result = act(transaction)
            transaction.set_properties({self._property: json.dumps(content, sort_keys=True)})
            transaction.commit_transaction()
        return made, result

    def _read(self, table: Table) -> Held:
        found: Any = table.metadata.properties.get(self._property)
        if found is None:
            return Held()
        content = json.loads(found)
        committed = Committed(content["epoch"], content["state"]) if content["epoch"] else None
        return Held(content["version"], committed, tuple(content["staged"]))
