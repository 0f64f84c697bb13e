"""The code location: every workflow by name at once, one built when it is asked for, all of them only for the UI; reads no YAML itself.

Rests on Dagster's public `RepositoryData`, and on one private name (`_repository_data`), which `tests/etl_defs` checks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property

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
from etl_defs.schedules import schedule_of
from etl_defs.sensors import dispatcher
from etl_defs.storage import NoPickles
from etl_defs.translate import IO_MANAGER, Translation, Translator

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

    # ---- one workflow at a time -----------------------------------------------------------------

    def get_job_names(self) -> Sequence[str]:
        """Returns the names of all workflows without compiling one."""
        return list(self.library.names)

    def has_job(self, job_name: str) -> bool:
        """Tells whether there is such a workflow, or whether it is Dagster's own job for assets."""
        return job_name in self.library.names or (job_name == ASSET_JOB and self._all.has_job(ASSET_JOB))

    def get_job(self, job_name: str) -> JobDefinition:
        """Returns one job, building that one only."""
        if job_name == ASSET_JOB:
            return self._all.get_job(ASSET_JOB)
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
        def claim(physical_name: tuple[str, ...]) -> AssetKey:
            """The first writer in name order has the place's own key; the others add their name to it."""
            taken = any(True for _ in self.library.writers(physical_name, before=name))
            key = asset_key(physical_name)
            return AssetKey([*key.path, f"by_{name}"]) if taken else key

        return Translator(
            self.library, self.library.compiled(name), self.library.entry(name).path, claim=claim, cut=cut
        )

    # ---- everything, for the UI and the daemon --------------------------------------------------

    @cached_property
    def _all(self) -> RepositoryData:
        """All assets and resources in one graph; jobs, schedules and sensors are held here."""
        return self._parts.get_repository_def()._repository_data  # noqa: SLF001 - no public way to its parts

    def definitions(self) -> Definitions:
        """Returns everything at once, for whoever cannot load it bit by bit."""
        jobs = [self.get_job(name) for name in self.library.names]
        others = Definitions(jobs=jobs, schedules=self.get_all_schedules(), sensors=self.get_all_sensors())
        return Definitions.merge(self._parts, others)

    @cached_property
    def _parts(self) -> Definitions:
        self._cut_circles()
        built = [each for name in self.library.names if isinstance(each := self._translation(name), Translation)]
        faults = {name: each for name in self.library.names if isinstance(each := self._translation(name), str)}
        written = {key for each in built for key in each.assets.keys}
        sources: dict[AssetKey, AssetSpec] = {}
        for each in built:
            sources |= {spec.key: spec for spec in each.sources if spec.key not in written and spec.key not in sources}
        errors = [error_asset(self.library.entry(name), fault) for name, fault in faults.items()]
        connections = {key: resource for each in built for key, resource in each.connections.items()}
        return Definitions(
            assets=[*(each.assets for each in built), *sources.values(), *errors],
            resources={**connections, IO_MANAGER: NoPickles()},
        )

    def _cut_circles(self) -> None:
        """Builds again, without the sources that close it, each workflow that closes a circle."""
        lineages = {
            name: self._translator(name).lineage()
            for name in self.library.names
            if isinstance(self._translation(name), Translation)
        }
        reads = {name: frozenset[AssetKey]().union(*each.values()) for name, each in lineages.items()}
        for name, cut in circles(reads, {name: frozenset(each) for name, each in lineages.items()}).items():
            self._built[name] = self._build(name, cut)
            self._jobs.pop(name, None)

    def get_all_jobs(self) -> Sequence[JobDefinition]:
        """Returns the jobs of all workflows, and Dagster's own for assets."""
        return [*self._all.get_all_jobs(), *(self.get_job(name) for name in self.library.names)]

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
        found = dispatcher(self.library, self.get_job)
        return [] if found is None else [found]

    def get_all_sensors(self) -> Sequence[SensorDefinition]:
        """Returns the one sensor that watches all triggers, if a workflow has one."""
        return self._sensors

    def get_top_level_resources(self) -> Mapping[str, ResourceDefinition]:
        """Returns the connections of all workflows."""
        found = self._all.get_top_level_resources()
        return {name: each for name, each in found.items() if name != IO_MANAGER}

    def get_env_vars_by_top_level_resource(self) -> Mapping[str, AbstractSet[str]]:
        """Returns which variables the connections name."""
        found = self._all.get_env_vars_by_top_level_resource()
        return {name: each for name, each in found.items() if name != IO_MANAGER}

    def get_source_assets_by_key(self) -> Mapping[AssetKey, SourceAsset]:
        """Returns source assets of Dagster's older kind: none."""
        return self._all.get_source_assets_by_key()

    def get_assets_defs_by_key(self) -> Mapping[AssetKey, AssetsDefinition]:
        """Returns all assets."""
        return self._all.get_assets_defs_by_key()

    def get_asset_checks_defs_by_key(self) -> Mapping[AssetCheckKey, AssetChecksDefinition]:
        """Returns the checks that stand outside assets: none."""
        return self._all.get_asset_checks_defs_by_key()
