"""The shape of a workflow: every input known, no circle, nothing left unused; looks at names only."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from graphlib import CycleError, TopologicalSorter

from dsl.codes import Code
from dsl.diagnostics import Diagnostics, did_you_mean
from dsl.workflow import Declaration, Input, Role


def check_graph(nodes: Collection[Declaration], unread: Collection[str], found: Diagnostics) -> None:
    """Notes what is wrong with how nodes feed each other.

    Args:
        nodes: The nodes that could be read.
        unread: Names of those that could not, "" for one without a name: they are not missed, and nobody is called
            unused because of them.
        found: Told of every fault.
    """
    before = len(found.found)
    feeding = {each.name for each in nodes if each.role is not Role.DESTINATION}
    known = {each.name for each in nodes}
    for node in nodes:
        for wanted in node.inputs:
            if wanted.name not in feeding and wanted.name not in unread:
                _unknown(node, wanted, feeding, known, found)
    _check_circles(nodes, found)
    if len(found.found) == before and not unread:
        _check_unused(nodes, found)


def in_order(nodes: Iterable[Declaration]) -> tuple[Declaration, ...] | None:
    """Returns nodes so that each stands behind its inputs, otherwise in the document's order; None if that cannot be."""
    waiting, order = list(nodes), list[Declaration]()
    done: set[str] = set()
    if len({each.name for each in waiting}) < len(waiting):
        return None
    if any(not each.inputs and each.role is not Role.SOURCE for each in waiting):
        return None
    while waiting:
        ready = next((each for each in waiting if all(wanted.name in done for wanted in each.inputs)), None)
        if ready is None:
            return None
        waiting.remove(ready)
        if ready.role is not Role.DESTINATION:
            done.add(ready.name)
        order.append(ready)
    return tuple(order)


def _unknown(node: Declaration, wanted: Input, feeding: set[str], known: set[str], found: Diagnostics) -> None:
    said = (
        "is a destination and feeds nothing" if wanted.name in known else "is the name of no source or transformation"
    )
    hint = did_you_mean(wanted.name, feeding - {node.name})
    found.add(wanted.span, Code.UNKNOWN_INPUT, f"{wanted.name!r} {said}", hint)


def _check_circles(nodes: Collection[Declaration], found: Diagnostics) -> None:
    try:
        TopologicalSorter({each.name: [wanted.name for wanted in each.inputs] for each in nodes}).prepare()
    except CycleError as error:
        circle = error.args[1]
        span = min(each.span for each in nodes if each.name in circle)
        said = f"these nodes feed each other in a circle: {' -> '.join(reversed(circle))}"
        found.add(span, Code.CYCLE, said, "take one of them out of the other's inputs")


def _check_unused(nodes: Collection[Declaration], found: Diagnostics) -> None:
    used = {wanted.name for each in nodes for wanted in each.inputs}
    for each in nodes:
        if each.role is not Role.DESTINATION and each.name not in used:
            hint = "name it in the inputs of another node, or remove it"
            found.add(each.span, Code.UNUSED, f"{each.role} {each.name!r} feeds nothing", hint)
