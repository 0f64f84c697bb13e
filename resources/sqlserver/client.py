"""A connection to SQL Server and what its errors mean; the only module that opens one."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    from resources.sqlserver.resource import SqlServerConnection

try:
    import mssql_python as driver
    from mssql_python.exceptions import sqlstate_to_exception
except ImportError as missing:
    raise FatalError(
        "SQL Server's driver is not installed", hint="pip install 'headrace[sqlserver]', which brings mssql-python"
    ) from missing

# What a session leaves behind (temporary tables, isolation) may not meet the next one.
driver.pooling(enabled=False)

SESSION = (
    "SET XACT_ABORT ON; SET LOCK_TIMEOUT 120000; SET QUOTED_IDENTIFIER ON; SET ANSI_WARNINGS ON; SET ANSI_PADDING ON; "
    "SET ANSI_NULLS ON; SET CONCAT_NULL_YIELDS_NULL ON; SET ARITHABORT ON; SET NUMERIC_ROUNDABORT OFF; "
    "SET LANGUAGE us_english; SET DATEFORMAT ymd"
)
_CODES = (
    "08001", "08002", "08003", "08004", "08007", "08S01", "22001", "22003", "22007", "22008", "22012", "22018", "23000", "28000",
    "40001", "42000", "42S01", "42S02", "42S21", "42S22", "HY000", "HYT00", "HYT01",
)  # fmt: skip
_SCHEMA = frozenset({"42S02", "42S22"})
_AGAIN = frozenset({"40001", "HYT00", "HYT01"})
# The driver tells the class of an error (SQLSTATE) and not its number, and SQL Server puts much into 42000 and HY000: there its
# words decide. The numbers are those of the server's list of errors (sys.messages).
_WORDS: tuple[tuple[str, str], ...] = (
    ("auth", r"permission was denied|does not have permission"),  # 229, 230, 262, 297, 300
    ("auth", r"Login failed for user|Cannot open (server|database)"),  # 18456, 40532, 4060
    ("schema", r"Invalid (object|column) name|Cannot find the object"),  # 208, 207, 1088
    ("snapshot", r"snapshot isolation is not allowed"),  # 3952
    ("again", r"Snapshot isolation transaction aborted"),  # 3960, 3961
    ("again", r"deadlock|Lock request time out"),  # 1205, 1222
    ("again", r"is not currently available|is currently busy|service has encountered an error"),  # 40613, 40501, 40197
    ("again", r"Resource ID ?: ?\d+|reached the (limit|maximum)"),  # 10928, 10929
    (
        "lost",
        r"Communication link failure|TCP Provider|connection is broken|SHUTDOWN is in progress",
    ),  # 10054, 10060, 6005
    ("row", r"would be truncated|Arithmetic overflow|Cannot insert the value NULL"),  # 2628, 8152, 8115, 220, 515
    (
        "row",
        r"Cannot insert duplicate key|conflicted with the|conversion (failed|of a)|Error converting",
    ),  # 2601, 2627, 547, 245
)
_SAID = re.compile(r"\[[^\]]*\]")


def place_of(connection: SqlServerConnection) -> str:
    """Returns how errors name the database."""
    return f"sqlserver {connection.host}:{connection.port}/{connection.database}"


def connect(connection: SqlServerConnection) -> Any:
    """Opens a connection, every statement of which commits by itself.

    Raises:
        UnavailableError: The server cannot be reached.
        FatalError: It refuses the login, or cannot be trusted.
    """
    try:
        opened = driver.connect(connection_string(connection), autocommit=True)
    except (driver.Error, RuntimeError, OSError, ValueError) as error:
        raise refused(error, connection) from None  # what the driver says may quote the connection string
    try:
        execute(opened, place_of(connection), SESSION).close()
    except BaseException:
        close_quietly(opened)
        raise
    return opened


def connection_string(connection: SqlServerConnection) -> str:
    """Returns what the driver is told; holds the password."""
    told = {
        "Server": f"tcp:{connection.host},{connection.port}",
        "Database": connection.database,
        "UID": connection.username,
        "PWD": reveal_optional(connection.password),
        "ConnectRetryCount": "0",
        **_transport(connection),
    }
    return ";".join(f"{name}={_braced(value)}" for name, value in told.items() if value is not None)


def _braced(value: str) -> str:
    return "{" + value.replace("}", "}}") + "}"


def _transport(connection: SqlServerConnection) -> dict[str, str | None]:
    """Encrypts unless told otherwise; a server on the loopback address need not show who it is."""
    if connection.tls is Tls.DISABLE:
        return {"Encrypt": "no"}
    trusting = connection.tls is Tls.REQUIRE or (connection.tls is Tls.AUTO and loopback(connection.host))
    return {
        "Encrypt": "yes",
        "TrustServerCertificate": "yes" if trusting else "no",
        "ServerCertificate": connection.server_certificate,
        "HostnameInCertificate": connection.certificate_host,
    }


def state_of(error: BaseException) -> str:
    """Returns the SQLSTATE of a driver's error; "" where it does not tell."""
    said = str(getattr(error, "driver_error", ""))
    for code in _CODES:
        known = sqlstate_to_exception(code, "")
        if known is not None and getattr(known, "driver_error", None) == said:
            return code
    return said.rpartition("SQLSTATE code: ")[2] if "SQLSTATE code: " in said else ""


