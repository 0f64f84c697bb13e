"""Faults of documents as people and editors read them: place, sentence, the line with a caret; a secret in that line is hidden."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from dsl.contracts.redaction import MASK, SHORTEST, scrub
from dsl.contracts.secret import Secret
from dsl.contracts.spec import spec_of
from dsl.diagnostics import CompileError, Diagnostic
from dsl.document import Entry, Map, Node, Scalar, leaves_of, parse
from dsl.lint import Finding
from dsl.processors import PROCESSORS
from server.reference import installed

Fault = Diagnostic | Finding

_NAMED_SO = (
    r"pas+w|pwd|secret|token|credential|authori[sz]|cookie|(?:api|access|private|account)[_-]?key|connection[_-]?string"
)
_BESIDE = re.compile(
    rf"""(?ix) ( ["']? (?: [\w-]*(?:{_NAMED_SO})[\w-]* | (?<![\w-])key ) ["']? \s* [:=] \s* )  # the key
    ( "[^"]*"? | '[^']*'? | (?!\$\{{)[^\s,}}#"'][^,}}#]* )                                     # its value"""
)
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")
_DEFAULT = re.compile(r"\$\{\w+:-?([^{}]*)\}")


class Faulty(Exception):
    """Documents that do not compile.

    Args:
        diagnostics: What is wrong with them, sorted.
        texts: Path -> text of the documents.
    """

    def __init__(self, diagnostics: Iterable[Diagnostic], texts: Mapping[str, str]) -> None:
        self.diagnostics, self.texts = tuple(diagnostics), texts
        count = len(self.diagnostics)
        super().__init__(f"{count} fault{'' if count == 1 else 's'} in {', '.join(texts)}")


def diagnostic_as_json(found: Fault) -> Mapping[str, object]:
    """Returns a fault in the form that editors and CI systems read."""
    span = found.span
    return {
        "path": span.path,
        "line": span.line,
        "column": span.column,
        "code": str(found.code),
        "message": found.message,
        "hint": found.hint,
    }


def show_diagnostics(found: Iterable[Fault], texts: Mapping[str, str]) -> None:
    """Prints faults on stderr, each with the line it is about and a caret under the place.

    Args:
        found: The faults, already sorted.
        texts: Path -> text of the documents they are in.
    """
    hidden: dict[str, list[str]] = {}
    for each in found:
        text = texts.get(each.span.path, "")
        secrets = hidden.setdefault(each.span.path, written_secrets(text))
        colour = "yellow" if isinstance(each, Finding) else "red"
        click.echo(scrub(f"{each.span}: {click.style(str(each.code), fg=colour)} {each.message}"), err=True)
        _show_line(each, text.split("\n"), secrets)
        if each.hint:
            click.echo(scrub(f"      = {each.hint}"), err=True)


def veiled(line: str, secrets: Iterable[str] = ()) -> str:
    """Returns a line of a document without the secrets that are written into it.

    Args:
        line: The line.
        secrets: Values known to be secret; what is named like one, and a login in an address, is hidden besides.
    """
    for each in secrets:
        line = line.replace(each, MASK)
    line = _BESIDE.sub(lambda found: found[1] + (found[2] if "${" in found[2] else MASK), line)
    return scrub(_IN_ADDRESS.sub(MASK, line))


def written_secrets(text: str) -> list[str]:
    """Returns what a document itself holds in fields that are secret, defaults of variables included; the longest first."""
    try:
        documents = parse(text, "")
    except CompileError:
        return []
    names = frozenset(_secret_names())
    leaves = (leaf for each in documents for leaf in _secret_leaves(each, names))
    return sorted({part for leaf in leaves for part in _literal_parts(leaf.text)}, key=len, reverse=True)


def _show_line(found: Fault, lines: list[str], secrets: list[str]) -> None:
    if 0 < found.span.line <= len(lines):
        line = lines[found.span.line - 1].rstrip("\r").replace("\t", " ")
        click.echo(f"{found.span.line:>5} | {veiled(line, secrets)}", err=True)
        click.echo("      | " + " " * len(veiled(line[: found.span.column - 1], secrets)) + "^", err=True)


def _literal_parts(text: str) -> Iterator[str]:
    plain = [text] if "${" not in text else _DEFAULT.findall(text)
    yield from (line for each in plain for line in each.split("\n") if len(line) >= SHORTEST)


def _secret_leaves(node: Node, names: frozenset[str]) -> Iterator[Scalar]:
    if isinstance(node, Scalar):
        return
    for each in node.entries if isinstance(node, Map) else node.items:
        if isinstance(each, Entry):
            yield from leaves_of(each.value) if each.key in names else _secret_leaves(each.value, names)
        else:
            yield from _secret_leaves(each, names)


def _secret_names() -> Iterator[str]:
    """Yields the names of all options that are secret, of every connector that can be loaded and of every processor."""
    for kind in installed().kinds:
        for cls in filter(None, (kind.connection, kind.source, kind.destination)):
            yield from _secret_options(cls)
    for processor in PROCESSORS.values():
        yield from _secret_options(processor.options)


def _secret_options(cls: type) -> Iterator[str]:
    for each in spec_of(cls).options:
        if _holds_secret(each.type):
            yield each.name
        yield from (name for inner in _blocks(each.type) for name in _secret_options(inner))


def _holds_secret(kind: Any) -> bool:
    return kind is Secret or any(_holds_secret(each) for each in getattr(kind, "__args__", ()))


def _blocks(kind: Any) -> Iterator[type]:
    if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__") and kind is not Secret:
        yield kind
    for each in getattr(kind, "__args__", ()):
        yield from _blocks(each)
