"""The conformance suites on a real server, for each thing that rows can become."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination
from resources.redis.resource import Store
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite
from tests.resources.redis.conftest import Place


class TestSource(SourceSuite):
    """A stream, read from its beginning."""

    @pytest.fixture
    def origin(self, place: Place) -> SourceOrigin:
        return place


class TestDestination(DestinationSuite):
    """Entries of a stream, and hashes where a test asks for keys."""

    @pytest.fixture
    def target(self, place: Place) -> DestinationTarget:
        return place


class Keyed:
    """A target whose rows always have a key of their own."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.rows = place.rows

    def destination(self, mode: WriteMode) -> Destination:
        del mode
        return self._place.destination(WriteMode.UPSERT)


class TestStrings(DestinationSuite):
    """The same promises where each row is a string of JSON at its key."""

    @pytest.fixture
    def target(self, place: Place) -> DestinationTarget:
        return Keyed(replace(place, store=Store.STRING))
