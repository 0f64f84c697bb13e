"""What the tests of replays share: a location whose dead letters are replayed by the job. It may not look at the database itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from dagster import DagsterInstance, ExecuteInProcessResult

from etl_defs.replay_job import REPLAY_JOB, run_config
from resources.stores.dead_letters import ANY, Held, LocalDeadLetters
from resources.stores.letter_choice import Choice, Status
from tests.etl_defs.location import Location

CASTING = """\
workflow:
  name: a
  on_error: dlq
  source:
    type: memory
    config: {table: users, space: SPACE}
  transformations:
    - type: mapping
      config:
        mappings:
          - {source: id, destination: id}
          - {source: name, destination: age, cast: int64}
  destination:
    type: memory
    config: {table: copied, space: SPACE}
"""
POISON = pa.table({"id": [1, 2, 3, 4], "name": ["10", "twenty", "30", "forty"]})


def chosen(**of: Any) -> Choice:
    """Any letters, unless told otherwise."""
    return Choice(**{"statuses": ANY, **of})


class Letters:
    """The dead letters of a location, and the instance in which they are replayed."""

    def __init__(self, location: Location, instance: DagsterInstance) -> None:
        self.location, self.instance = location, instance
        self.store = LocalDeadLetters(location.home / "dead_letters")

    def run(self, name: str = "a") -> ExecuteInProcessResult:
        """Runs a workflow, which must succeed."""
        done = self.location.run(name, self.instance)
        assert done.success
        return done

    def replay(self, workflow: str = "a", *, pinned: bool = False, may_overwrite: bool = False, **of: Any) -> Any:
        """Runs the job that replays, as the Launchpad would."""
        config = run_config(workflow, Choice(**of), pinned=pinned, may_overwrite=may_overwrite)
        job = self.location.data.get_job(REPLAY_JOB)
        return job.execute_in_process(instance=self.instance, raise_on_error=False, run_config=config)

    def held(self, **of: Any) -> list[Held]:
        """The letters, the latest first."""
        return list(self.store.page(chosen(**of), limit=1000))

    def statuses(self) -> dict[str, int]:
        """How many letters there are of each status."""
        counts = {str(each): self.store.total(chosen(statuses=(each,))) for each in Status}
        return {name: count for name, count in counts.items() if count}

    def edit(self, letter_id: str, **values: Any) -> None:
        """Changes some values of a letter's row."""
        held = self.store.get(letter_id)
        assert held is not None
        row = held.rejection.row
        changed = {**row.to_pylist()[0], **values}
        self.store.edit(letter_id, pa.RecordBatch.from_pylist([changed], schema=row.schema), who="somebody")


@contextmanager
def letters_of(folder: Path, **texts: str) -> Iterator[Letters]:
    """A location of some workflows, by file name, in an instance of its own."""
    location = Location(folder, {f"{name}.yaml": text for name, text in texts.items()})
    with DagsterInstance.ephemeral() as instance:
        found = Letters(location, instance)
        yield found
        found.store.close()


def rewritten(held: Letters, name: str, text: str) -> Letters:
    """The same deployment after its workflow was changed, as another process would load it."""
    (held.location.files / f"{name}.yaml").write_text(text.replace("SPACE", held.location.space), encoding="utf-8")
    texts = {each.name: each.read_text(encoding="utf-8") for each in held.location.files.glob("*.yaml")}
    return Letters(Location(held.location.files.parent, texts), held.instance)


def failure_of(done: ExecuteInProcessResult) -> str:
    """Why a run failed, as one text."""
    steps = [each.step_failure_data for each in done.all_events if each.is_step_failure]
    return json.dumps([each.error.to_string() for each in steps if each.error is not None])
