"""Jobs that stand for workflows that cannot be compiled: seen in the UI by their faults, failing when they are run; compiles nothing."""

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
    in_process_executor,
)

from etl_defs.library import Entry
from etl_defs.naming import LOAD_ERRORS, TAG_ERROR, TAG_WORKFLOW, op_name
from etl_defs.report import fenced

LOAD_ERROR = "load_error"


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

    operation = OpDefinition(compute_fn=fail, name=op_name(entry.name, LOAD_ERROR), description=fenced(fault), outs={})
    return GraphDefinition(name=entry.name, description=describe_fault(entry, fault), node_defs=[operation]).to_job(
        tags={TAG_WORKFLOW: entry.name, TAG_ERROR: "load"},
        metadata={"diagnostics": MetadataValue.md(fenced(fault)), "file": MetadataValue.path(str(entry.path))},
        executor_def=in_process_executor,
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
    return f"**Load error**: workflow `{entry.title}` cannot be run as it is written.\n\n{fenced(fault)}"
