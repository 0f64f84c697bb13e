"""Connections that lead to exactly the addresses that were judged (SSRF); imports urllib3, so it is imported late itself."""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from dsl.contracts.addresses import check_addresses, check_host
from dsl.contracts.errors import FatalError
from dsl.contracts.redaction import scrub
from resources.http_options import INSTALL

try:
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
    from urllib3.util.connection import create_connection
except ModuleNotFoundError as error:
    raise FatalError("the library of HTTP is not installed", hint=f"{INSTALL}, which brings urllib3") from error


class _Discreet(logging.Filter):
    """Takes keys out of what urllib3 logs: addresses with all their parameters."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = scrub(record.getMessage()), ()
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_Discreet())

Lookup: TypeAlias = Callable[[str, int], list[str]]
"""Takes a host's name and a port; returns all its addresses, or raises OSError."""

_ALLOWED: Final = "HEADRACE_ALLOW_PRIVATE_ADDRESSES"
_YES: Final = frozenset({"1", "true", "yes", "on"})


def system_lookup(host: str, port: int) -> list[str]:
    """Asks the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


@dataclass(frozen=True)
class Wall:
    """Judges where connections lead.

    Attributes:
        where: Who wants to connect, for errors.
        open: Whether addresses inside the own network may be called.
        lookup: Resolves names.
    """

    where: str
    open: bool = False
    lookup: Lookup = system_lookup

    @classmethod
    def around(cls, where: str, *, allowed: bool) -> Wall:
        """Returns the wall of a connection, open where it or the deployment says so."""
        return cls(where, allowed or os.environ.get(_ALLOWED, "").strip().lower() in _YES)

    def addresses(self, host: str, port: int) -> list[str]:
        """Resolves a host once and judges every address it has; only these are connected to.

        Raises:
            FatalError: One of them is not public.
            OSError: It has none.
        """
        bare = host.strip("[]")
        if not self.open:
            check_host(bare, self.where)
        try:
            found = self.lookup(bare, port)
        except UnicodeError as error:
            raise socket.gaierror(socket.EAI_NONAME, str(error)) from error
        if not self.open:
            check_addresses(bare, found, self.where)
        return found

    def pool(
        self, scheme: str, host: str, port: int, timeout: Any, trust: ssl.SSLContext | None
    ) -> urllib3.HTTPConnectionPool:
        """Returns a pool of connections to one server, each made through the wall."""
        if scheme == "https":
            return _WalledHttpsPool(host, port, timeout=timeout, ssl_context=trust, wall=self)
        return _WalledPool(host, port, timeout=timeout, wall=self)


def _connected(connection: HTTPConnection, wall: Wall) -> socket.socket:
    port = connection.port or connection.default_port
    try:
        addresses = wall.addresses(connection.host, port)
    except OSError as error:
        failed = error if isinstance(error, socket.gaierror) else socket.gaierror(*error.args)
        raise NameResolutionError(connection.host, connection, failed) from error
    last: OSError = OSError("the host has no address")
    for each in addresses:
        try:
            return create_connection((each, port), connection.timeout, socket_options=connection.socket_options)
        except TimeoutError as error:
            raise ConnectTimeoutError(connection, f"no connection to {connection.host} in time") from error
        except OSError as error:
            last = error
    raise NewConnectionError(connection, f"{last.strerror or last}") from last


class _Walled(HTTPConnection):
    def __init__(self, *args: Any, wall: Wall, **options: Any) -> None:
        super().__init__(*args, **options)
        self._wall = wall

    def _new_conn(self) -> socket.socket:
        return _connected(self, self._wall)


class _WalledHttps(HTTPSConnection):
    def __init__(self, *args: Any, wall: Wall, **options: Any) -> None:
        super().__init__(*args, **options)
        self._wall = wall

    def _new_conn(self) -> socket.socket:
        return _connected(self, self._wall)


class _WalledPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Walled


class _WalledHttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _WalledHttps
