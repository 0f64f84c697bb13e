"""The job that replays dead letters: one for all workflows, so that a location of a thousand loads no slower; its run is told which."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from dagster import (
    Array,
    AssetKey,
    AssetMaterialization,
    Failure,
    Field,
    GraphDefinition,
    JobDefinition,
    MetadataValue,
    Noneable,
    OpDefinition,
    OpExecutionContext,
    in_process_executor,
)

from dsl.contracts.capabilities import WriteMode
from etl_defs import report as shown
from etl_defs.describe import stage_text
from etl_defs.library import Library
from etl_defs.logs import LoggedEvents, start_logging
from etl_defs.naming import TAG_REPLAY_OF, TAG_WORKFLOW, dagster_name
from etl_defs.progress import AllEvents, BoundedEvents
from etl_defs.replays import Arrived, Group, Replay, Replayed
from etl_defs.runner import stores_of
from etl_defs.watch import watchers
from resources.stores.letter_choice import Choice

REPLAY_JOB = "headrace_replay"
OP = "replay"
RUNS_IN_TAG = 20
TargetKey = Callable[[str, tuple[str, ...]], AssetKey]
_TEXTS = {
    "node": "Only letters that this node refused.",
    "code": "Only letters refused for this fault.",
    "reason": "Only letters whose reason holds this text.",
    "run_id": "Only letters that this run refused.",
}
_CONFIG = {
    "workflow": Field(str, description="The workflow whose dead letters are replayed."),
    **{name: Field(Noneable(str), default_value=None, description=doc) for name, doc in _TEXTS.items()},
    "ids": Field(Array(str), default_value=[], description="Only letters with these ids, or ids that begin so."),
    "pinned": Field(bool, default_value=False, description="Take each letter up with the code that refused it."),
    "may_overwrite": Field(
        bool,
        default_value=False,
        description="Let an old row take the place of a newer one with the same key, where the target is written by key.",
    ),
}


def replay_job(library: Library, target_key: TargetKey) -> JobDefinition:
    """Returns the job.

    Args:
        library: Holds the workflows.
        target_key: (workflow's Dagster name, physical name of a target) -> its asset.
    """

    def compute(context: OpExecutionContext, inputs: Mapping[str, Any]) -> Iterator[Any]:
        del inputs
        start_logging()
        _replay(context, library, target_key)
        yield from ()

    operation = OpDefinition(
        compute_fn=compute,
        name=OP,
        description="Sends dead letters through the rest of their workflow, each once.",
        outs={},
        config_schema=_CONFIG,
    )
    return GraphDefinition(
        name=REPLAY_JOB,
        description=(
            "Replays the dead letters of a workflow from the node that refused them: say which in the Launchpad, under "
            "`ops: replay: config`. Killed anywhere and launched again, it applies no letter twice."
        ),
        node_defs=[operation],
    ).to_job(executor_def=in_process_executor, tags={"dagster/max_retries": "0"})


def run_config(workflow: str, choice: Choice, *, pinned: bool, may_overwrite: bool) -> dict[str, Any]:
    """Returns the configuration of a run that replays what is chosen."""
    told = {name: getattr(choice, name) for name in _TEXTS}
    asked = {"workflow": workflow, **told, "ids": [*choice.ids], "pinned": pinned, "may_overwrite": may_overwrite}
    return {"ops": {OP: {"config": asked}}}


def _replay(context: OpExecutionContext, library: Library, target_key: TargetKey) -> None:
    asked = context.op_config
    stores = stores_of(context.instance, library.settings)
    replay = Replay(library, asked["workflow"], stores, pinned=asked["pinned"], may_overwrite=asked["may_overwrite"])
    replay.take_over()
    choice = Choice(**{name: asked[name] for name in _TEXTS}, ids=tuple(asked["ids"]))
    _tag(context, replay, replay.groups(choice))
    events = AllEvents([BoundedEvents(context.log), LoggedEvents(), *watchers()])
    done = replay.run(choice, run_id=context.run_id, logical_time=datetime.now(UTC), events=events)
    for each in done.arrived:
        for watcher in watchers():
            watcher.finished(each.report)
        context.log_event(_materialization(context, replay, each, done, target_key))
    _tell(context, done)


def _tag(context: OpExecutionContext, replay: Replay, groups: tuple[Group, ...]) -> None:
    """Names, on this run, the runs whose letters it replays."""
    runs = list(dict.fromkeys(run for each in groups if each.rests for run in each.shape.runs))
    tags = {TAG_WORKFLOW: dagster_name(replay.title)}
    if runs:
        more = f",and {len(runs) - RUNS_IN_TAG} more" if len(runs) > RUNS_IN_TAG else ""
        tags[TAG_REPLAY_OF] = ",".join(runs[:RUNS_IN_TAG]) + more
    context.instance.add_run_tags(context.run_id, tags)


def _materialization(
    context: OpExecutionContext, replay: Replay, arrived: Arrived, done: Replayed, target_key: TargetKey
) -> AssetMaterialization:
    destination = arrived.rest.load.destination
    key = target_key(dagster_name(replay.title), destination.physical_name)
    metadata = shown.metadata_of(
        arrived.report,
        destination,
        hidden=frozenset(arrived.report.schema.names),
        row_count=_row_count(context, key, arrived),
        plan=stage_text(arrived.rest.physical.stages[0]),
        dead_letters=str(replay.letters.path),
    )
    metadata.pop("preview", None)  # people look at dead letters where they are masked
    metadata["letters_replayed"] = MetadataValue.int(arrived.report.reconciliation.read)
    metadata["letters_refused_again"] = MetadataValue.int(done.refused_again)
    metadata["replay_of_runs"] = MetadataValue.json(dict(arrived.runs))
    for number, each in enumerate(list(arrived.runs)[:RUNS_IN_TAG], 1):
        metadata[f"replay_of_run_{number}"] = MetadataValue.dagster_run(each)
    return AssetMaterialization(key, metadata=metadata, description="Dead letters, replayed.")


def _row_count(context: OpExecutionContext, key: AssetKey, arrived: Arrived) -> int | None:
    """Rows in the target now, where it is only added to and the run before told how many there were."""
    if arrived.rest.load.destination.write_mode is not WriteMode.APPEND:
        return None
    event = context.instance.get_latest_materialization_event(key)
    before = (
        event.asset_materialization.metadata.get("dagster/row_count") if event and event.asset_materialization else None
    )
    return before.value + arrived.report.reconciliation.written if before and isinstance(before.value, int) else None


def _tell(context: OpExecutionContext, done: Replayed) -> None:
    told = f"{done.letters} dead letters are replayed, {done.refused_again} rows of them were refused again"
    context.log.info(told)
    refused = [each for each in done.groups if each.refusal is not None]
    for each in refused:
        told = f"{each.shape.letters} dead letters cannot be replayed: {each.refusal}"
        context.log.warning(told)
    if not done.finished:
        raise Failure(
            "the replay was stopped at a batch boundary; launch it again to go on from there", allow_retries=False
        )
    if refused and not done.arrived:
        raise Failure(
            "none of these dead letters can be replayed:\n" + "\n".join(str(each.refusal) for each in refused),
            allow_retries=False,
        )
