"""The code location: every workflow by name at once, one built when it is asked for, all of them only for the UI; reads no YAML itself.

Rests on Dagster's public `RepositoryData`, and on one private name (`_repository_data`), which `tests/etl_defs` checks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property, partial

from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    Definitions,
    JobDefinition,
    RepositoryData,
    ResourceDefinition,
    ScheduleDefinition,
    SensorDefinition,
)
from dagster._core.definitions.asset_checks.asset_checks_definition import AssetChecksDefinition
from dagster._core.definitions.source_asset import SourceAsset

from dsl.contracts.redaction import scrub
from etl_defs.jobs import error_asset, error_job
from etl_defs.library import Library, LoadError
from etl_defs.lineage import circles
from etl_defs.logs import LOGGER
from etl_defs.naming import asset_key
from etl_defs.replay_job import REPLAY_JOB, replay_job
from etl_defs.schedules import schedule_of
from etl_defs.sensors import dispatcher
from etl_defs.translate import Bindings, Translation, Translator, merged_source
from resources.base import ConnectionResource

ASSET_JOB = "__ASSET_JOB"


class WorkflowRepository(RepositoryData):
    """Dagster's view of a library.

    Args:
        library: The workflows.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self._built: dict[str, Translation | str] = {}
        self._jobs: dict[str, JobDefinition] = {}
        self._bindings = Bindings()

    # ---- one workflow at a time -----------------------------------------------------------------

    def get_job_names(self) -> Sequence[str]:
        """Returns the names of all workflows without compiling one."""
        return [*self.library.names, *self._own_jobs]

    @cached_property
    def _own_jobs(self) -> tuple[str, ...]:
        """The jobs that are no workflow's; a workflow of that name goes before."""
        return () if REPLAY_JOB in self.library.names else (REPLAY_JOB,)

    def has_job(self, job_name: str) -> bool:
        """Tells whether there is such a workflow, or whether it is Dagster's own job for assets."""
        return (
            self.library.has(job_name)
            or (job_name == REPLAY_JOB and job_name in self._own_jobs)
            or (job_name == ASSET_JOB and self._all.has_job(ASSET_JOB))
        )

    def get_job(self, job_name: str) -> JobDefinition:
        """Returns one job, building that one only."""
        if job_name == ASSET_JOB:
            return self._all.get_job(ASSET_JOB)
        if job_name not in self._jobs and job_name == REPLAY_JOB and job_name in self._own_jobs:
            self._jobs[job_name] = replay_job(self.library, self.target_key)
        if job_name not in self._jobs:
            built = self._translation(job_name)
            self._jobs[job_name] = (
                error_job(self.library.entry(job_name), built) if isinstance(built, str) else built.job
            )
        return self._jobs[job_name]

    def _translation(self, name: str) -> Translation | str:
        """Returns a workflow in Dagster's terms, or what is wrong with it."""
        if name not in self._built:
            self._built[name] = self._build(name, frozenset())
        return self._built[name]

    def _build(self, name: str, cut: frozenset[AssetKey]) -> Translation | str:
        log = logging.getLogger(LOGGER)
        try:
            return self._translator(name, cut).translate()
        except LoadError as error:
            log.error("workflow %s cannot be loaded:\n%s", name, error.message, extra={"workflow_id": name})  # noqa: TRY400 - the text says all
            return error.message
        except Exception as error:  # whatever Dagster refuses in one workflow, the others stay usable
            log.exception("workflow %s cannot be translated", name, extra={"workflow_id": name})
            return scrub(f"{self.library.entry(name).path}:1:1: {type(error).__name__}: {error}")

    def _translator(self, name: str, cut: frozenset[AssetKey] = frozenset()) -> Translator:
        return Translator(
            self.library,
            self.library.compiled(name),
            self.library.entry(name).path,
            bind=self._bindings,
            claim=partial(self.target_key, name),
            cut=cut,
        )

    def target_key(self, name: str, physical_name: tuple[str, ...]) -> AssetKey:
        """Returns the asset of a place that a workflow writes: the first writer in name order has its own key, others add their name."""
        taken = any(True for _ in self.library.writers(physical_name, before=name))
        key = asset_key(physical_name)
        return AssetKey([*key.path, f"by_{name}"]) if taken else key

    # ---- everything, for the UI and the daemon --------------------------------------------------

    @cached_property
    def _all(self) -> RepositoryData:
        """All assets in one graph, each bound to its own connections: bound to those of all they would take quadratic time."""
        bound = [each.bound for each in self._whole]
        together = Definitions(assets=[*bound, *self._around], resources=self._bindings.shared)
        return together.get_repository_def()._repository_data  # noqa: SLF001 - no public way to its parts

    def definitions(self) -> Definitions:
        """Returns everything at once, for whoever cannot load it bit by bit."""
        return Definitions(
            assets=[*(each.assets for each in self._whole), *self._around],
            jobs=[self.get_job(name) for name in self.get_job_names()],
            schedules=self.get_all_schedules(),
            sensors=self.get_all_sensors(),
            resources={**self._visible, **self._bindings.shared},
        )

    @cached_property
    def _whole(self) -> Sequence[Translation]:
        """All workflows that can be run, with no circle between them."""
        self.library.compile_all()
        self._cut_circles()
        return [each for name in self.library.names if isinstance(each := self._translation(name), Translation)]

    @property
    def _around(self) -> Sequence[AssetSpec]:
        """What stands around the workflows' own assets: sources that none of them writes, and the faults of the broken ones."""
        written = {key for each in self._whole for key in each.assets.keys}
        readers: dict[AssetKey, list[AssetSpec]] = {}
        for each in self._whole:
            for spec in each.sources:
                if spec.key not in written:
                    readers.setdefault(spec.key, []).append(spec)
        faults = {name: fault for name in self.library.names if isinstance(fault := self._translation(name), str)}
        errors = [error_asset(self.library.entry(name), fault) for name, fault in faults.items()]
        return [*map(merged_source, readers.values()), *errors]

    @property
    def _visible(self) -> Mapping[str, ConnectionResource]:
        """The connections of all workflows as the UI shows them."""
        return {key: resource for each in self._whole for key, resource in each.connections.items()}

    def _cut_circles(self) -> None:
        """Builds again, without the sources that close it, each workflow that closes a circle."""
        whole = {name: each for name in self.library.names if isinstance(each := self._translation(name), Translation)}
        reads = {name: frozenset[AssetKey]().union(*each.lineage.values()) for name, each in whole.items()}
        for name, cut in circles(reads, {name: frozenset(each.lineage) for name, each in whole.items()}).items():
            self._built[name] = self._build(name, cut)
            self._jobs.pop(name, None)

    def get_all_jobs(self) -> Sequence[JobDefinition]:
        """Returns the jobs of all workflows, and Dagster's own for assets."""
        return [*self._all.get_all_jobs(), *(self.get_job(name) for name in self.get_job_names())]

    @cached_property
    def _schedules(self) -> Mapping[str, ScheduleDefinition]:
        found = (schedule_of(self.library.entry(name)) for name in self.library.names)
        return {each.name: each for each in found if each is not None}

    def get_all_schedules(self) -> Sequence[ScheduleDefinition]:
        """Returns the schedules; those of broken workflows too, so that a load that does not happen is seen."""
        return list(self._schedules.values())

    def get_schedule(self, schedule_name: str) -> ScheduleDefinition:
        """Returns one schedule without compiling a workflow."""
        return self._schedules[schedule_name]

    @cached_property
    def _sensors(self) -> Sequence[SensorDefinition]:
        return [dispatcher(self.library, self.get_job)]

    def get_all_sensors(self) -> Sequence[SensorDefinition]:
        """Returns the one sensor: it watches triggers, keeps endless workflows alive and ends runs whose worker is gone."""
        return self._sensors

    def get_top_level_resources(self) -> Mapping[str, ResourceDefinition]:
        """Returns the connections of all workflows."""
        return self._connections.get_top_level_resources()

    def get_env_vars_by_top_level_resource(self) -> Mapping[str, AbstractSet[str]]:
        """Returns which variables the connections name in Dagster's own way: none, for secrets stay Headrace's references."""
        return self._connections.get_env_vars_by_top_level_resource()

    @cached_property
    def _connections(self) -> RepositoryData:
        """The connections alone: bound to all assets at once they would take quadratic time."""
        return Definitions(resources=self._visible).get_repository_def()._repository_data  # noqa: SLF001 - as above

    def get_source_assets_by_key(self) -> Mapping[AssetKey, SourceAsset]:
        """Returns source assets of Dagster's older kind: none."""
        return self._all.get_source_assets_by_key()

    def get_assets_defs_by_key(self) -> Mapping[AssetKey, AssetsDefinition]:
        """Returns all assets."""
        return self._all.get_assets_defs_by_key()

    def get_asset_checks_defs_by_key(self) -> Mapping[AssetCheckKey, AssetChecksDefinition]:
        """Returns the checks that stand outside assets: none."""
        return self._all.get_asset_checks_defs_by_key()
