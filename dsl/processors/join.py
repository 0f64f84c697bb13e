"""`join`: puts the rows of two inputs side by side where their keys are equal; NULL equals nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from dsl.codes import Code
from dsl.contracts.spec import OptionError, option
from dsl.expressions.types import common, comparable, duckdb_name, show
from dsl.plan.logical import Lineage
from dsl.processors.columns import Field, at, field_at, quoted, split
from dsl.processors.kind import ProcessorKind
from dsl.processors.ordering import check_path, reads_of
from dsl.processors.step import NOTHING, Planned, Relation, Step


class JoinType(StrEnum):
    """Which rows stay that find no partner."""

    INNER = "inner"
    LEFT = "left"
    RIGHT = "right"
    FULL = "full"
    SEMI = "semi"
    ANTI = "anti"


class OnCollision(StrEnum):
    """What happens to a column that both inputs have and that is no key."""

    ERROR = "error"
    SUFFIX = "suffix"
    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, kw_only=True)
class JoinKeys:
    """Keys that are called differently in the two inputs."""

    left: tuple[str, ...] = option(doc="Columns of the first input.", example="id")
    right: tuple[str, ...] = option(doc="Columns of the second input, in the same order.", example="user_id")

    def __post_init__(self) -> None:
        """Checks that the keys pair up.

        Raises:
            OptionError: They do not.
        """
        if len(self.left) != len(self.right) or not self.left:
            raise OptionError("right", "`left` and `right` name a different number of columns", "pair them up")


@dataclass(frozen=True, kw_only=True)
class JoinOptions:
    """Puts the rows of two inputs side by side where their keys are equal; the first of `inputs` is the left one.

    A key that is called the same in both inputs is one column of the result. `semi` keeps the left rows that have a partner,
    `anti` those that have none; both keep only the left columns. With `on_collision: suffix` the right column is called
    `<column>_<input>`.
    """

    join_key: tuple[str, ...] | JoinKeys = option(
        doc="The key: a column, a list of them, or `{left, right}` where the names differ.", example="user_id"
    )
    join_type: JoinType = option(default=JoinType.INNER, doc="Which rows stay that find no partner.")
    on_collision: OnCollision = option(
        default=OnCollision.ERROR, doc="What happens to a column that both inputs have and that is no key."
    )

    def __post_init__(self) -> None:
        """Checks that there is a key.

        Raises:
            OptionError: There is none.
        """
        if not self.join_key:
            raise OptionError("join_key", "a join needs a key", "name a column")

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The keys, left and right."""
        if isinstance(self.join_key, JoinKeys):
            return tuple(zip(self.join_key.left, self.join_key.right, strict=True))
        return tuple((each, each) for each in self.join_key)


@dataclass
class _Sides:
    """How the columns of the two inputs become those of the result.

    Attributes:
        replaced: Columns of the left input -> the SQL that stands in their place.
        renamed: Columns of the right input -> their name in the result.
        hidden: Columns of the right input that the result leaves out.
        kinds: Columns of the result whose field is not that of the left input.
    """

    replaced: dict[str, str]
    renamed: dict[str, str]
    hidden: set[str]
    kinds: dict[str, Field]


def plan(step: Step) -> Planned:
    """Plans a join."""
    options = step.node.options
    assert isinstance(options, JoinOptions)  # noqa: S101 - the table of kinds says so
    left, right = step.inputs
    if not _keys_fit(step, options, left, right):
        return NOTHING
    on = " AND ".join(f"{at(split(one), 'l')} = {at(split(other), 'r')}" for one, other in options.pairs)
    reads = (reads_of(one for one, _ in options.pairs), reads_of(other for _, other in options.pairs))
    if options.join_type in {JoinType.SEMI, JoinType.ANTI}:
        sql = f"SELECT l.* FROM {{0}} AS l {options.join_type.upper()} JOIN {{1}} AS r ON {on}"
        return Planned(left.schema, left.lineage, sql, row_local=False, filters=True, total=True, reads=reads)
    sides = _sides(step, options, left, right)
    if sides is None:
        return NOTHING
    collided = frozenset(sides.renamed) | {each for each in sides.hidden if each in left.names}
    names = _result(left, right, sides)
    if not step.distinct(tuple((name, ("on_collision",)) for name, _ in names)):
        return NOTHING
    sql = f"SELECT {_select(sides)} FROM {{0}} AS l {options.join_type.upper()} JOIN {{1}} AS r ON {on}"
    return Planned(
        schema=None if left.schema is None or right.schema is None else pa.schema([field for _, field in names]),
        lineage=_lineage(options, left, right, sides),
        sql=sql,
        row_local=False,
        filters=True,
        expands=True,
        total=True,
        reads=(reads[0] | collided, reads[1] | frozenset(sides.renamed) | sides.hidden),
    )


