"""The folder of each row of a destination whose path holds `{{ expression }}`: a hidden column before the writer; writes nothing."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from dsl.codes import Code
from dsl.contracts.connectors import Destination
from dsl.contracts.folders import FOLDER, divided
from dsl.contracts.spec import Option, spec_of
from dsl.expressions import ExpressionError, compile_template
from dsl.processors.columns import braced, quoted
from dsl.processors.step import NOTHING, Planned, Step

ADDED: Final = "__folders"
"""What is behind the name of a destination in that of the step."""


def folders_of(step: Step, destination: Destination) -> Planned | None:
    """Plans the step that computes the folder of each row; None where values choose none.

    Args:
        step: The destination at its place, and what feeds it.
        destination: As it writes what this input brings.
    """
    found = _template_of(destination)
    if found is None:
        return None
    option, template = found
    if FOLDER in step.input.names:
        step.fault(Code.DUPLICATE_COLUMN, f"a column is called {FOLDER!r}", "rename it in a mapping", option.name)
        return NOTHING
    try:
        compiled = compile_template(template, step.input.schema, "path")
    except ExpressionError as error:
        # The place is told in the document's own text: that of one input has the input's name in it.
        start = len(divided(getattr(step.node.options, option.name))[0]) + 1
        step.fault(error.code, error.message, error.hint, option.name, index=start + error.index)
        return NOTHING
    schema = step.input.schema
    return Planned(
        schema=None if schema is None else schema.append(pa.field(FOLDER, pa.string())),
        lineage=step.input.lineage,
        sql=f"SELECT *, {braced(compiled.render_sql())} AS {quoted(FOLDER)} FROM {{0}}",
        total=compiled.total,
        uses_now=compiled.uses_now,
        reads=(None,),
    )


def _template_of(destination: Destination) -> tuple[Option, str] | None:
    """Returns the option that holds a template of folders, and the template."""
    for each in spec_of(type(destination)).options:
        value = getattr(destination, each.name) if each.template == "path" else ""
        _, template = divided(value or "")
        if template:
            return each, template
    return None
