"""Makes the job of one workflow from its own assets alone, with nothing to configure; the only door to Dagster's unpublished `AssetGraph`.

Dagster resolves an asset job against all assets of its location, so that a thousand jobs take a million steps, and describes
in each job's snapshot every option of executors, loggers and resources that nobody sets here. `tests/etl_defs/test_alone.py` fails
when an upgrade changes what this rests on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dagster import (
    AssetsDefinition,
    AssetSelection,
    AssetSpec,
    JobDefinition,
    MetadataValue,
    ResourceDefinition,
    colored_console_logger,
    define_asset_job,
    in_process_executor,
)
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

IN_PROCESS = in_process_executor.configured({}, name="in_process")
LOGGERS = {"console": colored_console_logger.configured({})}


def job_of(  # noqa: PLR0913 - what a job is made of comes from as many places
    name: str,
    assets: AssetsDefinition,
    sources: Sequence[AssetSpec],
    resources: Mapping[str, ResourceDefinition],
    *,
    description: str,
    tags: Mapping[str, str],
    metadata: Mapping[str, MetadataValue[Any]],
    owners: Sequence[str],
) -> JobDefinition:
    """Returns the job that makes all assets of a workflow, in one process.

    Args:
        name: Its name.
        assets: What it makes, bound to its resources.
        sources: What it reads, as external assets.
        resources: What its ops require, by key.
        description: For people, as Markdown.
        tags: Of the job and its runs.
        metadata: Shown with it.
        owners: E-mail addresses and teams.
    """
    outside = [AssetsDefinition(specs=sources)] if sources else []
    job = define_asset_job(
        name,
        AssetSelection.assets(assets),
        description=description,
        tags=tags,
        metadata=metadata,
        owners=owners or None,
        executor_def=IN_PROCESS,
    )
    resolved = job.resolve(AssetGraph.from_assets([assets, *outside]), resource_defs=resources)
    return resolved.with_logger_defs(LOGGERS)
