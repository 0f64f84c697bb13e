"""Text to tokens: every name, literal, type and call becomes a numbered atom; knows no schema and no types but their names.

The parser never sees what the author wrote between operators, only atoms, so it cannot reread a name as something else.

- Both quotes make a text, which ends at the same quote; a doubled quote is that quote. There are no backslash escapes.
- A field is `name.name`; a name that is no word, or is reserved, stands in backticks (a doubled backtick is a backtick).
- Keywords and function names do not care about case, field names do.
- `!` binds like a sign: `!a == b` is `(!a) == b`, while `not a == b` is `not (a == b)`.
- `date '2024-01-31'`, `timestamp '…'`, `timestamptz '…'` are constants.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, NamedTuple, TypeAlias

import pyarrow as pa
from sqlglot.tokenizer_core import Token, TokenType

from dsl.codes import Code
from dsl.diagnostics import did_you_mean
from dsl.expressions.compiled import ExpressionError
from dsl.expressions.types import TYPE_NAMES, parse_type
from dsl.expressions.words import KEYWORDS, MOMENT_WORDS, OPERATORS, REFUSED_SIGNS, RESERVED, SUSPICIOUS

MAX_LENGTH: Final = 10_000
MAX_NESTING: Final = 16
MAX_PREFIXES: Final = 4


class Field(NamedTuple):
    """A column and the struct fields below it, with the place of each name."""

    names: tuple[str, ...]
    places: tuple[int, ...]


class Name(NamedTuple):
    """A struct field of what stands before the dot."""

    name: str


class Constant(NamedTuple):
    """A literal (None is `null`); `moment` is the word before a date or timestamp."""

    value: str | int | float | Decimal | None
    moment: str = ""


class Call(NamedTuple):
    """The name before a parenthesis."""

    name: str


class TypeName(NamedTuple):
    """What stands behind `as` in a cast."""

    type: pa.DataType


Atom: TypeAlias = Field | Name | Constant | Call | TypeName


@dataclass(frozen=True)
class Lexed:
    """What the parser gets.

    Attributes:
        text: The expression.
        tokens: For sqlglot's parser.
        atoms: What the tokens named `a<n>` stand for.
        places: Where each atom begins, in characters.
    """

    text: str
    tokens: tuple[Token, ...]
    atoms: tuple[Atom, ...]
    places: tuple[int, ...]


_SPACE = re.compile(r"\s+")
_NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[^\W\d]\w*")
_BACKTICKED = re.compile(r"`((?:[^`]|``)+)`")
_TEXT = re.compile(r"'((?:[^']|'')*)'|\"((?:[^\"]|\"\")*)\"", re.DOTALL)
_INDEX = re.compile(r"\[\s*(-?\d+)\s*\]")
_KEY = re.compile(r"\[\s*('(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")\s*\]", re.DOTALL)
_TYPE = re.compile(r"\s*([A-Za-z]\w*(?:\s*\([\d\s,]*\))?(?:\s*\[\s*\])*)")
_SIGN = re.compile("|".join(re.escape(each) for each in sorted([*OPERATORS, *REFUSED_SIGNS], key=len, reverse=True)))
_NEGATABLE = re.compile(r"\s+(?:in|i?like|between)\b", re.IGNORECASE)
_CONSTANTS: Final = {"null": None, "true": True, "false": False}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def lex(text: str) -> Lexed:
    """Splits an expression.

    Raises:
        ExpressionError: E501 for what is no expression, E502 for what the language leaves out, E505 for an unknown type.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(Code.EXPRESSION_FORBIDDEN, f"the expression is longer than {MAX_LENGTH} characters")
    if bad := _CONTROL.search(text):
        raise ExpressionError(Code.EXPRESSION_SYNTAX, f"the character {bad[0]!r} is not allowed", index=bad.start())
    lexer = _Lexer(text)
    while lexer.at < len(text):
        lexer.step()
    lexer.finish()
    return Lexed(text, tuple(lexer.tokens), tuple(lexer.atoms), tuple(lexer.places))


