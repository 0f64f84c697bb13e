"""The asset checks of a destination: the books balance, few rows were rejected, the schema is what was promised; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from dagster import AssetCheckResult, AssetCheckSeverity, AssetCheckSpec, AssetKey

from dsl.contracts.errors import BudgetExceededError, ReconciliationError, SchemaError
from dsl.contracts.policies import DeadLetterPolicy
from engine.report import StageReport
from etl_defs.report import reconciliation_line

RECONCILIATION = "reconciliation"
DEAD_LETTERS = "dead_letter_rate"
CONTRACT = "contract"
NEAR = 0.5

_DESCRIPTIONS = {
    RECONCILIATION: "Every row read was written, filtered or rejected; what depends on this asset waits for it.",
    DEAD_LETTERS: "How many rows were rejected, against the budget that the workflow declares.",
    CONTRACT: "The columns that arrived are those that the workflow promised; more columns are allowed.",
}
_SAYS = {ReconciliationError: RECONCILIATION, BudgetExceededError: DEAD_LETTERS, SchemaError: CONTRACT}


def check_specs(key: AssetKey) -> dict[str, AssetCheckSpec]:
    """Returns the checks of one destination by name."""
    return {
        name: AssetCheckSpec(name, asset=key, description=text, blocking=name == RECONCILIATION)
        for name, text in _DESCRIPTIONS.items()
    }


def check_results(
    key: AssetKey, report: StageReport, budget: DeadLetterPolicy, declared: pa.Schema | None
) -> Iterator[AssetCheckResult]:
    """Yields the result of every check of a stage that ended.

    Args:
        key: The destination's asset.
        report: What the stage did.
        budget: How many rejected rows are tolerable.
        declared: The schema that was promised, or None.
    """
    books = report.reconciliation
    yield AssetCheckResult(
        passed=books.balanced,
        asset_key=key,
        check_name=RECONCILIATION,
        description=reconciliation_line(books),
        metadata={"read": books.read, "written": books.written, "counted_by_the_system": books.counted},
    )
    yield _dead_letters(key, report, budget)
    yield _contract(key, report.schema, declared)


def failed_check(key: AssetKey, error: BaseException) -> AssetCheckResult | None:
    """Returns the check that an error of a run answers, as failed; None where no check asks about it."""
    name = next((check for kind, check in _SAYS.items() if isinstance(error, kind)), None)
    if name is None:
        return None
    return AssetCheckResult(passed=False, asset_key=key, check_name=name, description=str(error))


def _dead_letters(key: AssetKey, report: StageReport, budget: DeadLetterPolicy) -> AssetCheckResult:
    books = report.reconciliation
    rejected, ratio = books.rejected, books.rejected / books.read if books.read else 0.0
    used, helped = _share_of_budget(rejected, ratio, budget), sum(report.fallbacks.values())
    severity = AssetCheckSeverity.ERROR if used is not None and used > 1 else AssetCheckSeverity.WARN
    passed = rejected == 0 or (used is not None and used < NEAR)
    allowed = "no budget is declared" if used is None else f"{used:.0%} of the budget"
    return AssetCheckResult(
        passed=passed,
        asset_key=key,
        check_name=DEAD_LETTERS,
        severity=severity,
        description=(
            f"{rejected:,} of {books.read:,} rows were rejected ({allowed})" if rejected else "No row was rejected"
        )
        + (f"; {helped:,} went on with a fallback" if helped else ""),
        metadata={"rejected": rejected, "ratio": ratio, "with_fallback": helped},
    )


def _share_of_budget(rejected: int, ratio: float, budget: DeadLetterPolicy) -> float | None:
    shares = []
    if budget.max_rows is not None:
        shares.append(rejected / budget.max_rows if budget.max_rows else float(rejected > 0) * 2)
    if budget.max_ratio is not None:
        shares.append(ratio / budget.max_ratio if budget.max_ratio else float(rejected > 0) * 2)
    return max(shares, default=None)


def _contract(key: AssetKey, arrived: pa.Schema, declared: pa.Schema | None) -> AssetCheckResult:
    faults = contract_faults(arrived, declared)
    if declared is None:
        text = "No schema is declared: add `schema:` to the sources to pin it"
    elif faults:
        text = "; ".join(faults)
    else:
        more = sorted(set(arrived.names) - set(declared.names))
        text = "As declared" + (f", and more columns: {', '.join(more)}" if more else "")
    return AssetCheckResult(passed=not faults, asset_key=key, check_name=CONTRACT, description=text)


def contract_faults(arrived: pa.Schema, declared: pa.Schema | None) -> list[str]:
    """Returns how a schema breaks what was declared, one sentence each; a declared type of null promises the name only, at any depth."""
    if declared is None:
        return []
    faults = []
    for each in declared:
        found = arrived.field(each.name) if each.name in arrived.names else None
        if found is None:
            faults.append(f"column {each.name!r} is missing")
        elif not _keeps(found.type, each.type):
            faults.append(f"column {each.name!r} is {found.type}, declared as {each.type}")
    return faults


def _keeps(arrived: pa.DataType, declared: pa.DataType) -> bool:
    """Tells whether a type is what was declared, where null stands for any type, inside structs and lists too."""
    if pa.types.is_null(declared):
        return True
    if pa.types.is_struct(declared) and pa.types.is_struct(arrived):
        return [each.name for each in arrived] == [each.name for each in declared] and all(
            _keeps(found.type, wanted.type) for found, wanted in zip(arrived, declared, strict=True)
        )
    if pa.types.is_list(declared) and pa.types.is_list(arrived):
        return _keeps(arrived.value_type, declared.value_type)
    return bool(arrived == declared)