def text_of(error: BaseException) -> str:
    """Returns what the server says, without the names of the layers it came through."""
    return " ".join(_SAID.sub("", str(getattr(error, "ddbc_error", "") or error)).split())


def _kind(state: str, text: str) -> str:
    for kind, words in _WORDS:
        if re.search(words, text, re.IGNORECASE):
            return kind
    if state in _SCHEMA:
        return "schema"
    if state in _AGAIN:
        return "again"
    if state.startswith("28"):
        return "auth"
    if state.startswith("08"):
        return "lost"
    return "row" if state.startswith(("22", "23")) else ""


def refused(error: Exception, connection: SqlServerConnection) -> HeadraceError:
    """Turns the error of a connection that was not made into what the engine must do about it."""
    where, text = place_of(connection), text_of(error)
    secret = reveal_optional(connection.password)
    text = text.replace(secret, "***") if secret else text
    kind = _kind(state_of(error), text)
    if kind == "auth":
        return FatalError(
            f"the server refuses the login of '{connection.username}': {text}",
            where=where,
            hint="check username, password and database",
            error_type=ErrorType.AUTH,
        )
    if "certificate" in text.lower() or "ssl provider" in text.lower():
        return FatalError(
            f"no trusted connection: {text}", where=where, hint="set server_certificate, or tls: require to trust any"
        )
    if "Failed to load the driver" in text:
        hint = "install the libraries that its documentation names (such as libltdl7 and libkrb5-3)"
        return FatalError("the driver cannot load its own libraries", where=where, hint=hint)
    return UnavailableError(f"cannot connect: {text}", where=where, hint="check host and port, and that it is running")


def translated(error: Exception, where: str) -> HeadraceError:
    """Turns a driver's error into what the engine must do about it."""
    state, text = state_of(error), text_of(error)
    kind = _kind(state, text)
    if kind == "schema":
        return SchemaError(text, where=where, hint="check table, schema and columns")
    if kind == "auth":
        return FatalError(text, where=where, hint="grant the user this right", error_type=ErrorType.AUTH)
    if kind == "snapshot":
        hint = "ALTER DATABASE … SET ALLOW_SNAPSHOT_ISOLATION ON, or set isolation: read_committed"
        return FatalError("the database does not allow snapshot isolation", where=where, hint=hint)
    if kind == "again":
        return RetryableError(text, where=where)
    if kind == "lost":
        return UnavailableError(f"the connection was lost: {text}", where=where)
    return RejectedRows(text, where=where) if kind == "row" else FatalError(text, where=where)


def execute(opened: Any, where: str, statement: str, parameters: Sequence[Any] = ()) -> Any:
    """Executes a statement; returns its cursor.

    Raises:
        HeadraceError: It failed; see `translated`.
    """
    try:
        cursor = opened.cursor()
        cursor.execute(statement, *([tuple(parameters)] if parameters else []))
    except (driver.Error, RuntimeError, OSError) as error:
        raise translated(error, where) from error
    return cursor


def query(opened: Any, where: str, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Returns all rows of a query; raises as `execute` does."""
    cursor = execute(opened, where, statement, parameters)
    try:
        return [tuple(each) for each in cursor.fetchall()]
    except (driver.Error, RuntimeError, OSError) as error:
        raise translated(error, where) from error
    finally:
        cursor.close()


def close_quietly(opened: Any) -> None:
    """Closes a connection, whatever state it is in; what was open in it is rolled back."""
    with suppress(driver.Error, RuntimeError, OSError):
        opened.close()


def server_version(connection: SqlServerConnection) -> str:
    """Returns the server's edition and version; raises as `connect` does."""
    opened = connect(connection)
    try:
        asked = "SELECT CONVERT(nvarchar(128), SERVERPROPERTY(N'ProductVersion')), CONVERT(nvarchar(128), SERVERPROPERTY(N'Edition'))"
        version, edition = query(opened, place_of(connection), asked)[0]
    finally:
        close_quietly(opened)
    return f"SQL Server {version} ({edition})"


def no_such_table(opened: Any, table: TableName, where: str) -> SchemaError:
    """Returns the error of a table that is not there, with the nearest name that is."""
    found = query(
        opened,
        where,
        "SELECT name FROM sys.objects WHERE type IN ('U', 'V') AND SCHEMA_NAME(schema_id) = ?",
        (table.schema,),
    )
    names = [str(row[0]) for row in found if not str(row[0]).startswith("_headrace")]
    return SchemaError(f"there is no table '{table}'", where=where, hint=suggestion(table.name, names))
