"""The Dagster instance of a deployment without servers: where it is and what its dagster.yaml says; starts nothing."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_HOME = Path(".headrace") / "dagster"
SETTINGS = """\
# Written by Headrace; yours to change. Everything is kept in this folder: runs, events, checkpoints, logs.
telemetry:
  enabled: false
nux:
  enabled: false
# A run is forked from a process that has loaded everything, and starts at once. Several hosts want another launcher.
run_launcher:
  module: etl_defs.warm_launcher
  class: WarmRunLauncher
run_queue:
  max_concurrent_runs: 4
  dequeue_interval_seconds: 1
  # One run of a workflow at a time; the others wait. `overlap: queue` of a schedule rests on this.
  tag_concurrency_limits:
    - key: headrace/workflow
      value: {applyLimitPerUniqueValue: true}
      limit: 1
run_monitoring:
  enabled: true
  poll_interval_seconds: 10
  # A run that died before it began holds no lease; it is given up after this.
  start_timeout_seconds: 60
# A run whose process died is started again and goes on from its checkpoint. One that failed is not: `retry` of its
# workflow has already done what trying again can do.
run_retries:
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false
"""


def prepare_home() -> Path:
    """Makes the folder of the instance, for its owner only, and points DAGSTER_HOME at it; returns it.

    A DAGSTER_HOME that is set already is used as it is: only a missing dagster.yaml is written into an empty folder.
    """
    home = Path(os.environ.get("DAGSTER_HOME") or DEFAULT_HOME).absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(SETTINGS, encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(home)
    return home
