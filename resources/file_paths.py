"""Names of files below a root: which are allowed, which a pattern means, which are hidden; looks at no store."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property

from dsl.contracts.spec import OptionError

LOG_FOLDER = "_headrace"
LONGEST = 1024
_WILD = re.compile(r"[*?\[]")


def fault_of(key: str) -> str:
    """Returns why a text cannot name a file below a root, or ""."""
    parts = key.split("/")
    if not key or len(key.encode(errors="replace")) > LONGEST:
        return f"it is empty or longer than {LONGEST} bytes"
    if key.startswith("/"):
        return "it is absolute"
    if any(unicodedata.category(each) in {"Cc", "Cs"} for each in key):
        return "it holds a control character"
    if ".." in parts or "." in parts:
        return "it holds '.' or '..'"
    return "one of its folders has no name" if "" in parts else ""


def check_path(path: str, *, pattern: bool) -> None:
    """Refuses an option `path` that leads out of the root, or that no file can have.

    Args:
        path: The option.
        pattern: Whether it may hold wildcards.

    Raises:
        OptionError: Says why.
    """
    why = fault_of(path.removesuffix("/"))
    if why:
        raise OptionError(
            "path", f"'{path}' cannot be read or written: {why}", "write it relative to the root: orders/2026"
        )
    if LOG_FOLDER in path.split("/"):
        raise OptionError(
            "path", f"'{LOG_FOLDER}' is where the log of what was written lies", "name the folder above it"
        )
    if not pattern and _WILD.search(path):
        raise OptionError("path", f"'{path}' holds a wildcard", "name one folder to write into")


def is_hidden(key: str) -> bool:
    """Tells whether a name, or a folder on the way to it, begins with `_` or `.`: readers pass over it."""
    return any(each.startswith(("_", ".")) for each in key.split("/"))


@dataclass(frozen=True)
class PathPattern:
    """The option `path` of a source: a file, a folder with everything visible below it, or a glob.

    `*`, `?` and `[abc]` match within one name, `**` any number of folders.

    Attributes:
        text: As it is written.
    """

    text: str

    @cached_property
    def _parts(self) -> tuple[str, ...]:
        parts = self.text.removesuffix("/").split("/")
        return tuple(each for at, each in enumerate(parts) if each != "**" or parts[at - 1 : at] != ["**"])

    @cached_property
    def _literal(self) -> int:
        """How many parts come before the first wildcard."""
        return next((at for at, each in enumerate(self._parts) if _WILD.search(each)), len(self._parts))

    @property
    def is_glob(self) -> bool:
        """Whether it holds a wildcard."""
        return self._literal < len(self._parts)

    @property
    def place(self) -> tuple[str, ...]:
        """The file or folder it names, up to the first wildcard: the same for whoever writes there."""
        return self._parts[: self._literal]

    @property
    def prefix(self) -> str:
        """What every key that it means begins with."""
        if not self.is_glob:
            return "/".join(self._parts)
        wild = self._parts[self._literal]
        found = _WILD.search(wild)
        return "".join(f"{each}/" for each in self.place) + wild[: found.start() if found else 0]

    def matches(self, key: str) -> bool:
        """Tells whether a key is meant."""
        parts = key.split("/")
        if tuple(parts[: self._literal]) != self.place:
            return False
        rest = parts[self._literal :]
        if is_hidden("/".join(rest)):
            return False
        return not self.is_glob or _matches(rest, self._parts[self._literal :])


def _matches(parts: list[str], patterns: tuple[str, ...]) -> bool:
    """Matches names against patterns, `**` against any number of names, in time that grows with their product."""
    reached = _closed({0}, patterns)
    for part in parts:
        after = set()
        for at in reached:
            if at < len(patterns) and patterns[at] == "**":
                after.add(at)
            elif at < len(patterns) and fnmatch.fnmatchcase(part, patterns[at]):
                after.add(at + 1)
        # A pattern that ends in `**` means the files below, however deep.
        reached = _closed(after, patterns)
    return len(patterns) in reached


def _closed(reached: set[int], patterns: tuple[str, ...]) -> set[int]:
    """Adds where `**` may stand for no name at all."""
    found = set(reached)
    for at in range(len(patterns)):
        if at in found and patterns[at] == "**":
            found.add(at + 1)
    return found
