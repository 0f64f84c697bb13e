"""The local dead letters: kept once, found, given back with their types, readable by their owner alone."""

import hashlib
import os
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from dsl.contracts.errors import FatalError, UnavailableError
from dsl.contracts.rows import Rejection
from dsl.contracts.stores import DeadLetter
from resources.stores.dead_letters import LocalDeadLetters

ROW = pa.RecordBatch.from_pydict(
    {
        "id": pa.array([2**63 - 1]),
        "at": pa.array([1], pa.int64()).cast(pa.timestamp("ns", "UTC")),
        "bytes": pa.array([b"\x00\xff"]),
        "nested": pa.array([{"a": [1, None]}], pa.struct([("a", pa.list_(pa.int8()))])),
    }
)
AT = datetime(2024, 1, 2, tzinfo=UTC)


def letter(number: int, *, key: str = "w/s/0", code: str = "cast", reason: str = "not a number") -> DeadLetter:
    made = hashlib.sha256(f"{key}/{number}".encode()).hexdigest()
    return DeadLetter(
        made, key, number, Rejection(ROW, reason, code, "mapping"), AT + timedelta(seconds=number), "run-1"
    )


@pytest.fixture
def store(tmp_path: Path) -> LocalDeadLetters:
    return LocalDeadLetters(tmp_path / "home")


def test_the_same_letter_is_kept_once(store: LocalDeadLetters) -> None:
    assert store.add([letter(1), letter(2)]) == 2
    assert store.add([letter(1), letter(2), letter(3)]) == 1
    assert store.add([]) == 0
    assert store.count("w/s/0") == 3
    assert store.count("w/s") == 0


def test_a_row_comes_back_with_its_types(store: LocalDeadLetters) -> None:
    store.add([letter(1)])
    store.close()
    held = LocalDeadLetters(store.path).get(letter(1).id)
    assert held == letter(1)
    assert held.rejection.row.schema == ROW.schema
    assert store.get("absent") is None


def test_found_by_workflow_code_and_reason(store: LocalDeadLetters) -> None:
    store.add(
        [
            letter(1, reason="not a number: 'x'"),
            letter(2, reason="not a number: 'y'"),
            letter(3, code="not_null", reason="empty"),
            letter(4, key="w2/s/0"),
        ]
    )
    found = [(each.key, each.code, each.pattern, each.count) for each in store.groups()]
    assert found == [
        ("w/s/0", "cast", "not a number: …", 2),
        ("w/s/0", "not_null", "empty", 1),
        ("w2/s/0", "cast", "not a number", 1),
    ]
    assert [each.count for each in store.groups("w")] == [2, 1]
    [group] = store.groups("w2")
    assert (group.first, group.last) == (AT + timedelta(seconds=4),) * 2
    assert [each.epoch for each in store.list("w")] == [3, 2, 1]
    assert [each.epoch for each in store.list("w", code="cast", limit=1)] == [2]
    assert [each.epoch for each in store.list(reason="empt")] == [3]
    assert [each.epoch for each in store.list(key="w2/s/0")] == [4]


def test_edit_and_delete(store: LocalDeadLetters) -> None:
    store.add([letter(1), letter(2)])
    corrected = pa.RecordBatch.from_pydict({"id": [5]})
    store.edit(letter(1).id, corrected)
    held = store.get(letter(1).id)
    assert held is not None
    assert held.rejection.row.equals(corrected)
    with pytest.raises(FatalError, match="no such dead letter"):
        store.edit("absent", corrected)
    assert store.delete([letter(1).id, "absent"]) == 1
    assert store.count("w/s/0") == 1


def test_only_the_owner_may_read(store: LocalDeadLetters) -> None:
    before = os.umask(0)
    try:
        store.add([letter(1)])
    finally:
        os.umask(before)
    for file in store.path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_two_stores_share_a_file(store: LocalDeadLetters) -> None:
    other = LocalDeadLetters(store.path)
    threads = [
        threading.Thread(target=one.add, args=([letter(number) for number in range(start, start + 50)],))
        for start in (0, 25, 50, 75)
        for one in (store, other)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert store.count("w/s/0") == 125


def test_a_store_that_cannot_write_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="could not be kept"):
        LocalDeadLetters(tmp_path / "file" / "below").add([letter(1)])
    (tmp_path / "broken.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(UnavailableError, match="not a database"):
        LocalDeadLetters(tmp_path / "broken.sqlite").count("w/s/0")


def test_an_epoch_that_never_committed_is_forgotten_and_no_other(store: LocalDeadLetters) -> None:
    store.add([letter(1), letter(2), letter(2, key="w/other/0")])
    assert store.discard("w/s/0", 2, store.known("w/s/0")) == 1
    assert store.discard("w/s/0", 2, store.known("w/s/0")) == 0
    assert (store.count("w/s/0"), store.count("w/other/0")) == (1, 1)
    assert store.add([letter(2)]) == 1


def test_what_came_since_is_kept_whoever_brought_it(store: LocalDeadLetters) -> None:
    mine = letter(2)
    store.add([mine])
    before = store.known("w/s/0")
    assert before == {mine.run_id: mine.rejected_at}
    later = replace(mine, id="later", rejected_at=mine.rejected_at + timedelta(microseconds=1))
    store.add([later, replace(mine, id="other", run_id="another run")])
    assert store.discard("w/s/0", 2, before) == 1
    assert {each.id for each in store.list()} == {"later", "other"}


def test_what_was_added_outlives_a_kill(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from tests.resources.stores.test_dead_letters import LocalDeadLetters, letter\n"
        "store = LocalDeadLetters(Path(sys.argv[2]))\n"
        "for number in range(5): store.add([letter(number)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = str(Path(__file__).resolve().parents[3])
    done = subprocess.run([sys.executable, "-c", script, root, str(tmp_path)], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert LocalDeadLetters(tmp_path).count("w/s/0") == 5


def test_every_commit_is_forced_to_disk(store: LocalDeadLetters) -> None:
    store.add([letter(1)])
    with store.file.open() as database:
        assert database.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
