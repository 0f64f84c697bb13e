"""What Dagster loads: `defs`, a repository that knows every workflow by name and builds one when it is asked for; holds no logic."""

from __future__ import annotations

from dagster import RepositoryData, repository

from etl_defs.library import Library
from etl_defs.repository import WorkflowRepository
from etl_defs.settings import read_settings


@repository(name="__repository__", description="Workflows of Headrace, one job each.")  # type: ignore[arg-type]  # takes a RepositoryData too
def defs() -> RepositoryData:
    """Returns the workflows of the folder that `HEADRACE_WORKFLOWS` names."""
    return WorkflowRepository(Library(read_settings()))
