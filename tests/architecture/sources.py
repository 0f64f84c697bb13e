"""The source files of the rooms, parsed once for the checks of the house rules. It may not import what it reads."""

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("dsl", "engine", "resources", "etl_defs", "server")
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """A module: its path below the root, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """How many lines the file has."""
        return len(self.text.splitlines())

    def functions(self) -> Iterator[Function]:
        """Yield functions and methods, nested ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def imports(self) -> Iterator[tuple[str, int, bool]]:
        """Yield each imported module as (dotted name, line, whether at the top level)."""
        top = set(map(id, _top_level(self.tree)))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno, id(node) in top) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                # `from a import b` may mean the module a.b: the longer name is right for every check by prefix.
                yield from ((f"{node.module}.{alias.name}", node.lineno, id(node) in top) for alias in node.names)


def _top_level(tree: ast.Module) -> Iterator[ast.AST]:
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            waiting.extend(ast.iter_child_nodes(node))


def body_lines(function: Function) -> int:
    """Return the lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """Return the modules below folders of the root, the rooms by default."""
    found = []
    for folder in folders or ROOMS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text()
            found.append(Source(str(path.relative_to(ROOT)), text, ast.parse(text)))
    return tuple(found)


@cache
def connectors() -> dict[str, str]:
    """Return the packages of the connectors that the project declares, by kind."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["headrace.connectors"]
    return {kind: value.partition(":")[0] for kind, value in declared.items()}


def is_below(module: str, package: str) -> bool:
    """Tell whether a dotted name is a package or something in it."""
    return module == package or module.startswith(f"{package}.")
