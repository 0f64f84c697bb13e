"""A connection to MySQL or MariaDB and what its errors mean; the only module that opens one."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dsl.contracts.errors import (
    ErrorType,
    FatalError,
    HeadraceError,
    RejectedRows,
    RetryableError,
    SchemaError,
    UnavailableError,
)
from resources.sql import TableName, Tls, loopback, suggestion
from resources.stores.secrets import reveal_optional

if TYPE_CHECKING:
    from resources.mysql.resource import MysqlConnection

try:
    import pymysql as driver
    from pymysql.converters import encoders
    from pymysql.cursors import Cursor
except ImportError as missing:
    raise FatalError(
        "MySQL's driver is not installed", hint="pip install 'headrace[mysql]', which brings PyMySQL"
    ) from missing

MARK = "`"
_SESSION = (
    "SET SESSION time_zone = '+00:00', SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', SESSION lock_wait_timeout = 30, "
    "SESSION innodb_lock_wait_timeout = 30, SESSION transaction_isolation = 'REPEATABLE-READ'"
)
_AUTH = {1044, 1045, 1142, 1143, 1227, 1370, 1698}
_SCHEMA = {1051, 1054, 1072, 1109, 1146}
_ROW = {
    1048,
    1062,
    1136,
    1216,
    1217,
    1263,
    1264,
    1265,
    1292,
    1364,
    1366,
    1406,
    1451,
    1452,
    1525,
    1690,
    3140,
    3819,
    4025,
}
_AGAIN = {1020, 1040, 1205, 1206, 1213, 1021, 1114, 1203, 1226, 1290, 1836, 3024, 3572}
_LOST = {2002, 2003, 2005, 2006, 2013, 2014, 2055, 1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 0}
_ENCODERS: dict[Any, Any] = {**encoders}
"""And no decoders: values stay the server's texts."""


def place_of(connection: MysqlConnection) -> str:
    """Returns how errors name the database."""
    return f"mysql {connection.host}:{connection.port}/{connection.database}"


def connect(connection: MysqlConnection) -> driver.connections.Connection[Cursor]:
    """Opens a connection in UTC and strict mode, every statement of which commits by itself; values come as texts.

    Raises:
        UnavailableError: The server cannot be reached.
        FatalError: It refuses the login, or there is no such database.
    """
    try:
        opened = driver.connect(**settings_of(connection), autocommit=True, conv=_ENCODERS)
    except (driver.Error, OSError) as error:
        raise refused(error, connection) from error
    try:
        _configure(opened)
    except driver.Error as error:
        close_quietly(opened)
        raise translated(error, place_of(connection)) from error
    return opened


def settings_of(connection: MysqlConnection) -> dict[str, Any]:
    """Returns what the driver is told to reach the server; holds the password."""
    return {
        "host": connection.host,
        "port": connection.port,
        "database": connection.database,
        "user": connection.username,
        "password": reveal_optional(connection.password) or "",
        "connect_timeout": max(1, int(connection.connect_timeout.total_seconds())),
        "charset": "utf8mb4",
        "local_infile": False,
        **_transport(connection),
    }


def _configure(opened: driver.connections.Connection[Cursor]) -> None:
    with opened.cursor() as cursor:
        try:
            cursor.execute(_SESSION)
        except driver.OperationalError:  # MariaDB before 11.1 calls the variable tx_isolation
            cursor.execute(_SESSION.replace("transaction_isolation", "tx_isolation"))


def _transport(connection: MysqlConnection) -> dict[str, Any]:
    if connection.tls is Tls.DISABLE:
        return {"ssl_disabled": True}
    if connection.tls is Tls.AUTO and loopback(connection.host):
        return {}
    context = ssl.create_default_context(cafile=connection.ca_file)
    if connection.tls is Tls.REQUIRE:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return {"ssl": context}


