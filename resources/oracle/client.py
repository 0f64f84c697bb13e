"""A connection to Oracle and what its errors mean; the only module that opens one."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
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
    from resources.oracle.resource import OracleConnection

try:
    import oracledb as driver
except ImportError as missing:
    raise FatalError(
        "Oracle's driver is not installed", hint="pip install 'headrace[oracle]', which brings oracledb"
    ) from missing

SESSION = (
    "ALTER SESSION SET TIME_ZONE = '+00:00' NLS_NUMERIC_CHARACTERS = '.,' NLS_COMP = BINARY NLS_SORT = BINARY "
    "NLS_LENGTH_SEMANTICS = BYTE DDL_LOCK_TIMEOUT = 30"
)
EXISTS, MISSING = 955, 942
# Numbers of Oracle's Database Error Messages, which are the same in every release.
_SCHEMA = frozenset({904, MISSING, 1747, 4043, 1920})
_AUTH = frozenset({1005, 1017, 1031, 1045, 28000, 28001, 28002, 1918})
_ROW = frozenset({
    1, 1400, 1401, 1407, 1426, 1438, 1455, 1461, 1465, 1489, 1722, 1830, 1840, 1841, 1843, 1847, 1858, 1861, 2290, 2291, 2292,
    6502, 12899, 22835, 2449,
})  # fmt: skip
_AGAIN = frozenset({
    18, 20, 51, 54, 60, 257, 1536, 1555, 1652, 1653, 1654, 1658, 1691, 1692, 8177, 30006, 4021, 4068, 14411, 25408, 2391,
})  # fmt: skip
_LOST = frozenset({
    28, 1012, 1033, 1034, 1089, 1090, 1092, 2396, 3113, 3114, 3135, 12152, 12153, 12170, 12203, 12514, 12516, 12519, 12520, 12528,
    12537, 12541, 12543, 12545, 12547, 12560, 12570, 12571, 12602, 25402, 25403, 25405, 31603,
})  # fmt: skip
_DRIVER_LOST = ("DPY-1001", "DPY-4011", "DPY-4024", "DPY-6000", "DPY-6001", "DPY-6003", "DPY-6005", "DPY-6006")
_MARK = re.compile(r"""("(?:[^"]|"")*"|'(?:[^']|'')*')|\?""")


def place_of(connection: OracleConnection) -> str:
    """Returns how errors name the database."""
    return f"oracle {connection.host}:{connection.port}/{connection.service}"


def connect(connection: OracleConnection) -> Any:
    """Opens a connection in UTC, every statement of which commits by itself.

    Raises:
        UnavailableError: The server cannot be reached.
        FatalError: It refuses the login, or cannot be trusted.
    """
    try:
        opened = driver.connect(**settings_of(connection))
    except (driver.Error, OSError) as error:
        raise refused(error, connection) from error
    opened.autocommit = True
    opened.outputtypehandler = _exactly
    try:
        execute(opened, place_of(connection), SESSION).close()
    except BaseException:
        close_quietly(opened)
        raise
    return opened


def settings_of(connection: OracleConnection) -> dict[str, Any]:
    """Returns what the driver is told; holds the password."""
    return {
        "user": connection.username,
        "password": reveal_optional(connection.password),
        "host": connection.host,
        "port": connection.port,
        "service_name": connection.service,
        "tcp_connect_timeout": max(1.0, connection.connect_timeout.total_seconds()),
        "retry_count": 0,
        **_transport(connection),
    }


def _transport(connection: OracleConnection) -> dict[str, Any]:
    """Oracle's own encryption is not for the thin driver: it is TLS, which verifies, or plaintext."""
    if connection.tls is Tls.DISABLE or (connection.tls is Tls.AUTO and loopback(connection.host)):
        return {"protocol": "tcp"}
    try:
        context = ssl.create_default_context(cafile=connection.ca_file)
    except OSError as error:
        raise FatalError(
            f"the certificates in ca_file cannot be used: {error}", where=place_of(connection), hint="name a PEM file"
        ) from error
    if connection.tls is Tls.REQUIRE:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return {"protocol": "tcps", "ssl_context": context, "ssl_server_dn_match": connection.tls is not Tls.REQUIRE}


def _exactly(cursor: Any, fetched: Any) -> Any:
    """Has numbers come with every digit, and large objects as what they hold."""
    kinds = {
        driver.DB_TYPE_NUMBER: Decimal, driver.DB_TYPE_CLOB: driver.DB_TYPE_LONG, driver.DB_TYPE_NCLOB: driver.DB_TYPE_LONG_NVARCHAR,
        driver.DB_TYPE_BLOB: driver.DB_TYPE_LONG_RAW,
    }  # fmt: skip
    kind = kinds.get(fetched.type_code)
    return None if kind is None else cursor.var(kind, arraysize=cursor.arraysize)


