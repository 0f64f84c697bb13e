"""`mask`: hides values before they leave; says what becomes of a schema, while the engine's operator does the hiding."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from dsl.codes import Code
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from dsl.processors.columns import Field, Path, field_at, split, with_paths
from dsl.processors.kind import ProcessorKind
from dsl.processors.ordering import check_path, reads_of
from dsl.processors.step import NOTHING, Planned, Step


class MaskMethod(StrEnum):
    """How a value is hidden."""

    PARTIAL = "partial"
    FULL = "full"
    NULLIFY = "nullify"
    HASH = "hash"
    TOKENISE = "tokenise"


class Side(StrEnum):
    """Which end of a text stays readable."""

    START = "start"
    END = "end"


_KEYED = frozenset({MaskMethod.HASH, MaskMethod.TOKENISE})


@dataclass(frozen=True, kw_only=True)
class MaskRule:
    """How one field is hidden."""

    field: str = option(doc="The column, or a dotted path into one.", example="user.email")
    method: MaskMethod = option(
        doc="`partial` keeps some characters, `full` none, `nullify` makes it NULL, `hash` gives equal values equal hashes "
        "(HMAC-SHA-256), `tokenise` short tokens.",
        example="partial",
    )
    show_chars: int = option(default=3, doc="Characters that `partial` keeps; never all of a value.")
    side: Side = option(default=Side.START, doc="Which end `partial` keeps.")
    replacement: str = option(
        default="****", doc="What `full` puts in the value's place, and `partial` in that of the hidden characters."
    )
    key: Secret | None = option(default=None, doc="The key of `hash` and `tokenise`.", example="${MASKING_KEY}")

    def __post_init__(self) -> None:
        """Checks that the options fit together.

        Raises:
            OptionError: They do not.
        """
        if self.show_chars < 0:
            raise OptionError("show_chars", "show_chars is negative", "count from 0")
        if self.method in _KEYED and self.key is None:
            told = f"{self.method} needs a key: without one, anybody can hash guesses and compare"
            raise OptionError("key", told, "add key: ${MASKING_KEY}")


@dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """Hides values before they leave; NULL stays NULL, and what is hidden becomes a text (`nullify` keeps the type)."""

    rules: tuple[MaskRule, ...] = option(
        doc="One rule for each field.", example=[{"field": "email", "method": "partial"}]
    )

    def __post_init__(self) -> None:
        """Checks that there is a rule.

        Raises:
            OptionError: There is none.
        """
        if not self.rules:
            raise OptionError("rules", "a mask needs at least one rule", "list {field, method} pairs")

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Returns the schema that leaves, given the one that enters."""
        return with_paths(schema, dict(self._fields(schema)))

    def _fields(self, schema: pa.Schema) -> list[tuple[Path, Field]]:
        found = []
        for rule in self.rules:
            path = split(rule.field)
            before = field_at(schema, path)
            if before is not None:
                after = before if rule.method is MaskMethod.NULLIFY else pa.field(before.name, pa.string())
                found.append((path, after.with_nullable(True)))
        return found


def plan(step: Step) -> Planned:
    """Plans a mask."""
    options = step.node.options
    assert isinstance(options, MaskOptions)  # noqa: S101 - the table of kinds says so
    fits = [_rule_fits(step, rule, index) for index, rule in enumerate(options.rules)]
    if not all(fits):
        return NOTHING
    schema = step.input.schema
    return Planned(
        schema=None if schema is None else options.output_schema(schema),
        lineage=step.input.lineage,
        reads=(reads_of(each.field for each in options.rules),),
        processor=options,
    )


def _rule_fits(step: Step, rule: MaskRule, index: int) -> bool:
    options = step.node.options
    assert isinstance(options, MaskOptions)  # noqa: S101 - as in plan
    place = ("rules", index, "field")
    path = split(rule.field)
    for earlier in options.rules[:index]:
        other = split(earlier.field)
        shared = min(len(path), len(other))
        if path[:shared] == other[:shared]:
            code = Code.DUPLICATE_COLUMN if path == other else Code.PATH_CONFLICT
            step.fault(code, f"{rule.field!r} is masked twice", "leave one rule out", *place)
            return False
    return check_path(step, step.input, rule.field, *place)


KIND = ProcessorKind(
    kind="mask",
    title="Hide values",
    options=MaskOptions,
    min_inputs=1,
    max_inputs=1,
    plan=plan,
    relational=False,
    example="""type: mask
config:
  rules:
    - {field: user.email, method: partial, show_chars: 3}
    - {field: user.credit_card, method: full}
    - {field: user.id, method: hash, key: "${MASKING_KEY}"}
""",
)
