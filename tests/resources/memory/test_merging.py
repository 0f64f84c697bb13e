"""Changes merged into tables of the process."""

from __future__ import annotations

from typing import Any

import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination
from resources.memory.resource import MemoryConnection, MemoryDestination
from resources.memory.tables import forget, table
from resources.testing import MergeSuite, MergeTarget


class Place:
    """One table."""

    def destination(self, key: tuple[str, ...]) -> Destination:
        connection = MemoryConnection(space="merging")
        return MemoryDestination(connection=connection, table="kept", write_mode=WriteMode.MERGE, primary_key=key)

    def rows(self) -> list[tuple[Any, ...]]:
        found = table("kept", "merging").to_table().to_pylist()
        return [(each["id"], each["part"], each["value"]) for each in found]


class TestMerging(MergeSuite):
    @pytest.fixture
    def merged(self) -> MergeTarget:
        forget("merging")
        return Place()
