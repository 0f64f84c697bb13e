"""What stands in for an enrichment's service when a row's request fails for good; checks what the document says, and asks nobody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import pyarrow as pa

from dsl.codes import Code
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import Json
from dsl.diagnostics import did_you_mean
from dsl.expressions.types import show
from dsl.processors.columns import Field
from dsl.processors.literals import constant
from dsl.processors.step import Step


class StandIn(StrEnum):
    """What a row has instead of its service's answer: what it is stamped and counted with."""

    OTHER_ENDPOINT = "other_endpoint"
    STALE_CACHE = "stale_cache"
    DEFAULT = "default"
    SKIP_FIELD = "skip_field"


@dataclass(frozen=True, kw_only=True)
class EnrichFallback:
    """What stands in where a request fails for good; they are tried in this order, and each row that one of them helped is counted.

    `url` and `stale_cache` help where the service gave no answer (classes transient, timeout, throttled, unavailable), not where it
    refused the row. `default` and `skip_field` help everywhere but where an answer lacks a `required` value. With `url`, `default` or
    `skip_field` a row does not wait for an open circuit breaker. Rows that nothing helps go where `on_error` says.
    """

    url: str | None = option(
        default=None,
        doc="Another endpoint that answers alike; it is sent the same method, headers and body.",
        example="https://standby.example.com/users/{{ id }}",
        template="url",
    )
    stale_cache: timedelta | None = option(
        default=None, doc="An answer of this run that is older than `cache.ttl`, and at most so old."
    )
    default: dict[str, Json] = option(
        default={}, doc="A value for each destination; NULL for those without.", example={"user.score": 0}
    )
    skip_field: bool = option(default=False, doc="NULL results.")
    stamp: str | None = option(
        default=None,
        doc="A column that says what stood in for a row's answer: NULL where it was answered.",
        example="score_from",
    )

    def __post_init__(self) -> None:
        """Checks that the options fit together.

        Raises:
            OptionError: They do not.
        """
        if not (self.url or self.stale_cache or self.default or self.skip_field):
            raise OptionError("fallback", "nothing stands in", "write url, stale_cache, default or skip_field")
        if self.default and self.skip_field:
            raise OptionError(
                "skip_field", "default and skip_field exclude each other", "destinations without a default are NULL"
            )
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise OptionError("url", "the address is not one of HTTP", "begin with https://")
        if self.stamp is not None and (not self.stamp or "." in self.stamp):
            raise OptionError("stamp", "a stamp is a column of its own", "write a name without dots")

    @property
    def always(self) -> bool:
        """Whether it helps rows whatever failed."""
        return self.skip_field or bool(self.default)

    @property
    def stamps(self) -> dict[tuple[str, ...], Field]:
        """The column of the stamp, if there is one."""
        return {} if self.stamp is None else {(self.stamp,): pa.field(self.stamp, pa.string())}


def fallback_fits(step: Step, fallback: EnrichFallback, results: dict[str, Field], ttl: timedelta) -> bool:
    """Tells whether a fallback fits its node, noting what does not.

    Args:
        step: The node.
        fallback: What it says.
        results: Destination -> the field that goes there.
        ttl: How long a kept answer is good; nothing where none are kept.
    """
    before = len(step.found.found)
    if fallback.stale_cache is not None and not ttl:
        step.fault(Code.OPTIONS, "no answers are kept", "set cache.entries above 0", "fallback", "stale_cache")
    elif fallback.stale_cache is not None and fallback.stale_cache <= ttl:
        told = "stale_cache is not longer than cache.ttl, so it never helps"
        step.fault(Code.OPTIONS, told, "make it longer, or cache.ttl shorter", "fallback", "stale_cache")
    for name, value in fallback.default.items():
        place = ("fallback", "default", name)
        if name not in results:
            told = f"{name!r} is no destination of the result_mapping"
            step.fault(Code.UNKNOWN_KEY, told, did_you_mean(name, list(results)), *place)
        elif value is None or constant(value, results[name].type) is None:
            told = f"{value!r} is no value of type {show(results[name].type)}"
            step.fault(Code.COLUMN_TYPE, told, "write a default of the field's type", *place)
    taken = {each.lower() for each in (*step.input.names, *(name.split(".")[0] for name in results))}
    if fallback.stamp is not None and fallback.stamp.lower() in taken:
        told = f"there is a column {fallback.stamp!r} already"
        step.fault(Code.DUPLICATE_COLUMN, told, "name the stamp otherwise", "fallback", "stamp")
    return len(step.found.found) == before