def _keys_fit(step: Step, options: JoinOptions, left: Relation, right: Relation) -> bool:
    clean = True
    for index, (one, other) in enumerate(options.pairs):
        there = _place(options, "left", index), _place(options, "right", index)
        known = check_path(step, left, one, *there[0])
        known &= check_path(step, right, other, *there[1])
        clean &= known
        if not known or left.schema is None or right.schema is None:
            continue
        a, b = field_at(left.schema, split(one)), field_at(right.schema, split(other))
        if a is not None and b is not None and not comparable(a.type, b.type, order=False):
            told = f"{one!r} of {left.name!r} is {show(a.type)}, {other!r} of {right.name!r} is {show(b.type)}"
            step.fault(
                Code.KEY_TYPES, f"the keys cannot be compared: {told}", "cast one in a mapping before", *there[0]
            )
            clean = False
    return clean


def _place(options: JoinOptions, side: str, index: int) -> tuple[str | int, ...]:
    return ("join_key", side, index) if isinstance(options.join_key, JoinKeys) else ("join_key", index)


def _sides(step: Step, options: JoinOptions, left: Relation, right: Relation) -> _Sides | None:
    sides = _Sides({}, {}, set(), {})
    shared = [one for one, other in options.pairs if one == other and len(split(one)) == 1]
    for name in shared:
        sides.hidden.add(name)
        if options.join_type in {JoinType.RIGHT, JoinType.FULL}:
            _merge_key(sides, name, left, right)
    lowered = {each.lower(): each for each in left.names if each not in shared}
    collided = [each for each in right.names if each not in shared and each.lower() in lowered]
    for name in collided:
        if options.on_collision is OnCollision.ERROR:
            told = f"{left.name!r} and {right.name!r} both have a column {name!r}"
            step.fault(
                Code.COLLISION, told, "rename one in a mapping, or set on_collision: suffix, left or right", "join_key"
            )
        elif options.on_collision is OnCollision.SUFFIX:
            sides.renamed[name] = f"{name}_{right.name}"
        else:
            sides.hidden.add(name)
            if options.on_collision is OnCollision.RIGHT and right.schema is not None:
                sides.replaced[lowered[name.lower()]] = f"r.{quoted(name)}"
                sides.kinds[lowered[name.lower()]] = right.schema.field(name)
    return None if collided and options.on_collision is OnCollision.ERROR else sides


def _merge_key(sides: _Sides, name: str, left: Relation, right: Relation) -> None:
    """A key of a row that only the right input has comes from there."""
    sides.replaced[name] = f"COALESCE(l.{quoted(name)}, r.{quoted(name)})"
    if left.schema is None or right.schema is None:
        return
    a, b = left.schema.field(name), right.schema.field(name)
    kind = common(a.type, b.type)
    if a.type != b.type and kind is not None and not pa.types.is_null(kind):
        cast = duckdb_name(kind)
        sides.replaced[name] = f"COALESCE(CAST(l.{quoted(name)} AS {cast}), CAST(r.{quoted(name)} AS {cast}))"
        sides.kinds[name] = pa.field(name, kind)


def _select(sides: _Sides) -> str:
    """Stars, so that columns which nobody needs can be pruned without touching the SQL."""
    replaced = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in sides.replaced.items())
    hidden = ", ".join(quoted(each) for each in sorted(sides.hidden | set(sides.renamed)))
    renamed = "".join(f", r.{quoted(name)} AS {quoted(to)}" for name, to in sides.renamed.items())
    return (
        "l.*" + (f" REPLACE ({replaced})" if replaced else "") + ", r.*" + (f" EXCLUDE ({hidden})" if hidden else "")
    ) + renamed


def _result(left: Relation, right: Relation, sides: _Sides) -> list[tuple[str, Field]]:
    fields = [sides.kinds.get(each.name, each).with_name(each.name) for each in left.schema or ()]
    kept = [each for each in right.schema or () if each.name not in sides.hidden and each.name not in sides.renamed]
    late = [each.with_name(sides.renamed[each.name]) for each in right.schema or () if each.name in sides.renamed]
    return [(each.name, each) for each in (*fields, *kept, *late)]


def _lineage(options: JoinOptions, left: Relation, right: Relation, sides: _Sides) -> Lineage:
    """A column comes from its own side; one that both sides fill comes from both."""
    lineage = {name: tuple(left.lineage.get(name, ())) for name in left.names}
    merged = options.join_type in {JoinType.RIGHT, JoinType.FULL}
    for name in right.names:
        pairs = tuple(right.lineage.get(name, ()))
        if name not in sides.hidden:
            lineage[sides.renamed.get(name, name)] = pairs
        elif merged and (name, name) in options.pairs:
            lineage[name] = tuple(sorted({*lineage.get(name, ()), *pairs}))
    for name in sides.replaced:
        if name not in {one for one, _ in options.pairs}:
            source = next(each for each in right.names if each.lower() == name.lower())
            lineage[name] = tuple(right.lineage.get(source, ()))
    return lineage


KIND = ProcessorKind(
    kind="join",
    title="Put the rows of two inputs side by side",
    options=JoinOptions,
    min_inputs=2,
    max_inputs=2,
    plan=plan,
    example="""inputs: [users, orders]
type: join
config:
  join_key: user_id
  join_type: left
""",
)
