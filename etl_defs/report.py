"""What a stage did, as metadata that people look at and the UI plots; shows no masked column, no secret, and at most ten rows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import pyarrow as pa
from dagster import (
    AssetKey,
    MetadataValue,
    TableColumn,
    TableColumnConstraints,
    TableColumnDep,
    TableColumnLineage,
    TableRecord,
    TableSchema,
)

from dsl.contracts.capabilities import Proof, WriteMode
from dsl.contracts.connectors import Destination
from dsl.contracts.redaction import MASK, scrub
from dsl.plan.logical import Lineage
from engine.report import NodeReport, Reconciliation, StageReport

Metadata: TypeAlias = dict[str, MetadataValue[Any]]

ROWS = 10
CELL = 60
COLUMNS = 20
TYPE = 200
_SECRET = re.compile(
    r"passw|passwd|pwd|secret|token|api_?key|access_?key|private_?key|credential|authorization"
    r"|credit_?card|card_?number|cvv|cvc|iban|(^|_)ssn|social_?security|passport",
    re.IGNORECASE,
)
_PROOFS = {
    Proof.REAL: "proven on the real system",
    Proof.EMULATOR: "proven on an emulator of the system",
    Proof.CONTRACT: "proven against the contract only",
}
_NODES = TableSchema(
    columns=[
        TableColumn("node", "string"),
        TableColumn("kind", "string"),
        TableColumn("seconds", "float"),
        TableColumn("rows in", "int"),
        TableColumn("rows out", "int"),
        TableColumn("filtered", "int"),
        TableColumn("rejected", "int"),
        TableColumn("bytes out", "int"),
    ]
)


def metadata_of(
    report: StageReport,
    destination: Destination,
    *,
    lineage: TableColumnLineage | None = None,
    hidden: frozenset[str] = frozenset(),
    row_count: int | None = None,
    plan: str = "",
    dead_letters: str = "",
) -> Metadata:
    """Returns everything that a materialization of a stage's target shows.

    Args:
        report: What the stage did.
        destination: Where it wrote.
        lineage: The columns' lineage, if it is known.
        hidden: Columns whose values the preview may not show.
        row_count: Rows in the whole target after this run, if they are known.
        plan: The stage as text.
        dead_letters: Where refused rows go.
    """
    found = table_metadata(destination) | _numbers(report)
    if row_count is not None:
        found["dagster/row_count"] = MetadataValue.int(row_count)
    if len(report.schema):
        found["dagster/column_schema"] = MetadataValue.table_schema(table_schema(report.schema))
    if lineage is not None and lineage.deps_by_column:
        found["dagster/column_lineage"] = MetadataValue.column_lineage(lineage)
    found["outcome"] = MetadataValue.text(report.outcome.value)
    found["guarantee"] = MetadataValue.text(guarantee_of(destination))
    found["reconciliation"] = MetadataValue.text(reconciliation_line(report.reconciliation))
    found["time_per_node"] = MetadataValue.table([_node_record(each) for each in report.nodes], _NODES)
    if report.preview.num_rows:
        found["preview"] = MetadataValue.md(preview(report.preview, hidden))
    if report.rejected_by_code:
        found["rejected_by_reason"] = MetadataValue.json(dict(report.rejected_by_code))
        found["dead_letters"] = MetadataValue.text(dead_letters)
    if report.fallbacks:
        found["rows_with_fallback"] = MetadataValue.int(sum(report.fallbacks.values()))
        found["fallbacks"] = MetadataValue.json(dict(report.fallbacks))
    if plan:
        found["plan"] = MetadataValue.md(fenced(plan, "sql"))
    return found


def table_metadata(destination: Destination) -> Metadata:
    """Returns the names under which Dagster files a table: its own and its system's."""
    parts = destination.physical_name
    return {
        "dagster/table_name": MetadataValue.text(".".join(parts[-3:])),
        "dagster/storage_kind": MetadataValue.text(parts[0]),
    }


def _numbers(report: StageReport) -> Metadata:
    books = report.reconciliation
    rate = books.written / report.seconds if report.seconds > 0 else 0.0
    whole = {
        "rows_read": books.read,
        "rows_written": books.written,
        "rows_filtered": books.filtered,
        "rows_rejected": books.rejected,
        "bytes_read": sum(each.bytes_out for each in report.nodes if each.kind in {"scan", "exchange_scan"}),
        "bytes_written": report.bytes_written,
        "epochs": report.epochs,
        "last_epoch": report.epoch,
    }
    found: Metadata = {name: MetadataValue.int(value) for name, value in whole.items()}
    found["seconds"] = MetadataValue.float(round(report.seconds, 3))
    found["rows_per_second"] = MetadataValue.float(round(rate, 1))
    return found


def _node_record(node: NodeReport) -> TableRecord:
    return TableRecord(
        {
            "node": ", ".join(node.nodes),
            "kind": node.kind.replace("_", " "),
            "seconds": round(node.seconds, 3),
            "rows in": node.rows_in,
            "rows out": node.rows_out,
            "filtered": node.filtered,
            "rejected": node.rejected,
            "bytes out": node.bytes_out,
        }
    )


