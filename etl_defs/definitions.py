"""What Dagster loads: `defs`, a repository that knows every workflow by name and builds one when it is asked for; holds no logic."""

from __future__ import annotations

import gc
import warnings

from dagster import BetaWarning, RepositoryData, repository

from etl_defs.library import Library
from etl_defs.repository import WorkflowRepository
from etl_defs.settings import existing_workflows, read_settings

# Owners of jobs and references to code are in beta; one warning for each workflow would hide the lines that matter.
warnings.filterwarnings("ignore", category=BetaWarning)
# A location makes a million objects that live as long as it; looking for garbage among them takes a fifth of the time to load.
gc.set_threshold(100_000, 50, 100)


@repository(name="__repository__", description="Workflows of Headrace, one job each.")  # type: ignore[arg-type]  # takes a RepositoryData too
def defs() -> RepositoryData:
    """Returns the workflows of the folder that `HEADRACE_WORKFLOWS` names."""
    return WorkflowRepository(Library(existing_workflows(read_settings())))
