"""A source that is read in parts, several at a time: each part has a reader and a state of its own; the stage sees one of each."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from dsl.contracts.state import VERSION, Json, State, is_complete
from engine.channel import Channel, Crew
from engine.flow import Flow, combined, part
from engine.leaf import OpenLeaf, Reading
from engine.tree import BYTES_UNDER_WAY, OpenNode, new_channel

_SPLITS = "splits"


@dataclass(frozen=True)
class Division:
    """How a source is divided.

    Attributes:
        parts: Asks the source for its parts.
        leaf: Opens the reader of one part; of the whole for None.
        together: Holds open what the readers of parts share.
        at_once: How many parts are read at a time.
    """

    parts: Callable[[], Sequence[Json]]
    leaf: Callable[[Json], OpenLeaf]
    together: Callable[[], AbstractContextManager[None]]
    at_once: int


@dataclass
class _Part:
    """A part on its way."""

    split: Json
    leaf: OpenLeaf
    state: State | None

    @property
    def name(self) -> str:
        return json.dumps(self.split, sort_keys=True)


class OpenSplits(OpenNode):
    """Reads a source in parts, or as a whole where it cannot be divided.

    Args:
        crew: The attempt's threads.
        reading: What it reads.
        division: How it is divided.
    """

    def __init__(self, crew: Crew, reading: Reading, division: Division) -> None:
        self.key, self.schema, self.reading = reading.key, reading.schema, reading
        self._crew, self._division = crew, division
        self._parts: list[_Part] = []
        self._whole: OpenLeaf | None = None
        self._turn = threading.Lock()
        self._left, self._ended = 0, threading.Event()
        self._error: BaseException | None = None
        self.complete = self.restarted = False

    def resume(self, state: State | None) -> None:
        """Says where it begins: with the parts that an unfinished pass began with, or with new ones."""
        self.complete = self.restarted = is_complete(state)
        begun: Any = None if state is None or self.complete else state.get(_SPLITS)
        if begun is None and state is not None and not self.complete:
            # A pass that began undivided ends undivided: where its parts would begin nobody knows.
            self._whole = self._division.leaf(None)
            self._whole.resume(state)
            return
        if begun is None:
            parts = self._division.parts()
            begun = [{"part": each, "state": None} for each in parts if len(parts) > 1]
        for each in begun:
            leaf = self._division.leaf(each["part"])
            leaf.resume(None if is_complete(each["state"]) else each["state"])
            self._parts.append(_Part(each["part"], leaf, each["state"]))
        if not self._parts:
            self._whole = self._division.leaf(None)
            self._whole.resume(None)

    @property
    def leaves(self) -> tuple[OpenLeaf, ...]:
        """Its readers."""
        return tuple(each.leaf for each in self._parts) if self._whole is None else (self._whole,)

    @property
    def error(self) -> BaseException | None:
        """What the first reader that failed did so with."""
        return next((each.error for each in self.leaves if each.error is not None), self._error)

    @property
    def late(self) -> bool:
        """Whether some system has been silent for too long."""
        return any(each.late for each in self.leaves)

    def check(self) -> None:
        """Watches the node's timeout.

        Raises:
            RetryableError: Some system has been silent for too long.
        """
        for each in self.leaves:
            each.check()

    def acknowledge(self, state: State) -> None:
        """Leaves word that everything up to `state` is committed. Readers of parts hear of none: only a refresh is divided."""
        if self._whole is not None:
            self._whole.acknowledge(state)

    def abandon(self) -> None:
        """Closes every reader from outside."""
        for each in self.leaves:
            each.abandon()

    def channel(self) -> Channel[Flow]:
        """Starts reading: as many parts at a time as it may, the others after them."""
        if self._whole is not None:
            return self._whole.channel()
        out = new_channel(self._crew)
        waiting = deque(each for each in self._parts if not is_complete(each.state))
        if waiting:
            self._crew.start(f"headrace-{self.key}", lambda: self._read(waiting, out))
        else:
            out.end()
        return out

    def _read(self, waiting: deque[_Part], out: Channel[Flow]) -> None:
        try:
            with self._division.together():
                self._left = min(self._division.at_once, len(waiting))
                for number in range(self._left):
                    self._crew.start(f"headrace-{self.key}-{number}", lambda: self._work(waiting, out))
                self._ended.wait()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits for it
            self._error = error
            out.end(error)
        else:
            out.end()

    def _work(self, waiting: deque[_Part], out: Channel[Flow]) -> None:
        try:
            while (each := _next(waiting)) is not None:
                self._send(each, out)
                # The readers of all parts together may be more than the system lets in.
                each.leaf.finish()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits for it
            out.end(error)
        with self._turn:
            self._left -= 1
            if not self._left:
                self._ended.set()

    def _send(self, each: _Part, out: Channel[Flow]) -> None:
        for page in _pages(each.leaf.channel()):
            # A commit is cut between the pages of all parts, so no two of them may be mixed.
            with self._turn:
                for flow in page:
                    out.put(self._seen(each, flow), rows=flow.rows.num_rows, size=flow.size)

    def _seen(self, each: _Part, flow: Flow) -> Flow:
        # Parts begin alike, without a state; rows that are refused there must not be taken for one another.
        anchor = hashlib.sha256(f"{each.name}\0{flow.anchor}".encode()).hexdigest()
        if flow.state is None:
            return replace(flow, anchor=anchor)
        each.state = part(flow.state, "inputs", self.key)
        return replace(flow, anchor=anchor, state=combined({self.key: self._state()}, {}))

    def _state(self) -> State:
        states = [each.state or {} for each in self._parts]
        facts: dict[str, Json] = {name: sum(_number(each, name) for each in states) for name in _COUNTS}
        if all(map(is_complete, states)):
            return {"v": VERSION, **facts, "complete": True}
        parts: list[Json] = [
            {"part": each.split, "state": None if each.state is None else dict(each.state)} for each in self._parts
        ]
        return {"v": VERSION, **facts, _SPLITS: parts}


_COUNTS = ("records_read", "bytes_read")


def _number(state: State, name: str) -> int:
    value = state.get(name)
    return value if isinstance(value, int) else 0


def _next(waiting: deque[_Part]) -> _Part | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _pages(flows: Iterator[Flow] | Channel[Flow]) -> Iterator[Iterator[Flow]]:
    """Yields what lies between two boundaries: put together while it is small, so that a slow reader keeps no other waiting."""
    rest = iter(flows)
    for first in rest:
        held = [first]
        while held[-1].state is None and sum(each.size for each in held) < BYTES_UNDER_WAY:
            if (following := next(rest, None)) is None:
                break
            held.append(following)
        yield _page(held, rest)


def _page(held: list[Flow], rest: Iterator[Flow]) -> Iterator[Flow]:
    yield from held
    last = held[-1]
    while last.state is None and (following := next(rest, None)) is not None:
        last = following
        yield following
