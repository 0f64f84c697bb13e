"""The wall around the own network: every way to write an address inside it, and no connection seen by who listens there."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from dsl.contracts.errors import FatalError
from engine.operators.http_call import Answer, CallError, Request
from engine.operators.http_client import Calling, HttpClient, origin_of
from engine.operators.loop import LoopThread
from engine.operators.wall import Found, Wall, system_lookup
from tests.engine.operators.opened import USERS, Listener, Workbench, enriching, http, listening, users

PUBLIC = "93.184.216.34"
# Names of the world that lead to this machine, and what a resolver says of them.
NAMES = {
    "localhost.": ["127.0.0.1", "::1"],
    "localtest.me": ["127.0.0.1"],
    "a.lvh.me": ["127.0.0.1"],
    "127.0.0.1.nip.io": ["127.0.0.1"],
    "7f000001.nip.io": ["127.0.0.1"],
    "customer1.app.localhost": ["127.0.0.1", "::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "both.example": [PUBLIC, "127.0.0.1"],
    "last.example": ["127.0.0.1", PUBLIC],
    "translated.example": ["64:ff9b::7f00:1"],
    "zero.example": ["0.0.0.0"],
    "six.example": ["::1"],
    "any.example": ["::"],
    "metadata.google.internal": ["169.254.169.254"],
    "wireserver.example": ["168.63.129.16"],
    "own.example": ["10.1.2.3"],
    "scoped.example": ["fe80::1%1"],
    "xn--bcher-kva.example": ["127.0.0.1"],
    "multicast.example": ["224.0.0.1"],
    "carrier.example": ["100.64.1.1"],
}
SPELLINGS = [
    "127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "127.000.000.001", "0177.1", "0177.0.0.1", "00000177.0.0.1", "0x7f.1",
    "0x7f.0x0.0x0.0x1", "0x7F000001", "2130706433", "017700000001", "127.0.0.2", "127.255.255.254", "0", "0.0.0.0", "0x0",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]",
    "[ff02::1]", "169.254.169.254", "169.254.169.254.", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "100.100.100.200",
    "192.0.0.192", "168.63.129.16", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "224.0.0.1", "255.255.255.255",
    "localhost", "LOCALHOST", "localhost.", "LocalHost.", "127。0。0。1", "127．0．0．1", "１２７.0.0.1", "①②⑦.0.0.1",
    "ⓛocalhost", "ｌocalhost",
    "bücher.example", "api.example.com@127.0.0.1", "api.example.com:80@127.0.0.1", "api.example.com%40127.0.0.1", "%31%32%37.0.0.1",
    "127.0.0.1%00.example.com", "127.0.0.1\\@example.com", "example.com\\@127.0.0.1", "[::1%25lo]", "[::ffff:127.0.0.1%1]", *NAMES,
]  # fmt: skip


OPEN = Wall("step", open=True, lookup=lambda *_: [(socket.AF_INET, "127.0.0.1")])


def world(host: str, port: int, family: socket.AddressFamily) -> Found:
    """The world's resolver, as far as these tests go."""
    known = NAMES.get(host.lower()) or NAMES.get(host.lower().rstrip("."))
    if known is None:
        return system_lookup(host, port, family)
    return [(socket.AF_INET6 if ":" in each else socket.AF_INET, each) for each in known]


def call(url: str, wall: Wall) -> Answer:
    """Calls an address as `enrich` does."""
    origin = str(origin_of(url, wall)).rstrip("/")
    calling = Calling(where="step", method="GET", timeout=timedelta(seconds=5), connections=1, largest=1000, wall=wall)
    client = HttpClient(calling, {})
    loop = LoopThread("headrace-wall", lambda: False)
    try:
        loop.run(client.open())
        return loop.run(client.call(Request(f"{origin}/x")))
    finally:
        loop.close(client.close)


@pytest.fixture(scope="module", params=[socket.AF_INET, socket.AF_INET6])
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    """Listens on every address of this machine, of one family."""
    with listening(http(b"{}"), request.param) as made:
        yield made


def test_there_are_enough_of_them() -> None:
    assert len(set(SPELLINGS)) >= 60


