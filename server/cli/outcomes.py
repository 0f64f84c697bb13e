"""How a command ends: its exit code, one sentence for people or one JSON document for machines; never a traceback or a secret."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import click

from dsl.contracts.errors import FencedError, HeadraceError, UnavailableError
from dsl.contracts.redaction import scrub
from etl_defs.settings import SettingError
from server.cli.exits import Exit
from server.cli.faults import Faulty, diagnostic_as_json, show_diagnostics

TRACEBACK = "HEADRACE_TRACEBACK"
C = TypeVar("C", bound=Callable[..., Any] | click.Command)


def json_option(doc: str) -> Callable[[C], C]:
    """Returns the decorator of `--json`: with it stdout holds one JSON document, however the command ends."""
    return click.option("--json", "as_json", is_flag=True, is_eager=True, callback=_note_json, help=doc)


def print_json(value: object) -> None:
    """Prints one JSON document on stdout; what JSON has no word for is printed as text."""
    click.echo(scrub(json.dumps(value, indent=2, ensure_ascii=False, default=str)))


def code_of(error: BaseException) -> Exit:
    """Returns the exit code that belongs to an error."""
    known = (
        (FencedError, Exit.FENCED),
        (UnavailableError, Exit.UNAVAILABLE),
        (Faulty, Exit.INVALID),
        (HeadraceError, Exit.FAILED),
        (SettingError, Exit.USAGE),
        (OSError, Exit.FAILED),
        (click.exceptions.Abort, Exit.INTERRUPTED),
        (Exception, Exit.INTERNAL),
    )
    return next((code for kind, code in known if isinstance(error, kind)), Exit.INTERRUPTED)


def tell(error: BaseException, *, as_json: bool = False) -> int:
    """Says what ended a command, in one sentence on stderr or as JSON on stdout; returns the exit code."""
    if isinstance(error, click.ClickException):
        return _tell_usage(error, as_json=as_json)
    code = code_of(error)
    if code is Exit.INTERNAL and os.environ.get(TRACEBACK):
        click.echo(scrub("".join(traceback.format_exception(error))), err=True)
    if as_json:
        print_json(error_as_json(error))
    elif isinstance(error, Faulty):
        show_diagnostics(error.diagnostics, error.texts)
    else:
        click.echo(scrub(_sentence(error, code)), err=True)
    return code


def error_as_json(error: BaseException) -> dict[str, object]:
    """Returns what ended a command in the form that scripts read."""
    code = code_of(error)
    facts: dict[str, object] = {"exit": int(code), "error": type(error).__name__, "message": str(error)}
    if isinstance(error, HeadraceError):
        facts |= {"message": error.message, "where": error.where, "hint": error.hint}
    found: dict[str, object] = {"success": False, "error": facts}
    if isinstance(error, Faulty):
        found["diagnostics"] = [diagnostic_as_json(each) for each in error.diagnostics]
    return found


def _note_json(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    del parameter
    if isinstance(context.obj, dict):
        context.obj["as_json"] = value
    return value


def _tell_usage(error: click.ClickException, *, as_json: bool) -> int:
    code = int(error.exit_code)
    if as_json:
        facts = {"exit": code, "error": type(error).__name__, "message": error.format_message()}
        print_json({"success": False, "error": facts})
    else:
        error.show()
    return code


def _sentence(error: BaseException, code: Exit) -> str:
    if code is Exit.INTERRUPTED:
        return "Interrupted; nothing was changed."
    if code is Exit.INTERNAL:
        said = " ".join(str(error).split())
        return f"error: a fault of Headrace itself: {type(error).__name__}: {said} ({TRACEBACK}=1 shows where; please report it)"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"error: {error.filename}: {error.strerror}"
    return f"error: {error}"
