"""`python`: a function from an Arrow batch to an Arrow batch; declared here, run by the engine where the deployment allows it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa

from dsl.contracts.spec import OptionError, option
from dsl.expressions import parse_type
from dsl.processors.columns import of_columns, type_of
from dsl.processors.kind import ProcessorKind
from dsl.processors.step import Planned, Step

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class PythonOptions:
    """Gives each batch to a Python function, which answers with a batch; off unless the deployment allows it.

    The function takes a `pyarrow.RecordBatch` and returns one. It must give the same answer for the same rows, whatever batches they
    come in: a batch is run again after a failure, and in parts to find the row at fault.
    """

    function: str | None = option(default=None, doc="An installed function.", example="mypackage.cleaning:clean")
    code: str | None = option(
        default=None,
        doc="Source that defines `def process(batch)`, instead of `function`.",
        example="def process(batch): ...",
    )
    schema: dict[str, str] = option(
        default={},
        doc="The columns that come back and their types; those that went in if absent.",
        example={"id": "int64"},
    )
    expands: bool = option(default=False, doc="Whether more rows may come back than went in.")
    filters: bool = option(default=False, doc="Whether fewer rows may come back than went in.")

    def __post_init__(self) -> None:
        """Checks that the options fit together.

        Raises:
            OptionError: They do not.
        """
        if (self.function is None) == (self.code is None):
            told = "both given" if self.function is not None else "both missing"
            raise OptionError("function", f"`function` and `code` are {told}", "give exactly one of them")
        if self.function is not None and not _FUNCTION.fullmatch(self.function):
            raise OptionError("function", f"{self.function!r} names no function", "write module:function")
        if self.code is not None:
            self._check_code(self.code)
        for name, kind in self.schema.items():
            try:
                parse_type(kind)
            except ValueError as error:
                raise OptionError(f"schema.{name}", str(error), getattr(error, "hint", "")) from error

    def _check_code(self, code: str) -> None:
        try:
            compile(code, "<code>", "exec")
        except (SyntaxError, ValueError) as error:
            raise OptionError("code", f"the code is not Python: {error}", "define process(batch)") from error
        if "def process" not in code:
            raise OptionError("code", "the code does not define process", "write def process(batch): …")

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Returns the schema that leaves, given the one that enters."""
        if not self.schema:
            return schema
        return pa.schema([type_of(kind).with_name(name) for name, kind in self.schema.items()])


def plan(step: Step) -> Planned:
    """Plans a Python step: every column may come from every column, unless the schema stays the same."""
    options = step.node.options
    assert isinstance(options, PythonOptions)  # noqa: S101 - the table of kinds says so
    schema = step.input.schema
    if options.schema:
        everything = of_columns(step.input.lineage, step.input.names)
        leaves: pa.Schema | None = options.output_schema(pa.schema([]))
        lineage = dict.fromkeys(options.schema, everything)
    else:
        leaves, lineage = schema, dict(step.input.lineage)
    return Planned(schema=leaves, lineage=lineage, reads=(None,), processor=options)


KIND = ProcessorKind(
    kind="python",
    title="A Python function over batches",
    options=PythonOptions,
    min_inputs=1,
    max_inputs=1,
    plan=plan,
    relational=False,
    example="""type: python
config:
  function: mypackage.cleaning:clean
  schema: {id: int64, name: string}
""",
)
