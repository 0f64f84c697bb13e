"""The key-value table of Dagster's run storage with compare-and-swap, listing and deleting; the only door to its private names.

Dagster's own calls (`set_cursor_values`, `get_cursor_values`) can neither delete, list, nor compare; and on SQLite a call
with several keys drops those that are new. So each call here concerns one key. `tests/resources/stores` holds the contract
test that fails when an upgrade of Dagster changes what this rests on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from dagster import DagsterInstance
from dagster._core.storage.runs.schema import KeyValueStoreTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage

from dsl.contracts.errors import FatalError, UnavailableError

LONGEST_KEY = 255
_NOW: Mapping[str, sa.ColumnElement[Any]] = {
    "sqlite": sa.func.strftime("%Y-%m-%dT%H:%M:%f", "now"),
    "postgresql": sa.func.clock_timestamp(),
    "mysql": sa.func.utc_timestamp(sa.literal_column("6")),
}
"""Each database's own clock, in UTC or aware, as it is at the moment of the call."""


class KeyValues:
    """Texts under keys, in the run storage of a Dagster instance. Every call raises `UnavailableError` if it cannot be reached.

    Args:
        instance: Its run storage must be SQL: SQLite (the default), PostgreSQL or MySQL.
    """

    def __init__(self, instance: DagsterInstance) -> None:
        storage = instance.run_storage
        if not isinstance(storage, SqlRunStorage):
            raise FatalError(
                f"run storage {type(storage).__name__} has no key-value table",
                hint="use Dagster's SQLite, PostgreSQL or MySQL storage",
            )
        self._storage = storage

    def get(self, key: str) -> str | None:
        """Returns the value of a key, or None."""
        with _asked():
            return self._storage.get_cursor_values({key}).get(key)

    def read(self, key: str) -> tuple[str | None, datetime]:
        """Returns the value of a key, or None, and the time by the database's own clock, aware, in UTC."""
        table = KeyValueStoreTable
        value = sa.select(table.c.value).where(table.c.key == key).scalar_subquery()
        with _asked(), self._storage.connect() as connection:
            row = connection.execute(sa.select(value, _NOW[connection.dialect.name])).one()
        held, now = row
        time = datetime.fromisoformat(now) if isinstance(now, str) else now
        return held, time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)

    def put(self, key: str, value: str) -> None:
        """Sets a key, whatever it held."""
        with _asked():
            self._storage.set_cursor_values({_checked(key): value})

    def insert(self, key: str, value: str) -> bool:
        """Sets a key that does not exist; tells whether it did not."""
        table = KeyValueStoreTable
        free = ~sa.exists(sa.select(table.c.id).where(table.c.key == key))
        row = sa.select(sa.literal(_checked(key)), sa.literal(value)).where(free)
        try:
            return self._changed(table.insert().from_select(["key", "value"], row)) == 1
        except sa.exc.IntegrityError:
            return False

    def replace(self, key: str, old: str, new: str) -> bool:
        """Sets a key that still holds `old`; tells whether it did."""
        table = KeyValueStoreTable
        return self._changed(table.update().where(table.c.key == key, table.c.value == old).values(value=new)) == 1

    def delete(self, key: str) -> bool:
        """Forgets a key; tells whether it was there."""
        return self._changed(KeyValueStoreTable.delete().where(KeyValueStoreTable.c.key == key)) == 1

    def list(self, prefix: str) -> Mapping[str, str]:
        """Returns all pairs whose key begins so, case-sensitively, sorted by key."""
        table = KeyValueStoreTable
        found = sa.select(table.c.key, table.c.value).where(table.c.key.startswith(prefix, autoescape=True))
        with _asked(), self._storage.connect() as connection:
            rows = [(str(key), str(value)) for key, value in connection.execute(found)]
        return {key: value for key, value in sorted(rows) if key.startswith(prefix)}

    def _changed(self, statement: sa.sql.Executable) -> int:
        with _asked(), self._storage.connect() as connection:
            return connection.execute(statement).rowcount


def _checked(key: str) -> str:
    if len(key) > LONGEST_KEY:
        raise FatalError(f"a key of {len(key)} characters does not fit in run storage")
    return key


@contextmanager
def _asked() -> Iterator[None]:
    try:
        yield
    except sa.exc.IntegrityError:
        raise
    except sa.exc.SQLAlchemyError as error:
        raise UnavailableError(
            f"Dagster's run storage could not be read or written: {type(error).__name__}",
            where="run storage",
            hint="is its database reachable, and is its disk full?",
        ) from error
