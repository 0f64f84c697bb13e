"""What a job made alone rests on: names of Dagster that are not published, and that no run can be configured."""

from pathlib import Path
from typing import Any

import pytest
from dagster import AssetsDefinition, AssetSpec, DagsterInvalidConfigError, JobDefinition, validate_run_config
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from tests.etl_defs.location import Location, copy
from tests.etl_defs.test_repository import TWO_TARGETS


def test_the_unpublished_names_are_there() -> None:
    assert isinstance(AssetGraph.from_assets([AssetsDefinition(specs=[AssetSpec("x")])]), AssetGraph)
    assert callable(UnresolvedAssetJobDefinition.resolve)


def test_a_job_makes_its_own_assets_and_knows_its_sources(tmp_path: Path) -> None:
    location = Location(tmp_path, {"two.yaml": TWO_TARGETS})
    job = location.repository.get_job("fan_out")
    assert isinstance(job, JobDefinition)
    made = {key.path[-1] for key in job.asset_layer.executable_asset_keys}
    assert made == {"first", "second"}
    assert {key.path[-1] for key in job.asset_layer.asset_graph.get_all_asset_keys()} == {"first", "second", "copied"}


@pytest.mark.parametrize(
    "config",
    [
        {"resources": {"a__source": {"config": {"space": "elsewhere"}}}},
        {"resources": {"a__run": {"config": {"x": 1}}}},
        {"ops": {"a__stages": {"config": {"x": 1}}}},
        {"ops": {"a__stages": {"ops": {}}}},
    ],
)
def test_a_run_has_nothing_to_configure(tmp_path: Path, config: dict[str, Any]) -> None:
    """So no value of a connection, secret or not, ever stands in the configuration of a run."""
    job = Location(tmp_path, {"a.yaml": copy("a")}).repository.get_job("a")
    assert validate_run_config(job, {})
    with pytest.raises(DagsterInvalidConfigError):
        validate_run_config(job, config)
