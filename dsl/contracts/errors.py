"""Run-time errors, one class for each thing the engine must do; compile-time errors are data and live elsewhere.

HeadraceError
├── RetryableError          try again, after a pause
│   └── UnavailableError    try again, and let the circuit breaker count it
├── RejectedRows            these rows are at fault, the rest of the batch is not
└── FatalError              stop; trying again cannot help
    ├── FencedError         another run owns this stream now; stop without an alarm
    ├── SchemaError         source and destination no longer agree on columns
    ├── RegressionError     the destination is behind the checkpoint: restored or truncated
    ├── BudgetExceededError more rows were rejected than the workflow allows
    └── ReconciliationError rows read, written, filtered and rejected do not add up
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from dsl.contracts.redaction import scrub


class ErrorType(StrEnum):
    """The classes that `retry_on` names."""

    TRANSIENT = "transient"
    TIMEOUT = "timeout"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    AUTH = "auth"
    SCHEMA = "schema"
    POISON = "poison"
    FATAL = "fatal"


class HeadraceError(Exception):
    """An error that a person can act on.

    Args:
        message: What happened, in one sentence.
        where: The system, table, row or file it happened at.
        hint: What to do next.
        error_type: The class `retry_on` compares with.
    """

    default_type = ErrorType.FATAL

    def __init__(self, message: str, *, where: str = "", hint: str = "", error_type: ErrorType | None = None) -> None:
        self.message, self.where, self.hint = scrub(message), scrub(where), scrub(hint)
        self.error_type = error_type or self.default_type
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message}" + (f" ({self.hint})" if self.hint else "")


class RetryableError(HeadraceError):
    """A transient fault: the same call may succeed later.

    Args:
        after: Seconds the other side asked for (`Retry-After`), or None.
    """

    default_type = ErrorType.TRANSIENT

    def __init__(
        self,
        message: str,
        *,
        where: str = "",
        hint: str = "",
        error_type: ErrorType | None = None,
        after: float | None = None,
    ) -> None:
        super().__init__(message, where=where, hint=hint, error_type=error_type)
        self.after = after


class UnavailableError(RetryableError):
    """The system cannot be reached at all; counts towards opening its circuit breaker."""

    default_type = ErrorType.UNAVAILABLE


class RejectedRows(HeadraceError):
    """Rows of one batch were refused; nothing of that batch has been applied.

    Args:
        rows: Their indices in the batch, or None when the system did not say which:
            the engine then bisects the batch until the rows at fault are alone.
    """

    default_type = ErrorType.POISON

    def __init__(self, message: str, *, rows: Sequence[int] | None = None, where: str = "") -> None:
        super().__init__(message, where=where)
        self.rows = None if rows is None else tuple(rows)


class FatalError(HeadraceError):
    """Trying again cannot help: configuration, permission or a broken promise."""


class FencedError(FatalError):
    """A newer run has taken over this stream; this one must stop and change nothing."""


class SchemaError(FatalError):
    """A column is missing, or its type cannot be carried."""

    default_type = ErrorType.SCHEMA


class RegressionError(FatalError):
    """The destination's token is older than the checkpoint's copy of it."""


class BudgetExceededError(FatalError):
    """More rows were rejected than `dead_letter` allows."""

    default_type = ErrorType.POISON


class ReconciliationError(FatalError):
    """read = written + filtered + rejected does not hold."""
