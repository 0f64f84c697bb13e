"""`mapping`: chooses, renames, computes and nests columns, row by row; never leaves a row out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from dsl.codes import Code
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import Json
from dsl.expressions import Compiled, ExpressionError, compile_value, parse_type
from dsl.expressions.types import Family, family, fields_of, show
from dsl.plan.logical import Lineage
from dsl.processors.columns import (
    Field,
    Path,
    arriving,
    at,
    braced,
    field_at,
    marked_json,
    of_columns,
    quoted,
    split,
)
from dsl.processors.kind import ProcessorKind
from dsl.processors.literals import constant
from dsl.processors.step import NOTHING, Planned, Relation, Step

_WORDS = re.compile(r"[\w.\- ]+")


@dataclass(frozen=True, kw_only=True)
class FieldMapping:
    """One field of the result."""

    source: str | None = option(
        default=None, doc="The field that it is taken from: a column, or a dotted path into one.", example="first_name"
    )
    expression: str | None = option(
        default=None, doc="What it is computed from, instead of `source`.", example="upper(country)", expression="value"
    )
    destination: str = option(
        doc="The field of the result; a dotted path builds nested structs.", example="user.firstName"
    )
    default: Json = option(default=None, doc="A text, number or boolean that stands in for NULL.", example="unknown")
    cast: str | None = option(
        default=None,
        doc="The type that it is converted to; a value that does not fit is a rejected row.",
        example="int64",
    )

    def __post_init__(self) -> None:
        """Checks that the options fit together.

        Raises:
            OptionError: They do not.
        """
        if (self.source is None) == (self.expression is None):
            told = "both given" if self.source is not None else "both missing"
            raise OptionError("source", f"`source` and `expression` are {told}", "a mapping has exactly one of them")
        if not all(split(self.destination)):
            raise OptionError("destination", f"{self.destination!r} is no path", "write names with dots between them")
        if isinstance(self.default, list | dict):
            raise OptionError("default", "a default is a text, a number or a boolean")


@dataclass(frozen=True, kw_only=True)
class MappingOptions:
    """Chooses, renames, computes and nests columns.

    Only the mapped fields are kept. With `keep_unmapped` the columns that no mapping names as its `source` stay as they are, and a
    destination that exists is replaced where it stands; `user.score` then sets one field of the struct `user`.
    """

    mappings: tuple[FieldMapping, ...] = option(
        doc="The fields of the result, in order.", example=[{"source": "first_name", "destination": "user.firstName"}]
    )
    keep_unmapped: bool = option(default=False, doc="Whether the columns that no mapping takes are kept.")

    def __post_init__(self) -> None:
        """Checks that there is something to map.

        Raises:
            OptionError: There is not.
        """
        if not self.mappings:
            raise OptionError("mappings", "a mapping needs at least one entry", "list {source, destination} pairs")


@dataclass(frozen=True)
class _Leaf:
    """One mapping, compiled."""

    sql: str
    field: Field
    columns: frozenset[str]
    total: bool
    uses_now: bool


def plan(step: Step) -> Planned:
    """Plans a mapping."""
    options = step.node.options
    assert isinstance(options, MappingOptions)  # noqa: S101 - the table of kinds says so
    paths_fit = _check_paths(step, options)
    leaves = [_leaf(step, each, index) for index, each in enumerate(options.mappings)]
    compiled = {
        split(each.destination): leaf for each, leaf in zip(options.mappings, leaves, strict=True) if leaf is not None
    }
    if not paths_fit or len(compiled) < len(leaves):
        return NOTHING
    kept = _kept(options, step.input) if options.keep_unmapped else ()
    if not _fits_kept(step, kept, compiled, options):
        return NOTHING
    fields, columns = _columns((), kept, compiled)
    unknown = step.input.schema is None
    star = f"* {_exclude(options, compiled)}, " if unknown and options.keep_unmapped else ""
    names = [each.name for each in fields]
    select = ", ".join(f"{columns[name]} AS {quoted(name)}" for name in names)
    everything_read = None if unknown and options.keep_unmapped else _reads(kept, compiled)
    return Planned(
        schema=None if unknown and options.keep_unmapped else pa.schema(fields),
        lineage=_lineage(step.input.lineage, kept, compiled, names),
        sql=f"SELECT {star}{select} FROM {{0}}",
        total=all(each.total for each in compiled.values()),
        uses_now=any(each.uses_now for each in compiled.values()),
        reads=(everything_read,),
    )


def _leaf(step: Step, mapping: FieldMapping, index: int) -> _Leaf | None:
    schema = step.input.schema
    place = ("mappings", index)
    found: Field | None = None
    if mapping.source is not None:
        path = _source_path(mapping.source, schema)
        found = None if schema is None else field_at(schema, path)
        written = ".".join("`" + each.replace("`", "``") + "`" for each in path)
        compiled = _source(step, mapping.source, written, (*place, "source"))
    else:
        written = mapping.expression or ""
        compiled = step.compiled(compile_value, written, schema, *place, "expression")
    if compiled is None:
        return None
    field = arriving(found.with_name("")) if found is not None else pa.field("", compiled.type)
    if mapping.cast is not None:
        cast = _cast(step, written, mapping.cast, (*place, "cast"))
        if cast is None:
            return None
        compiled, field = cast
    return _with_default(step, mapping, index, compiled, field)


def _source_path(source: str, schema: pa.Schema | None) -> Path:
    return (source,) if schema is not None and source in schema.names else split(source)


def _source(step: Step, source: str, written: str, place: tuple[str | int, ...]) -> Compiled | None:
    try:
        return compile_value(written, step.input.schema)
    except ExpressionError as error:
        if error.code is Code.UNKNOWN_FIELD:
            hint = error.hint if _WORDS.fullmatch(source) else "what is computed goes into `expression`"
            step.fault(Code.UNKNOWN_COLUMN, error.message, hint, *place)
        elif error.code is Code.EXPRESSION_TYPE:
            step.fault(Code.COLUMN_TYPE, error.message, error.hint, *place)
        else:
            hint = "write a path such as user.email; what is computed goes into `expression`"
            step.fault(Code.EXPRESSION_SYNTAX, f"{source!r} is no path", hint, *place)
        return None


def _cast(step: Step, written: str, name: str, place: tuple[str | int, ...]) -> tuple[Compiled, Field] | None:
    try:
        is_json = family(parse_type(name)) is Family.JSON
    except ValueError as error:
        step.fault(Code.BAD_VALUE, str(error), getattr(error, "hint", ""), *place)
        return None
    try:
        compiled = compile_value(f"cast(({written}) as {name})", step.input.schema)
    except ExpressionError as error:
        step.fault(error.code, error.message, error.hint, *place)
        return None
    return compiled, marked_json("") if is_json else pa.field("", compiled.type)


def _with_default(step: Step, mapping: FieldMapping, index: int, compiled: Compiled, field: Field) -> _Leaf | None:
    sql = braced(compiled.sql)
    if family(field.type) is Family.STRING and not compiled.sql.startswith('"'):
        # What the session calls JSON or UUID leaves as text; a step fused behind this one must see the same.
        sql = f"CAST({sql} AS VARCHAR)"
    if mapping.default is not None:
        literal = constant(mapping.default, field.type)
        if literal is None:
            told = f"{mapping.default!r} is no value of type {show(field.type)}"
            step.fault(Code.COLUMN_TYPE, told, "write a default of the field's type", "mappings", index, "default")
            return None
        sql = f"COALESCE({sql}, {literal})"
    return _Leaf(sql, field, compiled.columns, compiled.total, compiled.uses_now)


def _check_paths(step: Step, options: MappingOptions) -> bool:
    seen: dict[Path, str] = {}
    clean = True
    for index, each in enumerate(options.mappings):
        path = split(each.destination.lower())
        place = ("mappings", index, "destination")
        if path in seen:
            step.fault(Code.DUPLICATE_COLUMN, f"{each.destination!r} is assigned twice", "rename one of them", *place)
            clean = False
        elif (other := next((name for known, name in seen.items() if _nested(known, path)), None)) is not None:
            told = f"{each.destination!r} and {other!r} cannot both be assigned: one lies in the other"
            step.fault(Code.PATH_CONFLICT, told, "assign the whole struct, or its fields", *place)
            clean = False
        seen.setdefault(path, each.destination)
    return clean


def _nested(one: Path, other: Path) -> bool:
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def _kept(options: MappingOptions, relation: Relation) -> tuple[Field, ...]:
    moved = {each.source for each in options.mappings if each.source is not None}
    set_here = {split(each.destination)[0] for each in options.mappings}
    return tuple(each for each in relation.schema or () if each.name not in moved or each.name in set_here)


def _fits_kept(step: Step, kept: tuple[Field, ...], compiled: Mapping[Path, _Leaf], options: MappingOptions) -> bool:
    """Checks that what is kept and what is assigned can stand side by side."""
    clean = True
    for index, path in enumerate(compiled):
        place = ("mappings", index, "destination")
        for each in kept:
            if each.name.lower() != path[0].lower():
                continue
            if each.name != path[0]:
                told = f"{path[0]!r} and the column {each.name!r} that is kept differ only in case"
                step.fault(Code.DUPLICATE_COLUMN, told, "rename it", *place)
                clean = False
            elif not _leads_through_structs(each, path):
                told = f"{options.mappings[index].destination!r} leads into {each.name!r}, which is {show(each.type)}"
                step.fault(Code.COLUMN_TYPE, told, "only a struct has fields", *place)
                clean = False
    return clean


def _leads_through_structs(field: Field, path: Path) -> bool:
    for name in path[1:]:
        if family(field.type) is not Family.STRUCT:
            return family(field.type) is Family.UNKNOWN
        inner = next((each for each in fields_of(field.type) if each.name == name), None)
        if inner is None:
            return True
        field = inner
    return True


def _columns(
    above: Path, kept: tuple[Field, ...], leaves: Mapping[Path, _Leaf]
) -> tuple[tuple[Field, ...], dict[str, str]]:
    """Returns fields and SQL of one level: what is kept there in its place, what is new behind it."""
    heads = dict.fromkeys([*(each.name for each in kept), *(path[0] for path in leaves)])
    fields, columns = [], {}
    for name in heads:
        below = {path[1:]: leaf for path, leaf in leaves.items() if path[0] == name}
        old = next((each for each in kept if each.name == name), None)
        if () in below:
            field, sql = below[()].field, below[()].sql
        elif below:
            inside = fields_of(old.type) if old is not None and family(old.type) is Family.STRUCT else ()
            inner, parts = _columns((*above, name), inside, below)
            field, sql = pa.field(name, pa.struct(list(inner))), pack(parts)
        else:
            assert old is not None  # noqa: S101 - every head is kept or assigned
            field, sql = old, at((*above, name))
        fields.append(field.with_name(name))
        columns[name] = sql
    return tuple(fields), columns


def pack(parts: Mapping[str, str]) -> str:
    """Returns the SQL of a struct with these fields."""
    return "struct_pack(" + ", ".join(f"{quoted(name)} := {sql}" for name, sql in parts.items()) + ")"


def _exclude(options: MappingOptions, compiled: Mapping[Path, _Leaf]) -> str:
    gone = {each.source for each in options.mappings if each.source is not None} | {path[0] for path in compiled}
    return f"EXCLUDE ({', '.join(quoted(each) for each in sorted(gone))})"


def _reads(kept: tuple[Field, ...], compiled: Mapping[Path, _Leaf]) -> frozenset[str]:
    whole = {path[0] for path in compiled if len(path) == 1}
    return frozenset({each.name for each in kept} - whole).union(*(each.columns for each in compiled.values()))


def _lineage(before: Lineage, kept: tuple[Field, ...], compiled: Mapping[Path, _Leaf], names: list[str]) -> Lineage:
    lineage = {}
    for name in names:
        leaves = {path: leaf for path, leaf in compiled.items() if path[0] == name}
        columns = frozenset[str]().union(*(each.columns for each in leaves.values()))
        if (name,) not in leaves and any(each.name == name for each in kept):
            columns |= {name}
        lineage[name] = of_columns(before, columns)
    return lineage


KIND = ProcessorKind(
    kind="mapping",
    title="Choose, rename, compute and nest columns",
    options=MappingOptions,
    min_inputs=1,
    max_inputs=1,
    plan=plan,
    example="""type: mapping
config:
  mappings:
    - {source: first_name, destination: user.firstName}
    - {expression: "lower(email)", destination: user.email}
    - {source: age, destination: user.age, cast: int64, default: 0}
""",
)
