"""Documents with what the compiler must say of them: faults in their first lines, plans in a file beside them; compiles, runs nothing.

A file in `cases/errors` begins with one line for each fault it must give, and no other:

    # error: LINE:COLUMN CODE part of the message or the hint

Further such lines: `# env: NAME=value` sets a variable, `# allow: python` lets python nodes through. A file in `cases/ok`
compiles into the plan in the `.plan` file beside it; `HEADRACE_SNAP=1 pytest tests/dsl` writes those anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from dsl.codes import Code
from dsl.compile import Allow, CompiledWorkflow, compile_text
from dsl.diagnostics import CompileError, Diagnostic
from dsl.plan.explain import explain
from tests.dsl.catalog import CATALOG

CASES = Path(__file__).parent / "cases"
ERRORS = sorted(CASES.glob("errors/*.yaml"))
OK = sorted(CASES.glob("ok/*.yaml"))
SNAP = os.environ.get("HEADRACE_SNAP") == "1"

_EXPECTED = re.compile(r"^# error: (\d+):(\d+) ([A-Z]\d+) ?(.*)$", re.MULTILINE)
_FINGERPRINT = re.compile(r", plan [0-9a-f]{12}$", re.MULTILINE)
_SET = re.compile(r"^# env: (\w+)=(.*)$", re.MULTILINE)


def compile_case(path: Path) -> tuple[CompiledWorkflow, ...]:
    """Compiles a case as its first lines say."""
    text = path.read_text(encoding="utf-8")
    allow = Allow(python="# allow: python" in text)
    return compile_text(text, path.name, catalog=CATALOG, environment=dict(_SET.findall(text)), allow=allow)


def _matches(found: Diagnostic, expected: tuple[str, str, str, str]) -> bool:
    line, column, code, part = expected
    place = (found.span.line, found.span.column, found.code.value)
    return place == (int(line), int(column), code) and part in f"{found.message} ({found.hint})"


@pytest.mark.parametrize("path", ERRORS, ids=lambda path: path.stem)
def test_the_faults_of_a_document(path: Path) -> None:
    expected = _EXPECTED.findall(path.read_text(encoding="utf-8"))
    assert expected, "the file says no fault that it must give"
    with pytest.raises(CompileError) as caught:
        compile_case(path)
    found = caught.value.diagnostics
    assert len(found) == len(expected), str(caught.value)
    wrong = [str(each) for each, said in zip(found, expected, strict=True) if not _matches(each, said)]
    assert not wrong, f"{wrong} where {expected} was expected"
    assert {each.span.path for each in found} == {path.name}


@pytest.mark.parametrize("path", OK, ids=lambda path: path.stem)
def test_the_plan_of_a_document(path: Path) -> None:
    plans = [explain(each.logical, each.physical).rstrip("\n") + "\n" for each in compile_case(path)]
    plan = _FINGERPRINT.sub("", "\n".join(plans))
    golden = path.with_suffix(".plan")
    if SNAP:
        golden.write_text(plan, encoding="utf-8")
    assert plan == golden.read_text(encoding="utf-8")


def test_there_are_enough_cases() -> None:
    assert len(ERRORS) >= 70
    assert len(OK) >= 10


def test_every_code_has_a_case() -> None:
    """Codes whose fault lies in something other than one file's text have their test elsewhere."""
    elsewhere = {Code.TOO_LARGE, Code.SECRET_LITERAL, Code.EXPRESSION_FORBIDDEN}
    shown = {code for path in ERRORS for _, _, code, _ in _EXPECTED.findall(path.read_text(encoding="utf-8"))}
    missing = [each for each in Code if each.value[:2] in {"E1", "E2", "E3", "E4", "E7"} and each not in elsewhere]
    assert not [each for each in missing if each.value not in shown]
