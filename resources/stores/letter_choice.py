"""Which dead letters are meant: what a person may choose them by, as a condition in SQL; finds none itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """What has become of a dead letter."""

    KEPT = "kept"
    REPLAYING = "replaying"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


OPEN = (Status.KEPT, Status.REPLAYING)
"""What somebody still has to see to."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Dead letters that all of this is true of; what is None or empty says nothing.

    Attributes:
        workflow: Of this workflow, by its own name.
        key: Of this stream.
        node: Refused by this node, or on their way into it.
        code: Refused for this fault.
        reason: Whose reason holds this text.
        run_id: Refused by this run.
        ids: With these ids, or ids that begin so.
        statuses: Of which this has become.
        edited: Only those that somebody has edited.
    """

    workflow: str | None = None
    key: str | None = None
    node: str | None = None
    code: str | None = None
    reason: str | None = None
    run_id: str | None = None
    ids: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = (Status.KEPT,)
    edited: bool = False

    def where(self) -> tuple[str, tuple[str, ...]]:
        """The condition on `letters l`, and its values."""
        parts = list(self._parts())
        conditions = " AND ".join(condition for condition, _ in parts) or "1"
        return f"WHERE {conditions}", tuple(value for _, values in parts for value in values)

    def _parts(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        if self.workflow is not None:
            # As a range, which an index answers: "0" follows "/".
            yield "l.key >= ? AND l.key < ?", (f"{self.workflow}/", f"{self.workflow}0")
        for column in ("key", "code", "run_id"):
            value = getattr(self, column)
            if value is not None:
                yield f"l.{column} = ?", (value,)
        if self.node is not None:
            yield "(l.node = ? OR l.entry = ?)", (self.node, self.node)
        if self.reason is not None:
            yield "instr(l.reason, ?) > 0", (self.reason,)
        if self.edited:
            yield "EXISTS (SELECT 1 FROM journal j WHERE j.letter = l.id AND j.action = 'edited')", ()
        if self.ids:
            yield f"({' OR '.join(['l.id >= ? AND l.id < ?'] * len(self.ids))})", self._id_ranges()
        if self.statuses:
            yield f"l.status IN ({', '.join('?' * len(self.statuses))})", tuple(map(str, self.statuses))

    def _id_ranges(self) -> tuple[str, ...]:
        # Ids are hex: "g" follows all of them.
        return tuple(bound for each in self.ids for bound in (each, f"{each}g"))
