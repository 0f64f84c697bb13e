"""What is new since the last run where an API only promises "since": every record once, whatever ties there are; asks nothing.

A run asks for records from the last value on, less `lag`, and drops those that it knows: their keys (without a key the whole
record) are kept for the values that will be asked for again. The next run begins at the greatest value that was seen.

State: `low`, the value that this run asks from; `high`, the greatest seen; `known`, pairs of value and digest; `nulls`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias

from dsl.contracts.errors import FatalError
from dsl.contracts.state import Json, State
from resources.http_json import digest_of
from resources.http_source import Since
from resources.sql import NullCursor

MOST_KNOWN: Final = 10_000
_NUMBER: Final = re.compile(r"[-+]?[0-9]{1,400}(\.[0-9]{1,400})?")
_UTC: Final = dt.UTC

Order: TypeAlias = tuple[str, Any]


class Window:
    """One run's reading.

    Args:
        how: As the options say.
        state: Where the last run, or this one, has come to.
        where: Names the place in errors.
    """

    def __init__(self, how: Since, state: State, where: str) -> None:
        self._how, self._where = how, where
        self._low = _text(state.get("low")) or how.initial
        self._high = _text(state.get("high")) or _text(state.get("low"))
        self._known = dict(_pairs(state.get("known")))
        nulls = state.get("nulls")
        self._nulls = {str(each) for each in nulls} if isinstance(nulls, list) else set()

    @property
    def since(self) -> str | None:
        """What the API is asked for; None for everything."""
        return None if self._low is None else self._back(self._low)

    def new(self, records: Sequence[Any]) -> list[tuple[int, Any]]:
        """Returns the records that no run has delivered yet, with their numbers, and remembers them.

        Raises:
            FatalError: Some have no value, or values that cannot be compared.
        """
        self._check_nulls(records)
        since = self.since
        low = None if since is None else self._order(since)
        found = []
        for at, record in enumerate(records):
            value = _value(record, self._how.column)
            digest = self._digest(record, value)
            if value is None:
                if digest not in self._nulls:
                    self._nulls.add(digest)
                    found.append((at, record))
                continue
            order = self._order(value)
            if (low is not None and order < low) or digest in self._known:
                continue
            self._known[digest] = value
            if self._high is None or order > self._order(self._high):
                self._high = value
            found.append((at, record))
        self._forget()
        return found

    def fields(self) -> dict[str, Json]:
        """Returns the state's fields in the middle of a run."""
        known: list[Json] = [[value, digest] for digest, value in self._known.items()]
        nulls: list[Json] = list[Json](sorted(self._nulls))
        return {"low": self._low, "high": self._high, "known": known, "nulls": nulls}

    def closed(self) -> dict[str, Json]:
        """Returns the state's fields after its last record: the next run begins at the greatest value."""
        return {**self.fields(), "low": self._high or self._low, "high": None}

    def _digest(self, record: Any, value: str | None) -> str:
        if not self._how.key or not isinstance(record, dict):
            return digest_of(record)
        return digest_of([value, *(record.get(each) for each in self._how.key)])

    def _forget(self) -> None:
        if self._high is None:
            return
        edge = self._order(self._back(self._high))
        self._known = {digest: value for digest, value in self._known.items() if self._order(value) >= edge}
        if len(self._known) + len(self._nulls) > MOST_KNOWN:
            raise FatalError(
                f"more than {MOST_KNOWN} records share the last value of '{self._how.column}'"
                + (" or lie within `lag` of it" if self._how.lag else ""),
                where=self._where,
                hint="take a finer column, or a shorter lag",
            )

    def _check_nulls(self, records: Sequence[Any]) -> None:
        empty = sum(_value(each, self._how.column) is None for each in records)
        if empty and self._how.nulls is NullCursor.REFUSE:
            raise FatalError(
                f"{empty} records of a page have no value in '{self._how.column}'",
                where=self._where,
                hint="null_cursor: include_once reads them once",
            )

    def _order(self, text: str) -> Order:
        found = _order_of(text)
        first = self._high or self._low
        if first is not None and _order_of(first)[0] != found[0]:
            raise FatalError(
                f"the values of '{self._how.column}' are of several kinds: '{first}' and '{text}'",
                where=self._where,
                hint="take a column whose values are all numbers, all times or all texts",
            )
        return found

    def _back(self, text: str) -> str:
        """Returns a value less `lag`, written as it was."""
        lag = self._how.lag
        if not lag:
            return text
        kind, moment = _order_of(text)
        if kind != "moment":
            raise FatalError(f"`lag` steps back in time, but '{text}' is no time", where=self._where, hint="remove lag")
        try:
            earlier = (dt.datetime.fromisoformat(text) if kind == "moment" else moment) - lag
        except OverflowError:
            return text
        if len(text) == len("2024-01-31"):
            return earlier.date().isoformat()
        written = earlier.isoformat()
        return written.removesuffix("+00:00") + "Z" if text[-1] in "zZ" else written


def _order_of(text: str) -> Order:
    if _NUMBER.fullmatch(text):
        return "number", Decimal(text)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return "text", text
    return "moment", moment if moment.tzinfo is not None else moment.replace(tzinfo=_UTC)


def _value(record: Any, column: str) -> str | None:
    value = record.get(column) if isinstance(record, dict) else None
    if value is None:
        return None
    if isinstance(value, bool | dict | list):
        raise FatalError(f"'{column}' is no number, time or text", hint="take another incremental_column")
    return str(value)


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _pairs(value: Json) -> list[tuple[str, str]]:
    found = value if isinstance(value, list) else []
    return [(str(each[1]), str(each[0])) for each in found if isinstance(each, list) and len(each) == 2]
