"""What every destination must do that merges changes, as a pytest class to inherit; it writes where the subclass says and nowhere else.

class TestMine(MergeSuite):
    @pytest.fixture
    def merged(self, my_server) -> MergeTarget: ...
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Protocol

import pyarrow as pa
import pytest

from dsl.contracts.changes import OPERATION, Operation, with_operation
from dsl.contracts.connectors import BatchWriter, Committed, Destination, Token
from dsl.contracts.errors import FencedError, RejectedRows
from resources.testing.waivers import Waivable

_FIELDS: dict[str, pa.DataType] = {"id": pa.int64(), "part": pa.string(), "value": pa.string()}
SCHEMA = pa.schema(list(_FIELDS.items()))
TOKEN = Token(workflow="suite", stage="merge", run_id="run-1")
Change = tuple[Operation, int | None, str | None, str | None]
_TABLE = {(1, "a"): "one", (2, "a"): "two", (3, "b"): "three"}


class MergeTarget(Protocol):
    """One empty place of a test's own that changes can be merged into."""

    def destination(self, key: tuple[str, ...]) -> Destination:
        """Returns a destination of that place in mode `merge` with this key."""

    def rows(self) -> list[tuple[Any, ...]]:
        """Returns (id, part, value) of all rows as anyone sees them, by other means than the connector; [] without a table."""


