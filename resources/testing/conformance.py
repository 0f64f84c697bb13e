"""Which suites a connector must pass, from what its specs say; runs none of them.

An outside package asserts it in one line: `assert not lacking(CONNECTOR, [TestSource, TestDestination])`.
"""

from __future__ import annotations

from collections.abc import Iterable

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import ConnectorKind
from resources.testing.changes import MergeSuite
from resources.testing.destination import DestinationSuite
from resources.testing.source import SourceSuite


def required(kind: ConnectorKind) -> tuple[type, ...]:
    """Returns the suites that a connector must pass: one for each role, and one for each promise that not all make."""
    found: list[type] = []
    if kind.source is not None:
        found.append(SourceSuite)
    if kind.destination is not None:
        found.append(DestinationSuite)
        if WriteMode.MERGE in kind.destination.capabilities.write_modes:
            found.append(MergeSuite)
    return tuple(found)


def lacking(kind: ConnectorKind, classes: Iterable[type]) -> tuple[str, ...]:
    """Returns the names of the suites that a connector must pass and that none of its test classes inherits."""
    held = tuple(classes)
    return tuple(suite.__name__ for suite in required(kind) if not any(issubclass(each, suite) for each in held))
