"""A full disk under an exchange, under what spills, under dead letters: a clear error, nothing committed, and a run that goes on later."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dsl.contracts.errors import FatalError, UnavailableError
from dsl.contracts.policies import OnError, RetryPolicy
from dsl.plan.physical import ExchangeScan, ExchangeWrite, PhysicalPlan, Stage
from engine.run import run_plan, run_stage
from resources.stores.dead_letters import LocalDeadLetters
from tests.engine.fakes import Table, Tape, chunk, context, numbers, policies, scan, stage, stream


@contextmanager
def full_beyond(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: the system refuses the write as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("epoch", [1000, 10**9])
@pytest.mark.parametrize("size", [20, 400, 3_000, 20_000])
def test_an_exchange_on_a_full_disk(tmp_path: Path, size: int, epoch: int) -> None:
    table, held = Table(), policies(epoch=epoch)
    plan = PhysicalPlan(
        "flow",
        (
            Stage("map", scan(Tape(numbers(8_000), batch=500), held=held), ExchangeWrite("map", ("out",), held)),
            stage(ExchangeScan("map", "map", None, held), table, held),
        ),
        "",
    )
    given = context(tmp_path)
    folder = tmp_path / "exchanges" / "flow" / "map"
    with full_beyond(size):
        try:
            run_plan(plan, given)
        except FatalError as error:
            said = str(error)
        else:
            said = ""
    if said:
        assert "the disk is full" in said
        assert "nothing of the open epoch was committed" in said
        assert table.ids() == []
        # What was half written gives its room back.
        assert len(list(folder.glob("*.arrow"))) == len(list(folder.glob("*.json")))
        assert list(folder.glob("*.partial")) == []
    assert said or (size == 20_000 and epoch == 1000)
    run_plan(plan, replace(given, run_id="run-1"))
    assert table.ids() == list(range(8_000))


def test_spilling_on_a_full_disk(tmp_path: Path) -> None:
    table, tape = Table(), Tape(numbers(400_000), batch=20_000)
    root = stream({"a": scan(tape)}, "SELECT id, text, repeat(text, 20) AS wide FROM a ORDER BY wide, id")
    given = context(tmp_path, memory_limit=64 * 2**20)
    with full_beyond(2**20), pytest.raises(FatalError, match=r"(spilling failed|does not fit into memory and spill)"):
        run_stage(stage(root, table), given)
    assert table.ids() == []
    assert list((tmp_path / "spill").iterdir()) == []
    run_stage(stage(root, table), given)
    assert len(table.ids()) == 400_000


def test_dead_letters_on_a_full_disk(tmp_path: Path) -> None:
    letters, table = LocalDeadLetters(tmp_path), Table()
    letters.count("flow/sink/0")
    held = policies(epoch=100, on_error=OnError.DLQ, retry=RetryPolicy(max_attempts=1))
    tape = Tape(numbers(1_000, poison=range(300, 340)), batch=50)
    planned = stage(chunk(scan(tape, held=held), "SELECT id, CAST(text AS BIGINT) AS n FROM input", held), table, held)
    given = context(tmp_path, dead_letters=letters)
    with full_beyond(40_000), pytest.raises(UnavailableError, match="dead letters could not be kept"):
        run_stage(planned, given)
    assert table.ids() == list(range(300))
    run_stage(planned, given)
    assert sorted(table.ids()) == [*range(300), *range(340, 1_000)]
    assert letters.count("flow/sink/0") == 40
    letters.close()
