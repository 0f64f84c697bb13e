"""What a materialization shows. Runs no engine."""

from dataclasses import replace

import pyarrow as pa
import pytest
from dagster import AssetKey

from dsl.contracts.rows import WriteStats
from engine.report import Reconciliation, StageOutcome, StageReport
from etl_defs.report import (
    column_lineage,
    fenced,
    is_secret_name,
    metadata_of,
    preview,
    reconciliation_line,
    table_schema,
)
from resources.memory.resource import MemoryConnection, MemoryDestination


def report_of(
    *,
    read: int = 5,
    written: int = 5,
    rejected: int = 0,
    epoch: int = 1,
    epochs: int = 1,
    schema: pa.Schema | None = None,
) -> StageReport:
    return StageReport(
        stage="target",
        outcome=StageOutcome.FINISHED,
        nodes=(),
        reconciliation=Reconciliation(read=read, written=written, rejected=rejected),
        stats=WriteStats(written),
        epochs=epochs,
        epoch=epoch,
        state=None,
        resumed=False,
        attempts=1,
        seconds=1.0,
        schema=schema or pa.schema([("id", pa.int64())]),
        preview=pa.table({"id": [1]}),
    )


def test_a_preview_has_ten_rows_of_bounded_cells() -> None:
    rows = pa.table({"id": range(50), "text": ["x" * 500] * 50})
    lines = preview(rows).splitlines()
    assert len(lines) == 12
    assert max(map(len, lines)) < 90


def test_a_preview_hides_secrets_at_any_depth() -> None:
    rows = pa.table(
        {
            "api_key": ["k-1"],
            "user": [{"name": "Ann", "password": "hunter2", "cards": [{"credit_card": "4111"}]}],
            "email": ["ann@example.com"],
        }
    )
    text = preview(rows, frozenset({"email"}))
    assert "Ann" in text
    assert not [each for each in ("k-1", "hunter2", "4111", "ann@") if each in text]


def test_a_preview_hides_a_nested_column_that_is_masked() -> None:
    rows = pa.table({"user": [{"name": "Ann", "email": "ann@example.com"}]})
    assert "ann@" not in preview(rows, frozenset({"user.email"}))


def test_a_preview_breaks_no_table() -> None:
    lines = preview(pa.table({"a|b": ["x|y\nz"], "c": [None]})).splitlines()
    assert lines[0] == "| a\\|b | c |"
    assert lines[2] == "| x\\|y z |  |"


def test_a_preview_says_which_columns_it_leaves_out() -> None:
    assert "5 more columns" in preview(pa.table({f"c{number}": [1] for number in range(25)}))


@pytest.mark.parametrize("name", ["password", "user_Password", "access_token", "credit_card_number", "ssn", "apiKey"])
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["email", "session_count", "amount", "lesson", "card"])
def test_names_that_are_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


def test_the_books_in_one_line() -> None:
    assert reconciliation_line(Reconciliation(read=1005, written=1000, filtered=3, rejected=2)) == (
        "read 1,005 = written 1,000 + filtered 3 + rejected 2"
    )
    assert "≠" in reconciliation_line(Reconciliation(read=2, written=1))


def test_lineage_of_columns_leads_to_assets() -> None:
    key = AssetKey(["postgres", "users"])
    found = column_lineage(
        {"full": (("users", "first"), ("users", "last")), "other": (("elsewhere", "x"),)}, {"users": key}
    )
    assert found is not None
    assert [each.column_name for each in found.deps_by_column["full"]] == ["first", "last"]
    assert {each.asset_key for each in found.deps_by_column["full"]} == {key}
    assert column_lineage({}, {"users": key}) is None


def test_a_schema_as_dagster_shows_it() -> None:
    user = pa.field("user", pa.struct([pa.field("a", pa.string())]))
    schema = table_schema(pa.schema([pa.field("id", pa.int64(), nullable=False), user]))
    assert [(each.name, each.type, each.constraints.nullable) for each in schema.columns] == [
        ("id", "int64", False),
        ("user", "struct<a: string>", True),
    ]


def test_a_block_cannot_be_left_from_inside() -> None:
    assert fenced("a ``` b").count("```") == 2


def test_a_materialization_counts_rows_with_a_fallback() -> None:
    destination = MemoryDestination(connection=MemoryConnection(space="s"), table="t")
    found = metadata_of(replace(report_of(), fallbacks={"ask/stale_cache": 12, "ask/default": 3}), destination)
    assert found["rows_with_fallback"].value == 15
    assert found["fallbacks"].value == {"ask/stale_cache": 12, "ask/default": 3}
    assert "fallbacks" not in metadata_of(report_of(), destination)


def test_a_preview_shows_dates_that_python_has_not() -> None:
    days = pa.array([0, 2**31 - 1], pa.int32()).cast(pa.date32())
    assert preview(pa.table({"d": days})).splitlines()[2:] == ['| "1970-01-01" |', "| 2147483647 |"]
