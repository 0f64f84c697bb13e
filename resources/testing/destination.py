"""What every destination must do, as a pytest class to inherit; it writes where the subclass says and nowhere else.

class TestMine(DestinationSuite):
    @pytest.fixture
    def target(self, my_server) -> DestinationTarget: ...
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import pyarrow as pa
import pytest

from dsl.contracts.capabilities import Guarantee, WriteMode
from dsl.contracts.connectors import BatchWriter, Committed, Destination, Token
from dsl.contracts.errors import FencedError, SchemaError
from dsl.contracts.state import State
from resources.sql import SchemaEvolution
from resources.testing.samples import CANARY, as_rows, sample
from resources.testing.waivers import Waivable

TOKEN = Token(workflow="suite", stage="load", run_id="run-1")


class DestinationTarget(Protocol):
    """One empty place of a test's own that can be written and looked at."""

    def destination(self, mode: WriteMode) -> Destination:
        """Returns a destination of that place; with key `id` where `mode` needs one."""

    def rows(self) -> list[dict[str, Any]]:
        """Returns what anyone reading the place sees now, by other means than the connector; [] if it does not exist."""


class DestinationSuite(Waivable):
    """The promises of a destination. Subclasses give the fixture `target`."""

    @pytest.fixture
    def target(self) -> DestinationTarget:
        """Must be overridden."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'target'")

    def test_rows_arrive(self, target: DestinationTarget) -> None:
        with _open(_first(target)) as writer:
            assert writer.get_state() is None
            assert not writer.write(sample(0, 30))
            assert not writer.write(sample(30, 25))
            stats = writer.commit(1, _state(55), final=True)
        assert stats.rows == 55
        assert stats.bytes > 0
        assert _seen(target) == as_rows(sample(0, 55))

    def test_the_token_is_beside_the_data(self, target: DestinationTarget) -> None:
        for epoch in (1, 2, 3):
            with _open(_first(target)) as writer:
                before = writer.get_state()
                assert before == (None if epoch == 1 else Committed(epoch - 1, _state(epoch - 1)))
                writer.write(sample(epoch * 10, 10))
                writer.commit(epoch, _state(epoch), final=epoch == 3)
        assert _seen(target) == as_rows(sample(10, 30))

    def test_one_writer_commits_many_epochs(self, target: DestinationTarget) -> None:
        with _open(_first(target)) as writer:
            for epoch in range(1, 6):
                writer.write(sample(epoch * 10, 10))
                writer.commit(epoch, _state(epoch), final=epoch == 5)
        with _open(_first(target)) as writer:
            assert writer.get_state() == Committed(5, _state(5))
        assert _seen(target) == as_rows(sample(10, 50))

    def test_leaving_without_commit_discards(self, target: DestinationTarget) -> None:
        destination = _first(target)
        with _open(destination) as writer:
            writer.write(sample(0, 10))
        if destination.capabilities.guarantee is Guarantee.EXACTLY_ONCE:
            assert _seen(target) == []
        with _open(destination) as writer:
            assert writer.get_state() is None
            writer.write(sample(0, 10))
            writer.commit(1, _state(1), final=True)
        assert _seen(target) == as_rows(sample(0, 10))

    def test_an_epoch_cut_off_in_the_middle_is_replayed_once(self, target: DestinationTarget) -> None:
        destination = _first(target)
        with _open(destination) as writer:
            writer.write(sample(0, 10))
            writer.commit(1, _state(1))
            writer.write(sample(10, 10))
        with _open(destination) as writer:
            assert writer.get_state() == Committed(1, _state(1))
            writer.write(sample(10, 10))
            writer.write(sample(20, 5))
            writer.commit(2, _state(2), final=True)
        assert _seen(target) == as_rows(sample(0, 25))

    def test_a_writer_that_dies_without_closing_is_replayed_once(self, target: DestinationTarget) -> None:
        destination = _first(target)
        dead = _open(destination)
        dead.write(sample(0, 10))
        with _open(destination) as writer:
            writer.write(sample(0, 10))
            writer.commit(1, _state(1), final=True)
        dead.close()
        assert _seen(target) == as_rows(sample(0, 10))

    def test_a_second_writer_fences_the_first(self, target: DestinationTarget) -> None:
        destination = _first(target)
        with _open(destination) as zombie:
            zombie.write(sample(0, 10))
            with _open(destination) as writer:
                writer.write(sample(0, 10))
                writer.commit(1, _state(1))
                with pytest.raises(FencedError):
                    zombie.commit(1, _state(1))
                writer.write(sample(10, 10))
                writer.commit(2, _state(2), final=True)
        assert _seen(target) == as_rows(sample(0, 20))

    def test_a_fenced_writer_cannot_commit_first(self, target: DestinationTarget) -> None:
        destination = _first(target)
        with _open(destination) as zombie, _open(destination) as writer:
            with pytest.raises(FencedError):  # noqa: PT012 - a writer may notice it at either
                zombie.write(sample(0, 10))
                zombie.commit(1, _state(1))
            writer.write(sample(0, 10))
            writer.commit(1, _state(1), final=True)
        assert _seen(target) == as_rows(sample(0, 10))

    def test_empty_epochs_move_the_token(self, target: DestinationTarget) -> None:
        destination = _first(target)
        with _open(destination) as writer:
            assert writer.commit(1, _state(1)).rows == 0
            writer.write(sample(0, 0))
            assert writer.commit(2, _state(2), final=True).rows == 0
        with _open(destination) as writer:
            assert writer.get_state() == Committed(2, _state(2))
        assert _seen(target) == []

    def test_two_streams_do_not_disturb_each_other(self, target: DestinationTarget) -> None:
        destination = _first(target)
        if destination.write_mode is not WriteMode.APPEND:
            pytest.skip("two streams may share a target only when they append")
        other = Token(workflow="other", stage="load", run_id="run-1")
        with _open(destination) as one, _open(destination, other) as two:
            one.write(sample(0, 10))
            two.write(sample(10, 10))
            two.commit(1, _state(1), final=True)
            one.commit(1, _state(7), final=True)
        with _open(destination, other) as two:
            assert two.get_state() == Committed(1, _state(1))
        assert _seen(target) == as_rows(sample(0, 20))

    def test_closing_twice_is_safe(self, target: DestinationTarget) -> None:
        writer = _open(_first(target))
        writer.close()
        writer.close()

    def test_overwrite_swaps_at_the_end(self, target: DestinationTarget) -> None:
        destination = _supporting(target, WriteMode.OVERWRITE)
        with _open(destination) as writer:
            writer.write(sample(0, 20, mark="old "))
            writer.commit(1, _state(1), final=True)
        old = as_rows(sample(0, 20, mark="old "))
        assert _seen(target) == old
        with _open(destination) as writer:
            writer.write(sample(5, 10, mark="new "))
            writer.commit(2, _state(2))
        assert _seen(target) == old
        with _open(destination) as writer:
            assert writer.get_state() == Committed(2, _state(2))
            writer.write(sample(15, 10, mark="new "))
        assert _seen(target) == old
        with _open(destination) as writer:
            writer.write(sample(15, 10, mark="new "))
            writer.commit(3, _state(3), final=True)
        assert _seen(target) == as_rows(sample(5, 20, mark="new "))

    def test_overwrite_with_nothing_empties(self, target: DestinationTarget) -> None:
        destination = _supporting(target, WriteMode.OVERWRITE)
        with _open(destination) as writer:
            writer.write(sample(0, 20))
            writer.commit(1, _state(1), final=True)
            writer.commit(2, _state(2), final=True)
        assert _seen(target) == []

    def test_upsert_replaces_by_key(self, target: DestinationTarget) -> None:
        destination = _supporting(target, WriteMode.UPSERT)
        with _open(destination) as writer:
            writer.write(sample(0, 20, mark="old "))
            writer.commit(1, _state(1))
            writer.write(sample(10, 20, mark="new "))
            writer.commit(2, _state(2), final=True)
        assert _seen(target) == as_rows(sample(0, 10, mark="old "), sample(10, 20, mark="new "))

    def test_upsert_takes_the_last_of_a_key_in_one_epoch(self, target: DestinationTarget) -> None:
        destination = _supporting(target, WriteMode.UPSERT)
        with _open(destination) as writer:
            writer.write(sample(0, 9, mark="old "))
            writer.write(sample(0, 9, mark="new "))
            writer.commit(1, _state(1), final=True)
        assert _seen(target) == as_rows(sample(0, 9, mark="new "))

    def test_frozen_columns_refuse_a_new_one(self, target: DestinationTarget) -> None:
        destination = _first(target)
        if "schema_evolution" not in {each.name for each in dataclasses.fields(destination)}:
            pytest.skip("has no policy for columns")
        with _open(destination) as writer:
            writer.write(sample(0, 5))
            writer.commit(1, _state(1))
        more = sample(5, 5).append_column("added", pa.array(["new"] * 5))
        changes: dict[str, Any] = {"schema_evolution": SchemaEvolution.FREEZE}
        frozen = dataclasses.replace(destination, **changes)
        with pytest.raises(SchemaError, match="added"), frozen.open_writer(more.schema, TOKEN) as writer:
            writer.write(more)
        with _open(destination) as writer:
            assert writer.get_state() == Committed(1, _state(1))
            writer.commit(2, _state(2), final=True)
        assert _seen(target) == as_rows(sample(0, 5))

    def test_is_healthy_and_shows_no_secret(self, target: DestinationTarget) -> None:
        destination = _first(target)
        checked = destination.connection.check()
        assert checked.healthy, checked.details
        assert (
            CANARY
            not in f"{destination!r} {destination} {destination.connection!r} {checked} {destination.physical_name}"
        )
        with _open(destination) as writer:
            assert CANARY not in f"{writer!r}"

    def test_the_physical_name_is_stable(self, target: DestinationTarget) -> None:
        mode = _first(target).write_mode
        assert target.destination(mode).physical_name == target.destination(mode).physical_name
        assert all(target.destination(mode).physical_name)


def _first(target: DestinationTarget) -> Destination:
    """Returns the destination in its simplest mode: append where it can."""
    destination = target.destination(WriteMode.APPEND)
    if WriteMode.APPEND in destination.capabilities.write_modes:
        return destination
    return target.destination(min(destination.capabilities.write_modes))


def _supporting(target: DestinationTarget, mode: WriteMode) -> Destination:
    if mode not in _first(target).capabilities.write_modes:
        pytest.skip(f"does not {mode}")
    return target.destination(mode)


def _open(destination: Destination, token: Token = TOKEN) -> BatchWriter:
    return destination.open_writer(sample(0, 0).schema, token)


def _state(number: int) -> State:
    return {"v": 1, "inputs": {"rows": {"v": 1, "records_read": number}}, "operators": {}}


def _seen(target: DestinationTarget) -> list[dict[str, Any]]:
    found: Sequence[dict[str, Any]] = target.rows()
    names = pa.schema(sample(0, 0).schema).names
    return sorted(({name: row.get(name) for name in names} for row in found), key=lambda row: row["id"])
