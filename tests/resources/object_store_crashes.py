"""Crash tests of any store of files, as a pytest class to inherit: a load is killed at every kind of request and goes on."""

from __future__ import annotations

from typing import ClassVar

import pytest
from _pytest.mark.structures import ParameterSet

from tests.resources.object_store_faults import ROWS, expected, load
from tests.resources.object_store_suite import Opening
from tests.resources.store_connectors import StorePlace, ids_in

Point = tuple[str, str, int]

APPENDING: list[Point] = [
    ("create", "before", 1),
    ("create", "after", 1),
    ("seal", "before", 2),
    ("seal", "after", 4),
    ("create", "before", 2),
    ("create", "after", 2),
    ("publish", "before", 1),
    ("publish", "after", 1),
    ("publish", "after", 4),
    ("create", "after", 5),
    ("sweep", "after", 1),
]
OVERWRITING: list[Point] = [
    ("seal", "after", 2),
    ("create", "after", 3),
    ("create", "after", 4),
    ("publish", "before", 1),
    ("publish", "after", 3),
    ("delete", "before", 1),
    ("delete", "after", 2),
    ("delete", "after", 6),
]


OFTEN = {APPENDING[at] for at in (3, 5, 7)} | {OVERWRITING[at] for at in (2, 4, 6)}
"""Those that `make test` runs."""


def points(every: list[Point]) -> list[ParameterSet]:
    return [
        pytest.param(each, id="-".join(map(str, each)), marks=[] if each in OFTEN else pytest.mark.slow)
        for each in every
    ]


class StoreCrashSuite:
    """Every row once, none seen too early. Subclasses give the fixtures `opening` and `place`, of the same place.

    Attributes:
        again_and_again: The points at which one load is killed in turn.
    """

    again_and_again: ClassVar[list[Point]] = [
        ("seal", "after", 1),
        ("create", "after", 2),
        ("publish", "after", 2),
        ("seal", "after", 2),
    ]

    @pytest.fixture
    def opening(self) -> Opening:
        """Must be overridden."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'opening'")

    @pytest.fixture
    def place(self) -> StorePlace:
        """Must be overridden."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'place'")

    @pytest.mark.parametrize("point", points(APPENDING))
    def test_an_appending_load_is_killed_and_goes_on(self, opening: Opening, place: StorePlace, point: Point) -> None:
        killed(opening, point, 1)
        seen = ids_in(place, "lake/part-")
        assert len(seen) % (ROWS // 2) == 0, "a file is seen whole or not at all"
        assert seen == expected(1)[: len(seen)]
        load(opening.store(), 1)
        assert ids_in(place, "lake/part-") == expected(1)
        assert leftovers(place) == []

    @pytest.mark.parametrize("point", points(OVERWRITING))
    def test_an_overwriting_load_is_killed_and_goes_on(self, opening: Opening, place: StorePlace, point: Point) -> None:
        load(opening.store(), 1, overwrite=True)
        assert ids_in(place, "lake/part-") == expected(1)
        killed(opening, point, 4, overwrite=True)
        seen = set(ids_in(place, "lake/part-"))
        assert seen <= {*expected(1), *expected(4)}
        assert seen >= set(expected(1)) or seen >= set(expected(4)), "old or new is there, whole"
        load(opening.store(), 4, overwrite=True)
        assert ids_in(place, "lake/part-") == expected(4)
        assert leftovers(place) == []

    def test_a_load_that_is_killed_again_and_again_ends(self, opening: Opening, place: StorePlace) -> None:
        for point in self.again_and_again:
            killed(opening, point, 1)
        load(opening.store(), 1)
        assert ids_in(place, "lake/part-") == expected(1)
        assert leftovers(place) == []


def killed(opening: Opening, point: Point, first: int, *, overwrite: bool = False) -> None:
    """Loads in a process of its own that is killed at a request; fails if it never gets there."""
    code = f"""
from tests.resources.object_store_faults import Killer, KillingStore, load
load(KillingStore(store, Killer{point!r}), {first}, overwrite={overwrite})
print("survived")
"""
    assert opening.elsewhere(code) == []


def leftovers(place: StorePlace) -> list[str]:
    """Returns what is still staged and belongs to nobody."""
    return [each for each in place.keys() if "_headrace/tmp/" in each]  # noqa: SIM118 - no dictionary
