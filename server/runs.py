"""Runs a workflow of a file as a run of Dagster, in this process, so that it stands in the UI beside all others; prints nothing."""

from __future__ import annotations

import dataclasses
import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dagster import BetaWarning, DagsterInstance
from dagster_shared.error import SerializableErrorInfo

from dsl.contracts.errors import FencedError
from dsl.contracts.redaction import scrub
from engine.report import RunReport
from etl_defs.library import Library
from etl_defs.repository import WorkflowRepository
from etl_defs.settings import read_settings
from etl_defs.watch import watched
from server.home import prepare_home
from server.progress import Progress


@dataclass(frozen=True)
class Launched:
    """What came of a run.

    Attributes:
        run_id: Its id in Dagster.
        success: Whether every stage finished.
        fenced: Whether it ended because another run owns a stream.
        report: What the stages did that ended.
        fault: Why it failed, as one text; "" if it did not.
    """

    run_id: str
    success: bool
    fenced: bool
    report: RunReport
    fault: str


def launch(path: Path, name: str, progress: Progress, tags: Mapping[str, str] | None = None) -> Launched:
    """Runs a workflow to its end.

    Args:
        path: The file it is in.
        name: Its Dagster name.
        progress: Shown the run while it goes on.
        tags: Tags of the run.
    """
    prepare_home()
    library = Library(dataclasses.replace(read_settings(), workflows=path))
    began = time.monotonic()
    with _quiet(), DagsterInstance.get() as instance, watched(progress):
        job = WorkflowRepository(library).get_job(name)
        result = job.execute_in_process(instance=instance, raise_on_error=False, tags=dict(tags or {}))
        failures = [each.step_failure_data for each in result.all_events if each.is_step_failure]
    report = RunReport(name, result.run_id, tuple(progress.reports), time.monotonic() - began)
    errors = [_cause(each.error) for each in failures if each.error is not None]
    return Launched(
        run_id=result.run_id,
        success=result.success,
        fenced=any(each.cls_name == FencedError.__name__ for each in errors),
        report=report,
        fault="\n".join(dict.fromkeys(_sentence(each) for each in errors)),
    )


def _cause(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """Returns what a stage raised, from inside what Dagster wrapped around it."""
    while error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return error


def _sentence(error: SerializableErrorInfo) -> str:
    """Returns an error's own text without the name of its class in front."""
    text = error.message.strip()
    _, found, rest = text.partition(f"{error.cls_name}: ")
    return scrub(rest if found else text)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Dagster's own log lines off the terminal; they are in the instance."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BetaWarning)  # owners and code references, which tests pin
            yield
    finally:
        logging.disable(logging.NOTSET)
