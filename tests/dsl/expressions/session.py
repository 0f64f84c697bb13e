"""A locked DuckDB session for the tests of expressions; the only place here that runs SQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from dsl.expressions import Compiled, CompiledTemplate


def schema_of(columns: list[tuple[str, Any]]) -> pa.Schema:
    """Builds a schema of names and types."""
    return pa.schema(columns)


NOW = datetime(2024, 2, 29, 13, 14, 15, tzinfo=UTC)

SCHEMA = schema_of(
    [
        ("a", pa.int64()),
        ("b", pa.int64()),
        ("i", pa.int32()),
        ("n", pa.int8()),
        ("w", pa.uint16()),
        ("x", pa.float64()),
        ("y", pa.float64()),
        ("d", pa.decimal128(10, 2)),
        ("s", pa.string()),
        ("t", pa.string()),
        ("p", pa.bool_()),
        ("q", pa.bool_()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us")),
        ("tz", pa.timestamp("us", tz="UTC")),
        ("l", pa.list_(pa.string())),
        ("items", pa.list_(pa.struct([("name", pa.string()), ("price", pa.float64())]))),
        (
            "user",
            pa.struct([("email", pa.string()), ("Age", pa.int32()), ("home", pa.struct([("city", pa.string())]))]),
        ),
        ("labels", pa.map_(pa.string(), pa.int64())),
        ("odd name", pa.int64()),
    ]
)


class Session:
    """DuckDB as the engine uses it: in UTC, without access to anything outside, its configuration locked."""

    def __init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        self.db = duckdb.connect()
        for setting in (
            "TimeZone = 'UTC'",
            "threads = 1",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self.db.execute(f"SET {setting}")

    def column(self, compiled: Compiled | CompiledTemplate, rows: pa.Table) -> pa.ChunkedArray[Any]:
        """Evaluates over all rows."""
        parameters = {"now": NOW} if compiled.uses_now else None
        self.db.register("input", rows)
        result = self.db.sql(f'SELECT {compiled.sql} AS "result" FROM input', params=parameters)
        found: pa.ChunkedArray[Any] = result.to_arrow_table().column("result")
        return found

    def value(self, compiled: Compiled | CompiledTemplate, row: dict[str, object] | None = None) -> object:
        """Evaluates over one row of `SCHEMA`; absent fields are NULL."""
        table = pa.Table.from_pylist([{} if row is None else row], schema=SCHEMA)
        return self.column(compiled, table)[0].as_py()
