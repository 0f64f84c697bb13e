"""Runs a workflow: asks its sources, compiles again with what they say, wires stores and executes stages; shared by ops and commands."""

from __future__ import annotations

import dataclasses
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from dagster import DagsterInstance

from dsl.compile import CompiledWorkflow
from dsl.contracts.connectors import Connection, Destination, Source
from dsl.contracts.policies import OnError
from dsl.contracts.stores import BreakerStore, CheckpointStore, DeadLetterStore, EventSink
from dsl.plan.logical import Read
from dsl.plan.physical import Apply, ChunkQuery, PhysicalNode, PhysicalPlan, Remember, Scan, Stage, StreamQuery, Write
from engine.breaker import MemoryBreakers
from engine.context import RunContext, SilentEvents
from engine.control import Control
from engine.report import RunReport, StageOutcome, StageReport
from engine.run import collect_exchanges, run_plan, run_stage
from etl_defs.kept_code import KeptCode, keep
from etl_defs.library import Library
from etl_defs.settings import Settings, read_settings
from resources.stores.breakers import SharedBreakers
from resources.stores.checkpoints import KeyValueCheckpoints, MemoryCheckpoints
from resources.stores.dead_letters import LocalDeadLetters
from resources.stores.secrets import reveal

E = TypeVar("E", Source, Destination)
GRACE = timedelta(seconds=3)
"""How long a run that is to end may go on to commit at its next batch boundary: with all else it ends within 10 seconds."""
PROGRESS = timedelta(seconds=1)


@dataclass(frozen=True)
class Stores:
    """What a run keeps between attempts.

    Attributes:
        checkpoints: Copies of the tokens.
        dead_letters: Rejected rows.
        breakers: The health of systems.
    """

    checkpoints: CheckpointStore
    dead_letters: DeadLetterStore
    breakers: BreakerStore = field(default_factory=MemoryBreakers)


def stores_of(instance: DagsterInstance | None, settings: Settings) -> Stores:
    """Returns the stores of a deployment: checkpoints and breakers in Dagster's run storage, dead letters under its home."""
    letters = LocalDeadLetters(local_letters(settings))
    if instance is None:
        return Stores(MemoryCheckpoints(), letters)
    return Stores(KeyValueCheckpoints(instance), letters, SharedBreakers.of(instance))


def local_letters(settings: Settings) -> Path:
    """Returns the folder of a deployment's own store of dead letters."""
    return settings.home / "dead_letters"


class RunSession:
    """One run of one workflow: its sources are asked once, and all its stages share stores and control.

    Args:
        library: Holds the workflow.
        name: Its Dagster name.
        stores: What is kept between attempts.
        run_id: Names the run.
        logical_time: `now()` of the run, aware.
        connections: Dagster's resources by key, in place of what the document says.
        events: Told what happens.
        control: Carries stop and pause.
        load_id: The first run of those that try this load; `run_id` if absent.
    """

    def __init__(  # noqa: PLR0913 - what a run needs comes from as many places
        self,
        library: Library,
        name: str,
        *,
        stores: Stores,
        run_id: str,
        logical_time: datetime,
        connections: Mapping[str, Connection] | None = None,
        events: EventSink | None = None,
        control: Control | None = None,
        load_id: str = "",
    ) -> None:
        self.library = library
        self.name = name
        self.control = control or Control()
        self.pulse: EventSink | None = None
        self._stores = stores
        self._run_id, self._load_id = run_id, load_id
        self._logical_time = logical_time
        self._connections = dict(connections or {})
        self._events = events or SilentEvents()
        self._asked = threading.Lock()
        self._finished: set[str] = set()
        self._schemas: Mapping[str, pa.Schema] = {}

    @cached_property
    def _typed(self) -> CompiledWorkflow:
        untyped = self.library.compiled(self.name)
        self._schemas = discover(untyped, self._connections)
        typed = self.library.typed(self.name, self._schemas)
        return dataclasses.replace(typed, physical=connected(typed.physical, self._connections))

    @property
    def compiled(self) -> CompiledWorkflow:
        """The workflow compiled with the schemas that its sources have in this run.

        Raises:
            LoadError: The schemas do not fit what the workflow does with them.
            UnavailableError: A source cannot be reached.
        """
        with self._asked:
            return self._typed

    @property
    def dead_letters(self) -> str:
        """Where the run's refused rows go, for people."""
        letters = self.compiled.bound.dead_letters
        return (
            str(local_letters(self.library.settings))
            if letters is None
            else " / ".join(letters.destination.physical_name)
        )

    def run_stage(self, stage_id: str, events: EventSink | None = None) -> StageReport:
        """Runs one stage to its end, or to the boundary at which it was stopped; after the last, exchanges are collected.

        Raises:
            HeadraceError: The stage failed; what it committed stays.
            BaseException: What interrupted the calling thread, after the stage had its time to end at a batch boundary.
        """
        plan, context = self.compiled.physical, self.context(events)
        report = run_stage(plan.stage(stage_id), context)
        if report.outcome is StageOutcome.FINISHED:
            self._finished.add(stage_id)
        if self._finished.issuperset(each.id for each in plan.stages):
            collect_exchanges(plan, context)
        return report

    def run(self, events: EventSink | None = None) -> RunReport:
        """Runs all stages in order."""
        return run_plan(self.compiled.physical, self.context(events))

    def context(self, events: EventSink | None = None) -> RunContext:
        """Returns what the engine needs besides the plan."""
        letters = self.compiled.bound.dead_letters
        self._keep_code()
        return run_context(
            self.library.settings,
            self._stores,
            workflow=self.compiled.workflow.name,
            run_id=self._run_id,
            load_id=self._load_id,
            logical_time=self._logical_time,
            events=events or self._events,
            control=self.control,
            dead_letter_destination=None
            if letters is None
            else _with(letters.destination, letters.connection_name, self._connections),
            fingerprint=self.compiled.physical.fingerprint,
        )

    def _keep_code(self) -> None:
        """Keeps what the workflow is compiled from, before it refuses a row that somebody may want to replay."""
        if any(each.policies.on_error is OnError.DLQ for each in self.compiled.bound.nodes):
            code = KeptCode(self.library.entry(self.name), self._schemas)
            keep(local_letters(self.library.settings), self.compiled.physical.fingerprint, code)