class MergeSuite(Waivable):
    """The promises of `merge`. Subclasses give the fixture `merged`."""

    @pytest.fixture
    def merged(self) -> MergeTarget:
        """Must be overridden."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'merged'")

    def test_changes_of_one_batch_count_in_their_order(self, merged: MergeTarget) -> None:
        _apply(
            merged,
            [
                (Operation.INSERT, 1, "a", "new"),
                (Operation.INSERT, 2, "a", "gone soon"),
                (Operation.UPDATE, 1, "a", "newer"),
                (Operation.DELETE, 2, "a", None),
                (Operation.DELETE, 3, "a", None),
                (Operation.INSERT, 3, "a", "came after"),
                (Operation.UPSERT, 4, "a", None),
            ],
        )
        assert _seen(merged) == {(1, "a"): "newer", (3, "a"): "came after", (4, "a"): None}

    def test_batches_and_epochs_count_in_their_order(self, merged: MergeTarget) -> None:
        with _open(merged) as writer:
            for each in ([(Operation.INSERT, 1, "a", "x")], [(Operation.DELETE, 1, "a", None)]):
                writer.write(changes(each))
            writer.commit(1, _state(1))
            assert _seen(merged) == {}
            for each in ([(Operation.DELETE, 1, "a", None)], [(Operation.INSERT, 1, "a", "y")]):
                writer.write(changes(each))
            writer.commit(2, _state(2))
            assert _seen(merged) == {(1, "a"): "y"}
            writer.write(changes([(Operation.DELETE, 1, "a", None)]))
            writer.commit(3, _state(3))
        assert _seen(merged) == {}

    def test_a_row_whose_key_changes_leaves_nothing_behind(self, merged: MergeTarget) -> None:
        _fill(merged)
        _apply(merged, [(Operation.DELETE, 1, "a", None), (Operation.UPDATE, 1, "A", "one")], epoch=2)
        assert _seen(merged) == {(1, "A"): "one", (2, "a"): "two", (3, "b"): "three"}

    def test_emptied_is_empty_until_rows_follow(self, merged: MergeTarget) -> None:
        _fill(merged)
        told: list[Change] = [
            (Operation.INSERT, 8, "a", "before"),
            (Operation.TRUNCATE, None, None, None),
            (Operation.INSERT, 9, "a", "after"),
        ]
        _apply(merged, told, epoch=2)
        assert _seen(merged) == {(9, "a"): "after"}

    def test_nothing_is_deleted_before_the_commit(self, merged: MergeTarget) -> None:
        _fill(merged)
        with _open(merged) as writer:
            writer.write(changes([(Operation.DELETE, 1, "a", None), (Operation.TRUNCATE, None, None, None)]))
        with _open(merged) as writer:
            assert writer.get_state() == Committed(1, _state(1))
        assert _seen(merged) == _TABLE

    def test_who_was_fenced_deletes_nothing(self, merged: MergeTarget) -> None:
        _fill(merged)
        first = _open(merged)
        with _open(merged):
            with pytest.raises(FencedError):  # noqa: PT012 - some hear it when they write, all when they commit
                first.write(changes([(Operation.TRUNCATE, None, None, None)]))
                first.commit(2, _state(2))
            first.close()
        assert _seen(merged) == _TABLE

    def test_a_comparison_deletes_what_it_did_not_find_and_adds_what_was_missed(self, merged: MergeTarget) -> None:
        _fill(merged)
        compared: list[Change] = [
            (Operation.COMPARE, None, None, None),
            (Operation.PRESENT, 1, "a", "not written"),
            (Operation.PRESENT, 3, "b", None),
            (Operation.PRESENT, 7, "b", "missed"),
            (Operation.SWEEP, None, None, None),
        ]
        _apply(merged, compared, epoch=2)
        assert _seen(merged) == {(1, "a"): "one", (3, "b"): "three", (7, "b"): "missed"}
        _apply(merged, [(Operation.INSERT, 2, "a", "again")], epoch=3)
        _apply(merged, [(Operation.COMPARE, None, None, None), (Operation.SWEEP, None, None, None)], epoch=4)
        assert _seen(merged) == {}, "what an earlier comparison found does not count"

    def test_a_comparison_lasts_over_epochs_and_crashes(self, merged: MergeTarget) -> None:
        _fill(merged)
        with _open(merged) as writer:
            writer.write(changes([(Operation.COMPARE, None, None, None), (Operation.PRESENT, 1, "a", None)]))
            writer.commit(2, _state(2))
            writer.write(changes([(Operation.PRESENT, 2, "a", None)]))  # lost with the writer
        assert _seen(merged) == _TABLE
        _apply(merged, [(Operation.PRESENT, 3, "b", None), (Operation.SWEEP, None, None, None)], epoch=3)
        assert _seen(merged) == {(1, "a"): "one", (3, "b"): "three"}

    def test_a_comparison_that_begins_again_forgets_the_first(self, merged: MergeTarget) -> None:
        _fill(merged)
        _apply(merged, [(Operation.COMPARE, None, None, None), (Operation.PRESENT, 1, "a", None)], epoch=2)
        again: list[Change] = [
            (Operation.COMPARE, None, None, None),
            (Operation.PRESENT, 2, "a", None),
            (Operation.SWEEP, None, None, None),
        ]
        _apply(merged, again, epoch=3)
        assert _seen(merged) == {(2, "a"): "two"}

    def test_a_row_without_a_key_is_named(self, merged: MergeTarget) -> None:
        told: list[Change] = [
            (Operation.INSERT, 1, "a", "one"),
            (Operation.TRUNCATE, None, None, None),
            (Operation.DELETE, None, "a", None),
            (Operation.INSERT, 2, None, "two"),
        ]
        with _open(merged) as writer:
            with pytest.raises(RejectedRows, match="key is NULL") as refused:
                writer.write(changes(told))
            assert refused.value.rows == (2, 3)
            writer.write(changes(told[:2]))
            writer.write(changes([(Operation.INSERT, 5, "a", "five")]))
            writer.commit(1, _state(1))
        assert _seen(merged) == {(5, "a"): "five"}

    def test_rows_that_are_no_changes_are_upserted(self, merged: MergeTarget) -> None:
        _fill(merged)
        rows = changes([(Operation.INSERT, 1, "a", "other"), (Operation.INSERT, 4, "a", "four")])
        with merged.destination(("id", "part")).open_writer(SCHEMA, TOKEN) as writer:
            writer.write(rows.select(SCHEMA.names))
            writer.commit(2, _state(2))
        assert _seen(merged) == {**_TABLE, (1, "a"): "other", (4, "a"): "four"}

    @pytest.mark.parametrize("seed", range(2))
    def test_any_history_ends_as_it_should(self, merged: MergeTarget, seed: int) -> None:
        """A table of the same changes in a dictionary is the judge; writers are given up with changes that nobody committed."""
        dice, held, epoch = random.Random(seed), dict[tuple[int, str], str | None](), 0  # noqa: S311 - no secret
        for _ in range(6):
            with _open(merged) as writer:
                for _ in range(dice.randint(1, 3)):
                    told = [_change(dice) for _ in range(dice.randint(1, 40))]
                    cuts = sorted(dice.sample(range(len(told) + 1), dice.randint(1, 2)))
                    for start, end in zip([0, *cuts], [*cuts, len(told)], strict=True):
                        writer.write(changes(told[start:end]))
                    if dice.random() < 0.2:
                        break
                    epoch += 1
                    writer.commit(epoch, _state(epoch))
                    _play(held, told)
            assert _seen(merged) == held, f"seed {seed}, epoch {epoch}"


def changes(told: Sequence[Change]) -> pa.RecordBatch:
    """Builds a batch of changes."""
    rows = [{"id": number, "part": part, "value": value, OPERATION: str(op)} for op, number, part, value in told]
    return pa.RecordBatch.from_pylist(rows, schema=with_operation(SCHEMA))


def _change(dice: random.Random) -> Change:
    if dice.random() < 0.02:
        return Operation.TRUNCATE, None, None, None
    operation = dice.choice([Operation.INSERT, Operation.UPDATE, Operation.UPSERT, Operation.DELETE])
    value = None if operation is Operation.DELETE else f"v{dice.randint(1, 999)}"
    return operation, dice.randint(1, 12), dice.choice("abc"), value


def _play(held: dict[tuple[int, str], str | None], told: Sequence[Change]) -> None:
    for operation, number, part, value in told:
        if operation is Operation.TRUNCATE:
            held.clear()
        elif operation is Operation.DELETE:
            held.pop((int(number or 0), str(part)), None)
        else:
            held[int(number or 0), str(part)] = value


def _open(merged: MergeTarget) -> BatchWriter:
    return merged.destination(("id", "part")).open_writer(with_operation(SCHEMA), TOKEN)


def _apply(merged: MergeTarget, told: Sequence[Change], *, epoch: int = 1) -> None:
    with _open(merged) as writer:
        assert not writer.write(changes(told))
        assert writer.commit(epoch, _state(epoch)).rows == len(told)


def _fill(merged: MergeTarget) -> None:
    _apply(merged, [(Operation.INSERT, *key, value) for key, value in _TABLE.items()])


def _seen(merged: MergeTarget) -> dict[tuple[int, str], str | None]:
    rows = merged.rows()
    found = {(int(number), str(part)): value for number, part, value in rows}
    assert len(found) == len(rows), "a key stands twice"
    return found


def _state(epoch: int) -> dict[str, Any]:
    return {"v": 1, "epoch": epoch}
