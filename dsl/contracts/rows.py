"""What flows: batches of Arrow rows with the state to resume after them, and rows that failed; no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from dsl.contracts.state import State


@dataclass(frozen=True)
class Batch:
    """Rows and the state that resumes *after* them.

    Attributes:
        rows: Arrow rows, any number, of the reader's schema.
        state: Where to resume once these rows are committed; None when no commit may be cut here
            (the rows of a join, an aggregate or a page that is not whole).
    """

    rows: pa.RecordBatch
    state: State | None


@dataclass(frozen=True)
class Rejection:
    """One row that failed, and why.

    Attributes:
        row: A record batch of exactly one row, as it entered the node that refused it.
        reason: One sentence, without the row's secrets.
        code: A stable short name of the fault, for grouping (`cast`, `not_null`, `http_422`).
        node: The node of the workflow that refused it.
    """

    row: pa.RecordBatch
    reason: str
    code: str
    node: str


@dataclass(frozen=True)
class Outcome:
    """What an operator did with a batch: every row that entered is in exactly one of the three.

    Attributes:
        passed: The rows that go on.
        failed: The rows that were refused.
        filtered: How many rows were left out on purpose.
        expanded: How many rows came out beyond one for each that went in (unnest).
        fallbacks: How many of the passed rows go on with something else than what was asked for, by what stood in.
    """

    passed: pa.RecordBatch
    failed: tuple[Rejection, ...] = ()
    filtered: int = 0
    expanded: int = 0
    fallbacks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class WriteStats:
    """What one commit made visible.

    Attributes:
        rows: Rows inserted, updated or deleted.
        bytes: Bytes sent or written, as the connector counts them.
        inserted: Of those, new rows; -1 where the system does not tell.
        updated: Of those, changed rows; -1 where the system does not tell.
    """

    rows: int
    bytes: int = 0
    inserted: int = -1
    updated: int = -1
