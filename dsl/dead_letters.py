"""Where a workflow's refused rows go, if it names a connection for them: one place for all of its nodes; opens nothing."""

from __future__ import annotations

from dsl.bound import BoundDeadLetters
from dsl.codes import Code
from dsl.contracts.policies import DeadLetterPolicy, OnError, Policies
from dsl.diagnostics import Diagnostics
from dsl.endpoints import EndpointBinder
from dsl.scalars import FAULTY
from dsl.workflow import Workflow

TABLE = "headrace_dead_letters"


def bind_dead_letters(workflow: Workflow, endpoints: EndpointBinder, found: Diagnostics) -> BoundDeadLetters | None:
    """Returns the destination that a workflow's `dead_letter` names; None where it names none, or a faulty one."""
    own = workflow.policies
    places = {_place(each.policies): each.span for each in reversed(workflow.nodes) if _uses(each.policies)}
    if _place(own) in places or own.dead_letter.destination is not None:
        places[_place(own)] = workflow.span
    if len(places) > 1:
        span = next(span for place, span in places.items() if place != _place(own))
        said = "the nodes of one workflow keep their dead letters in one place"
        hint = "declare `destination` and `table` of dead_letter once, at the workflow"
        found.add(span, Code.OPTIONS, said, hint)
        return None
    for (connection, table), span in places.items():
        if connection is not None:
            destination = endpoints.dead_letters(connection, table, span)
            return None if destination is FAULTY else BoundDeadLetters(destination, connection.replace("-", "_"))
    return None


def _uses(policies: Policies) -> bool:
    return policies.on_error is OnError.DLQ or policies.dead_letter.destination is not None


def _place(policies: Policies) -> tuple[str | None, str]:
    named: DeadLetterPolicy = policies.dead_letter
    return named.destination, (named.table or TABLE) if named.destination is not None else ""
