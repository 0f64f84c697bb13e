"""Connections that cross a network unencrypted; looks at options only and resolves no name."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from dsl.bound import BoundWorkflow
from dsl.lint.rule import Finding, Rule

_OFF = frozenset({"disable", "off"})


class PlainTransport(Rule):
    """A connection to another machine is not encrypted: `tls: disable`.

    Whoever is on the way sees its rows and its password. Give the server a certificate, and name its authority in
    `ca_file` if the system does not know it. On the loopback address nobody else listens: there it is no finding.
    """

    code = "W109"

    def findings(self, workflow: BoundWorkflow) -> Iterator[Finding]:
        """Yields every connection without encryption, also where it stands in a shared connection."""
        for node in workflow.nodes:
            connection = getattr(node.options, "connection", None)
            host = getattr(connection, "host", None)
            if isinstance(host, str) and str(getattr(connection, "tls", "")) in _OFF and not _is_here(host):
                said = f"{node.name!r} speaks with {host} unencrypted"
                yield self.found(node.spans.at("tls"), said, "leave tls out, and name the authority in ca_file")


def _is_here(host: str) -> bool:
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
