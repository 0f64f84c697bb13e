"""Dead letters replayed by the job: each arrives once, where it was missing; what would do harm is refused. Looks at the targets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from dagster import AssetKey

from dsl.contracts.errors import FencedError, HeadraceError
from engine.context import SilentEvents
from etl_defs.kept_code import FOLDER
from etl_defs.naming import TAG_REPLAY_OF, TAG_WORKFLOW
from etl_defs.replays import Replay
from etl_defs.runner import stores_of
from resources.memory.tables import table
from resources.stores.letter_choice import Choice
from tests.etl_defs.location import copy
from tests.etl_defs.replaying import CASTING, POISON, Letters, failure_of, letters_of, rewritten

DLQ = "  on_error: dlq"


def _ids(held: Letters, name: str = "copied") -> list[int]:
    """The ids that have arrived, sorted; one that has arrived twice stands twice."""
    found = table(name, held.location.space).to_table().column("id").to_pylist()
    return sorted(each for each in found if each is not None)


def _refusing(held: Letters, *ids: int, name: str = "copied") -> None:
    table(name, held.location.space).refuse = lambda row: "odd" if row["id"] in ids else None


def test_an_edited_row_arrives_once_and_shows_where_it_came_from(tmp_path: Path) -> None:
    with letters_of(tmp_path, a=CASTING) as held:
        held.location.fill("users", POISON)
        first = held.run().run_id
        assert _ids(held) == [1, 3]
        by_id = {each.letter.rejection.row.to_pylist()[0]["id"]: each.letter for each in held.held()}
        assert {each.entry for each in by_id.values()} == {"1_mapping"}
        held.edit(by_id[2].id, name="20")
        done = held.replay()
        assert done.success
        assert held.location.rows("copied")[2:] == [{"id": 2, "age": 20}]
        assert held.statuses() == {"kept": 1, "replayed": 2}
        [again] = held.held(statuses=(*Choice().statuses,))
        assert (again.letter.replay_of, again.letter.run_id) == (by_id[4].id, done.run_id)
        assert again.letter.rejection.row.to_pylist() == [{"id": 4, "name": "forty"}]
        [was] = held.held(ids=(by_id[2].id,))
        assert [(each.action, each.who) for each in was.changes] == [("edited", "somebody"), ("replayed", done.run_id)]
        assert was.changes[0].row is not None
        assert was.changes[0].row.to_pylist() == [{"id": 2, "name": "twenty"}]
        assert not was.refused_again
        run = held.instance.get_run_by_id(done.run_id)
        assert run is not None
        assert (run.tags[TAG_REPLAY_OF], run.tags[TAG_WORKFLOW]) == (first, "a")
        event = held.instance.get_latest_materialization_event(AssetKey(["memory", held.location.space, "copied"]))
        assert event is not None
        assert event.asset_materialization is not None
        shown = {name: each.value for name, each in event.asset_materialization.metadata.items()}
        assert (shown["letters_replayed"], shown["letters_refused_again"], shown["dagster/row_count"]) == (2, 1, 3)
        assert shown["replay_of_runs"] == {first: 2}
        assert "preview" not in shown


def test_a_replay_that_is_repeated_applies_nothing_twice(tmp_path: Path) -> None:
    with letters_of(tmp_path, a=copy("a", more=DLQ)) as held:
        held.location.fill("users")
        _refusing(held, 1, 3)
        held.run()
        _refusing(held)
        for _ in range(3):
            assert held.replay().success
        assert _ids(held) == [0, 1, 2, 3, 4]
        assert held.statuses() == {"replayed": 2}


def test_only_what_is_chosen_is_replayed(tmp_path: Path) -> None:
    with letters_of(tmp_path, a=copy("a", more=DLQ)) as held:
        held.location.fill("users")
        _refusing(held, 0, 1, 2)
        run = held.run().run_id
        _refusing(held)
        for nothing in (
            {"node": "source"},
            {"code": "cast"},
            {"reason": "even"},
            {"run_id": "other"},
            {"ids": ["0" * 64]},
        ):
            assert held.replay(**nothing).success
        assert held.statuses() == {"kept": 3}
        one = held.held()[0].letter.id
        assert held.replay(ids=[one[:12]], node="destination", code="refused", reason="dd", run_id=run).success
        assert held.statuses() == {"kept": 2, "replayed": 1}


TWO = """\
workflow:
  name: a
  on_error: dlq
  sources: {users: {type: memory, config: {table: users, space: SPACE}}}
  transformations:
    cast: {inputs: [users], type: mapping, config: {keep_unmapped: true, mappings: [{source: name, destination: age, cast: int64}]}}
    grown: {inputs: [cast], type: filter, config: {condition: age > 15}}
  destinations:
    everyone: {inputs: [cast], type: memory, config: {table: everyone, space: SPACE}}
    adults: {inputs: [grown], type: memory, config: {table: adults, space: SPACE}}
