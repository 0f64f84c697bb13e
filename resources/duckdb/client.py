"""Opens DuckDB files and puts its errors into words; changes nothing by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from dsl.contracts.connectors import Stream
from dsl.contracts.errors import FatalError, HeadraceError, RejectedRows, RetryableError, SchemaError, UnavailableError
from resources.duckdb.types import arriving
from resources.sql import TableName
from resources.sql_session import Column

if TYPE_CHECKING:
    from resources.duckdb.resource import DuckDBConnection

_KEYS = """
SELECT constraint_column_names FROM duckdb_constraints()
WHERE schema_name = ? AND table_name = ? AND database_name = current_database() AND constraint_type = 'PRIMARY KEY'
"""
_TABLES = """
SELECT schema_name, table_name FROM duckdb_tables()
WHERE NOT internal AND NOT temporary AND database_name = current_database() ORDER BY ALL
"""
_REFUSALS = (duckdb.ConstraintException, duckdb.ConversionException, duckdb.OutOfRangeException)


def connect(connection: DuckDBConnection, *, create: bool = False) -> duckdb.DuckDBPyConnection:
    """Opens the file, in UTC and closed to everything outside of it.

    Raises:
        UnavailableError: It is not there, another process holds it, or it cannot be made.
        FatalError: It is no DuckDB file.
    """
    path = Path(connection.path)
    if not create and not path.exists():
        raise UnavailableError("there is no such file", where=place_of(connection), hint="check the path")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = duckdb.connect(str(path))
        opened.execute("SET TimeZone = 'UTC'")
        opened.execute("SET enable_external_access = false")
    except (duckdb.Error, OSError) as error:
        raise translated(error, place_of(connection)) from error
    return opened


def place_of(connection: DuckDBConnection) -> str:
    """Returns how errors name the file."""
    return f"duckdb {connection.path}"


def version(connection: DuckDBConnection) -> str:
    """Returns the version of the library that reads the file; a file that is to be made is well if it could be.

    Raises:
        UnavailableError: The file cannot be opened, or could not be made.
        FatalError: It is no DuckDB file.
    """
    path = Path(connection.path).absolute()
    if not path.exists() and path.parent.is_dir():
        return f"DuckDB {duckdb.__version__}; there is no file yet: the first write makes it"
    with connect(connection) as opened:
        row = opened.execute("SELECT version()").fetchone()
    return f"DuckDB {row[0] if row else ''}".strip()


def columns_of(opened: duckdb.DuckDBPyConnection, relation: str) -> tuple[Column, ...]:
    """Returns the columns of a table or a query, as it stands behind FROM."""
    described = opened.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    schema: pa.Schema = opened.sql(f"SELECT * FROM {relation} LIMIT 0").to_arrow_reader(1).schema
    fields = [arriving(field, str(row[1])) for field, row in zip(schema, described, strict=True)]
    return tuple(Column(each.name, each.type, str(row[1])) for each, row in zip(fields, described, strict=True))


def fields_of(opened: duckdb.DuckDBPyConnection, relation: str) -> list[pa.Field[Any]]:
    """Returns the fields that reading a relation yields, with their marks."""
    described = opened.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    schema: pa.Schema = opened.sql(f"SELECT * FROM {relation} LIMIT 0").to_arrow_reader(1).schema
    return [arriving(field, str(row[1])) for field, row in zip(schema, described, strict=True)]


def has_table(opened: duckdb.DuckDBPyConnection, table: TableName) -> bool:
    """Tells whether there is a table or view of that name."""
    found = opened.execute(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = ?",
        [table.schema, table.name],
    ).fetchone()
    return bool(found and found[0])


def key_of(opened: duckdb.DuckDBPyConnection, table: TableName) -> tuple[str, ...]:
    """Returns a table's primary key."""
    found = opened.execute(_KEYS, [table.schema, table.name]).fetchone()
    return tuple(found[0]) if found else ()


def table_names(opened: duckdb.DuckDBPyConnection) -> list[str]:
    """Returns the names of all tables, as documents write them."""
    found = opened.execute(_TABLES).fetchall()
    return [name if schema == "main" else f"{schema}.{name}" for schema, name in found]


def list_tables(connection: DuckDBConnection) -> Sequence[Stream]:
    """Lists what could be read."""
    with connect(connection) as opened:
        made = []
        for name in table_names(opened):
            table = TableName.parse(name, "main")
            schema = pa.schema(fields_of(opened, table.quoted()))
            made.append(Stream(name, schema, key_of(opened, table)))
        return made


def translated(error: BaseException, where: str) -> HeadraceError:
    """Returns what an error of the driver means for the engine."""
    text = str(error).strip().split("\n")[0]
    if isinstance(error, _REFUSALS):
        return RejectedRows(text, where=where)
    if isinstance(error, duckdb.CatalogException | duckdb.BinderException):
        return SchemaError(text, where=where, hint="check the names of tables and columns")
    if isinstance(error, duckdb.TransactionException):
        return RetryableError(text, where=where)
    if isinstance(error, duckdb.IOException) and "lock" in text.lower():
        return UnavailableError(text, where=where, hint="end the process that holds the file")
    if isinstance(error, duckdb.IOException | OSError):
        return UnavailableError(text, where=where, hint="check the path, its permissions and the free space")
    return FatalError(text, where=where)
