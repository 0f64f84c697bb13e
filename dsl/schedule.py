"""When a workflow runs: cron and time zone, or a trigger; checks them, computes no times."""

from __future__ import annotations

import re
import zoneinfo
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from dsl.contracts.spec import OptionError, option

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))
_NAMES = {
    3: ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    4: ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}
_PART = re.compile(r"(\*|[0-9a-z]+(?:-[0-9a-z]+)?)(?:/([0-9]+))?")
_LONGEST = {month: 29 if month == 2 else 30 if month in {4, 6, 9, 11} else 31 for month in range(1, 13)}
_OF_MACRO = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class Overlap(StrEnum):
    """What a tick does while a run of the workflow is still going on."""

    SKIP = "skip"
    QUEUE = "queue"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When the workflow starts by the clock."""

    cron: str = option(doc="Five fields of cron, or @hourly, @daily, @weekly, @monthly, @yearly.", example="0 0 * * *")
    timezone: str = option(default="UTC", doc="Name of a time zone of the IANA database.", example="Europe/Berlin")
    overlap: Overlap = option(default=Overlap.SKIP, doc="What a tick does while a run is still going on.")
    catchup: bool = option(default=False, doc="Whether ticks that were missed are made up for.")

    def __post_init__(self) -> None:
        """Refuses what is no cron expression or no time zone."""
        fault = cron_fault(self.cron)
        if fault:
            raise OptionError("cron", fault, 'write five fields, such as "0 0 * * *"')
        if not _is_zone(self.timezone):
            raise OptionError("timezone", f"{self.timezone!r} is not a time zone", "write a name such as Europe/Berlin")
        if self.cron in _OF_MACRO:
            object.__setattr__(self, "cron", _OF_MACRO[self.cron])


class TriggerType(StrEnum):
    """What starts a workflow besides the clock."""

    FILE = "file"
    ASSET = "asset"


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """What starts the workflow when it happens."""

    type: TriggerType = option(
        doc="`file`: new files have arrived; `asset`: another workflow has written.", example="file"
    )
    source: str | None = option(default=None, doc="file: which source's files are watched; its only source if absent.")
    path: str | None = option(
        default=None, doc="file: a path or glob on this machine to watch instead.", example="inbox/*.csv"
    )
    asset: tuple[str, ...] = option(
        default=(), doc="asset: the asset key to wait for, part by part.", example=["duckdb", "x"]
    )
    interval: timedelta = option(default=timedelta(seconds=30), doc="How often to look, at most.")
    enabled: bool = option(default=True, doc="Whether it is on from the start.")

    def __post_init__(self) -> None:
        """Refuses a trigger without what it needs."""
        if self.type is TriggerType.ASSET and not self.asset:
            raise OptionError("type", "an asset trigger needs `asset`", "name the asset key, part by part")
        foreign = ("source", "path") if self.type is TriggerType.ASSET else ("asset",)
        for name in foreign:
            if getattr(self, name):
                raise OptionError(name, f"{name!r} has no meaning for a trigger of type {self.type}", "leave it out")
        if self.interval <= timedelta():
            raise OptionError("interval", "the interval must be longer than nothing", "such as 30s")


def cron_fault(cron: str) -> str:
    """Returns what is wrong with a cron expression, or "" if nothing is."""
    if cron in _OF_MACRO:
        return ""
    fields = cron.split()
    if len(fields) != len(_FIELDS):
        return f"{cron!r} has {len(fields)} fields; cron has {len(_FIELDS)}"
    for index, text in enumerate(fields):
        for part in text.split(","):
            if not _expand(part.lower(), index):
                name, low, high = _FIELDS[index]
                return f"{part!r} is no {name} (from {low} to {high})"
    days, months = (
        set().union(*(_expand(part.lower(), index) for part in fields[index].split(","))) for index in (2, 3)
    )
    if min(days) > max(_LONGEST[each] for each in months):
        return f"{cron!r} never comes: no month that it names has a day {min(days)}"
    return ""


def _expand(part: str, index: int) -> frozenset[int]:
    """Returns the values that one part of a field stands for; none if it is not well formed."""
    match = _PART.fullmatch(part)
    _, low, high = _FIELDS[index]
    if match is None or match[2] == "0":
        return frozenset()
    bounds = [low, high] if match[1] == "*" else [_number(each, index) for each in match[1].split("-")]
    if any(each is None or not low <= each <= high for each in bounds) or bounds != sorted(
        bounds, key=lambda each: each or 0
    ):
        return frozenset()
    first, last = bounds[0] or 0, bounds[-1] or 0
    if match[2] is not None and len(bounds) == 1:
        last = high
    return frozenset(range(first, last + 1, int(match[2] or 1)))


def _number(text: str, index: int) -> int | None:
    names = _NAMES.get(index, ())
    if text in names:
        return names.index(text) + _FIELDS[index][1]
    return int(text) if text.isdecimal() and text.isascii() else None


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
