"""Which addresses are public: every special-purpose range from its first to its last address, and nothing beside them."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsl.contracts.addresses import check_addresses, check_host, why_not_public
from dsl.contracts.errors import FatalError

INSIDE = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",
    "240.0.0.0/4", "::/128", "::1/128", "::ffff:0:0/96", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/32",
    "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
    "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2000::", "2606:4700::1111",
    "2a00:1450:4001:800::200e",
]  # fmt: skip


@pytest.mark.parametrize("network", INSIDE)
def test_every_range_is_inside_to_its_ends(network: str) -> None:
    held = ip_network(network)
    for each in (held[0], held[-1], held[held.num_addresses // 2]):
        assert why_not_public(str(each)), each


@pytest.mark.parametrize("address", PUBLIC)
def test_what_lies_beside_them_is_public(address: str) -> None:
    assert not why_not_public(address)


@pytest.mark.parametrize(
    "address", ["168.63.129.16", "fd00:ec2::254", "169.254.169.254", "100.100.100.200", "192.0.0.192"]
)
def test_metadata_services_are_inside(address: str) -> None:
    assert why_not_public(address)


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0177.0.0.1", "2130706433", "1.2.3.4 ", "2606::1%eth0", "[::1]"]
)
def test_what_is_no_plain_address_is_not_public(text: str) -> None:
    assert why_not_public(text)


@given(st.ip_addresses(v=4))
def test_no_address_in_ipv6_clothes_is_public(address: object) -> None:
    number = int(ip_address(str(address)))
    for prefix, shift in ((0, 0), (0xFFFF << 32, 0), (0x64FF9B << 96, 0), (0x2002 << 112, 80)):
        assert why_not_public(str(IPv6Address(prefix | number << shift)))


@given(st.ip_addresses())
def test_what_is_public_is_global_for_the_standard_library_too(address: object) -> None:
    found = ip_address(str(address))
    if not why_not_public(str(found)):
        assert found.is_global
        assert not found.is_multicast


def test_one_address_inside_is_enough() -> None:
    check_addresses("example.com", ["93.184.216.34", "2606:4700::1111"], "node")
    with pytest.raises(
        FatalError, match=r"node: host 'example.com' leads to 10\.0\.0\.1, which is private.*allow_private_hosts"
    ):
        check_addresses("example.com", ["93.184.216.34", "10.0.0.1"], "node")


@pytest.mark.parametrize("host", ["example.com", "8.8.8.8", "2606:4700::1111", "1and1.com", "7.example", "x0"])
def test_names_and_public_addresses_are_left_to_the_resolver(host: str) -> None:
    check_host(host, "node")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1.",
        "0177.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "127.1",
        "::1",
        "10.0.0.1",
        "8.8.8.010",
    ],
)
def test_numbers_that_are_no_plain_public_address_are_refused(host: str) -> None:
    with pytest.raises(FatalError, match="refused"):
        check_host(host, "node")
