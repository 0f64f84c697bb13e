"""A session with Snowflake and what its errors mean; the only module that opens one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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
from resources.snowflake.types import Described, field_of
from resources.sql import TableName
from resources.stores.secrets import reveal, reveal_optional

if TYPE_CHECKING:
    from resources.snowflake.resource import SnowflakeConnection

try:
    import snowflake.connector as driver
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )
except ImportError as missing:
    raise FatalError(
        "Snowflake's driver is not installed",
        hint="pip install 'headrace[snowflake]', which brings snowflake-connector-python",
    ) from missing

# It logs what it sends and retries; what matters of that is in the errors.
for _name in ("snowflake.connector", "snowflake"):
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.CRITICAL)

_PARAMETERS = {
    "TIMEZONE": "UTC",
    "LOCK_TIMEOUT": 120,
    "QUERY_TAG": "headrace",
    "CLIENT_TELEMETRY_ENABLED": False,
    # States hold values as text: with every digit, whatever the account prefers.
    "DATE_OUTPUT_FORMAT": "YYYY-MM-DD",
    "TIME_OUTPUT_FORMAT": "HH24:MI:SS.FF9",
    "TIMESTAMP_NTZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF9",
    "TIMESTAMP_LTZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF9 TZHTZM",
    "TIMESTAMP_TZ_OUTPUT_FORMAT": "YYYY-MM-DD HH24:MI:SS.FF9 TZHTZM",
}
_REQUEST_SECONDS = 600
_MISSING, _NO_WAREHOUSE, _LOGIN = 2003, 606, 250001
_SCHEMA = {904, 1110, _MISSING, 2043}
_AUTH = {3001, 390100, 390101, 390102, 390144, 390186, 390189, 390201, 394300, 394304}
_AGAIN = {604, 625, 630, 390111, 390112, 390114, 390195}
_TABLES = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema <> 'INFORMATION_SCHEMA'"


def place_of(connection: SnowflakeConnection) -> str:
    """Returns how errors name the database."""
    return f"snowflake {connection.account}/{connection.database}"


def connect(connection: SnowflakeConnection, schema: str = "") -> Any:
    """Opens a session in UTC, every statement of which commits by itself; a lock is waited for two minutes.

    Raises:
        UnavailableError: The account cannot be reached.
        FatalError: It refuses the login, or the private key is none.
    """
    where = place_of(connection)
    address = {
        "host": connection.host,
        "port": connection.port,
        "warehouse": connection.warehouse,
        "role": connection.role,
    }
    try:
        return driver.connect(
            account=connection.account,
            user=connection.username,
            **_credentials(connection, where),
            database=connection.database,
            schema=schema or connection.schema,
            protocol=str(connection.protocol),
            **{name: value for name, value in address.items() if value},
            autocommit=True,
            paramstyle="qmark",
            arrow_number_to_decimal=True,  # else fractions come as floating point
            login_timeout=max(1, int(connection.connect_timeout.total_seconds())),
            network_timeout=_REQUEST_SECONDS,
            session_parameters=_PARAMETERS,
            application="Headrace",
            # Asks the metadata services of clouds where it runs, otherwise.
            platform_detection_timeout_seconds=0.0,
            log_imported_packages_in_telemetry=False,
        )
    except (driver.errors.Error, OSError) as error:
        raise _refused(error, connection) from error


def _credentials(connection: SnowflakeConnection, where: str) -> dict[str, Any]:
    if connection.private_key is None:
        return {"password": reveal_optional(connection.password)}
    phrase = reveal_optional(connection.private_key_passphrase)
    try:
        key = load_pem_private_key(reveal(connection.private_key).encode(), phrase.encode() if phrase else None)
    except (ValueError, TypeError):  # their texts may quote the key
        raise FatalError(
            "the private key cannot be read",
            where=where,
            hint="give PKCS 8 in PEM, and private_key_passphrase where it is encrypted",
            error_type=ErrorType.AUTH,
        ) from None
    return {"private_key": key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())}


def _number_of(error: BaseException) -> int:
    number = getattr(error, "errno", None)
    return number if isinstance(number, int) else 0


def _text_of(error: BaseException) -> str:
    return " ".join(str(getattr(error, "msg", None) or error).split())


def _refused(error: Exception, connection: SnowflakeConnection) -> HeadraceError:
    where, text = place_of(connection), _text_of(error)
    if _number_of(error) in _AUTH or "Incorrect username or password" in text or "JWT token is invalid" in text:
        return FatalError(
            f"the account refuses the login of '{connection.username}'",
            where=where,
            hint="check account, username, and password or private_key",
            error_type=ErrorType.AUTH,
        )
    return UnavailableError(
        f"cannot connect: {text}", where=where, hint="check account, host and port, and the network"
    )


def translated(error: Exception, where: str) -> HeadraceError:
    """Turns a driver's error into what the engine must do about it, by its number or the class of its SQL state."""
    number, text, state = _number_of(error), _text_of(error), str(getattr(error, "sqlstate", None) or "")
    if number == _NO_WAREHOUSE:
        return FatalError(text, where=where, hint="set warehouse, or give the user a default one")
    if number in _SCHEMA:
        return SchemaError(text, where=where, hint="check schema, table and columns, and the role's rights on them")
    if number in _AUTH:
        return FatalError(text, where=where, hint="grant the role this right", error_type=ErrorType.AUTH)
    if number in _AGAIN:
        return RetryableError(text, where=where)
    if isinstance(error, driver.errors.OperationalError) or not isinstance(error, driver.errors.DatabaseError):
        return UnavailableError(f"the connection was lost: {text}", where=where)
    return RejectedRows(text, where=where) if state.startswith("22") else FatalError(text, where=where)


