"""Deliveries: numbers that only grow, letters replayed once all their targets have them; a great many letters in little memory."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from dsl.contracts.errors import FatalError
from resources.stores.dead_letters import ANY, LocalDeadLetters
from resources.stores.deliveries import LocalDeliveries
from resources.stores.letter_choice import OPEN, Choice, Status
from resources.stores.letter_file import pattern_of
from tests.kit.process import ROOT
from tests.resources.stores.test_dead_letters import ROW, letter

ALL = Choice(statuses=ANY)


@pytest.fixture
def store(tmp_path: Path) -> LocalDeadLetters:
    return LocalDeadLetters(tmp_path / "home")


def _claimed(store: LocalDeadLetters, *streams: str, choice: Choice = ALL) -> LocalDeliveries:
    deliveries = LocalDeliveries(store)
    for shape in deliveries.shapes(choice):
        deliveries.claim(choice, shape, streams, committed=100)
    return deliveries


def test_a_stream_delivers_in_order_and_each_letter_once(store: LocalDeadLetters) -> None:
    store.add([letter(3), letter(1), letter(2)])
    deliveries = _claimed(store, "s")
    numbers = [(number, each.epoch) for number, each in deliveries.deliver("s", 0, 10)]
    assert [epoch for _, epoch in numbers] == [1, 2, 3]
    assert [number for number, _ in numbers] == sorted({number for number, _ in numbers})
    assert _claimed(store, "s").deliver("s", 0, 10) == deliveries.deliver("s", 0, 10), "a second claim adds nothing"
    second = numbers[1][0]
    assert [each.epoch for _, each in deliveries.deliver("s", second, 10)] == [3]
    assert deliveries.settle("s", second, "run-2") == 2
    assert deliveries.settle("s", second, "run-3") == 0
    assert [each.epoch for _, each in deliveries.deliver("s", 0, 10)] == [3]
    assert deliveries.of_run("run-2") == (2, 0)
    store.add([letter(4)])
    _claimed(store, "s")
    assert all(number > second for number, _ in deliveries.deliver("s", 0, 10))


def test_a_letter_for_two_targets_is_replayed_when_both_have_it(store: LocalDeadLetters) -> None:
    store.add([letter(1), letter(2)])
    deliveries = _claimed(store, "left", "right")
    last = {each: deliveries.deliver(each, 0, 10)[-1][0] for each in ("left", "right")}
    assert deliveries.settle("left", last["left"], "run-2") == 0
    assert store.total(Choice(statuses=(Status.REPLAYING,))) == 2
    assert deliveries.settle("right", last["right"], "run-2") == 2


def test_what_is_on_its_way_is_neither_edited_nor_claimed_again(store: LocalDeadLetters) -> None:
    store.add([letter(1)])
    deliveries = _claimed(store, "s")
    with pytest.raises(FatalError, match=r"replaying.*goes on with it"):
        store.edit(letter(1).id, ROW)
    assert store.give_up(Choice(), who="x", why="y") == 0
    assert store.discard("w/s/0", 1, store.known("w/s/0")) == 0
    assert store.give_up(Choice(statuses=OPEN), who="x", why="y") == 1
    assert deliveries.deliver("s", 0, 10) == []
    assert store.give_up(Choice(statuses=ANY), who="x", why="y") == 0


def test_a_page_follows_the_one_before(store: LocalDeadLetters) -> None:
    store.add([letter(number) for number in range(25)])
    seen: list[int] = []
    after = None
    while page := store.page(Choice(), limit=7, after=after):
        seen += [each.letter.epoch for each in page]
        after = page[-1].letter.id
    assert seen == list(range(24, -1, -1))
    with pytest.raises(FatalError, match="no such dead letter"):
        store.page(Choice(), limit=1, after="absent")


@pytest.mark.parametrize(
    ("reason", "pattern"),
    [
        ("Could not convert string 'it''s 5' to INT64", "Could not convert string … to INT64"),
        ('invalid date "2024-13-01", row 7', "invalid date …, row …"),
        ("Type INT64 with value 300 can't be cast", "Type INT64 with value … can't be cast"),
        ("at 2024-01-02T03:04:05Z it was -1.5e3", "at … it was …"),
        ("odd", "odd"),
    ],
)
def test_a_pattern_is_a_reason_without_its_values(reason: str, pattern: str) -> None:
    assert pattern_of(reason) == pattern


def test_a_file_of_the_version_before_is_brought_up_to_date(tmp_path: Path) -> None:
    file = tmp_path / "dead_letters.sqlite"
    with sqlite3.connect(file) as old:
        old.executescript(
            "CREATE TABLE schemas (id TEXT PRIMARY KEY, arrow TEXT NOT NULL) WITHOUT ROWID; CREATE TABLE letters ("
            "id TEXT PRIMARY KEY, key TEXT NOT NULL, epoch INTEGER NOT NULL, node TEXT NOT NULL, code TEXT NOT NULL, "
            "reason TEXT NOT NULL, run_id TEXT NOT NULL, rejected_at TEXT NOT NULL, schema TEXT NOT NULL, row TEXT NOT NULL"
            ") WITHOUT ROWID; PRAGMA user_version = 1;"
        )
        old.execute("INSERT INTO schemas VALUES ('s', 'x')")
        old.execute(
            "INSERT INTO letters VALUES ('a', 'w/s/0', 1, 'n', 'c', 'row 5', 'r', '2024-01-01T00:00:00+00:00', 's', '{}')"
        )
    old.close()
    store = LocalDeadLetters(file)
    [group] = store.groups("w")
    assert (group.pattern, group.status, group.count) == ("row …", Status.KEPT, 1)
    store.close()


MANY = 200_000
LISTING = """
import resource, sys
from resources.stores.dead_letters import LocalDeadLetters
from resources.stores.letter_choice import Choice
store = LocalDeadLetters(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
groups = store.groups("w")
page = store.page(Choice(workflow="w"), limit=10)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
print(len(groups), sum(each.count for each in groups), len(page), grown)
"""


@pytest.mark.slow
def test_a_great_many_are_listed_in_little_memory(store: LocalDeadLetters) -> None:
    arrow = letter_schema(store)
    with store.file.open() as database:
        database.execute("INSERT INTO schemas VALUES ('s', ?)", (arrow,))
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO letters (id, key, epoch, node, code, reason, run_id, rejected_at, schema, row, pattern) "
            "SELECT lower(hex(randomblob(32))), 'w/s/0', 1, 'mapping', 'cast' || (i % 3), 'value ' || i, 'run', "
            "'2024-01-01T00:00:00+00:00', 's', ?, 'value …' FROM n",
            (MANY, '{"id":1,"nested":null,"text":"' + "x" * 400 + '"}'),
        )
    store.close()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LISTING), str(store.path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    groups, letters, page, grown = map(int, done.stdout.split())
    assert (groups, letters, page) == (3, MANY, 10)
    assert store.path.stat().st_size > 80 * 2**20
    assert grown < 24, f"listing {MANY} letters took {grown} MiB"


def letter_schema(store: LocalDeadLetters) -> str:
    store.add([letter(1, key="other/s/0")])
    with store.file.open() as database:
        found: str = database.execute("SELECT arrow FROM schemas").fetchone()[0]
    return found
