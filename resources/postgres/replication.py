"""A connection that speaks PostgreSQL's replication protocol: makes a slot, streams from it, confirms; knows no message of a plugin.

Source: PostgreSQL documentation, "Streaming Replication Protocol". The driver offers it at the level of libpq only (docs/adr/0028).
"""

from __future__ import annotations

import select
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import resources.postgres.client  # isort: skip  # noqa: F401 - first, for it says how to get the driver
import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from psycopg.errors import error_from_result

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError
from resources.postgres.client import place_of, refused, settings_of, translated
from resources.sql import quoted

if TYPE_CHECKING:
    from resources.postgres.resource import PostgresConnection

_OPTIONS = (
    "-c TimeZone=UTC -c DateStyle=ISO,YMD -c IntervalStyle=iso_8601 -c bytea_output=hex -c extra_float_digits=1 "
    "-c lc_monetary=C -c client_encoding=UTF8 -c wal_sender_timeout=0"
)


@dataclass(frozen=True)
class Frame:
    """What the server sent.

    Attributes:
        end: How far the server has read its log.
        data: A message of the plugin; empty where it only says that it is there.
    """

    end: int
    data: bytes = b""


class Replication:
    """An open replication connection.

    Args:
        connection: How to reach the server.

    Raises:
        UnavailableError: It cannot be reached.
        FatalError: It refuses the login, or the role may not replicate.
    """

    def __init__(self, connection: PostgresConnection) -> None:
        self._where, self._username = place_of(connection), connection.username
        settings = {**settings_of(connection), "replication": "database", "options": _OPTIONS}
        self._wire = pq.PGconn.connect(make_conninfo(**settings).encode())
        if self._wire.status != pq.ConnStatus.OK:
            text = self._wire.get_error_message()
            self.close()
            raise self._no_right(text) or refused(psycopg.OperationalError(text), connection)
        self._poll = select.poll()
        self._poll.register(self._wire.socket, select.POLLIN)

    def _no_right(self, text: str) -> HeadraceError | None:
        if "replication" not in text.lower() or ("permission" not in text.lower() and "role" not in text.lower()):
            return None
        hint = f"ALTER ROLE {self._username} REPLICATION, and let pg_hba.conf allow it"
        said = " ".join(text.split())
        return FatalError(
            f"the role may not read the log of changes: {said}", where=self._where, hint=hint, error_type=ErrorType.AUTH
        )

    def create_slot(self, name: str) -> tuple[str, str]:
        """Makes a slot; returns where its changes begin, and the snapshot of just that moment, which this connection keeps alive."""
        result = self._run(f"CREATE_REPLICATION_SLOT {quoted(name)} LOGICAL pgoutput (SNAPSHOT 'export')")
        lsn, snapshot = result.get_value(0, 1) or b"", result.get_value(0, 2) or b""
        return lsn.decode(), snapshot.decode()

    def start(self, slot: str, publication: str, lsn: str) -> None:
        """Begins to stream what follows a place in the log."""
        publications = quoted(publication).replace("'", "''")
        self._run(
            f"START_REPLICATION SLOT {quoted(slot)} LOGICAL {lsn} (proto_version '1', publication_names '{publications}')"
        )

    def _run(self, command: str) -> pq.abc.PGresult:
        try:
            result = self._wire.exec_(command.encode())
        except psycopg.Error as error:
            raise translated(error, self._where) from error
        if result.status in {pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.NONFATAL_ERROR, pq.ExecStatus.BAD_RESPONSE}:
            refusal = error_from_result(result)
            raise self._no_right(str(refusal)) or translated(refusal, self._where) from refusal
        return result

    def receive(self, seconds: float) -> Frame | None:
        """Returns what comes next, or None if nothing does within some time."""
        try:
            size, data = self._wire.get_copy_data(1)
            while size == 0 and self._poll.poll(int(seconds * 1000)):
                self._wire.consume_input()
                size, data = self._wire.get_copy_data(1)
            if size == 0:
                return None
            if size < 0:
                raise self._ended()
        except psycopg.Error as error:
            raise translated(error, self._where) from error
        return self._frame(bytes(data))

    def _ended(self) -> psycopg.Error:
        result = self._wire.get_result()
        refused_it = result is not None and result.status == pq.ExecStatus.FATAL_ERROR
        return error_from_result(result) if refused_it and result else psycopg.OperationalError("the server ended it")

    def _frame(self, data: bytes) -> Frame:
        if data[:1] == b"w":
            return Frame(struct.unpack_from(">Q", data, 9)[0], data[25:])
        end, _, asks = struct.unpack_from(">QQB", data, 1)
        if asks:
            self.confirm(0)
        return Frame(end)

    def confirm(self, lsn: int, *, ask: bool = False) -> None:
        """Tells the server that everything up to a place is kept, 0 for nothing new; asks for a sign of life."""
        try:
            self._wire.put_copy_data(b"r" + struct.pack(">QQQQB", lsn, lsn, lsn, 0, int(ask)))
            self._wire.flush()
        except psycopg.Error as error:
            raise translated(error, self._where) from error

    def close(self) -> None:
        """Closes the connection; safe to call twice; never raises."""
        with suppress(psycopg.Error):
            self._wire.finish()


def number_of(lsn: str) -> int:
    """Returns a place in the log as a number."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def text_of(lsn: int) -> str:
    """Returns a place in the log as the server writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
