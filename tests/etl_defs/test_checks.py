"""The asset checks of a destination. Runs no engine."""

from dataclasses import replace

import pyarrow as pa
import pytest
from dagster import AssetCheckSeverity, AssetKey

from dsl.contracts.errors import BudgetExceededError, FatalError, ReconciliationError, SchemaError
from dsl.contracts.policies import DeadLetterPolicy
from etl_defs.checks import (
    CONTRACT,
    DEAD_LETTERS,
    RECONCILIATION,
    check_results,
    check_specs,
    contract_faults,
    failed_check,
)
from tests.etl_defs.test_report import report_of

KEY = AssetKey(["memory", "target"])


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()])


def _result(
    name: str, read: int, written: int, rejected: int = 0, max_rows: int | None = None
) -> tuple[bool | None, AssetCheckSeverity]:
    report = report_of(read=read, written=written, rejected=rejected)
    found = {each.check_name: each for each in check_results(KEY, report, DeadLetterPolicy(max_rows=max_rows), None)}
    return found[name].passed, found[name].severity


def test_only_the_books_stop_what_depends_on_them() -> None:
    assert [name for name, spec in check_specs(KEY).items() if spec.blocking] == [RECONCILIATION]


def test_books_that_balance_and_books_that_do_not() -> None:
    assert _result(RECONCILIATION, read=5, written=4, rejected=1)[0] is True
    assert _result(RECONCILIATION, read=5, written=4)[0] is False


@pytest.mark.parametrize(
    ("rejected", "budget", "passed", "severity"),
    [
        (0, None, True, AssetCheckSeverity.WARN),
        (1, None, False, AssetCheckSeverity.WARN),
        (1, 10, True, AssetCheckSeverity.WARN),
        (6, 10, False, AssetCheckSeverity.WARN),
        (11, 10, False, AssetCheckSeverity.ERROR),
        (1, 0, False, AssetCheckSeverity.ERROR),
    ],
)
def test_rejected_rows_against_the_budget(
    rejected: int,
    budget: int | None,
    passed: bool,  # noqa: FBT001 - the expected half of a table
    severity: AssetCheckSeverity,
) -> None:
    assert _result(DEAD_LETTERS, 100, 100 - rejected, rejected, budget) == (passed, severity)


def test_a_contract_allows_more_columns_and_unknown_types() -> None:
    arrived = _schema(id=pa.int64(), name=pa.string(), new=pa.string())
    assert not contract_faults(arrived, _schema(id=pa.int64(), name=pa.null()))
    assert not contract_faults(arrived, None)


def test_a_contract_allows_unknown_types_inside_structs_and_lists() -> None:
    unknown = pa.list_(pa.struct([("id", pa.null()), ("name", pa.string())]))
    arrived = pa.list_(pa.struct([("id", pa.int64()), ("name", pa.string())]))
    other = pa.list_(pa.struct([("id", pa.int64()), ("name", pa.binary())]))
    fewer = pa.list_(pa.struct([("name", pa.string())]))
    assert not contract_faults(_schema(users=arrived), _schema(users=unknown))
    assert len(contract_faults(_schema(users=other), _schema(users=unknown))) == 1
    assert len(contract_faults(_schema(users=fewer), _schema(users=unknown))) == 1


def test_a_contract_is_broken_by_a_missing_column_and_another_type() -> None:
    faults = contract_faults(_schema(id=pa.string()), _schema(id=pa.int64(), name=pa.string()))
    assert faults == ["column 'id' is string, declared as int64", "column 'name' is missing"]


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ReconciliationError("x"), RECONCILIATION),
        (BudgetExceededError("x"), DEAD_LETTERS),
        (SchemaError("x"), CONTRACT),
    ],
)
def test_an_error_is_the_answer_of_the_check_that_asks_about_it(error: Exception, name: str) -> None:
    found = failed_check(KEY, error)
    assert found is not None
    assert (found.check_name, found.passed) == (name, False)


def test_another_error_answers_no_check() -> None:
    assert failed_check(KEY, FatalError("x")) is None


def test_rows_that_went_on_with_a_fallback_are_told() -> None:
    report = replace(report_of(), fallbacks={"ask/stale_cache": 1200, "ask/default": 34})
    found = {each.check_name: each for each in check_results(KEY, report, DeadLetterPolicy(), None)}
    rate = found[DEAD_LETTERS]
    assert rate.passed
    assert rate.description == "No row was rejected; 1,234 went on with a fallback"
    assert rate.metadata["with_fallback"].value == 1234
