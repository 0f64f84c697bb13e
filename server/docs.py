"""`make docs`: writes docs/reference from the specs, codes and functions themselves, or tells what is behind; states nothing of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from server.pages import connector_page, guarantees_page, index_page, language_pages
from server.reference import installed

ROOT = Path(__file__).parent.parent / "docs" / "reference"
MEASURED = frozenset({"types.md"})
"""Pages beside these that tests write from what they measured, and compare themselves."""


def main() -> int:
    """Writes every page; with `--check`, writes nothing and tells which pages are behind."""
    broken = installed().broken
    if broken:
        click.echo(f"these connectors cannot be loaded: {', '.join(broken)}; nothing is written", err=True)
        return 1
    pages = dict(reference_pages())
    return _check(pages) if "--check" in sys.argv else _write(pages)


def reference_pages() -> Iterator[tuple[str, str]]:
    """Yields (path under docs/reference, text) of every page."""
    kinds = installed().kinds
    yield "README.md", index_page(kinds)
    yield "guarantees.md", guarantees_page(kinds)
    yield from language_pages()
    for kind in kinds:
        yield f"connectors/{kind.kind}.md", connector_page(kind)


def _write(pages: Mapping[str, str]) -> int:
    for each in _strays(pages):
        each.unlink()
    for name, text in pages.items():
        file = ROOT / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    click.echo(f"{len(pages)} pages in docs/reference")
    return 0


def _check(pages: Mapping[str, str]) -> int:
    behind = [name for name, text in pages.items() if not _is_current(ROOT / name, text)]
    behind += [str(each.relative_to(ROOT)) for each in _strays(pages)]
    if behind:
        click.echo(f"behind the specs: {', '.join(behind)}; run `make docs`", err=True)
    return 1 if behind else 0


def _is_current(file: Path, text: str) -> bool:
    return file.exists() and file.read_text(encoding="utf-8") == text


def _strays(pages: Mapping[str, str]) -> list[Path]:
    known = MEASURED.union(pages)
    return [each for each in sorted(ROOT.rglob("*.md")) if str(each.relative_to(ROOT)) not in known]


if __name__ == "__main__":
    sys.exit(main())
