"""Rows that are changes on their way: which steps carry them, and what destinations make of them; knows no connector, runs nothing.

A change keeps its meaning only if it comes through alone, in order, and with its key. So `mapping` and `mask` pass its operation on, and a
`filter` turns the update of a row that it no longer keeps into a deletion. All other steps are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from dsl.codes import Code
from dsl.contracts.capabilities import WriteMode
from dsl.contracts.changes import LOGGED, OPERATION, Deletes, Operation, with_operation, without_operation
from dsl.contracts.connectors import Destination
from dsl.contracts.policies import OnError
from dsl.processors.columns import quoted, text
from dsl.processors.step import NOTHING, Planned, Relation, Step

_FILTER: Final = "SELECT * FROM {0} WHERE "
_FROM: Final = " FROM {0}"
_OP: Final = quoted(OPERATION)


def hidden(relation: Relation) -> Relation:
    """Returns a relation as expressions see it: without the operation."""
    return relation if relation.schema is None else replace(relation, schema=without_operation(relation.schema))


def carried(step: Step, done: Planned, tells: Deletes) -> Planned:
    """Returns a step that passes the operation of each row on; notes why it cannot.

    Args:
        step: The step, whose relations are `hidden`.
        done: What it is without the operation.
        tells: How its rows tell of deletions.
    """
    carrier = _CARRIERS.get(step.node.kind)
    if carrier is None:
        told = f"{step.node.kind} cannot carry the deletions that {step.input.name!r} tells of"
        step.fault(Code.CHANGES, told, "only mapping, filter and mask can; or declare deletes: ignored at the source")
        return NOTHING
    if done is NOTHING:
        return done
    refuses = not done.total and done.processor is None and step.node.policies.on_error is not OnError.FAIL
    if tells is Deletes.FULL_COMPARE and refuses:
        told = f"a row that {step.node.name!r} refuses would look as if it had been deleted at the source"
        step.fault(Code.CHANGES, told, "set on_error: fail there, or tell deletions by soft_column", "on_error")
    return carrier(step, done)


def _filtered(step: Step, done: Planned) -> Planned:
    del step
    condition = done.sql.removeprefix(_FILTER)
    kept, moved = f"COALESCE({condition}, false)", _listed(Operation.UPDATE, Operation.UPSERT)
    operation = f"CASE WHEN {_OP} IN ({moved}) AND NOT {kept} THEN {text(Operation.DELETE)} ELSE {_OP} END"
    return replace(
        done,
        schema=None if done.schema is None else with_operation(done.schema),
        sql=f"SELECT * REPLACE ({operation} AS {_OP}) FROM {{0}} "
        f"WHERE {kept} OR {_OP} NOT IN ({_listed(Operation.INSERT, Operation.PRESENT)})",
        reads=_with_operation(done.reads),
    )


def _mapped(step: Step, done: Planned) -> Planned:
    starred = step.input.schema is None and done.schema is None
    sql = done.sql if starred else f"{done.sql.removesuffix(_FROM)}, {_OP} AS {_OP}{_FROM}"
    return replace(
        done,
        schema=None if done.schema is None else with_operation(done.schema),
        sql=sql,
        reads=_with_operation(done.reads),
    )


def _masked(step: Step, done: Planned) -> Planned:
    del step
    return replace(
        done,
        schema=None if done.schema is None else with_operation(done.schema),
        reads=_with_operation(done.reads),
    )


_CARRIERS: Final[Mapping[str, Callable[[Step, Planned], Planned]]] = {
    "filter": _filtered,
    "mapping": _mapped,
    "mask": _masked,
}


def log_of(relation: Relation) -> Planned:
    """Plans what makes a log of changes: the operation becomes a column that everybody sees."""
    schema = relation.schema
    if schema is not None:
        schema = without_operation(schema).append(schema.field(OPERATION).with_name(LOGGED))
    sql = f"SELECT * EXCLUDE ({_OP}), {_OP} AS {quoted(LOGGED)} FROM {{0}}"
    return Planned(schema, relation.lineage, sql, total=True, reads=(None,))


def admit(step: Step, relation: Relation, destination: Destination, tells: Deletes) -> bool:
    """Tells whether a destination can do what changes say, noting why it cannot."""
    mode = destination.write_mode
    if mode is WriteMode.MERGE:
        if destination.capabilities.compares or tells is Deletes.SOFT_COLUMN:
            return True
        told = f"{step.node.kind} cannot compare all rows or empty its table, as deletes: {tells} of a source may ask"
        step.fault(Code.CAPABILITY, told, "tell deletions by soft_column", "write_mode")
        return False
    if mode is WriteMode.APPEND and tells is not Deletes.FULL_COMPARE:
        if LOGGED in relation.names:
            told = f"{LOGGED!r} is what the operation of each row is called here, and there is a column of that name"
            step.fault(Code.DUPLICATE_COLUMN, told, "rename it in a mapping")
        return True
    told = f"write_mode {mode} cannot delete the rows that are deleted at the source"
    asked = "write_mode: merge" + ("" if tells is Deletes.FULL_COMPARE else " (or append, for a log of changes)")
    step.fault(Code.CHANGES, told, f"{asked}, or declare deletes: ignored at the source", "write_mode")
    return False


def _listed(*operations: Operation) -> str:
    return ", ".join(text(each) for each in operations)


def _with_operation(reads: tuple[frozenset[str] | None, ...]) -> tuple[frozenset[str] | None, ...]:
    return tuple(None if each is None else each | {OPERATION} for each in reads)