"""


def test_a_row_refused_before_two_targets_arrives_at_both_and_one_refused_by_one_at_that_one(tmp_path: Path) -> None:
    with letters_of(tmp_path, a=TWO) as held:
        held.location.fill("users", POISON)
        _refusing(held, 3, name="adults")
        held.run()
        assert held.statuses() == {"kept": 3}
        for each in held.held(node="cast"):
            held.edit(each.letter.id, name="20")
        assert held.replay(node="cast").success
        assert _ids(held, "everyone") == [1, 2, 3, 4]
        assert _ids(held, "adults") == [2, 4]
        assert held.statuses() == {"kept": 1, "replayed": 2}
        assert held.replay().success
        _refusing(held, name="adults")
        assert held.replay().success
        assert _ids(held, "everyone") == [1, 2, 3, 4]
        assert _ids(held, "adults") == [2, 3, 4]


UNION = """\
workflow:
  name: a
  on_error: dlq
  sources:
    users: {type: memory, config: {table: users, space: SPACE}}
    others: {type: memory, config: {table: others, space: SPACE}}
  transformations:
    cast:
      inputs: [users]
      type: mapping
      config: {mappings: [{source: id, destination: id, cast: int32}, {source: name, destination: age, cast: int32}]}
  destinations:
    all: {inputs: [cast, others], type: memory, config: {table: copied, space: SPACE}}
