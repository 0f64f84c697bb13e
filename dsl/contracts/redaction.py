"""Values that must never be shown, and the one function that takes them out of a text; stores nothing on disk."""

from __future__ import annotations

SHORTEST = 4
MASK = "***"
_remembered: set[str] = set()


def remember(value: str) -> str:
    """Marks a revealed secret so that `scrub` removes it from now on; returns it unchanged."""
    if len(value) >= SHORTEST:
        _remembered.add(value)
    return value


def scrub(text: str) -> str:
    """Replaces every remembered secret in a text by `***`, the longest first."""
    for value in sorted(_remembered, key=len, reverse=True):
        if value in text:
            text = text.replace(value, MASK)
    return text
