"""The default IO manager: refuses everything, because stages hand each other exchanges and nothing is ever pickled."""

from __future__ import annotations

from typing import Any

from dagster import InputContext, IOManager, OutputContext

from dsl.contracts.errors import FatalError

_HINT = "stages pass rows through exchanges; give the output the type Nothing"


class NoPickles(IOManager):
    """An IO manager that stores no object and loads none."""

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        """Refuses.

        Raises:
            FatalError: Always.
        """
        raise FatalError("Headrace stores no Python objects", where=f"output {context.name!r}", hint=_HINT)

    def load_input(self, context: InputContext) -> Any:
        """Refuses.

        Raises:
            FatalError: Always.
        """
        raise FatalError("Headrace loads no Python objects", where=f"input {context.name!r}", hint=_HINT)
