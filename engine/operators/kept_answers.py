"""Answers that are kept for rows that ask the same later in a run: the least recently used go first; bounded in number, bytes and age."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_OVERHEAD = 256


class KeptAnswers(Generic[T]):
    """Keeps answers by what was asked.

    Args:
        entries: Answers, at most; 0 keeps none.
        size: Bytes, at most, about.
        seconds: How long an answer is good.
        stale: How long it is kept for `stale`.
        clock: Tells seconds that only grow.
    """

    def __init__(
        self,
        entries: int,
        size: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        stale: float = 0.0,
    ) -> None:
        self._entries, self._size, self._seconds, self._clock = entries, size, seconds, clock
        self._longest = max(seconds, stale)
        self._kept: OrderedDict[bytes, tuple[T, int, float]] = OrderedDict()
        self.held = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, url: str, body: str | None) -> T | None:
        """The answer, or None."""
        return self._younger(url, body, self._seconds)

    def stale(self, url: str, body: str | None) -> T | None:
        """The answer, even if it is no longer good, or None."""
        return self._younger(url, body, self._longest)

    def put(self, url: str, body: str | None, answer: T, size: int) -> None:
        """Keeps an answer of so many bytes."""
        cost = size + _OVERHEAD
        if not self._entries or cost > self._size:
            return
        key = _digest(url, body)
        if key in self._kept:
            self._drop(key)
        self._kept[key] = (answer, cost, self._clock())
        self.held += cost
        while len(self._kept) > self._entries or self.held > self._size:
            self._drop(next(iter(self._kept)))

    def _younger(self, url: str, body: str | None, seconds: float) -> T | None:
        if not self._kept:
            return None
        key = _digest(url, body)
        found = self._kept.get(key)
        if found is None:
            return None
        answer, _, since = found
        age = self._clock() - since
        if age >= self._longest:
            self._drop(key)
        if age >= seconds:
            return None
        self._kept.move_to_end(key)
        return answer

    def _drop(self, key: bytes) -> None:
        _, cost, _ = self._kept.pop(key)
        self.held -= cost


def _digest(url: str, body: str | None) -> bytes:
    """Stands for what was asked, so that long bodies are not kept."""
    text = f"{len(url)}:{url}" if body is None else f"{len(url)}:{url}{body}"
    return hashlib.sha256(f"{body is None:d}{text}".encode()).digest()
