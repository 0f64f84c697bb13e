"""More than 400 values at the edges of SQL types: what each means and how each system writes it; talks to no system.

`EDGES` is the catalogue, `FAMILIES` are the columns that its values stand in. Another SQL system joins by giving
`Family.types` and `Edge.literals` of its own: both are plain data.
"""

from __future__ import annotations

from resources.testing.edge_model import Edge, Family
from resources.testing.edge_moments import MOMENTS
from resources.testing.edge_nested import NESTED
from resources.testing.edge_numbers import NUMBERS
from resources.testing.edge_texts import TEXTS

FAMILIES: tuple[Family, ...] = (*NUMBERS, *TEXTS, *MOMENTS, *NESTED)
EDGES: tuple[Edge, ...] = tuple(edge for family in FAMILIES for edge in family.edges)
