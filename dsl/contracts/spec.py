"""One declaration of an option gives its parser, its lint, its JSON Schema, its reference page and its Dagster field; knows no YAML.

A connector, a processor and a policy are frozen dataclasses whose fields are made by `option`. `spec_of` reads them
back as plain data. Types that an option may have: str, int, float, bool, timedelta, Secret, a StrEnum, a frozen
dataclass of options, `tuple[T, ...]`, `dict[str, T]`, `Json`, and `T | None`.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any

MISSING: Any = dataclasses.MISSING
_KEY = "headrace"


@dataclass(frozen=True)
class Option:
    """One option of a spec, as data.

    Attributes:
        name: Its key in the document.
        type: The Python type, without `| None`.
        nullable: Whether None (an absent key) is a value of its own.
        required: Whether the document must give it.
        default: Its value when absent, None if required.
        doc: One sentence for the reference page.
        example: A value for the reference page, as it would stand in YAML.
        expression: "condition", "value" or "" (not an expression of the language).
        template: "json", "url", "text", "path" (may hold `{{ expr }}`, escaped so) or "".
        unit: "size" where `64MiB` may be written for a number of bytes, or "".
        advanced: Whether the reference lists it after the common ones.
    """

    name: str
    type: Any
    nullable: bool
    required: bool
    default: Any
    doc: str
    example: Any
    expression: str
    template: str
    unit: str
    advanced: bool


@dataclass(frozen=True)
class Spec:
    """A kind's options.

    Attributes:
        cls: The dataclass to construct from values.
        summary: First paragraph of its docstring.
        options: In the order of declaration, inherited ones first.
    """

    cls: type
    summary: str
    options: tuple[Option, ...]

    def option(self, name: str) -> Option | None:
        """Returns the option of that name, or None."""
        return next((each for each in self.options if each.name == name), None)


class OptionError(ValueError):
    """Raised by a spec's `__post_init__` when options do not fit together.

    Args:
        name: The option at fault.
        message: What is wrong with it.
        hint: What to write instead.
    """

    def __init__(self, name: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.name, self.message, self.hint = name, message, hint


def option(
    *,
    doc: str,
    default: Any = MISSING,
    example: Any = None,
    expression: str = "",
    template: str = "",
    unit: str = "",
    advanced: bool = False,
) -> Any:
    """Declares one option of a spec dataclass; see `Option` for the meaning of the arguments."""
    facts = {
        "doc": doc,
        "example": example,
        "expression": expression,
        "template": template,
        "unit": unit,
        "advanced": advanced,
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata={_KEY: facts})
    return dataclasses.field(default=default, metadata={_KEY: facts})


def spec_of(cls: type) -> Spec:
    """Reads a dataclass of options back as data.

    Raises:
        TypeError: If `cls` is not a dataclass.
    """
    return _read_back(cls)


@cache
def _read_back(cls: type) -> Spec:
    hints = typing.get_type_hints(cls)
    options = tuple(_option_of(each, hints[each.name]) for each in dataclasses.fields(cls) if _KEY in each.metadata)
    return Spec(cls, inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0], options)


def _option_of(field: dataclasses.Field[Any], hint: Any) -> Option:
    bare, nullable = _without_none(hint)
    required = field.default is MISSING and field.default_factory is MISSING
    factory: Any = field.default_factory
    default = None if required else factory() if field.default is MISSING else field.default
    return Option(
        name=field.name, type=bare, nullable=nullable, required=required, default=default, **field.metadata[_KEY]
    )


def _without_none(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) not in {typing.Union, types.UnionType}:
        return hint, False
    members = typing.get_args(hint)
    if type(None) not in members or len(members) > 2:
        return hint, type(None) in members
    return next(each for each in members if each is not type(None)), True
