"""Names and habits that the house refuses: catch-all modules, stubs, mocks. It may not judge style, which ruff does."""

import ast
import re

from tests.architecture.sources import Source, sources

_VAGUE_MODULES = {"util", "utils", "helper", "helpers", "manager", "managers", "common", "misc"}
_VAGUE_CLASS = re.compile(r"(Manager|Helper|Utils?)$|^Base(?=[A-Z]|$)")
_MOCKS = {"Mock", "MagicMock", "AsyncMock", "PropertyMock", "patch", "create_autospec"}


def _is_replacement(node: ast.AST) -> bool:
    """Tell whether a call replaces a part of the program: a mock, or monkeypatch on an attribute."""
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    if isinstance(called, ast.Attribute):
        of_monkeypatch = isinstance(called.value, ast.Name) and called.value.id == "monkeypatch"
        return called.attr in _MOCKS or (of_monkeypatch and called.attr == "setattr")
    return isinstance(called, ast.Name) and called.id in _MOCKS


def _count(found: tuple[Source, ...], wanted: object) -> int:
    return sum(bool(wanted(node)) for source in found for node in ast.walk(source.tree))  # type: ignore[operator]


def test_no_module_is_a_drawer() -> None:
    assert not [s.path for s in sources() if set(s.path.removesuffix(".py").split("/")) & _VAGUE_MODULES]


def test_no_class_has_a_vague_name() -> None:
    wrong = [
        f"{source.path}:{node.lineno} {node.name}"
        for source in sources()
        if not source.path.endswith("/base.py")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef) and _VAGUE_CLASS.search(node.name)
    ]
    assert not wrong


def test_nothing_is_left_to_implement() -> None:
    wrong = [
        f"{source.path}:{node.lineno}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Name) and node.id == "NotImplementedError"
    ]
    assert not wrong


def test_mocks_stay_rare() -> None:
    """At most 5 to 100 tests: real servers, in-memory connectors and scripted faults show more."""
    found = sources("tests")
    tests = _count(found, lambda node: isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))
    assert _count(found, _is_replacement) <= 0.05 * tests
