"""A plan as a picture: nodes from left to right, where they are fused and where the plan is cut; draws from names and kinds only."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from dsl.contracts.redaction import scrub
from dsl.plan.explain import kind_of
from dsl.plan.logical import Load, LogicalNode, LogicalPlan, Read
from dsl.plan.lower import cut_nodes

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 190, 48, 56, 18, 12
LONGEST = 25
_FILLS = {Read: "#e8f1fc", Load: "#e5f5ec"}
_STEP = "#ffffff"


@dataclass(frozen=True)
class _Box:
    node: LogicalNode
    x: int
    y: int


def picture(plan: LogicalPlan) -> str:
    """Returns the plan as an SVG document. A bar behind a node is a cut: what leaves it waits on disk for its consumers."""
    boxes = _placed(plan)
    cuts = cut_nodes(plan)
    width = max((each.x for each in boxes.values()), default=0) + WIDTH + MARGIN
    height = max((each.y for each in boxes.values()), default=0) + HEIGHT + MARGIN
    parts = [
        *(edge for each in boxes.values() for edge in _edges(each, boxes)),
        *(part for each in boxes.values() for part in _box(each, cut=each.node.id in cuts)),
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'{head} font-family="sans-serif" font-size="12">{"".join(parts)}</svg>'


def as_markdown(svg: str) -> str:
    """Returns a picture as Markdown that holds it whole."""
    return f"![plan](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _placed(plan: LogicalPlan) -> dict[str, _Box]:
    """Puts each node right of everything that feeds it, and level with the first of its inputs where that is free."""
    columns: dict[str, int] = {}
    taken: set[tuple[int, int]] = set()
    boxes: dict[str, _Box] = {}
    for node in plan.nodes:
        column = columns[node.id] = max((columns[each] + 1 for each in node.inputs), default=0)
        row = _row_of(boxes[node.inputs[0]]) if node.inputs else 0
        while (column, row) in taken:
            row += 1
        taken.add((column, row))
        boxes[node.id] = _Box(node, MARGIN + column * (WIDTH + GAP_X), MARGIN + row * (HEIGHT + GAP_Y))
    return boxes


def _row_of(box: _Box) -> int:
    return (box.y - MARGIN) // (HEIGHT + GAP_Y)


def _box(box: _Box, *, cut: bool) -> Iterator[str]:
    fill = _FILLS.get(type(box.node), _STEP)
    name = box.node.node if isinstance(box.node, Load) else box.node.id
    rect = f'x="{box.x}" y="{box.y}" width="{WIDTH}" height="{HEIGHT}" rx="6"'
    yield f'<rect {rect} fill="{fill}" stroke="#8a94a6"/>'
    yield _text(box.x + 10, box.y + 20, name, 'font-weight="bold" fill="#1f2937"')
    yield _text(box.x + 10, box.y + 37, _kind(box.node), 'fill="#4b5563"')
    if cut:
        yield f'<rect x="{box.x + WIDTH + 5}" y="{box.y + 6}" width="4" height="{HEIGHT - 12}" fill="#d97706"/>'


def _kind(node: LogicalNode) -> str:
    if isinstance(node, Read | Load):
        place = (node.source if isinstance(node, Read) else node.destination).physical_name
        return f"{place[0]}: {place[-1]}"
    return kind_of(node)


def _edges(box: _Box, boxes: Mapping[str, _Box]) -> Iterator[str]:
    for each in box.node.inputs:
        before = boxes[each]
        start, end = (before.x + WIDTH, before.y + HEIGHT // 2), (box.x, box.y + HEIGHT // 2)
        middle = end[0] - GAP_X // 2
        curve = f"M{start[0]},{start[1]} H{middle - 12} C{middle},{start[1]} {middle},{end[1]} {middle + 12},{end[1]} H{end[0]}"
        yield f'<path d="{curve}" fill="none" stroke="#8a94a6"/>'


def _text(x: int, y: int, text: str, style: str) -> str:
    clean = scrub(text)
    short = clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…"
    return f'<text x="{x}" y="{y}" {style}>{escape(short)}</text>'
