"""One stage of a workflow as one Dagster op, and the run that its ops share as a resource; decides nothing about the plan."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from dagster import (
    AssetCheckResult,
    AssetKey,
    AssetObservation,
    DagsterInstance,
    Failure,
    In,
    InitResourceContext,
    MetadataValue,
    Nothing,
    OpDefinition,
    OpExecutionContext,
    Out,
    Output,
    ResourceDefinition,
)
from dagster._core.storage.tags import RETRY_ON_ASSET_OR_OP_FAILURE_TAG

from dsl.contracts.errors import FatalError, FencedError, RejectedRows
from dsl.plan.logical import Load, Process
from dsl.plan.physical import Scan, Stage, Write, leaves_of
from engine.report import StageOutcome, StageReport
from etl_defs import report as shown
from etl_defs.attempts import load_of, named
from etl_defs.checks import check_results, check_specs, failed_check
from etl_defs.describe import stage_text
from etl_defs.leases import leased
from etl_defs.library import Library, LoadError
from etl_defs.logs import LoggedEvents, start_logging
from etl_defs.naming import TAG_LOGICAL_TIME, op_name
from etl_defs.progress import AllEvents, BoundedEvents
from etl_defs.pulse import beating, refuse_if_held
from etl_defs.runner import RunSession, stores_of
from etl_defs.watch import watchers

TARGET = "target"
DONE = "done"
"""Output of a stage that writes an exchange: it says only that the exchange is there."""


@dataclass(frozen=True)
class StageOp:
    """What an op knows of its stage when it is defined.

    Attributes:
        workflow: The workflow's Dagster name.
        stage: The stage.
        key: The asset it writes; None where it writes an exchange.
        sources: Source node -> the asset it reads, of the whole workflow.
        inputs: Names of the op's inputs, each of which is only waited for.
        session: Key of the resource that is the run.
        resources: Keys of the connections it uses.
        description: What it does, for people.
        promised: The schema that its target was promised when the workflow was compiled, or None.
        kind: The `type` of its connector.
        code_version: Changes when what it does changes.
    """

    workflow: str
    stage: Stage
    key: AssetKey | None
    sources: Mapping[str, AssetKey]
    inputs: tuple[str, ...]
    session: str
    resources: frozenset[str]
    description: str
    promised: pa.Schema | None
    kind: str
    code_version: str

    @property
    def name(self) -> str:
        """The op's name, which no other workflow's op has."""
        return op_name(self.workflow, self.stage.id)

    def define(self) -> OpDefinition:
        """Returns the op."""
        names = [DONE] if self.key is None else [TARGET, *check_specs(self.key)]
        return OpDefinition(
            compute_fn=self._compute,
            name=self.name,
            description=self.description,
            ins={name: In(Nothing) for name in self.inputs},
            outs={name: Out(Nothing, is_required=False) for name in names},
            required_resource_keys={self.session, *self.resources},
            code_version=self.code_version,
            tags={"dagster/compute_kind": self.kind} if self.kind else None,
        )

    def _compute(self, context: OpExecutionContext, inputs: Mapping[str, Any]) -> Iterator[Any]:
        del inputs
        try:
            yield from self._work(context)
        except (FatalError, RejectedRows, LoadError, Failure):
            # Trying again cannot help, or somebody ended the run: an instance that retries failed steps must not do so.
            context.instance.add_run_tags(context.run_id, {RETRY_ON_ASSET_OR_OP_FAILURE_TAG: "false"})
            raise

    def _work(self, context: OpExecutionContext) -> Iterator[Any]:
        session: RunSession = getattr(context.resources, self.session)
        refuse_if_held(context.instance, self.workflow)
        pulse = [] if session.pulse is None else [session.pulse]
        events = AllEvents([BoundedEvents(context.log), LoggedEvents({self.stage.id: self.kind}), *pulse, *watchers()])
        try:
            done = session.run_stage(self.stage.id, events)
        except Exception as error:
            failed = None if self.key is None else failed_check(self.key, error)
            if failed is not None:
                yield failed
            if isinstance(error, FencedError):
                raise named(error, context.instance, context.run, session.compiled.workflow.name) from error
            raise
        for each in watchers():
            each.finished(done)
        if not done.nodes:  # it was to end before it had begun
            _stop_unless_finished(done)
        self._observe(context, session, done)
        if self.key is None:
            _stop_unless_finished(done)
            yield Output(None, DONE)
            return
        yield Output(None, TARGET, metadata=self._metadata(context.instance, session, done))
        yield from self._checks(session, done)
        _stop_unless_finished(done)

    def _metadata(self, instance: DagsterInstance, session: RunSession, done: StageReport) -> shown.Metadata:
        writer = _writer_of(session, self.stage.id)
        load = next((each for each in session.compiled.logical.nodes if _is_load_of(each, writer)), None)
        return shown.metadata_of(
            done,
            writer.destination,
            lineage=shown.column_lineage(load.lineage, self.sources) if load else None,
            hidden=hidden_columns(session),
            row_count=shown.known_row_count(done, writer.destination, _row_count_before(instance, self.key)),
            plan=stage_text(session.compiled.physical.stage(self.stage.id)),
            dead_letters=session.dead_letters,
        )

    def _checks(self, session: RunSession, done: StageReport) -> Iterator[AssetCheckResult]:
        if self.key is not None:
            budget = _writer_of(session, self.stage.id).policies.dead_letter
            yield from check_results(self.key, done, budget, self.promised)

    def _observe(self, context: OpExecutionContext, session: RunSession, done: StageReport) -> None:
        """Notes on each source what was read of it, once a run."""
        counts = {node: each for each in done.nodes if each.kind == "scan" for node in each.nodes}
        for leaf in leaves_of(session.compiled.physical.stage(self.stage.id).root):
            if isinstance(leaf, Scan) and leaf.node in counts and leaf.node in self.sources:
                metadata: shown.Metadata = {
                    "rows_read": MetadataValue.int(counts[leaf.node].rows_out),
                    "bytes_read": MetadataValue.int(counts[leaf.node].bytes_out),
                }
                if leaf.schema is not None:
                    metadata["dagster/column_schema"] = MetadataValue.table_schema(shown.table_schema(leaf.schema))
                context.log_event(AssetObservation(self.sources[leaf.node], metadata=metadata))


def session_resource(library: Library, workflow: str, connections: Mapping[str, str]) -> ResourceDefinition:
    """Returns the resource that is one run of a workflow.

    Args:
        library: Holds the workflow.
        workflow: Its Dagster name.
        connections: Key of a connection in the plan -> key of its Dagster resource.
    """

    def start(context: InitResourceContext) -> Iterator[RunSession]:
        start_logging()
        run = context.run
        instance = context.instance
        run_id = run.run_id if run else ""
        # Dagster's own job for assets gives each step a process: none of them is the run's worker.
        worker_of = run_id if run and run.job_name == workflow else ""
        session = RunSession(
            library,
            workflow,
            stores=stores_of(instance, library.settings),
            run_id=run_id,
            load_id=load_of(instance, run) if instance and run else "",
            logical_time=_logical_time(run.tags if run else {}),
            connections={key: getattr(context.resources, name) for key, name in connections.items()},
        )
        with (
            leased(instance, workflow, worker_of),
            beating(instance, workflow, run_id, session.control) as session.pulse,
        ):
            yield session

    return ResourceDefinition(
        resource_fn=contextlib.contextmanager(start),
        config_schema={},
        required_resource_keys=set(connections.values()),
        description="This run: its checkpoints, dead letters and the schemas of its sources.",
    )


def _logical_time(tags: Mapping[str, str]) -> datetime:
    text = tags.get(TAG_LOGICAL_TIME)
    found = datetime.fromisoformat(text) if text else datetime.now(UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def hidden_columns(session: RunSession) -> frozenset[str]:
    """Returns the columns that the workflow masks anywhere: their values are not for previews."""
    found: set[str] = set()
    for node in session.compiled.logical.nodes:
        if isinstance(node, Process) and node.kind == "mask":
            for rule in getattr(node.processor, "rules", ()):
                found.add(getattr(rule, "field", ""))
    return frozenset(found)


def _writer_of(session: RunSession, stage_id: str) -> Write:
    writer = session.compiled.physical.stage(stage_id).writer
    if not isinstance(writer, Write):
        raise TypeError(f"stage {stage_id!r} writes an exchange, not a destination")
    return writer


def _is_load_of(node: object, writer: Write) -> bool:
    return isinstance(node, Load) and node.node == writer.node and writer.input_node in node.inputs


def _row_count_before(instance: DagsterInstance, key: AssetKey | None) -> int | None:
    event = instance.get_latest_materialization_event(key) if key else None
    told = (
        event.asset_materialization.metadata.get("dagster/row_count") if event and event.asset_materialization else None
    )
    value = told.value if told else None
    return value if isinstance(value, int) else None


def _stop_unless_finished(done: StageReport) -> None:
    if done.outcome is not StageOutcome.FINISHED:
        raise Failure(
            f"the stage was {done.outcome.value} at a batch boundary after epoch {done.epoch}; "
            "launch the workflow again to go on from there",
            allow_retries=False,
        )
