"""A connection to PostgreSQL and what its errors mean; the only module that opens one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dsl.contracts.connectors import Stream
from dsl.contracts.errors import (
    ErrorType,
    FatalError,
    HeadraceError,
    RejectedRows,
    RetryableError,
    SchemaError,
    UnavailableError,
)
from resources.postgres.types import field_of
from resources.sql import TableName, Tls, loopback, quoted, suggestion
from resources.stores.secrets import reveal_optional

if TYPE_CHECKING:
    import psycopg

    from resources.postgres.resource import PostgresConnection

try:
    import psycopg as driver
except ImportError as missing:
    raise FatalError(
        "PostgreSQL's driver is not installed", hint="pip install 'headrace[postgres]', which brings psycopg"
    ) from missing

_SESSION = (
    "SET TimeZone TO 'UTC'; SET DateStyle TO 'ISO, YMD'; SET IntervalStyle TO 'iso_8601'; SET bytea_output TO 'hex'; "
    "SET extra_float_digits TO 1; SET client_encoding TO 'UTF8'; SET synchronous_commit TO on; SET lock_timeout TO '30s'"
)


def place_of(connection: PostgresConnection) -> str:
    """Returns how errors name the database."""
    return f"postgres {connection.host}:{connection.port}/{connection.database}"


def connect(connection: PostgresConnection) -> psycopg.Connection[Any]:
    """Opens a connection in UTC and ISO forms, every statement of which commits by itself.

    Raises:
        UnavailableError: The server cannot be reached.
        FatalError: It refuses the login, or there is no such database.
    """
    try:
        opened = driver.connect(**settings_of(connection), autocommit=True)
    except driver.Error as error:
        raise refused(error, connection) from error
    try:
        zone = opened.execute("SHOW TimeZone").fetchone()
        opened.execute("SELECT set_config('headrace.timezone', %s, false)", zone)
        opened.execute(_SESSION)
    except driver.Error as error:
        opened.close()
        raise translated(error, place_of(connection)) from error
    return opened


def settings_of(connection: PostgresConnection) -> dict[str, Any]:
    """Returns what libpq is told to reach the server; holds the password."""
    return {
        "host": connection.host,
        "port": connection.port,
        "dbname": connection.database,
        "user": connection.username,
        "password": reveal_optional(connection.password) or "",
        "connect_timeout": max(1, int(connection.connect_timeout.total_seconds())),
        "application_name": "headrace",
        **_transport(connection),
    }


def _transport(connection: PostgresConnection) -> dict[str, Any]:
    if connection.tls is Tls.AUTO and loopback(connection.host):
        return {"sslmode": "prefer"}
    if connection.tls in {Tls.AUTO, Tls.VERIFY_FULL}:
        return {"sslmode": "verify-full", "sslrootcert": connection.ca_file or "system"}
    return {"sslmode": str(connection.tls)}


def refused(error: psycopg.Error, connection: PostgresConnection) -> HeadraceError:
    """Turns the error of a connection that was not made into what the engine must do about it."""
    where, text = place_of(connection), " ".join(str(error).split())
    low = text.lower()
    if "password authentication failed" in low or "no password supplied" in low or ("role" in low and "exist" in low):
        return FatalError(
            f"the server refuses the login of '{connection.username}'",
            where=where,
            hint="check username and password",
            error_type=ErrorType.AUTH,
        )
    if "database" in low and "does not exist" in low:
        return FatalError("there is no such database", where=where, hint="check database, or create it")
    if "certificate" in low or "ssl" in low:
        return FatalError(
            f"no trusted connection: {text}", where=where, hint="set ca_file, or tls: disable for plaintext"
        )
    if "pg_hba" in low:
        return FatalError(f"the server refuses the connection: {text}", where=where, error_type=ErrorType.AUTH)
    return UnavailableError(f"cannot connect: {text}", where=where, hint="check host and port, and that it is running")


def translated(error: psycopg.Error, where: str) -> HeadraceError:
    """Turns a driver's error into what the engine must do about it.

    Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
    """
    state, text = error.sqlstate or "", " ".join(str(error).split())
    family = state[:2]
    if state in {"42P01", "42703", "3F000", "42P10", "42804"}:
        hint = "create a unique index on the key" if state == "42P10" else "check table, schema and columns"
        return SchemaError(text, where=where, hint=hint)
    if state == "42501":
        return FatalError(text, where=where, hint="grant the role this right", error_type=ErrorType.AUTH)
    if family in {"22", "23"}:
        return RejectedRows(text, where=where)
    if family == "53":
        return RetryableError(text, where=where, hint="the server is out of disk, memory or connections")
    if family in {"40", "55", "57", "58"} or state == "42710":  # the type of a table that two create at one moment
        return RetryableError(text, where=where)
    if not state or family == "08" or isinstance(error, driver.OperationalError):
        return UnavailableError(f"the connection was lost: {text}", where=where)
    return FatalError(text, where=where)


def close_quietly(opened: psycopg.Connection[Any]) -> None:
    """Closes a connection, whatever state it is in."""
    with suppress(driver.Error):
        opened.close()


_RETAINED = """
SELECT slot_name, pg_size_pretty(pg_wal_lsn_diff(
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, restart_lsn))
FROM pg_replication_slots WHERE plugin = 'pgoutput' AND database = current_database() ORDER BY 1
"""


def server_version(connection: PostgresConnection) -> str:
    """Returns the server's own words for its version, and how much of its log slots retain; raises as `connect` does."""
    opened = connect(connection)
    try:
        row = opened.execute("SHOW server_version").fetchone()
        slots = "".join(f"; slot '{name}' retains {size}" for name, size in opened.execute(_RETAINED).fetchall())
        return f"PostgreSQL {row[0] if row else 'of unknown version'}{slots}"
    except driver.Error as error:
        raise translated(error, place_of(connection)) from error
    finally:
        close_quietly(opened)