def execute(opened: Any, where: str, statement: str, parameters: Sequence[Any] = ()) -> Any:
    """Executes a statement; returns its cursor.

    Raises:
        HeadraceError: It failed; see `translated`.
    """
    try:
        return opened.cursor().execute(statement, tuple(parameters) or None)
    except (driver.errors.Error, OSError) as error:
        raise translated(error, where) from error


def query(opened: Any, where: str, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Returns all rows of a query; raises as `execute` does."""
    cursor = execute(opened, where, statement, parameters)
    try:
        return list(cursor.fetchall())
    except (driver.errors.Error, OSError) as error:
        raise translated(error, where) from error


def close_quietly(opened: Any) -> None:
    """Closes a session, whatever state it is in; what was open in it is rolled back."""
    with suppress(driver.errors.Error, OSError):
        opened.close()


def server_version(connection: SnowflakeConnection) -> str:
    """Returns the server's version; raises as `connect` does."""
    opened = connect(connection)
    try:
        return f"Snowflake {query(opened, place_of(connection), 'SELECT CURRENT_VERSION()')[0][0]}"
    finally:
        close_quietly(opened)


def find_table(opened: Any, where: str, table: TableName) -> TableName:
    """Returns a table under the names it was made with: its own, or the only ones that differ in case alone."""
    found = query(
        opened,
        where,
        f"{_TABLES} AND upper(table_schema) = ? AND upper(table_name) = ?",
        (table.schema.upper(), table.name.upper()),
    )
    names = [TableName(str(schema), str(name)) for schema, name in found]
    if table in names or len(names) != 1:
        return table
    return names[0]


def table_names(opened: Any, where: str, schema: str) -> list[str]:
    """Returns the names of a schema's tables and views that are not Headrace's own; raises as `execute` does."""
    found = query(opened, where, f"{_TABLES} AND upper(table_schema) = ?", (schema.upper(),))
    return [str(name) for _, name in found if not str(name).startswith("_headrace")]


def describe(opened: Any, where: str, table: TableName) -> list[Described] | None:
    """Returns a table's columns, or None when there is no such table, or none that the role may see."""
    try:
        rows = query(opened, where, f"DESCRIBE TABLE {table.quoted()}")
    except SchemaError as error:
        if isinstance(error.__cause__, driver.errors.Error) and _number_of(error.__cause__) == _MISSING:
            return None
        raise
    return [Described(str(row[0]), str(row[1]), str(row[3]) == "N") for row in rows if row[2] == "COLUMN"]


def list_tables(connection: SnowflakeConnection) -> tuple[Stream, ...]:
    """Lists tables and views with their schemas; raises as `connect` does."""
    opened, where = connect(connection), place_of(connection)
    try:
        made = []
        for schema, name in query(opened, where, f"{_TABLES} ORDER BY table_schema, table_name"):
            described = describe(opened, where, TableName(str(schema), str(name)))
            if described is not None and not str(name).startswith("_headrace"):
                made.append(Stream(f"{schema}.{name}", pa.schema([field_of(each) for each in described])))
        return tuple(made)
    finally:
        close_quietly(opened)
