"""Runs the one workflow of a file by the engine alone, without Dagster: what Dagster costs is the rest; keeps no checkpoint."""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path

from benchmarks.generated import benchmark_context
from dsl.compile import compile_text
from engine.run import run_plan
from resources.registry import InstalledCatalog

MEMORY_MIB = 128

if __name__ == "__main__":
    file = Path(sys.argv[1])
    text = file.read_text(encoding="utf-8")
    (compiled,) = compile_text(text, str(file), catalog=InstalledCatalog(), environment=dict(os.environ))
    with tempfile.TemporaryDirectory() as home:
        context = replace(benchmark_context(Path(home), MEMORY_MIB), run_id=uuid.uuid4().hex)
        print(run_plan(compiled.physical, context).stages[-1].reconciliation)
