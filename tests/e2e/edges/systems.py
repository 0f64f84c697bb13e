"""The SQL systems whose values are compared, through their own drivers: filled by literals, read back as their own texts; no connector."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb

from resources.testing.edge_model import DUCKDB, MYSQL, POSTGRES, SQLITE, Family
from resources.testing.edges import FAMILIES
from resources.testing.judging import Kind
from tests.kit.mariadb import MariaDBDatabase
from tests.kit.postgres import PostgresDatabase

GIVEN = "given"
Found = tuple[Kind, Any]


class System(ABC):
    """A database with one table `given`: a row for each edge value, which stands in its family's column."""

    kind: str
    quote = '"'

    def families(self) -> Iterator[Family]:
        """Yields the columns that it can have."""
        yield from (each for each in FAMILIES if self.kind in each.types)

    def numbered(self) -> dict[int, str]:
        """Returns the name of the value in each row."""
        names = [edge.name for each in self.families() for edge in each.edges if self.kind in edge.literals]
        return dict(enumerate(names, 1))

    def fill(self) -> None:
        """Creates and fills the table."""
        columns = ", ".join(f"{self.quoted(each.name)} {each.types[self.kind]}" for each in self.families())
        numbers = {name: number for number, name in self.numbered().items()}
        with self.opened() as run:
            run(f"CREATE TABLE {GIVEN} (id INTEGER PRIMARY KEY, {columns})")
            for each in self.families():
                for edge in each.edges:
                    if self.kind in edge.literals:
                        value = f"({numbers[edge.name]}, {edge.literals[self.kind]})"
                        run(f"INSERT INTO {GIVEN} (id, {self.quoted(each.name)}) VALUES {value}")

    def quoted(self, name: str) -> str:
        """Returns a name as it stands in a statement."""
        return f"{self.quote}{name}{self.quote}"

    def config(self) -> dict[str, Any]:
        """Returns the options of the connection."""
        raise AssertionError

    @abstractmethod
    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Opens it; yields what runs a statement and returns its rows."""

    @abstractmethod
    def kinds(self, table: str) -> Mapping[str, Kind]:
        """Returns what the columns of a table hold, `id` apart."""

    def shown(self, column: str, kind: Kind) -> str:
        """Returns what to select of a column."""
        del kind
        return column

    def stored(self, table: str) -> dict[int, dict[str, Found]]:
        """Returns the values of each row that are not NULL, by column."""
        kinds = self.kinds(table)
        with self.opened() as run:
            rows: dict[int, dict[str, Found]] = {number: {} for (number,) in _numbers(run(f"SELECT id FROM {table}"))}
            for column, kind in kinds.items():
                name = self.quoted(column)
                query = f"SELECT id, {self.shown(name, kind)} FROM {table} WHERE {name} IS NOT NULL"
                for number, value in run(query):
                    rows[int(number)][column] = (kind, value)
        return rows


def _numbers(rows: list[tuple[Any, ...]]) -> list[tuple[int]]:
    found = [(int(row[0]),) for row in rows]
    assert len(set(found)) == len(found), "a row was written twice"
    return found


class Postgres(System):
    """PostgreSQL, by psycopg."""

    kind = POSTGRES
    _KINDS: Mapping[str, Kind] = {
        "boolean": Kind.BOOLEAN, "smallint": Kind.NUMBER, "integer": Kind.NUMBER, "bigint": Kind.NUMBER, "numeric": Kind.NUMBER,
        "oid": Kind.NUMBER, "real": Kind.REAL, "double precision": Kind.FLOAT, "bytea": Kind.BYTES, "uuid": Kind.UUID,
        "json": Kind.JSON, "jsonb": Kind.JSON, "date": Kind.DAY, "time without time zone": Kind.TIME,
        "timestamp without time zone": Kind.MOMENT, "timestamp with time zone": Kind.INSTANT, "interval": Kind.SPAN,
        "ARRAY": Kind.PYTHON,
    }  # fmt: skip

    def __init__(self, database: PostgresDatabase) -> None:
        self._held = database

    def config(self) -> dict[str, Any]:
        held = self._held
        return {
            "host": held.host, "port": held.port, "database": held.database, "username": held.user, "password": held.password,
        }  # fmt: skip

    @contextmanager
    def opened(self) -> Iterator[Any]:
        with self._held.connect(autocommit=False) as connection:
            connection.execute("SET timezone = 'UTC'")

            def run(statement: str) -> list[tuple[Any, ...]]:
                cursor = connection.execute(statement.encode())
                return cursor.fetchall() if cursor.description else []

            yield run

    def kinds(self, table: str) -> Mapping[str, Kind]:
        query = f"SELECT column_name, data_type FROM information_schema.columns WHERE table_name = '{table}'"
        with self.opened() as run:
            return {name: self._KINDS.get(declared, Kind.TEXT) for name, declared in run(query) if name != "id"}

    def shown(self, column: str, kind: Kind) -> str:
        if column == '"money"' and kind is Kind.TEXT:
            return f"{column}::numeric::text"
        if column in {'"char_5"', '"inet"'}:
            return f"concat({column})"
        return column if kind in {Kind.BYTES, Kind.PYTHON} else f"{column}::text"


class MariaDB(System):
    """MariaDB, by PyMySQL."""

    kind = MYSQL
    quote = "`"
    _KINDS: Mapping[str, Kind] = {
        "tinyint": Kind.NUMBER, "smallint": Kind.NUMBER, "mediumint": Kind.NUMBER, "int": Kind.NUMBER, "bigint": Kind.NUMBER,
        "decimal": Kind.NUMBER, "year": Kind.NUMBER, "bit": Kind.NUMBER, "float": Kind.FLOAT, "double": Kind.FLOAT,
        "longblob": Kind.BYTES, "binary": Kind.BYTES, "date": Kind.DAY, "time": Kind.TIME, "datetime": Kind.MOMENT,
        "timestamp": Kind.INSTANT, "uuid": Kind.UUID,
    }  # fmt: skip

    def __init__(self, database: MariaDBDatabase) -> None:
        self._held = database

    def config(self) -> dict[str, Any]:
        held = self._held
        return {
            "host": held.host, "port": held.port, "database": held.database, "username": held.user, "password": held.password,
        }  # fmt: skip

    @contextmanager
    def opened(self) -> Iterator[Any]:
        with self._held.connect(conv={}) as connection, connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES'")

            def run(statement: str) -> list[tuple[Any, ...]]:
                cursor.execute(statement)
                return list(cursor.fetchall())

            yield run

    def kinds(self, table: str) -> Mapping[str, Kind]:
        query = (
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_schema = DATABASE() AND table_name = '{table}'"
        )
        with self.opened() as run:
            return {name: self._KINDS.get(declared, Kind.TEXT) for name, declared in run(query) if name != "id"}

    def shown(self, column: str, kind: Kind) -> str:
        if column == "`real`":
            return f"{column} + 0e0"
        return f"{column} + 0" if column in {"`bit64`", "`year`"} else column


class SQLite(System):
    """SQLite, by the standard library."""

    kind = SQLITE

    def __init__(self, folder: Path) -> None:
        self._path = folder / "edges.sqlite"

    def config(self) -> dict[str, Any]:
        return {"path": str(self._path)}

    @contextmanager
    def opened(self) -> Iterator[Any]:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.text_factory = _text
            yield lambda statement: connection.execute(statement).fetchall()

    def kinds(self, table: str) -> Mapping[str, Kind]:
        with self.opened() as run:
            declared = {row[1]: str(row[2]) for row in run(f"PRAGMA table_info({table})")}
        return {name: self._kind(words) for name, words in declared.items() if name != "id"}

    @staticmethod
    def _kind(declared: str) -> Kind:
        known = {
            "DATE": Kind.DAY, "TIME": Kind.TIME, "TIMESTAMP": Kind.MOMENT, "TIMESTAMPTZ": Kind.INSTANT, "JSON_TEXT": Kind.JSON,
            "UUID_TEXT": Kind.UUID, "DURATION_TEXT": Kind.SPAN, "TEXT": Kind.TEXT, "BLOB": Kind.BYTES, "REAL": Kind.FLOAT,
        }  # fmt: skip
        return known.get(declared, Kind.NUMBER)


def _text(raw: bytes) -> str | bytes:
    """What SQLite calls a text need not be one."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