def run_context(settings: Settings, stores: Stores, **of_run: Any) -> RunContext:
    """Returns what the engine needs besides the plan.

    Args:
        settings: The deployment's choices.
        stores: What is kept between attempts.
        of_run: What else `RunContext` takes.
    """
    return RunContext(
        home=settings.home,
        checkpoints=stores.checkpoints,
        dead_letters=stores.dead_letters,
        breakers=stores.breakers,
        memory_limit=settings.memory,
        threads=settings.threads,
        allow_python=settings.allow_python,
        allow_private_addresses=settings.allow_private_addresses,
        reveal=reveal,
        grace=GRACE,
        progress=PROGRESS,
        **of_run,
    )


def run_workflow(  # noqa: PLR0913 - everything but the path has a default
    path: Path,
    *,
    name: str | None = None,
    settings: Settings | None = None,
    instance: DagsterInstance | None = None,
    stores: Stores | None = None,
    run_id: str | None = None,
    logical_time: datetime | None = None,
    events: EventSink | None = None,
    control: Control | None = None,
) -> RunReport:
    """Runs a workflow of a file in this process, without Dagster's executor.

    Args:
        path: The file, or a folder of them.
        name: Which of its workflows, by its Dagster name; may be left out where there is one.
        settings: The deployment's choices; read from the environment if absent.
        instance: Keeps the checkpoints; without it they last as long as the process.
        stores: Used instead of the instance's.
        run_id: Names the run; a new one if absent.
        logical_time: `now()` of the run; the time of the call if absent.
        events: Told what happens.
        control: Carries stop and pause.

    Raises:
        LoadError: The workflow has faults.
        KeyError: There is no such workflow, or several and none was named.
    """
    chosen = dataclasses.replace(settings or read_settings(), workflows=path)
    library = Library(chosen)
    if name is None and len(library.names) != 1:
        raise KeyError(f"{path} holds {len(library.names)} workflows: {', '.join(library.names)}; name one of them")
    session = RunSession(
        library,
        name or library.names[0],
        stores=stores or stores_of(instance, chosen),
        run_id=run_id or str(uuid.uuid4()),
        logical_time=logical_time or datetime.now(UTC),
        events=events,
        control=control,
    )
    return session.run()


def discover(compiled: CompiledWorkflow, connections: Mapping[str, Connection]) -> dict[str, pa.Schema]:
    """Asks every source of a workflow for its schema.

    Raises:
        SchemaError: A source has no such table or file.
        UnavailableError: A source cannot be reached.
    """
    reads = (each for each in compiled.logical.nodes if isinstance(each, Read))
    return {each.id: _with(each.source, each.resource, connections).discover_schema() for each in reads}


def _with(endpoint: E, resource: str, connections: Mapping[str, Connection]) -> E:
    found = connections.get(resource)
    return endpoint if found is None else dataclasses.replace(endpoint, connection=found)


def connected(plan: PhysicalPlan, connections: Mapping[str, Connection]) -> PhysicalPlan:
    """Returns the plan with Dagster's resources in place of the connections that the document configured."""

    def stage_of(stage: Stage) -> Stage:
        writer = stage.writer
        if isinstance(writer, Write):
            destination = _with(writer.destination, writer.resource, connections)
            writer = dataclasses.replace(writer, destination=destination)
        return dataclasses.replace(stage, root=_rewired(stage.root, connections), writer=writer)

    return dataclasses.replace(plan, stages=tuple(map(stage_of, plan.stages)))


def _rewired(node: PhysicalNode, connections: Mapping[str, Connection]) -> PhysicalNode:
    if isinstance(node, Scan):
        return dataclasses.replace(node, source=_with(node.source, node.resource, connections))
    if isinstance(node, ChunkQuery | Remember | Apply):
        return dataclasses.replace(node, input=_rewired(node.input, connections))
    if isinstance(node, StreamQuery):
        return dataclasses.replace(
            node, inputs=tuple((view, _rewired(each, connections)) for view, each in node.inputs)
        )
    return node
