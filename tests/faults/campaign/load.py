"""The load that is killed: its rows, its workflow, what must arrive, and one attempt at it in a process of its own. It judges nothing."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml
from dagster import DagsterInstance

from dsl.contracts import failpoints
from dsl.contracts.errors import HeadraceError
from dsl.contracts.stores import Event
from etl_defs.runner import run_workflow
from etl_defs.settings import Settings

EPOCH_ROWS = 100
BATCH_ROWS = 50
MEMORY = 64 * 2**20
LETTERS_TABLE = "refused"

Row = tuple[int, str, int, int]


@dataclass(frozen=True)
class Rows:
    """The rows of a seed: every seventh is filtered, about one in eighty cannot be cast.

    Attributes:
        seed: Says which are poison, and every value.
        count: How many.
    """

    seed: int
    count: int = 2_000

    def source(self) -> Iterator[tuple[int, str, str, int]]:
        """Yields (id, name, amount, kind) as the source holds them."""
        luck = random.Random(self.seed)
        for number in range(1, self.count + 1):
            amount = str(luck.randrange(10**9))
            poisoned = luck.random() < 1 / 80
            yield number, f"n{luck.randrange(10**6)} ü'\"", f"x{amount}" if poisoned else amount, number % 7

    def expected(self) -> Counter[Row]:
        """Returns what the destination must hold, each row once."""
        return Counter(
            (number, name, int(amount), number * 3)
            for number, name, amount, kind in self.source()
            if kind and amount.isdigit()
        )

    def refused(self) -> Counter[int]:
        """Returns the ids of the rows that must be dead letters, each once."""
        return Counter(number for number, _, amount, kind in self.source() if kind and not amount.isdigit())


class Reading(Protocol):
    """Where rows come from: the kind of its source, and the options of its connection."""

    @property
    def kind(self) -> str: ...

    def login(self) -> dict[str, Any]: ...


def workflow_text(
    name: str, origin: Reading, destination: dict[str, Any], mode: str, letters: dict[str, Any] | None
) -> str:
    """Returns the documents of a load.

    An append or an upsert reads incrementally, so that every attempt may be a run of its own. An overwrite is a full
    refresh: its attempts share the run's id, as those of a run that Dagster starts again do.
    """
    reading = {} if mode == "overwrite" else {"incremental_column": "id", "primary_key": "id"}
    workflow: dict[str, Any] = {
        "name": name,
        "on_error": "dlq",
        "retry": {"max_attempts": 3, "initial_backoff": "50ms", "max_backoff": "500ms"},
        "checkpoint": {"rows": EPOCH_ROWS},
        "batch": {"rows": BATCH_ROWS},
        "source": {"type": origin.kind, "config": {**origin.login(), "table": "given", **reading}},
        "transformations": [
            {"type": "filter", "config": {"condition": "kind != 0"}},
            {
                "type": "mapping",
                "config": {
                    "mappings": [
                        {"source": "id", "destination": "id"},
                        {"source": "name", "destination": "name"},
                        {"source": "amount", "destination": "amount", "cast": "int64"},
                        {"expression": "id * 3", "destination": "triple"},
                    ]
                },
            },
        ],
        "destination": destination,
    }
    documents: list[dict[str, Any]] = [{"workflow": workflow}]
    if letters is not None:
        documents.insert(0, {"connection": {"name": "aside", **letters}})
        workflow["dead_letter"] = {"destination": "aside", "table": LETTERS_TABLE}
    return yaml.safe_dump_all(documents, sort_keys=False)


@dataclass(frozen=True)
class Attempt:
    """One process that tries the load.

    Attributes:
        home: The load's folder: `load.yaml`, `dagster/` and what the run keeps.
        run_id: Names the run.
        answer: Where it says how it ended.
        faults: Failpoint -> what happens there, as `HEADRACE_FAILPOINTS` has it.
    """

    home: str
    run_id: str
    answer: str
    faults: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        """Runs the workflow in this process, and writes down how it ended; a killed one writes nothing."""
        failpoints.arm({name: failpoints.Fault.parse(text) for name, text in self.faults.items()})
        clock = _Clock()
        ended = _ended(lambda: self._load(clock))
        ended.visits, ended.seconds, ended.began = failpoints.visits(), clock.passed(), clock.began
        Path(self.answer).write_text(json.dumps(asdict(ended)), encoding="utf-8")

    def _load(self, clock: _Clock) -> dict[str, int]:
        home = Path(self.home)
        settings = Settings(home / "load.yaml", home / "kept", memory=MEMORY, threads=1)
        with DagsterInstance.from_config(str(home / "dagster")) as instance:
            report = run_workflow(
                settings.workflows, settings=settings, instance=instance, run_id=self.run_id, events=clock
            )
        [stage] = report.stages
        return {each: getattr(stage.reconciliation, each) for each in ("read", "written", "filtered", "rejected")}


@dataclass
class Ended:
    """How an attempt ended, by its own account.

    Attributes:
        error: Class of the error, or "" if it finished.
        said: Its text.
        books: Rows by what became of them, over this attempt's epochs.
        visits: How often each failpoint was reached.
        began: Seconds of a processor that it used until it opened the stage.
        seconds: Those that it used in all.
    """

    error: str = ""
    said: str = ""
    books: dict[str, int] = field(default_factory=dict)
    visits: dict[str, int] = field(default_factory=dict)
    began: float = 0.0
    seconds: float = 0.0


def _ended(act: Callable[[], dict[str, int]]) -> Ended:
    try:
        return Ended(books=act())
    except HeadraceError as error:
        cause = "" if error.__cause__ is None else f" (from {error.__cause__!r})"
        return Ended(type(error).__name__, f"{error}{cause}")
    except Exception as error:  # noqa: BLE001 - whatever escapes the engine is a finding, and is told to the campaign
        return Ended(f"escaped {type(error).__name__}", str(error))


class _Clock:
    """Notes when the stage was opened."""

    def __init__(self) -> None:
        self.began = 0.0

    def passed(self) -> float:
        """Returns the seconds of a processor since the start."""
        return time.process_time()

    def emit(self, event: Event) -> None:
        """Hears what the engine tells."""
        if event.name == "stage_started" and not self.began:
            self.began = self.passed()
