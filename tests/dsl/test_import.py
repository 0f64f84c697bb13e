"""What importing the compiler brings in: the parser of SQL comes with the first expression, so that reading a thousand files is quick."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, sys
from dsl.compile import compile_text, outline
text = "workflow: {name: a, schedule: '@daily', source: {type: nothing}, destination: {type: nothing}}"
outline(text, "x.yaml")
print(json.dumps(sorted({each.partition(".")[0] for each in sys.modules})))
"""


def test_reading_outlines_needs_neither_sqlglot_nor_dagster() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True, timeout=120)
    loaded = set(json.loads(done.stdout))
    assert {"dsl", "pyarrow", "yaml"} <= loaded
    assert not loaded & {"sqlglot", "duckdb", "dagster", "pandas", "pydantic", "sqlalchemy", "asyncio"}
