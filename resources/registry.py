"""Finds the connectors that are installed, one entry point each; loads none unasked, and knows no Dagster."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points

from dsl.contracts.connectors import ConnectorKind
from dsl.contracts.errors import FatalError

GROUP = "headrace.connectors"


class ConnectorLoadError(FatalError):
    """An installed connector that cannot be imported, or whose entry point is not a `ConnectorKind`."""


class InstalledCatalog:
    """Every connector that an installed distribution declares in the entry-point group `headrace.connectors`.

    The name of an entry point is the `type` that documents use; its object is a `ConnectorKind`. A connector that
    fails to load fails for documents of its own kind only.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, ConnectorKind] = {}

    @cached_property
    def _points(self) -> Mapping[str, EntryPoint]:
        return {each.name: each for each in entry_points(group=GROUP)}

    def kinds(self) -> tuple[str, ...]:
        """Returns all installed kinds, sorted, without loading any."""
        return tuple(sorted(self._points))

    def get(self, kind: str) -> ConnectorKind | None:
        """Loads the connector of that kind; None when no installed distribution declares it.

        Raises:
            ConnectorLoadError: It is declared but cannot be used.
        """
        point = self._points.get(kind)
        if point is None:
            return None
        if kind not in self._loaded:
            self._loaded[kind] = _load(point)
        return self._loaded[kind]


class CatalogOf:
    """A catalog of the given connectors, for tests and for programs that embed Headrace.

    Args:
        kinds: The connectors it holds.
    """

    def __init__(self, *kinds: ConnectorKind) -> None:
        self._kinds = {each.kind: each for each in kinds}

    def kinds(self) -> tuple[str, ...]:
        """Returns their kinds, sorted."""
        return tuple(sorted(self._kinds))

    def get(self, kind: str) -> ConnectorKind | None:
        """Returns the connector of that kind, or None."""
        return self._kinds.get(kind)


def _load(point: EntryPoint) -> ConnectorKind:
    where = f"connector '{point.name}' ({point.value})"
    try:
        loaded = point.load()
    except Exception as error:  # whatever a foreign module raises at import, other kinds stay usable
        raise ConnectorLoadError(
            f"it cannot be loaded: {type(error).__name__}: {error}",
            where=where,
            hint="reinstall the package that declares it, or remove it",
        ) from error
    if not isinstance(loaded, ConnectorKind):
        raise ConnectorLoadError(
            f"its entry point is a {type(loaded).__name__}, not a ConnectorKind",
            where=where,
            hint="point the entry point at a dsl.contracts.connectors.ConnectorKind",
        )
    if loaded.kind != point.name:
        raise ConnectorLoadError(
            f"its entry point is named '{point.name}' but its kind is '{loaded.kind}'",
            where=where,
            hint="give both the same name",
        )
    return loaded