"""


def test_a_row_goes_through_a_union_alone(tmp_path: Path) -> None:
    with letters_of(tmp_path, a=UNION) as held:
        held.location.fill("users", POISON)
        held.location.fill("others", pa.table({"id": [9], "age": [90]}))
        held.run()
        assert len(held.location.rows("copied")) == 3
        for each in held.held():
            held.edit(each.letter.id, name="5")
        assert held.replay().success
        assert _ids(held) == [1, 2, 3, 4, 9]
        assert table("copied", held.location.space).to_table().schema.field("age").type == pa.int64()


AGGREGATE = "    - type: aggregate\n      config: {group_by: [age], aggregates: [{function: count, destination: n}]}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CASTING.replace("  destination:\n", f"{AGGREGATE}  destination:\n"), "needs its whole inputs"),
        (
            CASTING.replace("copied, space: SPACE", "copied, space: SPACE, write_mode: overwrite"),
            "overwritten as a whole",
        ),
        (
            CASTING.replace("copied, space: SPACE", "copied, space: SPACE, write_mode: upsert, primary_key: [id]"),
            "takes the place of a newer one",
        ),
    ],
)
def test_what_would_do_harm_is_refused_with_the_reason(tmp_path: Path, text: str, said: str) -> None:
    with letters_of(tmp_path, a=text) as held:
        held.location.fill("users", POISON)
        held.run()
        before = held.location.rows("copied")
        done = held.replay()
        assert not done.success
        assert said in failure_of(done)
        assert held.statuses() == {"kept": 2}
        assert held.location.rows("copied") == before


def test_old_rows_take_the_place_of_newer_ones_only_when_told_so(tmp_path: Path) -> None:
    keyed = CASTING.replace("copied, space: SPACE", "copied, space: SPACE, write_mode: upsert, primary_key: [id]")
    with letters_of(tmp_path, a=keyed) as held:
        held.location.fill("users", POISON)
        held.run()
        for each in held.held():
            held.edit(each.letter.id, name="5")
        assert held.replay(may_overwrite=True).success
        assert {row["id"]: row["age"] for row in held.location.rows("copied")} == {1: 10, 2: 5, 3: 30, 4: 5}


def test_todays_code_or_the_code_that_refused(tmp_path: Path) -> None:
    with letters_of(tmp_path, a=CASTING) as held:
        held.location.fill("users", POISON)
        held.run()
        mended = CASTING.replace(
            "{source: name, destination: age, cast: int64}",
            '{expression: "coalesce(try_cast(name as int64), -1)", destination: age}',
        )
        now = rewritten(held, "a", mended)
        assert now.replay(pinned=True).success
        assert len(now.location.rows("copied")) == 2, "the old code refuses them again"
        assert now.statuses() == {"kept": 2, "replayed": 2}
        assert now.replay().success
        assert [row["age"] for row in now.location.rows("copied")[2:]] == [-1, -1]
        assert now.statuses() == {"replayed": 4}


def _forget_code(held: Letters) -> None:
    for each in (held.location.home / "dead_letters" / FOLDER).iterdir():
        each.unlink()


def _damage_code(held: Letters) -> None:
    for each in (held.location.home / "dead_letters" / FOLDER).iterdir():
        each.write_text(each.read_text(encoding="utf-8").replace("int64", "int32"), encoding="utf-8")


@pytest.mark.parametrize("spoil", [_forget_code, _damage_code])
def test_code_that_is_gone_or_damaged_is_not_guessed(tmp_path: Path, spoil: Callable[[Letters], None]) -> None:
    with letters_of(tmp_path, a=CASTING) as held:
        held.location.fill("users", POISON)
        held.run()
        spoil(held)
        done = held.replay(pinned=True)
        assert not done.success
        assert "not kept any more" in failure_of(done)
        assert held.replay().success, "today's code needs no other"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("source: name, destination", "source: nickname, destination"), "nickname"),
        (("type: mapping", "type: filter"), "has no node"),
    ],
)
def test_a_workflow_that_no_longer_fits_says_so(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with letters_of(tmp_path, a=CASTING) as held:
        held.location.fill("users", POISON)
        held.run()
        text = CASTING.replace(*change)
        if "filter" in change[1]:
            head, _, rest = CASTING.partition("  transformations:\n")
            text = head + "  destination:\n" + rest.partition("  destination:\n")[2]
        done = rewritten(held, "a", text).replay()
        assert not done.success
        assert said in failure_of(done)
        assert "--pinned" in failure_of(done)


def test_what_a_run_has_not_committed_is_left_to_it(tmp_path: Path) -> None:
    with letters_of(tmp_path, a=copy("a", more=DLQ)) as held:
        held.location.fill("users")
        _refusing(held, 1)
        held.run()
        [one] = held.held()
        held.instance.run_storage.delete_run(held.instance.get_runs()[0].run_id)
        later = one.letter.__class__(**{**vars(one.letter), "id": "f" * 64, "epoch": 2})
        held.store.add([later])
        _refusing(held)
        assert held.replay().success
        assert held.statuses() == {"kept": 1, "replayed": 1}
        assert _ids(held) == [0, 1, 2, 3, 4]


def test_a_letter_that_was_discarded_is_never_replayed(tmp_path: Path) -> None:
    with letters_of(tmp_path, a=copy("a", more=DLQ)) as held:
        held.location.fill("users")
        _refusing(held, 1, 3)
        held.run()
        _refusing(held)
        one = held.held()[0].letter.id
        assert held.store.give_up(Choice(ids=(one,)), who="somebody", why="test data") == 1
        assert held.store.give_up(Choice(ids=(one,)), who="another", why="again") == 0
        assert held.replay().success
        assert held.statuses() == {"discarded": 1, "replayed": 1}
        assert len(held.location.rows("copied")) == 4
        [gone] = held.held(ids=(one,))
        assert [(each.action, each.who, each.why) for each in gone.changes] == [("discarded", "somebody", "test data")]


def test_a_target_that_fails_leaves_the_rest_to_the_next_replay(tmp_path: Path) -> None:
    text = copy("a", more=f"{DLQ}\n  checkpoint: {{rows: 1}}\n  retry: {{max_attempts: 1}}")
    with letters_of(tmp_path, a=text) as held:
        held.location.fill("users")
        _refusing(held, 0, 1, 2, 3)
        held.run()
        _refusing(held)
        table("copied", held.location.space).fail("commit", 3, OSError("gone"))
        assert not held.replay().success
        assert held.statuses() == {"replaying": 2, "replayed": 2}
        assert held.replay().success
        assert held.statuses() == {"replayed": 4}
        assert _ids(held) == [0, 1, 2, 3, 4]


def test_of_two_replays_at_once_the_first_is_fenced(tmp_path: Path) -> None:
    with letters_of(tmp_path, a=copy("a", more=f"{DLQ}\n  checkpoint: {{rows: 1}}")) as held:
        held.location.fill("users")
        _refusing(held, 0, 1, 2, 3)
        held.run()
        _refusing(held)
        reached, go_on, outcomes = threading.Event(), threading.Event(), list[HeadraceError]()

        def freeze() -> None:
            reached.set()
            go_on.wait()

        def replay(run_id: str) -> None:
            stores = stores_of(held.instance, held.location.library.settings)
            try:
                Replay(held.location.library, "a", stores).run(
                    Choice(), run_id=run_id, logical_time=datetime.now(UTC), events=SilentEvents()
                )
            except HeadraceError as error:
                outcomes.append(error)

        table("copied", held.location.space).fail("write", 2, freeze)
        frozen = threading.Thread(target=replay, args=("first",))
        frozen.start()
        reached.wait()
        replay("second")
        assert not outcomes
        assert held.statuses() == {"replayed": 4}
        go_on.set()
        frozen.join()
        assert [type(each) for each in outcomes] == [FencedError]
        assert _ids(held) == [0, 1, 2, 3, 4]
        assert held.statuses() == {"replayed": 4}


@pytest.mark.parametrize("kind", ["memory", "duckdb", "sqlite"])
def test_letters_at_a_connection_are_replayed_too(tmp_path: Path, kind: str) -> None:
    config = "space: SPACE" if kind == "memory" else f"path: {tmp_path}/letters.{kind}"
    shared = f"connection:\n  name: letters\n  type: {kind}\n  config: {{{config}}}\n"
    text = CASTING.replace(
        "  on_error: dlq\n", "  on_error: dlq\n  dead_letter: {destination: letters, table: refused}\n"
    )
    with letters_of(tmp_path / "deployment", a=text, letters=shared) as held:
        held.location.fill("users", POISON)
        held.run()
        assert held.statuses() == {}
        assert held.replay(code="nothing").success, "it takes them over, and replays none"
        assert held.statuses() == {"kept": 2}
        for each in held.held():
            held.edit(each.letter.id, name="5")
        for _ in range(2):
            assert held.replay().success
        assert _ids(held) == [1, 2, 3, 4]
        assert held.statuses() == {"replayed": 2}


def test_rows_that_a_reader_could_not_read_need_an_edit(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,name\n1,a\n2\n3,c\n", encoding="utf-8")
    text = copy("a", more=DLQ).replace(
        "type: memory\n    config: {table: users, space: SPACE}",
        f"type: file\n    config: {{root: {tmp_path}, path: in.csv}}",
        1,
    )
    with letters_of(tmp_path / "deployment", a=text) as held:
        held.run()
        [one] = held.held()
        assert (one.letter.entry, one.letter.rejection.code) == ("source", "malformed")
        done = held.replay()
        assert not done.success
        assert "the reader could not read them" in failure_of(done)
        held.store.edit(one.letter.id, pa.RecordBatch.from_pylist([{"id": 2, "name": "b"}]))
        assert held.replay().success
        assert _ids(held) == [1, 2, 3]
