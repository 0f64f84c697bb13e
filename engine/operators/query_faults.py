"""What a fault of DuckDB means for the engine, judged by the class in its text; runs no query."""

from __future__ import annotations

import re

from dsl.contracts.errors import FatalError, RejectedRows
from dsl.contracts.redaction import scrub
from engine.channel import CancelledError

_CLASS = re.compile(r"^([A-Za-z ]+?) Error: ")
_DATA_FAULTS = {
    "conversion": "conversion",
    "out of range": "out_of_range",
    "invalid input": "invalid_value",
    "constraint": "constraint",
    "mismatch type": "type_mismatch",
}


class DataFaultError(RejectedRows):
    """A value of some row made the query fail; the message is DuckDB's first line.

    Args:
        code: Stable short name of the fault.
        message: What DuckDB says.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def first_line(error: BaseException) -> str:
    """The first line of DuckDB's text, without its class and without secrets."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return scrub(_CLASS.sub("", text))


def judged(error: BaseException, where: str) -> Exception:
    """What a fault of DuckDB means: a value of some row, the query, the machine, or that somebody interrupted it.

    Readers report faults as OSError with DuckDB's text, so the text's class decides, not Python's.
    """
    found = _CLASS.match(str(error))
    kind = found.group(1).lower() if found else ""
    line = first_line(error)
    if kind in _DATA_FAULTS:
        return DataFaultError(_DATA_FAULTS[kind], line)
    if kind == "interrupt":
        return CancelledError()
    if kind == "out of memory":
        hint = "raise HEADRACE_MEMORY, or give the spill folder more room"
        return FatalError(f"the query does not fit into memory and spill: {line}", where=where, hint=hint)
    if kind == "io":
        hint = "free space in the spill folder and run again: nothing of the open epoch was committed"
        return FatalError(f"spilling failed: {line}", where=where, hint=hint)
    return FatalError(f"the query failed: {line}", where=where)
