"""What the exit code of every sub-command means; so light that `headrace --help` can show it."""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class Exit(IntEnum):
    """The exit codes, each with the sentence that the help and the reference show."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """Makes a member of its code and its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    DONE = 0, "done"
    FAILED = 1, "the run failed, or a check found something"
    USAGE = 2, "wrong usage, or a setting that cannot be read"
    INVALID = 3, "a document does not compile"
    UNAVAILABLE = 4, "a system cannot be reached"
    FENCED = 5, "a newer run owns the stream"
    INTERNAL = 70, "a fault of Headrace itself"
    INTERRUPTED = 130, "interrupted; a run goes on from its last commit"
    BROKEN_PIPE = 141, "whoever read the output went away"