def reconciliation_line(books: Reconciliation) -> str:
    """Returns the books in one line: `read 5 = written 3 + filtered 1 + rejected 1`."""
    came = f"read {books.read:,}"
    went = f"written {books.written:,} + filtered {books.filtered:,} + rejected {books.rejected:,}"
    if books.expanded:
        came += f" + expanded {books.expanded:,}"
    if books.folded_in or books.folded_out:
        came += f" + out of joins and aggregates {books.folded_out:,}"
        went += f" + into joins and aggregates {books.folded_in:,}"
    return f"{came} {'=' if books.balanced else '≠'} {went}"


def guarantee_of(destination: Destination) -> str:
    """Returns what holds when a run of this destination is killed, and how that was proven."""
    able = destination.capabilities
    keyed = destination.write_mode in {WriteMode.UPSERT, WriteMode.MERGE}
    promise = able.keyed_guarantee if keyed and able.keyed_guarantee else able.guarantee
    return f"{promise.value.replace('_', ' ')} ({_PROOFS[able.proof]})"


def known_row_count(report: StageReport, destination: Destination, before: int | None) -> int | None:
    """Returns how many rows the target holds now, as far as Headrace can tell without asking it.

    Args:
        report: What the stage did.
        destination: Where it wrote.
        before: The row count that the last materialization told, if there was one.
    """
    written = report.reconciliation.written
    if destination.write_mode is WriteMode.OVERWRITE:
        return written
    first = report.epoch == report.epochs
    if destination.write_mode is WriteMode.APPEND:
        return written if first else None if before is None else before + written
    if report.stats.inserted < 0:
        return None
    return report.stats.inserted if first else None if before is None else before + report.stats.inserted


def table_schema(schema: pa.Schema) -> TableSchema:
    """Returns an Arrow schema as Dagster shows it."""
    return TableSchema(
        columns=[
            TableColumn(
                name=each.name,
                type=_shortened(str(each.type), TYPE),
                constraints=TableColumnConstraints(nullable=each.nullable),
            )
            for each in schema
        ]
    )


def column_lineage(lineage: Lineage, keys: Mapping[str, AssetKey]) -> TableColumnLineage | None:
    """Returns the lineage of columns between assets, or None while it is unknown.

    Args:
        lineage: Column -> the (source node, column) pairs it is computed from.
        keys: Source node -> the asset it reads.
    """
    found = {
        column: [TableColumnDep(asset_key=keys[node], column_name=name) for node, name in origins if node in keys]
        for column, origins in lineage.items()
    }
    return TableColumnLineage(found) if any(found.values()) else None


def is_secret_name(name: str) -> bool:
    """Tells whether a column is named like something that nobody should read in a preview."""
    return _SECRET.search(name) is not None


def preview(rows: pa.Table, hidden: frozenset[str] = frozenset()) -> str:
    """Returns the first rows as a Markdown table, cells shortened, secrets hidden."""
    names = rows.column_names[:COLUMNS]
    lines = [_line(names), _line(["---"] * len(names))]
    held = rows.select(names).slice(0, ROWS)
    shown = ([_cell(name, _plain(held.column(name)[row]), hidden) for name in names] for row in range(held.num_rows))
    lines += map(_line, shown)
    if rows.num_columns > COLUMNS:
        lines.append(f"\n{rows.num_columns - COLUMNS} more columns are not shown.")
    return "\n".join(lines)


def _plain(scalar: Any) -> object:
    """Returns a value as Python has it, or Arrow's number where Python has none: the year 12000, a nanosecond."""
    try:
        return scalar.as_py()
    except (ArithmeticError, ValueError):
        return str(getattr(scalar, "value", "…"))


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(each.replace("|", "\\|") for each in cells) + " |"


def _cell(name: str, value: object, hidden: frozenset[str]) -> str:
    veiled = _veil(name, value, hidden)
    if veiled is None:
        return ""
    text = veiled if isinstance(veiled, str) else json.dumps(veiled, ensure_ascii=False, default=str)
    return _shortened(" ".join(scrub(text).split()), CELL)


def _veil(path: str, value: object, hidden: frozenset[str]) -> object:
    """Replaces what is hidden, at any depth of a struct."""
    if value is not None and (path in hidden or is_secret_name(path.rsplit(".", 1)[-1])):
        return MASK
    if isinstance(value, dict):
        return {key: _veil(f"{path}.{key}", each, hidden) for key, each in value.items()}
    if isinstance(value, list):
        return [_veil(path, each, hidden) for each in value[:ROWS]]
    return value


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def fenced(text: str, language: str = "") -> str:
    """Returns a text as a Markdown code block."""
    return f"```{language}\n{scrub(text).replace('```', '` ` `').rstrip()}\n```"
