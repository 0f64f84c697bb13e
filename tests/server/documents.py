"""The documents of the project and the blocks of code in them. It may not run any."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.kit.process import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks_of(page: Path, language: str) -> list[str]:
    """The blocks of one language on a page."""
    return [text for found, text in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """(place, text) of every block of a language."""
    for page in PAGES:
        yield from ((f"{page.relative_to(ROOT)}#{n}", text) for n, text in enumerate(blocks_of(page, language)))


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """(place, words) of every command of a shell block, without its comment."""
    for place, text in blocks("sh"):
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            for last, group in itertools.groupby(words, key="&&".__eq__):
                if not last:
                    yield place, list(group)
