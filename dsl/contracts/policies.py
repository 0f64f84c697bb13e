"""The blocks a workflow and each of its nodes may carry, inherited downwards; plain data with the defaults in view."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from dsl.contracts.errors import ErrorType
from dsl.contracts.spec import OptionError, option


class OnError(StrEnum):
    """Where a row goes that fails."""

    FAIL = "fail"
    DROP = "drop"
    DLQ = "dlq"


class OnRegression(StrEnum):
    """What becomes of a load whose destination is behind the checkpoint: it was restored, truncated or replaced."""

    FAIL = "fail"
    REWIND = "rewind"


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently a failed call is tried again (full jitter between tries)."""

    max_attempts: int = option(default=5, doc="Calls in all, the first one included.")
    initial_backoff: timedelta = option(default=timedelta(seconds=1), doc="Longest pause before the second call.")
    max_backoff: timedelta = option(default=timedelta(seconds=60), doc="No pause is longer than this.")
    backoff_multiplier: float = option(default=2.0, doc="Each pause may be this many times the one before.")
    retry_on: tuple[ErrorType, ...] = option(
        default=(ErrorType.TRANSIENT, ErrorType.TIMEOUT, ErrorType.THROTTLED, ErrorType.UNAVAILABLE),
        doc="The error classes that are tried again; `auth`, `schema` and `poison` only where they are named.",
    )
    budget: float = option(
        default=0.2,
        doc="Share of an `enrich` step's calls that may be made again (0.2: one in five), beyond a first hundred.",
    )

    def __post_init__(self) -> None:
        """Checks the classes.

        Raises:
            OptionError: One of them cannot be tried again.
        """
        if ErrorType.FATAL in self.retry_on:
            raise OptionError("retry_on", "fatal is what trying again cannot help", "leave it out")


@dataclass(frozen=True, kw_only=True)
class BatchPolicy:
    """How large the batches are that flow between nodes."""

    rows: int = option(default=65_536, doc="Rows in a batch, at most.")
    bytes: int = option(default=16 * 2**20, doc="Bytes in a batch, about.", unit="size")
    period: timedelta | None = option(default=None, doc="A batch waits no longer than this for more rows.")


@dataclass(frozen=True, kw_only=True)
class CheckpointPolicy:
    """When an epoch is committed: whichever comes first."""

    rows: int = option(default=200_000, doc="Rows in an epoch, about.")
    bytes: int = option(default=128 * 2**20, doc="Bytes in an epoch, about.", unit="size")
    period: timedelta | None = option(default=timedelta(seconds=30), doc="An epoch lasts no longer than this.")


@dataclass(frozen=True, kw_only=True)
class RateLimit:
    """How fast a system may be called."""

    requests: int | None = option(default=None, doc="Requests in each period, at most.")
    rows: int | None = option(default=None, doc="Rows in each period, at most.")
    per: timedelta = option(default=timedelta(seconds=1), doc="The period.")


@dataclass(frozen=True, kw_only=True)
class CircuitBreakerPolicy:
    """When a failing system is left alone for a while."""

    failures: int = option(default=5, doc="Failures in a row that open the breaker.")
    cooldown: timedelta = option(default=timedelta(seconds=30), doc="How long it stays open before one probe.")


@dataclass(frozen=True, kw_only=True)
class DeadLetterPolicy:
    """Where rejected rows go, and how many are tolerable."""

    destination: str | None = option(
        default=None, doc="Name of a `connection` to keep them in; the local store if absent."
    )
    table: str | None = option(
        default=None, doc="Table, index or prefix at that connection; `headrace_dead_letters` if absent."
    )
    max_rows: int | None = option(default=None, doc="The run fails past this many rejected rows.")
    max_ratio: float | None = option(default=None, doc="The run fails past this share of the rows read (0 to 1).")


@dataclass(frozen=True, kw_only=True)
class Policies:
    """Everything a node inherits from its workflow unless it says otherwise."""

    retry: RetryPolicy = RetryPolicy()
    timeout: timedelta | None = None
    batch: BatchPolicy = BatchPolicy()
    rate_limit: RateLimit | None = None
    circuit_breaker: CircuitBreakerPolicy | None = None
    on_error: OnError = OnError.FAIL
    on_regression: OnRegression = OnRegression.FAIL
    dead_letter: DeadLetterPolicy = DeadLetterPolicy()
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    parallelism: int = 1
    partitions: int | None = None
    poll: timedelta = timedelta(seconds=5)
