"""How a deletion travels: a hidden column that says of each row what happened to it, from the reader to the writer; no behaviour."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import pyarrow as pa

OPERATION: Final = "_headrace_op"
"""The hidden column of rows that are changes: an `Operation` in each row. No expression can name it."""

LOGGED: Final = "_op"
"""The column that it becomes where changes are appended, as a log of them."""


class Deletes(StrEnum):
    """What a source tells of rows that are deleted.

    `ignored`: nothing; they stay at the destination.
    `soft_column`: a column of the source says so (`deleted_at`).
    `full_compare`: now and then all its rows are compared with those of the destination.
    `cdc`: the system's own log of changes.
    """

    IGNORED = "ignored"
    SOFT_COLUMN = "soft_column"
    FULL_COMPARE = "full_compare"
    CDC = "cdc"


class Operation(StrEnum):
    """What one row of a stream of changes says.

    `insert`, `update`: the row as it stands afterwards. `upsert`: one or the other. `delete`: its key is gone; other columns may be NULL.
    `present`: the row is there, as a full comparison found it: it is written only where there is none of its key.
    Three say something of the whole table, and their columns are NULL: `truncate`: all rows are gone. `compare`: a full comparison
    begins. `sweep`: it has ended, and what was not `present` since `compare` is gone.
    """

    INSERT = "insert"
    UPDATE = "update"
    UPSERT = "upsert"
    DELETE = "delete"
    PRESENT = "present"
    TRUNCATE = "truncate"
    COMPARE = "compare"
    SWEEP = "sweep"


WRITTEN: Final = frozenset({Operation.INSERT, Operation.UPDATE, Operation.UPSERT})
"""Those whose row is written."""

WHOLE: Final = frozenset({Operation.TRUNCATE, Operation.COMPARE, Operation.SWEEP})
"""Those that say something of the whole table."""


def with_operation(schema: pa.Schema) -> pa.Schema:
    """Returns the schema of rows that are changes, given that of the rows; the hidden column is the last one."""
    return schema if OPERATION in schema.names else schema.append(pa.field(OPERATION, pa.string()))


def without_operation(schema: pa.Schema) -> pa.Schema:
    """Returns the schema of the rows, given that of changes."""
    return pa.schema([each for each in schema if each.name != OPERATION])
