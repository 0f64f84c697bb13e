"""Opens SQLite files and puts their errors into words; changes no row."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsl.contracts.errors import FatalError, HeadraceError, RejectedRows, RetryableError, SchemaError, UnavailableError
from resources.sql import TableName, suggestion

if TYPE_CHECKING:
    from resources.sqlite.resource import SQLiteConnection

_NO_SUCH = ("no such table", "no such column", "duplicate column name", "has no column named", "ON CONFLICT clause")
_LARGEST_CODE = 0xFF  # an extended code carries its primary one in the lowest byte


@dataclass(frozen=True)
class Declared:
    """A column as its table or view declares it.

    Attributes:
        name: Its name.
        type: The words of its type, or "".
        required: Whether it refuses NULL.
        default: Whether it has a default.
        key: Its place in the primary key, counted from 1, or 0.
        generated: Whether its value is computed.
    """

    name: str
    type: str
    required: bool
    default: bool
    key: int
    generated: bool


def connect(connection: SQLiteConnection, *, create: bool = False) -> sqlite3.Connection:
    """Opens the file: for reading only, or to write, in which case it is made if it is missing.

    Raises:
        UnavailableError: It is not there, or cannot be opened.
        RetryableError: Another transaction does not end.
        FatalError: It is no SQLite file.
    """
    path, where = Path(connection.path).absolute(), place_of(connection)
    missing = not path.exists()
    if missing and not create:
        raise UnavailableError("there is no such file", where=where, hint="check the path")
    if not path.parent.is_dir():
        raise UnavailableError(f"there is no folder '{path.parent}'", where=where, hint="make it, or check the path")
    if path.is_dir():
        raise UnavailableError("it is a folder, not a file", where=where, hint="check the path")
    mode = "rwc" if create else "ro"
    opened: sqlite3.Connection | None = None
    try:
        opened = sqlite3.connect(
            f"{path.as_uri()}?mode={mode}",
            uri=True,
            timeout=connection.busy_timeout.total_seconds(),
            isolation_level=None,
            check_same_thread=False,
        )
        _configure(opened, made=missing)
    except sqlite3.Error as error:
        if opened is not None:
            opened.close()
        raise translated(error, where) from error
    return opened


def _configure(opened: sqlite3.Connection, *, made: bool) -> None:
    # Text that is not UTF-8 must reject its row, not end the read.
    opened.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    opened.execute("PRAGMA trusted_schema = OFF")
    opened.execute("PRAGMA synchronous = FULL")
    if made:
        opened.execute("PRAGMA journal_mode = WAL")
    opened.execute("SELECT count(*) FROM main.sqlite_schema")  # opening alone does not look at the file


def place_of(connection: SQLiteConnection) -> str:
    """Returns how errors name the file."""
    return f"sqlite {connection.path}"


def version(connection: SQLiteConnection) -> str:
    """Returns the version of the library and the file's journal mode; a file that is to be made is well if it could be.

    Raises:
        UnavailableError: The file cannot be opened, or could not be made.
    """
    path = Path(connection.path).absolute()
    if not path.exists() and path.parent.is_dir():
        return f"SQLite {sqlite3.sqlite_version}; there is no file yet: the first write makes it"
    opened = connect(connection)
    try:
        return f"SQLite {sqlite3.sqlite_version}, {opened.execute('PRAGMA journal_mode').fetchone()[0]} mode"
    except sqlite3.Error as error:
        raise translated(error, place_of(connection)) from error
    finally:
        opened.close()


def find_table(opened: sqlite3.Connection, table: TableName) -> TableName | None:
    """Returns a table or view under the name it was made with, whose case does not matter; None if there is none."""
    found = opened.execute(
        "SELECT name FROM main.sqlite_schema WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE", (table.name,)
    ).fetchone()
    return None if found is None else table.beside(str(found[0]))


def columns_of(opened: sqlite3.Connection, table: TableName) -> tuple[Declared, ...]:
    """Returns the columns of a table or view; none if there is no such table."""
    rows = opened.execute(
        'SELECT name, type, "notnull", dflt_value IS NOT NULL, pk, hidden FROM pragma_table_xinfo(?, ?) WHERE hidden <> 1',
        (table.name, table.schema),
    )
    return tuple(
        Declared(str(name), str(kind), bool(required), bool(default), int(key), bool(hidden))
        for name, kind, required, default, key, hidden in rows
    )


def key_of(columns: tuple[Declared, ...]) -> tuple[str, ...]:
    """Returns the columns of the primary key, in its order."""
    return tuple(each.name for each in sorted(columns, key=lambda each: each.key) if each.key)


def table_names(opened: sqlite3.Connection) -> list[str]:
    """Returns the names of all tables and views that are not SQLite's own or Headrace's own."""
    rows = opened.execute(
        "SELECT name FROM main.sqlite_schema WHERE type IN ('table', 'view') "
        r"AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE '\_headrace%' ESCAPE '\' ORDER BY name"
    )
    return [str(each[0]) for each in rows]


def no_such_table(opened: sqlite3.Connection, table: TableName, where: str) -> SchemaError:
    """Returns the error of a table that is not there, with the nearest name that is."""
    return SchemaError(
        f"there is no table '{table.name}'", where=where, hint=suggestion(table.name, table_names(opened))
    )


def translated(error: Exception, where: str) -> HeadraceError:
    """Returns what an error of SQLite means for the engine; https://www.sqlite.org/rescode.html."""
    text = str(error)
    code = getattr(error, "sqlite_errorcode", 0) & _LARGEST_CODE
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return RetryableError(
            f"another connection keeps the file locked: {text}",
            where=where,
            hint="end its transaction, raise busy_timeout, or set PRAGMA journal_mode = WAL, where readers lock nobody out",
        )
    if code in {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}:
        return RejectedRows(text, where=where)
    if code == sqlite3.SQLITE_FULL:
        return UnavailableError(f"no space: {text}", where=where, hint="free some on the disk; nothing was committed")
    if code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}:
        return UnavailableError(text, where=where, hint="check the path, its permissions and the free space")
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}:
        return FatalError(text, where=where, hint="check the permissions of the file and its folder")
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
        return FatalError(text, where=where, hint="check the path; PRAGMA integrity_check tells what is damaged")
    if any(each in text for each in _NO_SUCH):
        return SchemaError(text, where=where, hint="check the names of tables and columns")
    return FatalError(text, where=where)


def query(opened: sqlite3.Connection, where: str, statement: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
    """Returns all rows of a query.

    Raises:
        HeadraceError: It failed; see `translated`.
    """
    try:
        return opened.execute(statement, parameters).fetchall()
    except sqlite3.Error as error:
        raise translated(error, where) from error


def close_quietly(opened: sqlite3.Connection) -> None:
    """Closes a connection; what it had open is rolled back."""
    with suppress(sqlite3.Error):
        opened.close()