@dataclass
class _Lexer:
    text: str
    at: int = 0
    tokens: list[Token] = field(default_factory=list)
    atoms: list[Atom] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    open: list[tuple[str, int]] = field(default_factory=list)
    operand: bool = False
    prefixes: int = 0

    def step(self) -> None:
        """Reads the token that begins at `at`."""
        if space := _SPACE.match(self.text, self.at):
            self.at = space.end()
            return
        first = self.text[self.at]
        if first in "'\"":
            start = self.at
            self._literal(Constant(self._quoted()), start)
        elif first.isdigit() or (first == "." and self.text[self.at + 1 : self.at + 2].isdigit() and not self.operand):
            self._number()
        elif first == "`" or _WORD.match(self.text, self.at):
            self._word()
        else:
            self._sign()

    def finish(self) -> None:
        """Checks that nothing is left open."""
        if self.open:
            kind, index = self.open[-1]
            raise self._syntax("'case' has no 'end'" if kind == "case" else "the parenthesis is not closed", index)
        if not self.tokens:
            raise self._syntax("the expression is empty", 0)
        if not self.operand:
            raise self._syntax("the expression stops where a value should follow", len(self.text))

    # ---- words

    def _word(self) -> None:
        start = self.at
        if self.text[start] != "`":
            word = self._matched(_WORD)
            lowered = word.lower()
            after = self.text[start + len(word) :].lstrip()
            if lowered in MOMENT_WORDS and after[:1] in {"'", '"'} and after:
                self.at = len(self.text) - len(after)
                self._literal(Constant(self._quoted(), lowered), start)
                return
            if lowered in KEYWORDS:
                self.at += len(word)
                self._keyword(lowered, start)
                return
            if lowered == "as":
                self._as(start)
                return
            if after.startswith("("):
                self.at += len(word)
                self._operand_starts(start)
                self._atom(Call(word), start)
                return
            if lowered in RESERVED:
                raise ExpressionError(
                    Code.EXPRESSION_FORBIDDEN, f"{word!r} is not part of the language",
                    f"{RESERVED[lowered]}; a field of that name is written `{word}` in backticks", start,
                )  # fmt: skip
        names, places = [self._name()], [start]
        while self.text.startswith(".", self.at):
            self.at += 1
            places.append(self.at)
            names.append(self._name())
        if self.text[self.at :].lstrip().startswith("("):
            raise ExpressionError(Code.EXPRESSION_FORBIDDEN, "fields have no methods", f"write {names[-1]}(…)", start)
        self._literal(Field(tuple(names), tuple(places)), start)

    def _name(self) -> str:
        if quoted := _BACKTICKED.match(self.text, self.at):
            self.at = quoted.end()
            return quoted[1].replace("``", "`")
        word = _WORD.match(self.text, self.at)
        if word is None:
            hint = (
                "an item of a list is items[0]"
                if self.text[self.at : self.at + 1].isdigit()
                else "quote it with backticks"
            )
            raise self._syntax("a name should follow", self.at, hint)
        self.at = word.end()
        return word[0]

    def _as(self, start: int) -> None:
        if not self.open or self.open[-1][0] not in {"cast", "try_cast"} or not self.operand:
            raise self._syntax("'as' belongs into cast(… as type)", start)
        found = _TYPE.match(self.text, start + 2)
        if found is None:
            raise self._syntax("a type should follow 'as'", start + 2, f"known: {', '.join(TYPE_NAMES)}")
        index = found.start(1)
        try:
            read = parse_type(re.sub(r"\s+", "", found[1]))
        except ValueError as error:
            raise ExpressionError(
                Code.EXPRESSION_TYPE, str(error), did_you_mean(found[1].lower(), TYPE_NAMES), index
            ) from error
        self._token(TokenType.COMMA, ",", start)
        self.at = found.end()
        self.operand = False
        self._literal(TypeName(read), index)

    def _keyword(self, word: str, start: int) -> None:
        kind = KEYWORDS[word]
        if word in _CONSTANTS:
            self._literal(Constant(_CONSTANTS[word]), start)
            return
        if word == "case":
            self._operand_starts(start)
            self._enter("case", start)
        elif word in {"when", "then", "else", "end"}:
            self._case_part(word, start)
        elif word == "not":
            self._not(start)
        elif self.operand:
            self._infix()
        else:
            raise self._syntax(f"a value should stand before {word!r}", start)
        self._token(kind, word, start)

    def _not(self, start: int) -> None:
        if not self.operand:
            self._prefix(start)
        elif not _NEGATABLE.match(self.text, self.at):
            raise self._syntax("'not' between two values is 'not in', 'not like', 'not ilike' or 'not between'", start)

    def _case_part(self, word: str, start: int) -> None:
        if not self.open or self.open[-1][0] != "case":
            raise self._syntax(f"{word!r} belongs into case … end", start)
        opened_now = bool(self.tokens) and self.tokens[-1].token_type is TokenType.CASE
        if not self.operand and not (word == "when" and opened_now):
            raise self._syntax(f"a value should stand before {word!r}", start)
        self.operand = word == "end"
        self.prefixes = 0
        if word == "end":
            self.open.pop()

    # ---- literals

    def _quoted(self) -> str:
        found = _TEXT.match(self.text, self.at)
        if found is None:
            raise self._syntax("the text has no closing quote", self.at)
        self.at = found.end()
        quote = found[0][0]
        return found[0][1:-1].replace(quote * 2, quote)

    def _number(self) -> None:
        start = self.at
        text = self._matched(_NUMBER)
        self.at += len(text)
        if _WORD.match(self.text, self.at) or self.text[self.at : self.at + 1] == "_":
            raise self._syntax("a number cannot go on with a letter", self.at)
        if "e" in text.lower():
            self._literal(Constant(float(text)), start)
        elif "." in text:
            self._literal(Constant(Decimal(("0" if text.startswith(".") else "") + text)), start)
        else:
            self._literal(Constant(int(text)), start)

    def _literal(self, atom: Atom, start: int) -> None:
        self._operand_starts(start)
        self._atom(atom, start)
        self.operand = True

    # ---- signs

    def _sign(self) -> None:
        start = self.at
        found = _SIGN.match(self.text, start)
        if found is None:
            raise self._syntax(f"the character {self.text[start]!r} is not allowed", start)
        sign = found[0]
        if sign in REFUSED_SIGNS:
            raise ExpressionError(
                Code.EXPRESSION_FORBIDDEN, f"{sign!r} is not part of the language", REFUSED_SIGNS[sign], start
            )
        special: dict[str, Callable[[int], None]] = {
            "(": self._opens, ")": self._closes, ",": self._comma, "[": self._bracket, ".": self._dot,
        }  # fmt: skip
        if sign in special:
            special[sign](start)
            return
        self.at += len(sign)
        if sign == "!" or (sign == "-" and not self.operand):
            self._prefix(start)
        elif self.operand:
            self._infix()
        else:
            raise self._syntax(f"a value should stand before {sign!r}", start)
        self._token(OPERATORS[sign], sign, start)

    def _opens(self, start: int) -> None:
        self.at += 1
        call = self._last_call()
        within = bool(self.tokens) and self.tokens[-1].token_type is TokenType.IN
        if call is None:
            self._operand_starts(start)
        self._enter("in" if within else call.lower() if call else "group", start)
        self._token(TokenType.L_PAREN, "(", start)

    def _closes(self, start: int) -> None:
        self.at += 1
        if not self.open or self.open[-1][0] == "case":
            raise self._syntax("this parenthesis closes nothing", start)
        empty_call = self.tokens[-1].token_type is TokenType.L_PAREN and self.open[-1][0] not in {"group", "in"}
        if not self.operand and not empty_call:
            raise self._syntax("a value should stand before ')'", start)
        self.open.pop()
        self.operand = True
        self._token(TokenType.R_PAREN, ")", start)

    def _comma(self, start: int) -> None:
        self.at += 1
        if not self.open or self.open[-1][0] in {"group", "case"} or not self.operand:
            raise self._syntax("unexpected ','", start)
        self._infix()
        self._token(TokenType.COMMA, ",", start)

    def _bracket(self, start: int) -> None:
        found = _INDEX.match(self.text, start) or _KEY.match(self.text, start)
        if not self.operand:
            raise ExpressionError(Code.EXPRESSION_FORBIDDEN, "there are no list literals", "compare with in (…)", start)
        if found is None:
            hint = "items[0] is the first, items[-1] the last, labels['key'] the value of a key"
            raise ExpressionError(Code.EXPRESSION_FORBIDDEN, "an index is a whole number or a text", hint, start)
        self._token(TokenType.L_BRACKET, "[", start)
        inner = found[1]
        value = int(inner) if inner[0] not in "'\"" else inner[1:-1].replace(inner[0] * 2, inner[0])
        self._atom(Constant(value), found.start(1))
        self._token(TokenType.R_BRACKET, "]", found.end() - 1)
        self.at = found.end()

    def _dot(self, start: int) -> None:
        if not self.tokens or self.tokens[-1].token_type not in {TokenType.R_BRACKET, TokenType.R_PAREN}:
            raise self._syntax("unexpected '.'", start)
        self.at += 1
        self._token(TokenType.DOT, ".", start)
        place = self.at
        self._atom(Name(self._name()), place)

    # ---- state

    def _matched(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        return found[0] if found else ""

    def _prefix(self, start: int) -> None:
        self._operand_starts(start)
        self.prefixes += 1
        if self.prefixes > MAX_PREFIXES:
            raise self._too_deep(start)

    def _infix(self) -> None:
        self.operand, self.prefixes = False, 0

    def _enter(self, kind: str, start: int) -> None:
        self.open.append((kind, start))
        self.operand, self.prefixes = False, 0
        if len(self.open) > MAX_NESTING:
            raise self._too_deep(start)

    def _operand_starts(self, start: int) -> None:
        if self.operand:
            before = self.atoms[-1] if self.tokens[-1].token_type is TokenType.IDENTIFIER else None
            word = before.names[0] if isinstance(before, Field) and len(before.names) == 1 else ""
            if hint := SUSPICIOUS.get(word.lower(), ""):
                raise ExpressionError(
                    Code.EXPRESSION_FORBIDDEN, f"{word!r} is not part of the language", hint, self.places[-1]
                )
            raise self._syntax("an operator should stand between two values", start)
        if self._last_call() is not None and self.text[start] != "(":
            raise self._syntax("'(' should follow the function's name", start)
        if self.tokens and self.tokens[-1].token_type is TokenType.IN and self.text[start] != "(":
            raise self._syntax("'in' wants a list of values in parentheses", start, "in ('a', 'b')")

    def _last_call(self) -> str | None:
        if self.tokens and self.tokens[-1].token_type is TokenType.VAR:
            atom = self.atoms[-1]
            return atom.name if isinstance(atom, Call) else None
        return None

    def _atom(self, atom: Atom, start: int) -> None:
        kind = TokenType.VAR if isinstance(atom, Call) else TokenType.IDENTIFIER
        self._token(kind, f"a{len(self.atoms)}", start)
        self.atoms.append(atom)
        self.places.append(start)

    def _token(self, kind: TokenType, text: str, start: int) -> None:
        self.tokens.append(Token(kind, text, 1, start, start, start))

    def _syntax(self, message: str, index: int, hint: str = "") -> ExpressionError:
        return ExpressionError(Code.EXPRESSION_SYNTAX, message, hint, index)

    def _too_deep(self, index: int) -> ExpressionError:
        return ExpressionError(
            Code.EXPRESSION_FORBIDDEN, "the expression is nested too deeply", "split it over two mappings", index
        )
