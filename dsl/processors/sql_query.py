"""The query of a `sql` node: parsed and judged here; what was judged is what runs, written out again from the tree."""

from __future__ import annotations

import re
from functools import lru_cache

import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage
from sqlglot.optimizer.qualify import qualify

from dsl.codes import Code
from dsl.diagnostics import did_you_mean
from dsl.expressions import parse_type
from dsl.expressions.types import Family, duckdb_name, exported, family
from dsl.processors.columns import Field, braced, marked_json, quoted, union
from dsl.processors.sql import SqlOptions
from dsl.processors.step import NOTHING, Planned, Relation, Step

DIALECT = "duckdb,normalization_strategy=case_sensitive"
_FORBIDDEN = re.compile(
    r"read_.*|.*_scan.*|scan_.*|glob|getenv|getvariable|setvariable|current_setting|query|query_table|duckdb_.*|pragma_.*|sniff_.*"
    r"|parquet_.*|nextval|currval|setseed|rand|random|.*uuid.*|today|which_secret|txid_current|version|in_search_path"
    r"|current_.*|get_current_.*|localtime.*|session_user|user|json_execute_.*|sql_auto_complete|load_.*|install_.*|st_.*|icu_.*"
    r"|transaction_timestamp|checkpoint|force_checkpoint|summary|test_.*|add_parquet_key|to_arrow.*|write_.*|copy_.*|seq_scan",
    re.IGNORECASE,
)
_ANSI = re.compile(r"\x1b\[\d*m")
_TOKEN = re.compile(r"<Token .*?text: (.*?), line: .*?>")
_NOW = frozenset({"now", "get_current_timestamp", "current_timestamp", "transaction_timestamp"})
_REFUSED: dict[type[exp.Expr], str] = {
    exp.Parameter: "parameters",
    exp.Placeholder: "parameters",
    exp.TableSample: "samples, which differ from run to run",
    exp.Into: "INTO",
    exp.Describe: "DESCRIBE",
    exp.Pivot: "PIVOT",
    exp.Command: "commands",
    exp.DDL: "statements that change something",
    exp.DML: "statements that change something",
    exp.Lock: "locks",
}


def plan_query(step: Step) -> Planned:
    """Plans a query."""
    options = step.node.options
    assert isinstance(options, SqlOptions)  # noqa: S101 - the table of kinds says so
    query = _parsed(step, options.query)
    if query is None:
        return NOTHING
    uses_now = _bind_now(query)
    if not (_allowed(step, query) and _known_tables(step, query)):
        return NOTHING
    schema, origins = _described(step, query, options)
    if schema is None and any(each.schema is not None for each in step.inputs) and not step_knows_nothing(step):
        return NOTHING
    sql = f"({braced(_written(query))})"
    named = {name: step.inputs.index(each) for name, each in _named(step).items()}
    views = ", ".join(f"{quoted(name)} AS (SELECT * FROM {{{index}}})" for name, index in named.items())
    select = _casts(options) if options.columns else "*"
    return Planned(
        schema=schema,
        lineage=origins,
        sql=f"WITH {views} SELECT {select} FROM {sql} AS q",
        row_local=False,
        filters=True,
        expands=True,
        uses_now=uses_now,
        reads=tuple(None for _ in step.inputs),
    )


def step_knows_nothing(step: Step) -> bool:
    """Tells whether the schema of any input is unknown, so that the query's columns cannot be checked."""
    return any(each.schema is None for each in step.inputs)


def _named(step: Step) -> dict[str, Relation]:
    """Returns the tables that the query may read."""
    if len(step.inputs) == 1:
        return {"input": step.input, step.input.name: step.input}
    return {each.name: each for each in step.inputs}


@lru_cache(maxsize=256)
def _parse(text: str) -> tuple[exp.Expr, ...]:
    return tuple(each for each in sqlglot.parse(text, dialect=DIALECT) if each is not None)


def _parsed(step: Step, text: str) -> exp.Query | None:
    try:
        found = _parse(text)
    except SqlglotError as error:
        told = f"the query cannot be parsed: {_first_line(error)}"
        step.fault(Code.SQL, told, "it is one SELECT in DuckDB's dialect", "query")
        return None
    if len(found) != 1 or not isinstance(found[0], exp.Query):
        told = "several statements" if len(found) > 1 else "no SELECT"
        step.fault(Code.SQL, f"the query is {told}", "write one SELECT", "query")
        return None
    return found[0].copy()


def _first_line(error: SqlglotError) -> str:
    line = _ANSI.sub("", str(error)).splitlines()[0]
    return _TOKEN.sub(r"'\1'", line).split(". Line")[0]


def _bind_now(query: exp.Query) -> bool:
    """Puts the run's logical time in the place of the clock."""
    found = [each for each in query.find_all(exp.Func) if _name(each) in _NOW]
    for each in found:
        each.replace(exp.Var(this="$now"))
    return bool(found)


def _name(function: exp.Func) -> str:
    if isinstance(function, exp.Anonymous | exp.AnonymousAggFunc):
        return str(function.this).lower()
    return function.sql_name().lower()


def _spelt(function: exp.Func) -> str:
    """Returns a function's name as it will be written."""
    return str(function.sql(dialect="duckdb")).split("(", 1)[0].lower()


