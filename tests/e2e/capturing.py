"""One run of a workflow given as text, as a process that may be killed makes it; keeps nothing but what the destination keeps."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, cast

from dsl.compile import compile_text
from dsl.contracts.connectors import Source
from dsl.contracts.failpoints import arm_from
from engine.context import SystemClock
from engine.report import RunReport
from engine.run import run_plan
from resources.registry import InstalledCatalog
from tests.engine.fakes import Checkpoints, context


def run(text: str, **given: Any) -> RunReport:
    """Compiles a workflow with the columns that its source has now, and runs it."""
    catalog = InstalledCatalog()
    (unasked,) = compile_text(text, "flow.yaml", catalog=catalog, environment=os.environ)
    schemas = {"source": cast("Source", unasked.bound.node("source").options).discover_schema()}
    (compiled,) = compile_text(text, "flow.yaml", catalog=catalog, environment=os.environ, schemas=schemas)
    with tempfile.TemporaryDirectory() as home:
        return run_plan(
            compiled.physical, context(Path(home), **{"checkpoints": Checkpoints(), "clock": SystemClock(), **given})
        )


def main() -> None:
    """Runs what the environment says, with the faults that it says."""
    arm_from(os.environ)
    run(os.environ["FLOW"])
