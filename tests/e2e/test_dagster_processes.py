"""Commands of Dagster as a person types them, each a process of its own, on Dagster's default storage."""

import signal
from pathlib import Path

import duckdb
import pytest
from dagster import DagsterRunStatus

from resources.stores.checkpoints import KeyValueCheckpoints
from tests.etl_defs.deployment import Deployment, wait_for

ROWS = 60_000
COPY = """\
workflow:
  name: copy-orders
  batch: {rows: 100}
  checkpoint: {rows: 500}
  source:
    type: duckdb
    config: {path: "${FOLDER}/source.duckdb", table: orders}
  destination:
    type: duckdb
    config: {path: "${FOLDER}/target.duckdb", table: copied}
"""
BROKEN = "workflow:\n  name: broken\n  shedule: '@daily'\n"
EXECUTE = ("dagster", "job", "execute", "-m", "etl_defs.definitions", "-a", "defs", "-j")


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """A table of orders and a workflow that copies it in small epochs."""
    with duckdb.connect(str(tmp_path / "source.duckdb")) as source:
        source.execute(f"CREATE TABLE orders AS SELECT i AS id, 'order ' || i AS name FROM range({ROWS}) t(i)")
        source.execute("ALTER TABLE orders ADD PRIMARY KEY (id)")
    texts = {"copy.yaml": COPY, "broken.yaml": BROKEN}
    return Deployment(tmp_path, texts, {"FOLDER": str(tmp_path)})


def _arrived(folder: Path) -> tuple[int, int]:
    with duckdb.connect(str(folder / "target.duckdb"), read_only=True) as target:
        found = target.execute("SELECT count(*), count(DISTINCT id) FROM copied").fetchone()
    assert found is not None
    return found


def test_validate_takes_a_location_with_one_broken_file(deployment: Deployment) -> None:
    code, said = deployment.run("dagster", "definitions", "validate", "-w", "workspace.yaml")
    assert code == 0, said
    assert "All code locations passed validation" in said
    assert "broken.yaml:3:3: E302 unknown key 'shedule'" in said


def test_execute_a_broken_workflow_fails_with_its_faults(deployment: Deployment) -> None:
    code, said = deployment.run(*EXECUTE, "broken")
    assert code != 0
    assert "did you mean 'schedule'?" in said


@pytest.mark.parametrize("how", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_run_that_is_terminated_ends_at_a_batch_and_the_next_goes_on(
    deployment: Deployment, tmp_path: Path, how: signal.Signals
) -> None:
    first = deployment.start(*EXECUTE, "copy_orders")
    with deployment.instance() as instance:
        store = KeyValueCheckpoints(instance)

        def committed() -> bool:
            assert first.poll() is None, "the run ended before it could be terminated"
            return any(each.epoch >= 3 for each in store.list("copy-orders/"))

        wait_for(committed, "a third epoch")
        first.send_signal(how)
        first.wait()
        [run] = instance.get_runs()
        assert run.status is DagsterRunStatus.FAILURE, "nobody asked Dagster to terminate it: it may be started again"
        [checkpoint] = store.list("copy-orders/")
        rows, distinct = _arrived(tmp_path)
        assert 0 < rows == distinct < ROWS
        logged = "\n".join(each.user_message for each in instance.all_logs(run.run_id))
        assert "outcome stopped" in logged, "the stage ended by itself, at a batch boundary"

        code, said = deployment.run(*EXECUTE, "copy_orders")
        assert code == 0, said[-3000:]
        assert _arrived(tmp_path) == (ROWS, ROWS)
        [later] = store.list("copy-orders/")
        assert later.epoch > checkpoint.epoch
        [second] = [each for each in instance.get_runs() if each.run_id != run.run_id]
        logged = "\n".join(each.user_message for each in instance.all_logs(second.run_id))
        assert f"stage started: epoch {checkpoint.epoch}, resumed True" in logged
        assert len(instance.all_logs(second.run_id)) <= 50, "many epochs, few events"
