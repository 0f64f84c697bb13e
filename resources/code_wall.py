"""Whether code that a workflow names may run in this process or be started by it; runs none itself."""

from __future__ import annotations

import os
from typing import Final

from dsl.contracts.errors import FatalError

ALLOWED: Final = "HEADRACE_ALLOW_PYTHON"
_YES: Final = frozenset({"1", "true", "yes"})


def check_code_allowed(where: str) -> None:
    """Refuses to go on unless the deployment lets workflows run code: asked again where it would run, whoever compiled the document.

    Args:
        where: Who wants to run what.

    Raises:
        FatalError: It does not.
    """
    if os.environ.get(ALLOWED, "").lower() not in _YES:
        raise FatalError(
            "this deployment runs no code of workflows",
            where=where,
            hint=f"whoever runs it may allow it with {ALLOWED}=1; workflows can then do what its process can",
        )
