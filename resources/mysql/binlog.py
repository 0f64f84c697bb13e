"""MySQL's and MariaDB's binary log as a stream of events from a place on; what the events say of rows is for others to read.

On MariaDB a place is a set of GTIDs, which a replica that takes over knows as well; on MySQL it is a file and a position in it. The
library that decodes the log connects anew by itself when its connection is lost, and would then go on in the middle of a transaction:
here it may not.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import resources.mysql.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import pymysql

from dsl.contracts.errors import ErrorType, FatalError, RegressionError, UnavailableError
from dsl.contracts.state import Json
from resources.mysql.client import number_of, place_of, query, settings_of, translated
from resources.sql import TableName

if TYPE_CHECKING:
    from resources.mysql.resource import MysqlConnection

try:
    from pymysqlreplication.binlogstream import BinLogStreamReader
    from pymysqlreplication.event import MariadbGtidEvent, QueryEvent, XidEvent
    from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent
except ImportError as missing:
    raise FatalError(
        "what reads MySQL's binary log is not installed",
        hint="pip install 'headrace[mysql-cdc]', which brings mysql-replication",
    ) from missing

__all__ = [
    "Binlog",
    "DeleteRowsEvent",
    "MariadbGtidEvent",
    "QueryEvent",
    "UpdateRowsEvent",
    "WriteRowsEvent",
    "check_log",
    "is_mariadb",
    "log_end",
    "moved",
    "place_now",
    "reached",
]
_EVENTS = (MariadbGtidEvent, QueryEvent, XidEvent, WriteRowsEvent, UpdateRowsEvent, DeleteRowsEvent)
_WANTED = {"log_bin": "ON", "binlog_format": "ROW", "binlog_row_image": "FULL", "binlog_row_metadata": "FULL"}
_FIRST_ID, _IDS = 2**30, 2**31
Place = Mapping[str, Json]


def check_log(opened: pymysql.connections.Connection[Any], where: str) -> None:
    """Looks whether the server's log tells whole rows, with the names of their columns.

    Raises:
        FatalError: It does not.
    """
    names = ", ".join(f"'{each}'" for each in _WANTED)
    found = {
        str(row[0]): str(row[1]) for row in query(opened, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
    }
    for name, wanted in _WANTED.items():
        have = found.get(name, "unknown")
        if have.upper() != wanted:
            hint = f"set {name} = {wanted} in the server's configuration; tables are told from then on"
            raise FatalError(f"the server's {name} is {have}, and cdc needs {wanted}", where=where, hint=hint)


def is_mariadb(opened: pymysql.connections.Connection[Any]) -> bool:
    """Tells whether the server is a MariaDB."""
    return "mariadb" in str(query(opened, "SELECT VERSION()")[0][0]).lower()


def log_end(opened: pymysql.connections.Connection[Any], where: str) -> tuple[str, int]:
    """Returns the file and the position where the log ends now.

    Raises:
        FatalError: The user may not know.
    """
    try:
        try:
            rows = query(opened, "SHOW MASTER STATUS")
        except pymysql.ProgrammingError:  # MySQL 8.4 has another word
            rows = query(opened, "SHOW BINARY LOG STATUS")
    except pymysql.Error as error:
        hint = "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the user (on MariaDB also BINLOG MONITOR)"
        raise FatalError(
            f"the user may not read the log: {error.args[-1]}", where=where, hint=hint, error_type=ErrorType.AUTH
        ) from error
    return str(rows[0][0]), int(rows[0][1])


def place_now(opened: pymysql.connections.Connection[Any], table: TableName, where: str) -> dict[str, Json]:
    """Returns a place in the log before which no change of a table is missing from what is read of it from now on.

    A transaction enters the log before others see it. Locking the table for a moment waits for those that have written to it.
    """
    try:
        query(opened, f"LOCK TABLES {table.quoted('`')} READ")
        try:
            if is_mariadb(opened):
                return {"gtid": str(query(opened, "SELECT @@global.gtid_binlog_pos")[0][0])}
            file, position = log_end(opened, where)
            return {"file": file, "position": position}
        finally:
            query(opened, "UNLOCK TABLES")
    except pymysql.Error as error:
        raise translated(error, where) from error


def reached(end: tuple[str, int], now: tuple[str, int]) -> bool:
    """Tells whether a place (file, position) is not before another."""
    return (len(now[0]), *now) >= (len(end[0]), *end)


_stream: Any = BinLogStreamReader
"""The library has no types."""


class Binlog:
    """The log of a table from a place on, up to where it ends; iterate once.

    Args:
        connection: How to reach the server.
        table: The table whose rows are wanted; transactions of others are told without them.
        place: Where to begin.
    """

    def __init__(self, connection: MysqlConnection, table: TableName, place: Place) -> None:
        self._where, self._connected = place_of(connection), False
        by_gtid = "gtid" in place
        self._stream: Any = _stream(
            connection_settings=settings_of(connection),
            server_id=_FIRST_ID + secrets.randbelow(_IDS),
            only_events=list(_EVENTS),
            only_schemas=[table.schema],
            only_tables=[table.name],
            is_mariadb=by_gtid,
            auto_position=str(place["gtid"]) if by_gtid else None,
            log_file=None if by_gtid else str(place["file"]),
            log_pos=None if by_gtid else int(str(place["position"])),
            resume_stream=not by_gtid,
            enable_logging=False,
            pymysql_wrapper=self._connect,
        )

    def _connect(self, **settings: Any) -> Any:
        asks = settings.pop("db", "") == "information_schema"
        if not asks and self._connected:
            raise UnavailableError("the connection to the log was lost", where=self._where)
        self._connected = self._connected or not asks
        return pymysql.connect(**settings)

    @property
    def end(self) -> tuple[str, int]:
        """The file and the position behind the last event."""
        return str(self._stream.log_file or ""), int(self._stream.log_pos or 0)

    def __iter__(self) -> Iterator[Any]:
        """Yields events until the log ends.

        Raises:
            RegressionError: The server has removed the log that follows the place.
            RetryableError: The connection was lost.
        """
        try:
            yield from self._stream
        except pymysql.Error as error:
            if number_of(error) == 1236:
                raise RegressionError(
                    f"the server no longer has the log that follows the last commit: {error.args[-1]}",
                    where=self._where,
                    hint="keep it for longer (binlog_expire_logs_seconds); to read the whole table again, empty the target, and give "
                    "the workflow another name",
                ) from error
            raise translated(error, self._where) from error
        except UnicodeDecodeError as error:
            raise FatalError(
                f"a text in the log is not in its column's character set: {error.reason}", where=self._where
            ) from error

    def close(self) -> None:
        """Closes the connections; safe to call twice."""
        with suppress(pymysql.Error, OSError):
            self._stream.close()


def moved(place: Place, gtids: Mapping[int, str], end: tuple[str, int]) -> dict[str, Json]:
    """Returns the place behind some more transactions.

    Args:
        place: The place before.
        gtids: The last transaction of each domain since then.
        end: The file and the position behind the last one.
    """
    if "gtid" not in place:
        return {"file": end[0], "position": end[1]}
    known = {each.split("-")[0]: each for each in str(place["gtid"]).split(",") if each}
    known |= {str(domain): gtid for domain, gtid in gtids.items()}
    return {"gtid": ",".join(known[each] for each in sorted(known, key=int))}