def _allowed(step: Step, query: exp.Query) -> bool:
    for node in query.walk():
        refused = next((told for kind, told in _REFUSED.items() if isinstance(node, kind)), "")
        if refused:
            step.fault(Code.SQL, f"the query uses {refused}", "leave it out", "query")
            return False
        written = _spelt(node) if isinstance(node, exp.Func) else ""
        if isinstance(node, exp.Func) and (_FORBIDDEN.fullmatch(_name(node)) or _FORBIDDEN.fullmatch(written)):
            hint = "a query sees its inputs and the run's logical time, now()"
            step.fault(Code.SQL, f"the query calls {written}()", hint, "query")
            return False
    return True


def _known_tables(step: Step, query: exp.Query) -> bool:
    inputs = list(_named(step))
    own = {each.alias for each in query.find_all(exp.CTE)}
    if shadowed := sorted(own & set(inputs)):
        step.fault(
            Code.SQL, f"the query gives {shadowed[0]!r} another meaning, which is an input", "rename it", "query"
        )
        return False
    for table in query.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            step.fault(Code.SQL, "the query calls a table function", "it may only read its inputs", "query")
            return False
        qualified = bool(table.args.get("db") or table.args.get("catalog"))
        if qualified or table.name not in own | set(inputs):
            told = f"the query reads {table.sql(dialect=DIALECT)}, which is no input of {step.node.name!r}"
            step.fault(Code.SQL, told, did_you_mean(table.name, inputs), "query")
            return False
    return True


def _described(
    step: Step, query: exp.Query, options: SqlOptions
) -> tuple[pa.Schema | None, dict[str, tuple[tuple[str, str], ...]]]:
    """Returns the columns of the query and where they come from; None where they are unknown or at fault."""
    declared = pa.schema([_declared(name, kind) for name, kind in options.columns.items()]) if options.columns else None
    if step_knows_nothing(step):
        return declared, {}
    types: dict[str, object] = {name: dict.fromkeys(each.names, "UNKNOWN") for name, each in _named(step).items()}
    try:
        full = qualify(
            query.copy(), dialect=DIALECT, schema=types, validate_qualify_columns=True, quote_identifiers=True
        )
    except SqlglotError as error:
        told = f"the query cannot be planned: {_first_line(error)}"
        step.fault(Code.SQL, told, "names are case-sensitive", "query")
        return None, {}
    names = full.named_selects
    if not all(names) or "*" in names:
        return declared, {}
    if not step.distinct(tuple((each, ("query",)) for each in names)):
        return None, {}
    if missing := [each for each in options.columns if each not in names]:
        hint = did_you_mean(missing[0], names)
        step.fault(Code.UNKNOWN_COLUMN, f"the query has no column {missing[0]!r}", hint, "columns", missing[0])
        return None, {}
    if declared is not None:
        names = list(options.columns)
    relations = _named(step)
    described = [_column(name, full, types, relations) for name in names]
    schema = declared or pa.schema([field.with_name(name) for name, (field, _) in zip(names, described, strict=True)])
    return schema, {name: pairs for name, (_, pairs) in zip(names, described, strict=True)}


def _declared(name: str, kind: str) -> Field:
    parsed = parse_type(kind)
    return marked_json(name) if family(parsed) is Family.JSON else pa.field(name, exported(parsed))


def _column(
    name: str, query: exp.Expr, types: dict[str, object], relations: dict[str, Relation]
) -> tuple[Field, tuple[tuple[str, str], ...]]:
    """Returns the field of one column, typed where it is only passed on, and where it comes from."""
    unknown = pa.field(name, pa.null())
    try:
        root = lineage(exp.column(exp.to_identifier(name, quoted=True)), query.copy(), schema=types, dialect=DIALECT)
    except (SqlglotError, ValueError):
        return unknown, union(*(each.lineage for each in relations.values()))
    ends = [each for each in root.walk() if not each.downstream and isinstance(each.source, exp.Table)]
    pairs = {pair for each in ends for pair in _origin(each, relations)}
    passed_on = len(ends) == 1 and all(
        isinstance(each.expression.unalias(), exp.Column) for each in root.walk() if each.downstream
    )
    field = unknown
    if passed_on and (found := relations.get(ends[0].source.name)) is not None and found.schema is not None:
        column = _column_name(ends[0])
        field = found.schema.field(column) if column in found.names else unknown
    return field, tuple(sorted(pairs))


def _origin(end: Node, relations: dict[str, Relation]) -> tuple[tuple[str, str], ...]:
    relation = relations.get(end.source.name)
    return () if relation is None else tuple(relation.lineage.get(_column_name(end), ()))


def _column_name(end: Node) -> str:
    return exp.to_column(end.name).name


def _written(query: exp.Query) -> str:
    return query.sql(dialect="duckdb", identify=True, comments=False)


def _casts(options: SqlOptions) -> str:
    parts = []
    for name, kind in options.columns.items():
        parsed = parse_type(kind)
        target = "VARCHAR" if family(parsed) is Family.JSON else duckdb_name(parsed)
        parts.append(f"CAST(q.{quoted(name)} AS {target}) AS {quoted(name)}")
    return ", ".join(parts)
