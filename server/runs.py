"""Runs a workflow of a file as a run of Dagster, in this process, so that it stands in the UI beside all others; prints nothing."""

from __future__ import annotations

import builtins
import dataclasses
import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dagster import (
    BetaWarning,
    DagsterEventType,
    DagsterExecutionInterruptedError,
    DagsterInstance,
    DagsterRunStatus,
    ExecuteInProcessResult,
)
from dagster_shared.error import SerializableErrorInfo

from dsl.contracts.errors import FencedError, UnavailableError
from dsl.contracts.redaction import scrub
from engine.report import RunReport
from etl_defs.library import Library, LoadError
from etl_defs.repository import WorkflowRepository
from etl_defs.settings import read_settings
from etl_defs.watch import watched
from server.home import prepare_home
from server.progress import Progress

# Whoever started the run sees it fail and decides: the daemon does not start it again behind their back.
TAGS = {"dagster/max_retries": "0"}


class Ending(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"
    INVALID = "invalid"
    FENCED = "fenced"
    INTERRUPTED = "interrupted"


_ENDINGS = {
    DagsterExecutionInterruptedError.__name__: Ending.INTERRUPTED,
    KeyboardInterrupt.__name__: Ending.INTERRUPTED,
    FencedError.__name__: Ending.FENCED,
    LoadError.__name__: Ending.INVALID,
    UnavailableError.__name__: Ending.UNAVAILABLE,
}


@dataclass(frozen=True)
class Launched:
    """What came of a run.

    Attributes:
        run_id: Its id in Dagster.
        ending: How it ended.
        report: What the stages did that ended.
        fault: Why it failed, as one text; "" if it did not.
    """

    run_id: str
    ending: Ending
    report: RunReport
    fault: str


def launch(
    path: Path, name: str, progress: Progress, *, beside: Iterable[Path] = (), tags: Mapping[str, str] | None = None
) -> Launched:
    """Runs a workflow to its end.

    Args:
        path: The file it is in.
        name: Its Dagster name.
        progress: Shown the run while it goes on.
        beside: Files whose shared connections the workflow may name.
        tags: Tags of the run.
    """
    library = library_of(path, beside=beside)
    return launch_job(library, name, library.entry(name).title, progress, tags=tags)


def library_of(path: Path, *, beside: Iterable[Path] = ()) -> Library:
    """Returns the library of one file.

    Args:
        path: The file.
        beside: Files whose shared connections its workflows may name.
    """
    prepare_home()  # first, for the settings say by it where dead letters and exchanges are
    return Library(dataclasses.replace(read_settings(), workflows=path), beside=beside)


def launch_job(
    library: Library,
    job: str,
    title: str,
    progress: Progress,
    *,
    tags: Mapping[str, str] | None = None,
    config: Mapping[str, object] | None = None,
) -> Launched:
    """Runs a job of a library to its end.

    Args:
        library: Holds the workflows.
        job: The job's name: a workflow's, or one of Headrace's own.
        title: What the report is about.
        progress: Shown the run while it goes on.
        tags: Tags of the run.
        config: The run's configuration.
    """
    prepare_home()
    began = time.monotonic()
    with _quiet(), DagsterInstance.get() as instance, watched(progress):
        result = (
            WorkflowRepository(library)
            .get_job(job)
            .execute_in_process(
                instance=instance, raise_on_error=False, tags={**TAGS, **(tags or {})}, run_config=config
            )
        )
        errors = [] if result.success else _errors(result)
        ending = Ending.FINISHED if result.success else _ending(errors)
        ended = instance.get_run_by_id(result.run_id)
        if ended is not None and ended.status is DagsterRunStatus.CANCELED:
            ending = Ending.INTERRUPTED  # by somebody else
        elif ending is Ending.INTERRUPTED:
            instance.report_run_canceled(result.dagster_run, "Interrupted at the terminal that it was started from.")
    report = RunReport(title, result.run_id, tuple(progress.reports), time.monotonic() - began)
    fault = "\n".join(dict.fromkeys(filter(None, map(_sentence, errors))))
    return Launched(result.run_id, ending, report, fault)


def _errors(result: ExecuteInProcessResult) -> list[SerializableErrorInfo]:
    """Returns what made the stages fail; what made the run fail where it came to no stage."""
    steps = [each.step_failure_data for each in result.all_events if each.is_step_failure]
    found = [each.error for each in steps if each.error is not None]
    runs = [each.job_failure_data for each in result.all_events if each.event_type is DagsterEventType.RUN_FAILURE]
    return [_cause(each) for each in found or [each.error for each in runs if each.error is not None]]


def _ending(errors: Iterable[SerializableErrorInfo]) -> Ending:
    found = [_ENDINGS[each.cls_name] for each in errors if each.cls_name in _ENDINGS]
    return min(found, key=list(_ENDINGS.values()).index, default=Ending.FAILED)


def _cause(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """Returns what a stage raised, from inside what Dagster wrapped around it."""
    while error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return error


def _sentence(error: SerializableErrorInfo) -> str:
    """Returns an error's own text, without the name of its class in front unless that is Python's own."""
    text = error.message.strip()
    own = getattr(builtins, error.cls_name or "", None)
    if isinstance(own, type) and not issubclass(own, OSError):
        return scrub(f"a fault of Headrace itself: {text}")
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
