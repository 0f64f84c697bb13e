"""How the process gives memory back to the system: set once, before the first stage of a process runs; measures nothing."""

from __future__ import annotations

import os
from functools import cache

import pyarrow as pa


@cache
def give_back() -> None:
    """Has Arrow's buffers come from the C library, which returns large ones at once.

    Arrow's own default (mimalloc) keeps some 40 MiB more of them than are in use, out of a bound of 512 MiB for the process.
    Whoever chose a pool in the environment keeps it.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())
