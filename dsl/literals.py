"""Finds secrets that stand in a document as themselves; says where, never what."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from dsl.contracts.connectors import Destination, Source
from dsl.contracts.secret import Secret
from dsl.spans import OptionPath


def literal_secrets(options: object) -> Iterator[OptionPath]:
    """Yields the path of every literal secret among a node's options, those of its connection included."""
    if isinstance(options, Source | Destination):
        yield from _within(options.connection, ())
    yield from _within(options, ())


def _within(value: Any, path: OptionPath) -> Iterator[OptionPath]:
    if isinstance(value, Secret):
        if value.literal:
            yield path
    elif dataclasses.is_dataclass(value):
        for each in dataclasses.fields(value):
            if path or each.name != "connection":
                yield from _within(getattr(value, each.name), (*path, each.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _within(item, (*path, key))
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _within(item, (*path, index))
