"""The size budgets of the design: small files, small functions. Generated files do not exist, so none is excepted."""

import ast
import statistics

from tests.architecture.sources import Function, body_lines, sources


def _share(sizes: list[int], over: int) -> float:
    return sum(size > over for size in sizes) / len(sizes)


def test_files_stay_small() -> None:
    lines = {source.path: source.lines for source in sources()}
    assert not {path: count for path, count in lines.items() if count > 500}
    assert statistics.median(lines.values()) <= 150
    assert _share(list(lines.values()), over=350) <= 0.10


def test_functions_stay_small() -> None:
    bodies = {f"{s.path}:{f.lineno} {f.name}": body_lines(f) for s in sources() for f in s.functions()}
    assert not {where: count for where, count in bodies.items() if count > 80}
    assert statistics.median(bodies.values()) <= 6
    assert _share(list(bodies.values()), over=25) <= 0.10
    assert _share(list(bodies.values()), over=50) <= 0.01


def test_test_files_stay_small() -> None:
    assert not {source.path: source.lines for source in sources("tests", "benchmarks") if source.lines > 500}


def test_every_module_says_what_it_is_for() -> None:
    bare = [s.path for s in sources() + sources("tests") if s.text.strip() and not ast.get_docstring(s.tree)]
    assert not bare


def test_public_functions_have_docstrings() -> None:
    """A method whose contract is documented in the class that it overrides needs no sentence of its own."""
    classes = [n for s in sources() for n in ast.walk(s.tree) if isinstance(n, ast.ClassDef)]
    documented = {f.name for c in classes for f in c.body if isinstance(f, Function) and ast.get_docstring(f)}
    overrides = {id(f) for c in classes if c.bases for f in c.body if isinstance(f, Function) and f.name in documented}
    public = [f for s in sources() for f in s.functions() if not f.name.startswith("_") and id(f) not in overrides]
    described = [f for f in public if ast.get_docstring(f)]
    bare = [c.name for c in classes if not c.name.startswith("_") and not ast.get_docstring(c)]
    assert len(described) >= 0.9 * len(public)
    assert not bare
