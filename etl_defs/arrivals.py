"""Which files are new since the last look, in a memory of bounded size; reads no file and starts nothing."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsl.contracts.state import Json

REMEMBERED = 1_000
SETTLED = 2.0


@dataclass(frozen=True)
class Arrival:
    """One file as it stood at a look.

    Attributes:
        name: Its path or key.
        size: Bytes.
        modified: Seconds since 1970.
    """

    name: str
    size: int
    modified: float

    @property
    def digest(self) -> str:
        """Names this content of the file."""
        return hashlib.sha256(f"{self.name}\0{self.size}\0{self.modified}".encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Seen:
    """What a look remembers of the files before it.

    Attributes:
        digests: The newest files, at most `REMEMBERED`.
        floor: Everything changed before this was seen, too.
    """

    digests: frozenset[str] = frozenset()
    floor: float = 0.0

    def has(self, file: Arrival) -> bool:
        """Tells whether the file was there, as it is now."""
        return file.digest in self.digests or file.modified < self.floor

    def as_json(self) -> dict[str, Json]:
        """Returns it as it is kept between looks."""
        return {"digests": [*sorted(self.digests)], "floor": self.floor}


def seen_of(kept: Mapping[str, Json]) -> Seen:
    """Reads back what `Seen.as_json` gave."""
    digests, floor = kept.get("digests"), kept.get("floor")
    known = (each for each in digests if isinstance(each, str)) if isinstance(digests, list) else ()
    return Seen(frozenset(known), float(floor) if isinstance(floor, int | float) else 0.0)


def look(files: Iterable[Arrival], seen: Seen, now: float) -> tuple[tuple[Arrival, ...], Seen]:
    """Returns the files that are new, and what to remember.

    A file that changed within the last `SETTLED` seconds is perhaps still being written and waits for the next look.
    """
    settled = [each for each in files if not now - SETTLED < each.modified <= now]
    new = tuple(each for each in settled if not seen.has(each))
    newest = sorted(settled, key=lambda each: each.modified, reverse=True)
    kept, rest = newest[:REMEMBERED], newest[REMEMBERED:]
    floor = max([seen.floor, *(each.modified for each in rest[:1])])
    return new, Seen(frozenset(each.digest for each in kept), floor)


def local_files(pattern: str) -> list[Arrival]:
    """Returns the files of this machine that a path or glob names; hidden ones are left out."""
    found = []
    for name in glob.iglob(pattern, recursive=True):  # noqa: PTH207 - the pattern may be absolute and hold `**`
        path = Path(name)
        if path.is_file():
            facts = path.stat()
            found.append(Arrival(str(path.absolute()), facts.st_size, facts.st_mtime))
    return found
