"""Advice on documents that compile: `lint` asks every rule of `RULES`; a finding stops nothing and changes nothing."""

from __future__ import annotations

from dsl.bound import BoundWorkflow
from dsl.lint.append_repeats import AppendRepeats
from dsl.lint.enrich_fails import EnrichFailsRun
from dsl.lint.incremental_key import IncrementalWithoutKey
from dsl.lint.missing_hour import MissingHour
from dsl.lint.outage_rejects import OutageRejectsRows
from dsl.lint.personal_key import PersonalKey
from dsl.lint.plain_transport import PlainTransport
from dsl.lint.pointless_catchup import PointlessCatchup
from dsl.lint.rule import Finding as Finding
from dsl.lint.rule import Rule as Rule
from dsl.lint.secret_literal import SecretLiteral
from dsl.lint.unbounded_loss import UnboundedLoss
from dsl.lint.undeclared_deletes import UndeclaredDeletes
from dsl.lint.undivided import Undivided

RULES: tuple[type[Rule], ...] = (
    SecretLiteral,
    PersonalKey,
    IncrementalWithoutKey,
    AppendRepeats,
    EnrichFailsRun,
    UnboundedLoss,
    PointlessCatchup,
    MissingHour,
    PlainTransport,
    OutageRejectsRows,
    UndeclaredDeletes,
    Undivided,
)


def lint(workflow: BoundWorkflow) -> tuple[Finding, ...]:
    """Returns what the rules find in a bound workflow, sorted by place."""
    return tuple(sorted(finding for rule in RULES for finding in rule().findings(workflow)))
