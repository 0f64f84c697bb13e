"""Which addresses may be called from a workflow without leading into the own network (SSRF); resolves and connects nothing.

For IPv6 only global unicast (2000::/3) is public; so IPv4-mapped, NAT64, unique local, link-local and multicast addresses are not, whatever
IPv4 address they carry. The ranges are IANA's special-purpose registries (RFC 6890 and its updates) and what clouds add to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from dsl.contracts.errors import FatalError

HINT: Final = (
    "if it is meant: allow_private_hosts: true at the node, or HEADRACE_ALLOW_PRIVATE_ADDRESSES=1 for the deployment"
)
_RANGES: Final = tuple(
    (ip_network(network), word)
    for network, word in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier (CGNAT)"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's metadata service"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "this host"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "an IPv4 address in IPv6"),
        ("64:ff9b::/96", "translated (NAT64)"),
        ("64:ff9b:1::/48", "translated (NAT64)"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "an IPv4 address in IPv6 (6to4)"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
)
_PUBLIC: Final = IPv6Network("2000::/3")
_NUMBER: Final = re.compile(r"(0[xX][0-9A-Fa-f]*|[0-9]+)")


def why_not_public(address: str) -> str:
    """Says what an address is that a workflow may not call (`loopback`, `private` …), or "" for a public one.

    Args:
        address: As a resolver or a socket gives it.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return "no address"
    word = next((word for network, word in _RANGES if found.version == network.version and found in network), "")
    if word or isinstance(found, IPv4Address):
        return word
    return "" if found in _PUBLIC and _is_plain(found) else "reserved"


def _is_plain(address: IPv6Address) -> bool:
    return address.scope_id is None


def check_host(host: str, where: str) -> None:
    """Refuses a host that is written as an address: one that is not public, or not in its plain spelling (`0177.1`, `2130706433`).

    Raises:
        FatalError: It is.
    """
    last = host.rstrip(".").rpartition(".")[2]
    if ":" in host or _NUMBER.fullmatch(last):
        check_addresses(host, (host,), where)


def check_addresses(host: str, addresses: Iterable[str], where: str) -> None:
    """Refuses a host when one of its addresses is not public: which one a connection takes is not for the workflow to say.

    Args:
        host: As it is written.
        addresses: All that it resolves to.
        where: Who wants to call it.

    Raises:
        FatalError: One of them is not public.
    """
    for address in addresses:
        if why := why_not_public(address):
            what = f"host '{host}' is {why}" if address == host else f"host '{host}' leads to {address}, which is {why}"
            raise FatalError(f"{what}: calls into the own network are refused", where=where, hint=HINT)
