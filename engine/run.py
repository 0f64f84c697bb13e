"""The door of the engine: runs one stage of a plan, or all of them in order; knows no YAML and no Dagster."""

from __future__ import annotations

from engine.context import OnRegression, RunContext, SilentEvents, SystemClock
from engine.control import Control, Wish
from engine.report import NodeReport, Reconciliation, RunReport, StageOutcome, StageReport

__all__ = [
    "Control",
    "NodeReport",
    "OnRegression",
    "Reconciliation",
    "RunContext",
    "RunReport",
    "SilentEvents",
    "StageOutcome",
    "StageReport",
    "SystemClock",
    "Wish",
]
