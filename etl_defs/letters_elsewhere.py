"""Dead letters that a document keeps at a connection: taken over into the deployment's store, where they can be worked with.

The table stays as it is: it is the workflow's record of what was refused. What is done about a letter stands in the store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from dsl.bound import BoundDeadLetters
from dsl.contracts.connectors import Destination, ReadRequest, Source
from dsl.contracts.errors import FatalError, HeadraceError, SchemaError
from dsl.contracts.rows import Rejection
from dsl.contracts.spec import OptionError, spec_of
from dsl.contracts.stores import DeadLetter
from dsl.endpoints import PLACES
from engine.deadletter import from_text
from resources.registry import InstalledCatalog
from resources.stores.dead_letters import LocalDeadLetters

AT_ONCE = 1_000
_HINT = (
    "look at them there with the system's own means; without `destination` under `dead_letter` they are kept where "
    "`headrace dlq` can work with them"
)


def take_over(letters: BoundDeadLetters, workflow: str, store: LocalDeadLetters) -> int:
    """Adds the letters of a workflow that stand at a connection to the store; tells how many were new.

    Args:
        letters: Where they stand.
        workflow: The workflow's own name.
        store: The deployment's store.

    Raises:
        FatalError: The connection can be written but not read; says what to do.
        UnavailableError: It cannot be reached.
    """
    source = source_of(letters.destination)
    try:
        source.discover_schema()
    except SchemaError:
        return 0  # nothing was refused yet, so nobody has made the table
    added, held = 0, list[DeadLetter]()
    for each in _read(source, workflow):
        held.append(each)
        if len(held) >= AT_ONCE:
            added += store.add(held)
            held.clear()
    return added + store.add(held)


def source_of(destination: Destination) -> Source:
    """Returns the source that reads what a destination writes.

    Raises:
        FatalError: There is none.
    """
    catalog = InstalledCatalog()
    place = " / ".join(destination.physical_name)
    for name in catalog.kinds():
        try:
            kind = catalog.get(name)
        except HeadraceError:
            continue  # a connector that cannot be loaded is not the one that made this object
        if kind is None or kind.destination is not type(destination):
            continue
        options = {each.name: each for each in spec_of(kind.source).options} if kind.source else {}
        where = next((each for each in PLACES if each in options and hasattr(destination, each)), None)
        if kind.source is None or where is None:
            break
        shared = {
            name: getattr(destination, name)
            for name in ("schema", "format")
            if name in options and hasattr(destination, name)
        }
        try:
            return kind.source(connection=destination.connection, **{where: getattr(destination, where)}, **shared)
        except (OptionError, TypeError):
            break
    raise FatalError("the connection of the dead letters can be written, but not read back", where=place, hint=_HINT)


def _read(source: Source, workflow: str) -> Iterator[DeadLetter]:
    with source.read(ReadRequest(logical_time=datetime.now(UTC)), None) as reader:
        missing = [each for each in ("id", "workflow", "stage", "row") if each not in reader.schema.names]
        if missing:
            where = " / ".join(source.physical_name)
            raise FatalError(f"the table of the dead letters has no column {missing[0]!r}", where=where, hint=_HINT)
        for batch in reader:
            for row in batch.rows.to_pylist():
                if row["workflow"] == workflow:
                    yield _letter(row)


def _letter(row: dict[str, Any]) -> DeadLetter:
    at = row["rejected_at"]
    at = datetime.fromisoformat(at) if isinstance(at, str) else at
    return DeadLetter(
        id=row["id"],
        # A stage writes one part of its stream; the table does not say which, and there is one.
        key=f"{row['workflow']}/{row['stage']}/0",
        epoch=int(row["epoch"]),
        rejection=Rejection(_row(row), row["reason"], row["code"], row["node"]),
        rejected_at=at if at.tzinfo else at.replace(tzinfo=UTC),
        run_id=row["run_id"],
        entry=row.get("entry") or "",
        fingerprint=row.get("fingerprint") or "",
    )


def _row(row: dict[str, Any]) -> pa.RecordBatch:
    exact = row.get("arrow")
    if exact:
        return from_text(exact)
    # Kept before rows were kept exactly: it can be looked at, and a plan will say what does not fit.
    shown = json.loads(row["row"])
    values = [None if each is None else each if isinstance(each, str) else json.dumps(each) for each in shown.values()]
    return pa.RecordBatch.from_arrays([pa.array([each], pa.string()) for each in values], names=list(shown))
