"""The conformance suite on the emulator, in each of the write modes that promise something of their own."""

from __future__ import annotations

import pytest

from dsl.contracts.capabilities import WriteMode
from dsl.contracts.connectors import Destination
from resources.testing import DestinationSuite, DestinationTarget
from tests.resources.elasticsearch.conftest import Place


class TestDestination(DestinationSuite):
    """Appending, and whatever a test asks for by its mode."""

    @pytest.fixture
    def target(self, place: Place) -> DestinationTarget:
        return place


class Keyed:
    """A target whose rows always have their id as key."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.rows = place.rows

    def destination(self, mode: WriteMode) -> Destination:
        return self._place.destination(mode, id_field="id")


class TestKeyedDestination(DestinationSuite):
    """The same promises where documents are replaced by key."""

    @pytest.fixture
    def target(self, place: Place) -> DestinationTarget:
        return Keyed(place)