def numbered(statement: str) -> str:
    """Returns a statement whose parameters are marked by `?`, with the marks that Oracle knows; names and texts keep theirs."""
    count = 0

    def mark(found: re.Match[str]) -> str:
        nonlocal count
        if found[1]:
            return found[1]
        count += 1
        return f":p{count}"

    return _MARK.sub(mark, statement)


def number_of(error: BaseException) -> int:
    """Returns the server's number of an error; 0 where there is none."""
    told = error.args[0] if error.args else None
    return int(getattr(told, "code", 0) or 0)


def _code_of(error: BaseException) -> str:
    told = error.args[0] if error.args else None
    return str(getattr(told, "full_code", "") or "")


def text_of(error: BaseException) -> str:
    """Returns what the server or the driver says, in one line and without a link to its help."""
    told = error.args[0] if error.args else error
    text = str(getattr(told, "message", "") or told)
    return " ".join(text.split("\nHelp:", maxsplit=1)[0].split())


def refused(error: Exception, connection: OracleConnection) -> HeadraceError:
    """Turns the error of a connection that was not made into what the engine must do about it."""
    where, text = place_of(connection), text_of(error)
    if number_of(error) in _AUTH:
        return FatalError(
            f"the server refuses the login of '{connection.username}'",
            where=where,
            hint="check username and password",
            error_type=ErrorType.AUTH,
        )
    if _code_of(error) == "DPY-6001":
        return FatalError(f"there is no such service: {text}", where=where, hint="check service")
    if "certificate" in text.lower() or "ssl" in text.lower():
        return FatalError(
            f"no trusted connection: {text}", where=where, hint="set ca_file, or tls: disable for plaintext"
        )
    return UnavailableError(f"cannot connect: {text}", where=where, hint="check host and port, and that it is running")


def translated(error: Exception, where: str) -> HeadraceError:
    """Turns a driver's error into what the engine must do about it, by the server's number."""
    number, text = number_of(error), text_of(error)
    if number in _SCHEMA:
        return SchemaError(text, where=where, hint="check table, schema and columns, and the user's rights on them")
    if number in _AUTH:
        return FatalError(text, where=where, hint="grant the user this right", error_type=ErrorType.AUTH)
    if number in _ROW:
        return RejectedRows(text, where=where)
    if number in _AGAIN:
        return RetryableError(text, where=where)
    if number in _LOST or _code_of(error) in _DRIVER_LOST or isinstance(error, OSError):
        return UnavailableError(f"the connection was lost: {text}", where=where)
    if getattr(error.args[0] if error.args else None, "isrecoverable", False):
        return RetryableError(text, where=where)
    return FatalError(text, where=where)


def execute(opened: Any, where: str, statement: str, parameters: Sequence[Any] = ()) -> Any:
    """Executes a statement with parameters marked by `?`; returns its cursor.

    Raises:
        HeadraceError: It failed; see `translated`.
    """
    try:
        cursor = opened.cursor()
        cursor.execute(numbered(statement), list(parameters))
    except (driver.Error, OSError) as error:
        raise translated(error, where) from error
    return cursor


def query(opened: Any, where: str, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Returns all rows of a query; raises as `execute` does."""
    cursor = execute(opened, where, statement, parameters)
    try:
        return list(cursor.fetchall())
    except (driver.Error, OSError) as error:
        raise translated(error, where) from error
    finally:
        cursor.close()


def close_quietly(opened: Any) -> None:
    """Closes a connection, whatever state it is in; what was open in it is rolled back."""
    with suppress(driver.Error, OSError):
        opened.close()


def server_version(connection: OracleConnection) -> str:
    """Returns the server's version; raises as `connect` does."""
    opened = connect(connection)
    try:
        return f"Oracle Database {opened.version}"
    finally:
        close_quietly(opened)


def find_table(opened: Any, where: str, table: TableName) -> TableName:
    """Returns a table or view under the names it was made with: its own, or the only ones that differ in case alone."""
    asked = (
        "SELECT owner, object_name FROM all_objects WHERE object_type IN ('TABLE', 'VIEW', 'MATERIALIZED VIEW') "
        "AND UPPER(owner) = UPPER(?) AND UPPER(object_name) = UPPER(?)"
    )
    found = {
        TableName(str(owner), str(name)) for owner, name in query(opened, where, asked, (table.schema, table.name))
    }
    if table in found or len(found) != 1:
        return table
    return next(iter(found))


def no_such_table(opened: Any, table: TableName, where: str) -> SchemaError:
    """Returns the error of a table that is not there, with the nearest name that is."""
    asked = (
        "SELECT table_name FROM all_tables WHERE owner = ? UNION ALL SELECT view_name FROM all_views WHERE owner = ?"
    )
    names = [str(row[0]) for row in query(opened, where, asked, (table.schema, table.schema))]
    known = [each for each in names if not each.startswith("_headrace")]
    return SchemaError(f"there is no table '{table}'", where=where, hint=suggestion(table.name, known))