class DuckDB(System):
    """DuckDB, by its own library."""

    kind = DUCKDB

    def __init__(self, folder: Path) -> None:
        self._path = folder / "edges.duckdb"

    def config(self) -> dict[str, Any]:
        return {"path": str(self._path)}

    @contextmanager
    def opened(self) -> Iterator[Any]:
        with closing(duckdb.connect(str(self._path))) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("BEGIN")
            yield lambda statement: connection.execute(statement).fetchall()
            connection.execute("COMMIT")

    def kinds(self, table: str) -> Mapping[str, Kind]:
        with self.opened() as run:
            declared = {row[0]: str(row[1]) for row in run(f"DESCRIBE {table}")}
        return {name: self._kind(words) for name, words in declared.items() if name != "id"}

    @staticmethod
    def _kind(declared: str) -> Kind:
        known = {
            "BOOLEAN": Kind.BOOLEAN, "FLOAT": Kind.REAL, "DOUBLE": Kind.FLOAT, "BLOB": Kind.BYTES, "UUID": Kind.UUID,
            "JSON": Kind.JSON, "DATE": Kind.DAY, "TIME": Kind.TIME, "TIMESTAMP WITH TIME ZONE": Kind.INSTANT,
            "INTERVAL": Kind.SPAN, "VARCHAR": Kind.TEXT, "BIT": Kind.TEXT,
        }  # fmt: skip
        if declared.endswith("[]"):
            return Kind.PYTHON
        if declared.startswith("TIMESTAMP"):
            return known.get(declared, Kind.MOMENT)
        return known.get(declared, Kind.TEXT if declared.startswith("ENUM") else Kind.NUMBER)

    def shown(self, column: str, kind: Kind) -> str:
        return column if kind in {Kind.BYTES, Kind.PYTHON} else f"CAST({column} AS VARCHAR)"
