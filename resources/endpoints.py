"""Addresses of servers that speak HTTP, as options write them: which are refused, and what they say; connects to nothing."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from dsl.contracts.spec import OptionError
from resources.sql import Tls, loopback


def address_of(endpoint: str | None, *, path: bool = False) -> SplitResult | None:
    """Returns the parts of an address, or None where there is none that can be used.

    Args:
        endpoint: As it is written: a scheme, a host, perhaps a port, and no credentials.
        path: Whether it may go on behind the host.
    """
    try:
        found = urlsplit(endpoint or "")
        usable = found.scheme in {"http", "https"} and found.hostname and (found.port or True)
    except ValueError:
        return None
    plain = (path or found.path in {"", "/"}) and not (found.query or found.fragment or "@" in found.netloc)
    return found if usable and plain else None


def name_of(address: SplitResult) -> str:
    """Returns a server's part of an asset key: its host, with the port where it is an unusual one."""
    host = address.hostname or ""
    return host if address.port in {None, 80, 443} else f"{host}_{address.port}"


def check_endpoint(endpoint: str | None, tls: Tls, vendor: str, *, path: bool = False) -> None:
    """Refuses an option `endpoint` that is no address, or that would show rows to whoever sees the network.

    Args:
        endpoint: The option.
        tls: The option beside it.
        vendor: Whose servers are meant where there is no endpoint.
        path: Whether the address may go on behind the host.

    Raises:
        OptionError: Names the option at fault.
    """
    if tls is Tls.REQUIRE:
        raise OptionError("tls", "a certificate is verified or there is none", "add ca_file to trust a server's own")
    if not endpoint:
        if tls is Tls.DISABLE:
            raise OptionError("tls", f"{vendor} is reached over HTTPS", "remove tls")
        return
    address = address_of(endpoint, path=path)
    if address is None:
        raise OptionError(
            "endpoint",
            "it is no address of a server, or holds more than that",
            "write https://host or https://host:port; keys have options of their own",
        )
    if address.scheme == "https" and tls is Tls.DISABLE:
        raise OptionError("tls", "it contradicts an https:// endpoint", "remove tls, or write http://")
    if address.scheme == "http" and not _may_be_plain(address.hostname or "", tls):
        raise OptionError(
            "endpoint",
            "http:// shows rows to whoever sees the network",
            "write https://, or tls: disable if that is meant",
        )


def _may_be_plain(host: str, tls: Tls) -> bool:
    return tls is Tls.DISABLE or (tls is Tls.AUTO and loopback(host))
