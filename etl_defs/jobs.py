"""Jobs that stand for workflows that cannot be compiled: seen in the UI by their faults, failing when they are run; compiles nothing."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dagster import (
    AssetSpec,
    Failure,
    GraphDefinition,
    JobDefinition,
    MetadataValue,
    OpDefinition,
    OpExecutionContext,
)

from dsl.contracts.redaction import scrub
from etl_defs.alone import IN_PROCESS, LOGGERS
from etl_defs.library import Entry
from etl_defs.naming import LOAD_ERRORS, TAG_ERROR, TAG_WORKFLOW, op_name
from etl_defs.report import fenced

LOAD_ERROR = "load_error"
_FAULT = re.compile(r"(\S+:\d+:\d+): (E\d+) (.*)")


def error_job(entry: Entry, fault: str) -> JobDefinition:
    """Returns the job that stands in for a workflow with faults: its runs fail with all of them.

    Args:
        entry: The workflow.
        fault: Every fault with its place, one a line.
    """

    def fail(context: OpExecutionContext, inputs: Mapping[str, Any]) -> Iterator[Any]:
        del context, inputs
        raise Failure(
            f"workflow {entry.title!r} cannot be run as it is written:\n{fault}",
            metadata={"diagnostics": MetadataValue.md(fenced(fault)), "file": MetadataValue.path(str(entry.path))},
            allow_retries=False,
        )
        yield  # makes this a generator, as Dagster wants it

    operation = OpDefinition(
        compute_fn=fail,
        name=op_name(entry.name, LOAD_ERROR),
        description=f"{_count(fault)}\n\n{_listed(fault)}",
        outs={},
    )
    return GraphDefinition(name=entry.name, description=describe_fault(entry, fault), node_defs=[operation]).to_job(
        tags={TAG_WORKFLOW: entry.name, TAG_ERROR: "load", "dagster/max_retries": "0"},
        metadata={"diagnostics": MetadataValue.md(fenced(fault)), "file": MetadataValue.path(str(entry.path))},
        executor_def=IN_PROCESS,
        logger_defs=LOGGERS,
    )


def error_asset(entry: Entry, fault: str) -> AssetSpec:
    """Returns the asset that puts a workflow's faults into the catalogue, in one group with those of all others."""
    return AssetSpec(
        [LOAD_ERRORS, entry.name],
        description=describe_fault(entry, fault),
        group_name=LOAD_ERRORS,
        kinds={"error"},
        tags={TAG_WORKFLOW: entry.name, TAG_ERROR: "load"},
        metadata={"file": MetadataValue.path(str(entry.path)), "faults": len(fault.splitlines())},
    )


def describe_fault(entry: Entry, fault: str) -> str:
    """Returns the faults of a workflow as Markdown."""
    return f"**Load error**: workflow `{entry.title}` cannot be run as it is written.\n\n{_listed(fault)}"


def _count(fault: str) -> str:
    count = len(fault.splitlines())
    return f"Cannot be run: {count} fault{'s' * (count != 1)}."


def _listed(fault: str) -> str:
    """Returns faults as a list, which a narrow column can wrap; the folder of their file stands in the metadata."""
    return "\n".join(f"- {_spoken(each)}" for each in scrub(fault).splitlines())


def _spoken(line: str) -> str:
    found = _FAULT.fullmatch(line)
    if found is None:
        return _escaped(line)
    place, code, said = found.groups()
    return f"`{place.rsplit('/', 1)[-1]}` **{code}** {_escaped(said)}"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*<>\[\]])", r"\\\1", text)
