"""Which files are new since the last look. Turns the clock by hand."""

import json
import os
from pathlib import Path

from etl_defs.arrivals import REMEMBERED, Arrival, Seen, local_files, look, seen_of

NOW = 1_000_000.0


def _names(files: tuple[Arrival, ...]) -> list[str]:
    return sorted(each.name for each in files)


def test_what_is_there_at_the_first_look_is_new_once() -> None:
    files = [Arrival("a.csv", 1, NOW - 100), Arrival("b.csv", 1, NOW - 50)]
    new, seen = look(files, Seen(), NOW)
    assert _names(new) == ["a.csv", "b.csv"]
    assert look(files, seen, NOW + 30)[0] == ()


def test_a_file_that_was_written_again_is_new_and_one_that_went_is_not() -> None:
    _, seen = look([Arrival("a.csv", 1, NOW - 100), Arrival("b.csv", 1, NOW - 90)], Seen(), NOW)
    new, _ = look([Arrival("a.csv", 2, NOW - 10)], seen, NOW)
    assert _names(new) == ["a.csv"]
    assert look([Arrival("b.csv", 1, NOW - 90)], seen, NOW)[0] == ()


def test_an_old_file_that_arrives_late_is_new() -> None:
    _, seen = look([Arrival("a.csv", 1, NOW - 100)], Seen(), NOW)
    new, _ = look([Arrival("a.csv", 1, NOW - 100), Arrival("moved.csv", 1, NOW - 9999)], seen, NOW)
    assert _names(new) == ["moved.csv"]


def test_a_file_that_is_being_written_waits_for_the_next_look() -> None:
    growing = Arrival("a.csv", 1, NOW - 1)
    new, seen = look([growing], Seen(), NOW)
    assert new == ()
    assert _names(look([growing], seen, NOW + 30)[0]) == ["a.csv"]


def test_the_memory_is_bounded() -> None:
    files = [Arrival(f"{number}.csv", 1, NOW - 9999 + number) for number in range(REMEMBERED + 500)]
    _, seen = look(files, Seen(), NOW + 9999)
    assert len(seen.digests) == REMEMBERED
    assert len(look(files, seen, NOW + 9999)[0]) <= 1, "what fell out of the memory lies before its floor"


def test_the_memory_survives_as_text() -> None:
    _, seen = look([Arrival("a.csv", 1, NOW - 100)], Seen(), NOW)
    assert seen_of(json.loads(json.dumps(seen.as_json()))) == seen
    assert seen_of({}) == Seen()


def test_files_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.csv").write_text("x\n", encoding="utf-8")
    os.utime(tmp_path / "deep" / "a.csv", (5, 5))
    assert local_files(f"{tmp_path}/**/*.csv") == [Arrival(str(tmp_path / "deep" / "a.csv"), 2, 5.0)]
    assert local_files(f"{tmp_path}/*.json") == []