_COLUMNS = """
SELECT a.attname, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod), t.typtype::text, t.typcategory::text,
       t.typbasetype, t.typtypmod, t.typelem
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_KEY = """
SELECT a.attname FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(attnum, place)
JOIN pg_attribute a ON a.attnum = k.attnum
WHERE i.indrelid = %s::oid AND i.indisprimary AND a.attrelid = i.indrelid ORDER BY k.place
"""
_TABLES = """
SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname NOT LIKE 'pg\\_%%' AND c.relname NOT LIKE %s AND NOT c.relispartition ORDER BY 2, 3
"""


def table_id(opened: psycopg.Connection[Any], table: TableName) -> int | None:
    """Returns a table's object id, or None when there is none of that name."""
    row = opened.execute("SELECT to_regclass(%s)::oid", (table.quoted(),)).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def table_fields(opened: psycopg.Connection[Any], oid: int) -> list[tuple[pa.Field[Any], str]]:
    """Returns a table's fields in order, each with the server's words for its type."""
    return [(field_of(row[0], *row[1:3], *row[4:9]), row[3]) for row in opened.execute(_COLUMNS, (oid,)).fetchall()]


def table_key(opened: psycopg.Connection[Any], oid: int) -> tuple[str, ...]:
    """Returns the columns of a table's primary key, in its order."""
    return tuple(row[0] for row in opened.execute(_KEY, (oid,)).fetchall())


def no_such_table(opened: psycopg.Connection[Any], table: TableName, where: str) -> SchemaError:
    """Returns the error of a table that is not there, with the nearest name that is."""
    names = [f"{row[1]}.{row[2]}" for row in opened.execute(_TABLES, ("\\_headrace\\_%",)).fetchall()]
    return SchemaError(f"there is no table '{table}'", where=where, hint=suggestion(str(table), names))


def list_tables(connection: PostgresConnection) -> tuple[Stream, ...]:
    """Lists tables and views with their schemas and keys; raises as `connect` does."""
    opened = connect(connection)
    try:
        found = opened.execute(_TABLES, ("\\_headrace\\_%",)).fetchall()
        return tuple(
            Stream(
                f"{schema}.{name}",
                pa.schema([each for each, _ in table_fields(opened, oid)]),
                table_key(opened, oid),
            )
            for oid, schema, name in found
        )
    except driver.Error as error:
        raise translated(error, place_of(connection)) from error
    finally:
        close_quietly(opened)


def quoted_table(table: TableName) -> str:
    """Returns a table's name in a statement that takes parameters."""
    return ".".join(quoted(each) for each in (table.schema, table.name) if each).replace("%", "%%")
