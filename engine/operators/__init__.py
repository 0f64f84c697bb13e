"""Open operators: what happens to batches inside a stage; each is chosen by the plan, none reads a document.

Importing the package makes `tools.open_operator` know the operators; what one needs beyond pyarrow is imported when it opens.
"""

from engine.operators import enrich as enrich
from engine.operators import mask as mask
from engine.operators import python as python
