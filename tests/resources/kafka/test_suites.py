"""The conformance suites on the emulator, in each of the modes that promise something of their own."""

from __future__ import annotations

import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination
from resources.testing import DestinationSuite, DestinationTarget, SourceOrigin, SourceSuite
from tests.resources.kafka.conftest import Place


class TestSource(SourceSuite):
    """A topic of three partitions, read from its beginning."""

    ordered = False

    @pytest.fixture
    def origin(self, place: Place) -> SourceOrigin:
        return place


class TestDestination(DestinationSuite):
    """Appending, and whatever a test asks for by its mode."""

    @pytest.fixture
    def target(self, place: Place) -> DestinationTarget:
        return place


class Keyed:
    """A target whose messages always have their id as key."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.rows = place.rows

    def destination(self, mode: WriteMode) -> Destination:
        return self._place.destination(mode, primary_key=("id",))


class TestKeyedDestination(DestinationSuite):
    """The same promises where messages have keys."""

    @pytest.fixture
    def target(self, place: Place) -> DestinationTarget:
        return Keyed(place)
