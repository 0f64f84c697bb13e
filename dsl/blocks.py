"""The blocks that a workflow and each of its nodes may carry (retry, batch, checkpoint …), inherited downwards; decides nothing else."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

from dsl.codes import Code
from dsl.contracts.policies import (
    BatchPolicy,
    CheckpointPolicy,
    CircuitBreakerPolicy,
    DeadLetterPolicy,
    OnError,
    OnRegression,
    Policies,
    RateLimit,
    RetryPolicy,
)
from dsl.contracts.spec import spec_of
from dsl.diagnostics import Diagnostics
from dsl.document import Entry, Map, Scalar
from dsl.options import OptionReader
from dsl.scalars import FAULTY

BLOCKS: dict[str, type] = {
    "retry": RetryPolicy,
    "batch": BatchPolicy,
    "rate_limit": RateLimit,
    "circuit_breaker": CircuitBreakerPolicy,
    "dead_letter": DeadLetterPolicy,
    "checkpoint": CheckpointPolicy,
}
SINGLE: dict[str, type] = {
    "timeout": timedelta, "parallelism": int, "partitions": int, "poll": timedelta, "on_regression": OnRegression,
}  # fmt: skip
FALLBACK = "fallback"
POLICY_KEYS = (*BLOCKS, *SINGLE, "on_error")


def read_policies(node: Map, inherited: Policies, reader: OptionReader) -> Policies:
    """Returns the policies of a workflow or a node: what it says, over what it inherits, field by field."""
    given: dict[str, Any] = {}
    for entry in node.entries:
        if entry.key in BLOCKS:
            given[entry.key] = _block(entry, getattr(inherited, entry.key), reader)
        elif entry.key in SINGLE:
            given[entry.key] = _positive(entry, reader)
        elif entry.key == "on_error":
            given.update(_on_error(entry, reader))
    sound = {key: value for key, value in given.items() if value is not FAULTY}
    return dataclasses.replace(inherited, **sound)


def _block(entry: Entry, inherited: object, reader: OptionReader) -> Any:
    cls = BLOCKS[entry.key]
    if not isinstance(entry.value, Map):
        return reader.block(entry.value, cls, (entry.key,))
    spec = spec_of(cls)
    reader.unknown_keys(entry.value, (each.name for each in spec.options), (entry.key,))
    values = reader.values(entry.value, spec, (entry.key,))
    if values is None or not _check_bounds(values, entry.key, reader):
        return FAULTY
    before = {} if inherited is None else {each.name: getattr(inherited, each.name) for each in spec.options}
    return reader.construct(cls, {**before, **values}, (entry.key,), entry.span)


_BOUNDS: dict[str, tuple[float, float | None]] = {
    "max_rows": (0, None),
    "max_ratio": (0, 1),
    "budget": (0, None),
    "backoff_multiplier": (1, None),
    "initial_backoff": (0, None),
    "max_backoff": (0, None),
}
"""Option of a block -> the least and the largest value it may have; any other number is at least 1, any other duration above 0."""


def _out_of_bounds(name: str, value: object) -> str:
    """Returns what a number or a duration must be and is not, or ""."""
    if isinstance(value, timedelta):
        number, least = value.total_seconds(), 0.0
        if name not in _BOUNDS and number <= 0:
            return "longer than nothing"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number, least = value, 1.0
    else:
        return ""
    low, high = _BOUNDS.get(name, (least, None))
    if high is not None and not low <= number <= high:
        return f"between {low:g} and {high:g}"
    return "" if number >= low else f"{low:g} or more"


def _check_bounds(values: dict[str, Any], block: str, reader: OptionReader) -> bool:
    """Notes every value of a block that no run could use; tells whether all can be used."""
    faults = {name: wanted for name, value in values.items() if (wanted := _out_of_bounds(name, value))}
    for name, wanted in faults.items():
        place = reader.places.get((block, name), reader.node)
        reader.found.add(place, Code.BAD_VALUE, f"{name} of {block} must be {wanted}")
    return not faults


def _positive(entry: Entry, reader: OptionReader) -> Any:
    value = reader.value(SINGLE[entry.key], entry.value, (entry.key,))
    wanted = "" if value is FAULTY else _out_of_bounds(entry.key, value)
    if wanted:
        reader.found.add(entry.value.span, Code.BAD_VALUE, f"{entry.key} must be {wanted}")
    return FAULTY if wanted else value


def _on_error(entry: Entry, reader: OptionReader) -> dict[str, Any]:
    value = entry.value
    if not isinstance(value, Map):
        return {"on_error": reader.value(OnError, value, ("on_error",))}
    reader.unknown_keys(value, (FALLBACK, "otherwise"), ("on_error",))
    fallback = value.get(FALLBACK)
    if fallback is None or (isinstance(fallback, Scalar) and fallback.value is None):
        hint = "write fail, drop, dlq, or {fallback: …} at an enrich step"
        reader.found.add(value.span, Code.MISSING_KEY, "on_error wants a word or {fallback: …}", hint)
    otherwise = value.get("otherwise")
    return {} if otherwise is None else {"on_error": reader.value(OnError, otherwise, ("on_error", "otherwise"))}


def with_fallback(node: Map, config: Map | None, found: Diagnostics) -> Map | None:
    """Returns the configuration of an `enrich` step with what its `on_error` says of a fallback, as if it stood there."""
    entry = _fallback_of(node)
    if entry is None or config is None:
        return config
    if config.entry(FALLBACK) is not None:
        found.add(entry.span, Code.OPTIONS, "the fallback stands in the config as well", "say it once")
        return config
    return dataclasses.replace(config, entries=(*config.entries, entry))


def refuse_fallback(node: Map, owner: str, found: Diagnostics) -> None:
    """Notes a fallback where nothing could stand in: of a system's rows there is no second source, and a commit has one place."""
    entry = _fallback_of(node)
    if entry is not None:
        said = f"a fallback in {owner}: only an enrich step can have one"
        found.add(
            entry.span,
            Code.OPTIONS,
            said,
            "write on_error: fail, drop or dlq; retry and circuit_breaker make it patient",
        )


def _fallback_of(node: Map) -> Entry | None:
    value = node.get("on_error")
    return value.entry(FALLBACK) if isinstance(value, Map) else None
