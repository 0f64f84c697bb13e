"""`python`: gives batches to a function that the document names or holds, and trusts nothing that comes back; off unless allowed."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from types import CodeType
from typing import Any

import pyarrow as pa

from dsl.contracts.connectors import Operator
from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RejectedRows, SchemaError
from dsl.contracts.policies import OnError
from dsl.contracts.rows import Outcome
from dsl.contracts.state import State
from dsl.expressions.types import exported, show
from dsl.processors.python import PythonOptions
from engine.operators.tools import OperatorTools, open_operator, output_schema

_CODE_FAULTS = (ImportError, NameError, MemoryError, SyntaxError)
"""What no row is to blame for: looking for one would run the code a hundred thousand times."""


class CodeFaultError(RejectedRows):
    """The function raised an exception about some row; the engine halves the batch to find it.

    Args:
        message: The last line of its traceback, and where it was raised.
    """

    code = "python"


@output_schema.register(PythonOptions)
def _(processor: PythonOptions, schema: pa.Schema, tools: OperatorTools) -> pa.Schema:
    _check_allowed(tools)
    return processor.output_schema(schema)


@open_operator.register(PythonOptions)
def _(processor: PythonOptions, schema: pa.Schema, state: State | None, tools: OperatorTools) -> Operator:
    del state
    return PythonStep(processor, schema, tools)


def _check_allowed(tools: OperatorTools) -> None:
    if not tools.context.allow_python:
        raise FatalError(
            "this deployment runs no Python of workflows",
            where=tools.node,
            hint="whoever runs it may allow it with HEADRACE_ALLOW_PYTHON=1; workflows can then do what its process can",
        )


class PythonStep(Operator):
    """Runs a function over batches.

    Args:
        options: The node's.
        schema: What enters.
        tools: What it works with.
    """

    def __init__(self, options: PythonOptions, schema: pa.Schema, tools: OperatorTools) -> None:
        self._schema = tools.output_schema(options, schema)
        self._options, self._where = options, tools.node
        self._function = _function(options, tools.node)
        self._stops = tools.policies.on_error is OnError.FAIL

    def process(self, rows: pa.RecordBatch) -> Outcome:
        """Calls the function.

        Raises:
            CodeFaultError: It raised an exception: some row may be at fault.
            SchemaError: What it returned has not the declared columns.
            FatalError: It returned something else, rows that it may not leave out or add, or cannot run at all.
        """
        passed = self._fitted(self._call(rows))
        grown = passed.num_rows - rows.num_rows
        if (grown > 0 and not self._options.expands) or (grown < 0 and not self._options.filters):
            word = "expands" if grown > 0 else "filters"
            told = f"the function returned {passed.num_rows} rows for {rows.num_rows}"
            raise FatalError(told, where=self._where, hint=f"if that is meant, say `{word}: true`")
        return Outcome(passed, filtered=max(-grown, 0), expanded=max(grown, 0))

    def _call(self, rows: pa.RecordBatch) -> Any:
        try:
            return self._function(rows)
        except RejectedRows as error:
            self._check_indices(error, rows)
            raise
        except HeadraceError:
            raise
        except _CODE_FAULTS as error:
            raise FatalError(f"the function cannot run: {self._told(error)}", where=self._where) from error
        except (Exception, SystemExit) as error:  # anything may come out of code that others wrote
            raise self._fault(rows, error) from error

    def _fault(self, rows: pa.RecordBatch, error: BaseException) -> HeadraceError:
        if rows.num_rows > 1 or not self._stops:
            return CodeFaultError(self._told(error))
        # One row is enough to fail a run: the others need not be looked for.
        return FatalError(
            f"a row was refused: {self._told(error)}",
            where=self._where,
            hint="mend the function, or say `on_error: dlq` (keep the row aside) or `on_error: drop` at this node",
            error_type=ErrorType.POISON,
        )

    def _told(self, error: BaseException) -> str:
        """The last line of a traceback, and the line of the function's own file."""
        file = getattr(getattr(self._function, "__code__", None), "co_filename", "")
        lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == file]
        return _last_line(error) + (f" (line {lines[-1]})" if lines else "")

    def _check_indices(self, error: RejectedRows, rows: pa.RecordBatch) -> None:
        wrong = [each for each in error.rows or () if not 0 <= each < rows.num_rows]
        if wrong:
            told = f"the function refuses row {wrong[0]} of a batch of {rows.num_rows}"
            raise FatalError(told, where=self._where) from error

    def _fitted(self, returned: Any) -> pa.RecordBatch:
        if isinstance(returned, pa.Table):
            returned = _as_batch(returned)
        if not isinstance(returned, pa.RecordBatch):
            told = f"the function returned {type(returned).__name__}, not a pyarrow.RecordBatch"
            raise FatalError(told, where=self._where, hint="return the batch, also when nothing is left of it")
        names = returned.schema.names
        self._check_names(names)
        columns = [self._column(field, returned.column(names.index(field.name))) for field in self._schema]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema) if columns else returned

    def _check_names(self, names: list[str]) -> None:
        hint = f"it should have {', '.join(self._schema.names)}: declare others under `schema`"
        for name in names:
            if names.count(name) > 1:
                raise SchemaError(f"the function returned column {name!r} twice", where=self._where)
            if name not in self._schema.names:
                raise SchemaError(
                    f"the function returned column {name!r}, which is not declared", where=self._where, hint=hint
                )
        for name in self._schema.names:
            if name not in names:
                raise SchemaError(
                    f"column {name!r} is missing in what the function returned", where=self._where, hint=hint
                )

    def _column(self, field: pa.Field[Any], column: Any) -> Any:
        """The column in its declared type; another encoding of the same type, or NULLs of no type, are brought to it."""
        kind = column.type
        try:
            column.validate(full=True)
            if not kind.equals(field.type) and (pa.types.is_null(kind) or exported(kind).equals(exported(field.type))):
                column = column.cast(field.type)
        except (pa.ArrowException, ValueError) as error:
            told = f"column {field.name!r} of what the function returned is broken: {_first_line(error)}"
            raise SchemaError(told, where=self._where) from error
        if not column.type.equals(field.type):
            told = f"column {field.name!r} is {_shown(kind)} in what the function returned, not {_shown(field.type)}"
            raise SchemaError(told, where=self._where, hint="cast it, or declare its type under `schema`")
        if not field.nullable and column.null_count:
            raise SchemaError(f"column {field.name!r} may not be NULL", where=self._where)
        return column


def _as_batch(table: pa.Table) -> pa.RecordBatch:
    arrays = [each.combine_chunks() for each in table.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=table.schema)


def _shown(kind: pa.DataType) -> str:
    found = show(kind)
    return str(kind) if found == "unknown" or exported(kind) != kind else found


def _function(options: PythonOptions, where: str) -> Callable[[pa.RecordBatch], Any]:
    try:
        if options.function is None:
            found = _defined(compile(options.code or "", f"<{where}>", "exec"))
        else:
            module, _, name = options.function.partition(":")
            found = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:  # as in _call: importing and defining run code too
        raise FatalError(f"the Python of this node cannot be loaded: {_last_line(error)}", where=where) from error
    if not callable(found):
        told = f"{options.function or 'process'!r} is no function"
        raise FatalError(told, where=where, hint="write def process(batch): … and return a batch")
    function: Callable[[pa.RecordBatch], Any] = found
    return function


def _defined(code: CodeType) -> Any:
    names: dict[str, Any] = {"__name__": "headrace_workflow"}
    exec(code, names)  # noqa: S102 - what `code` is for, where the deployment allows it
    return names.get("process")


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
