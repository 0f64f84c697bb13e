"""The wall around the own network: connects to exactly the addresses that were judged; imports aiohttp, so it is imported late itself."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from dsl.contracts.addresses import check_addresses, why_not_public
from dsl.contracts.errors import FatalError

Found: TypeAlias = list[tuple[socket.AddressFamily, str]]
Lookup: TypeAlias = Callable[[str, int, socket.AddressFamily], Found]
"""Takes a host's name, a port and a family; returns the addresses, or raises OSError."""


def system_lookup(host: str, port: int, family: socket.AddressFamily) -> Found:
    """Asks the system's resolver."""
    infos = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    return [(each[0], _with_scope(each[4])) for each in infos]


def _with_scope(address: tuple[Any, ...]) -> str:
    host = str(address[0])
    return f"{host}%{address[3]}" if len(address) > 3 and address[3] and "%" not in host else host


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

    def connector(self, limit: int) -> aiohttp.TCPConnector:
        """A pool of at most so many connections, each made through the wall; call it inside the event loop.

        Every address that a name has is judged when it is resolved, and the one that is taken once more when its socket is made: so a
        name cannot mean something else between check and connect, and an address written as such does not go round the check.
        """
        return aiohttp.TCPConnector(
            limit=limit,
            resolver=_Resolver(self),
            socket_factory=self._socket,
            # One address after the other: races would try several hosts for one call.
            happy_eyeballs_delay=None,
        )

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self.open and (why := why_not_public(str(address[0]))):
            raise FatalError(f"{address[0]} is {why}: calls into the own network are refused", where=self.where)
        return socket.socket(family, kind, protocol)


class _Resolver(AbstractResolver):
    """Resolves in threads that do not keep the process from ending, and judges what it finds."""

    def __init__(self, wall: Wall) -> None:
        self._wall = wall

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await _in_thread(lambda: self._wall.lookup(host, port, family))
        if not self._wall.open:
            check_addresses(host, [address for _, address in found], self._wall.where)
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=numeric)
            for kind, address in found
        ]

    async def close(self) -> None:
        pass


async def _in_thread(work: Callable[[], Found]) -> Found:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Found] = loop.create_future()

    def settle(found: Found | None, error: OSError | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found or [])

    def run() -> None:
        found, failed = None, None
        try:
            found = work()
        except (OSError, UnicodeError) as error:
            failed = error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, str(error))
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, found, failed)

    threading.Thread(target=run, name="headrace-resolve", daemon=True).start()
    return await answer