@pytest.mark.parametrize("host", SPELLINGS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_nothing_inside_is_reached(listener: Listener, scheme: str, host: str) -> None:
    with pytest.raises(FatalError):
        call(f"{scheme}://{host}:{listener.port}/x", Wall("step", lookup=world))
    assert listener.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localtest.me", "zero.example", "both.example"])
def test_without_the_wall_they_are(host: str) -> None:
    """What the tests above refuse would be reached."""
    with listening(http(b"{}")) as inside:
        answer = call(f"http://{host}:{inside.port}/x", OPEN)
        assert (answer.status, inside.connections) == (200, 1)


@dataclass(frozen=True)
class Watching(Wall):
    """Notes the addresses of the sockets that the wall lets through, and connects none of them: no test leaves the machine."""

    taken: list[str] = field(default_factory=list)

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        super()._socket(info).close()
        self.taken.append(info[4][0])
        raise ConnectionRefusedError(errno.ECONNREFUSED, "not from a test")


@pytest.mark.parametrize("flips", [(PUBLIC, "127.0.0.1"), ("127.0.0.1", PUBLIC), (PUBLIC, PUBLIC, "127.0.0.1", "::1")])
def test_a_resolver_that_flips_between_check_and_connect_reaches_nothing(flips: tuple[str, ...]) -> None:
    """The address that was judged is the one that is taken: nobody asks a second time in between."""
    left = list(flips)
    with listening(http(b"{}")) as inside:
        wall = Watching("step", lookup=lambda *_: [(socket.AF_INET, left.pop(0) if len(left) > 1 else left[0])])
        for _ in range(2 * len(flips)):
            with pytest.raises((CallError, FatalError)):
                call(f"http://rebound.example:{inside.port}/x", wall=wall)
        assert inside.connections == 0
    assert set(wall.taken) <= {PUBLIC}
    assert wall.taken or flips[0] != PUBLIC


@pytest.mark.parametrize(
    "addresses", [(PUBLIC, "127.0.0.1"), ("127.0.0.1", PUBLIC), (PUBLIC, "2606:4700::1111", "::1")]
)
def test_one_address_inside_refuses_a_name_before_any_is_tried(addresses: tuple[str, ...]) -> None:
    found = [(socket.AF_INET6 if ":" in each else socket.AF_INET, each) for each in addresses]
    wall = Watching("step", lookup=lambda *_: found)
    with pytest.raises(FatalError, match="leads to"):
        call("http://mixed.example/x", wall=wall)
    assert wall.taken == []


def test_a_connector_that_is_given_an_unjudged_address_makes_no_socket() -> None:
    """Even where a resolver were passed by, the last gate judges the very address of the socket."""
    wall = Wall("step")
    for address in ("127.0.0.1", "2130706433", "::1", "localhost", "10.0.0.1"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with pytest.raises(FatalError, match="own network"):
            wall._socket((family, socket.SOCK_STREAM, 6, "", (address, 80)))
    wall._socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", (PUBLIC, 80))).close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_leads_nowhere(bench: Workbench, status: int) -> None:
    with listening(http(b"{}")) as inside:
        redirect = http(b"", f"{status} Elsewhere", f"Location: {inside.url}")
        with listening(redirect) as first, listening(http(b"", "302 Found", f"Location: {first.url}")) as chain:
            done = bench.open(enriching(chain.url), USERS).process(users("a"))
            assert [each.code for each in done.failed] == ["http_redirect"]
            assert (chain.connections, first.connections, inside.connections) == (1, 0, 0)


def test_the_node_or_the_deployment_may_open_it(bench: Workbench) -> None:
    with listening(http(b'{"score": 1}')) as inside:
        with pytest.raises(FatalError, match="allow_private_hosts") as caught:
            bench.open(enriching(inside.url), USERS, allow_private_addresses=False)
        assert "HEADRACE_ALLOW_PRIVATE_ADDRESSES" in str(caught.value)
        meant = enriching(inside.url, allow_private_hosts=True)
        assert bench.open(meant, USERS, allow_private_addresses=False).process(users("a")).passed.num_rows == 1
        assert bench.open(enriching(inside.url), USERS).process(users("a")).passed.num_rows == 1


def test_a_proxy_of_the_environment_is_not_asked(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(http(b'{"score": 1}')) as proxy, listening(http(b'{"score": 2}')) as service:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        done = bench.open(enriching(service.url), USERS).process(users("a"))
        assert done.passed.to_pylist()[0]["user"]["score"] == 2
        assert proxy.connections == 0


def test_the_host_that_is_asked_for_is_the_one_that_was_written() -> None:
    """The connection goes to an address; the name stays in `Host`."""
    with listening(http(b"{}")) as inside:
        call(f"http://api.example:{inside.port}/x", OPEN)
        assert f"Host: api.example:{inside.port}".encode() in inside.heads[0]