def number_of(error: BaseException) -> int:
    """Returns the server's or the driver's number of an error; 0 where there is none."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _text_of(error: BaseException) -> str:
    return " ".join(str(error.args[1] if len(error.args) > 1 else error).split())


def refused(error: Exception, connection: MysqlConnection) -> HeadraceError:
    """Turns the error of a connection that was not made into what the engine must do about it."""
    where, number, text = place_of(connection), number_of(error), _text_of(error)
    if number == 1049:
        return FatalError("there is no such database", where=where, hint="check database, or create it")
    if number in _AUTH:
        return FatalError(
            f"the server refuses the login of '{connection.username}'",
            where=where,
            hint="check username and password",
            error_type=ErrorType.AUTH,
        )
    if "certificate" in text.lower() or "ssl" in text.lower():
        return FatalError(
            f"no trusted connection: {text}", where=where, hint="set ca_file, or tls: disable for plaintext"
        )
    return UnavailableError(f"cannot connect: {text}", where=where, hint="check host and port, and that it is running")


def translated(error: Exception, where: str) -> HeadraceError:
    """Turns a driver's error into what the engine must do about it.

    Source: MySQL 8.0 Error Message Reference; MariaDB Error Codes.
    """
    number, text = number_of(error), _text_of(error)
    if number in _SCHEMA:
        return SchemaError(text, where=where, hint="check table, database and columns")
    if number in _AUTH:
        return FatalError(text, where=where, hint="grant the user this right", error_type=ErrorType.AUTH)
    if number in _ROW or isinstance(error, driver.DataError) or "can not be used with MySQL" in text:
        return RejectedRows(text, where=where)
    if number in _AGAIN:
        return RetryableError(text, where=where)
    if number in _LOST:
        return UnavailableError(f"the connection was lost: {text}", where=where)
    return FatalError(text, where=where)


def query(
    opened: driver.connections.Connection[Cursor], statement: str, parameters: tuple[Any, ...] = ()
) -> list[tuple[Any, ...]]:
    """Returns all rows of a query, as texts."""
    with opened.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return list(cursor.fetchall())


def abandon(opened: driver.connections.Connection[Cursor], cursor: Any) -> None:
    """Closes a connection without first fetching what is left of an unbuffered result."""
    if cursor is not None:
        result = cursor._result  # noqa: SLF001 - PyMySQL offers no other way to leave a result unread
        if result is not None:
            result.unbuffered_active = False
        cursor.connection = None
    close_quietly(opened)


def close_quietly(opened: driver.connections.Connection[Cursor]) -> None:
    """Closes a connection, whatever state it is in."""
    with suppress(driver.Error, OSError):
        opened.close()


def server_version(connection: MysqlConnection) -> str:
    """Returns the server's own words for its version, and what endangers commits; raises as `connect` does."""
    opened = connect(connection)
    try:
        version, flush = query(opened, "SELECT VERSION(), @@global.innodb_flush_log_at_trx_commit")[0]
    except driver.Error as error:
        raise translated(error, place_of(connection)) from error
    finally:
        close_quietly(opened)
    name = "MariaDB" if "mariadb" in version.lower() else "MySQL"
    warning = "" if str(flush) == "1" else f"; innodb_flush_log_at_trx_commit is {flush}: a host's crash loses commits"
    return f"{name} {version.split('-')[0]}{warning}"


def no_such_table(opened: driver.connections.Connection[Cursor], table: TableName, where: str) -> SchemaError:
    """Returns the error of a table that is not there, with the nearest name that is."""
    rows = query(opened, "SELECT table_name FROM information_schema.tables WHERE table_schema = %s", (table.schema,))
    names = [row[0] for row in rows if not row[0].startswith("_headrace")]
    return SchemaError(f"there is no table '{table}'", where=where, hint=suggestion(table.name, names))


def table_key(opened: driver.connections.Connection[Cursor], table: TableName) -> tuple[str, ...]:
    """Returns the columns of a table's primary key, in its order."""
    rows = query(
        opened,
        "SELECT column_name FROM information_schema.key_column_usage WHERE constraint_name = 'PRIMARY' "
        "AND table_schema = %s AND table_name = %s ORDER BY ordinal_position",
        (table.schema, table.name),
    )
    return tuple(row[0] for row in rows)
