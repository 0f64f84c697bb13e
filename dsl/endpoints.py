"""The options of sources and destinations, with the connection each one uses; asks connectors what they can do, opens none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsl.codes import Code
from dsl.contracts.capabilities import SyncMode
from dsl.contracts.connectors import Catalog, ConnectorKind, Destination, Source
from dsl.contracts.errors import HeadraceError
from dsl.contracts.spec import spec_of
from dsl.diagnostics import Diagnostics, Span, did_you_mean
from dsl.options import OptionReader
from dsl.scalars import FAULTY
from dsl.workflow import ConnectionDocument, Declaration, Role

SYNC_MODE = "sync_mode"
PLACES = ("table", "index", "path", "prefix")
"""What connectors call the place they write to; `dead_letter` says `table` for all of them."""


class EndpointBinder:
    """Configures sources, destinations and connections.

    Args:
        catalog: The connectors there are.
        connections: The shared connections, by name.
        found: Told of every fault.
    """

    def __init__(self, catalog: Catalog, connections: Mapping[str, ConnectionDocument], found: Diagnostics) -> None:
        self._catalog, self._connections, self._found = catalog, connections, found

    def options(self, node: Declaration, reader: OptionReader) -> Any:
        """Returns the configured `Source` or `Destination` of a node; FAULTY if there is none."""
        kind = self._kind(node.kind, node.kind_span)
        if kind is None:
            return FAULTY
        cls = kind.source if node.role is Role.SOURCE else kind.destination
        if cls is None:
            code = Code.NO_SOURCE if node.role is Role.SOURCE else Code.NO_DESTINATION
            said = f"{kind.title} cannot be a {node.role}"
            self._found.add(node.kind_span, code, said, f"these can: {', '.join(self._able(node.role))}")
            return FAULTY
        connection = self._connection(node, kind, cls, reader)
        values = reader.values(node.config, spec_of(cls))
        mode = self._sync_mode(node, cls, reader)
        if connection is FAULTY or values is None or mode is FAULTY:
            return FAULTY
        options = reader.construct(cls, {**values, "connection": connection}, span=node.config_span)
        able = options is FAULTY or self._is_able(options, mode, node, reader)
        return options if able else FAULTY

    def runs_code(self, name: str) -> bool:
        """Tells whether nodes of a kind run code that the document names; False for a kind that cannot be used."""
        try:
            kind = self._catalog.get(name)
        except HeadraceError:  # told when the node's options are read
            return False
        return kind is not None and kind.runs_code

    def connection(self, shared: ConnectionDocument) -> Any:
        """Returns the configured `Connection` of a document; FAULTY if it cannot be configured."""
        kind = self._kind(shared.kind, shared.kind_span) if shared.kind else None
        if kind is None:
            return FAULTY
        reader = OptionReader(self._found, f"connection {shared.name!r}", shared.span)
        return reader.options(shared.config, kind.connection)

    def dead_letters(self, connection: str, table: str, span: Span) -> Any:
        """Returns the `Destination` that keeps refused rows in a place of a shared connection; FAULTY if there can be none."""
        shared = self._shared(connection, span)
        kind = None if shared is None or not shared.kind else self._kind(shared.kind, shared.kind_span)
        if shared is None or kind is None:
            return FAULTY
        options = spec_of(kind.destination).options if kind.destination else ()
        place = next((each for each in PLACES if each in {option.name for option in options}), None)
        needs_more = any(option.required and option.name != place for option in options)
        if kind.destination is None or place is None or needs_more:
            said = f"{kind.title} cannot keep dead letters"
            self._found.add(span, Code.NO_DESTINATION, said, f"these can: {', '.join(self._able(Role.DESTINATION))}")
            return FAULTY
        reached, reader = self.connection(shared), OptionReader(self._found, "dead_letter", span)
        if reached is FAULTY:
            return FAULTY
        return reader.construct(kind.destination, {"connection": reached, place: table})

    def _shared(self, name: str, place: Span) -> ConnectionDocument | None:
        shared = self._connections.get(name)
        if shared is None:
            hint = did_you_mean(name, self._connections) or "declare it in a document of its own: connection:"
            self._found.add(place, Code.UNKNOWN_CONNECTION, f"no connection is called {name!r}", hint)
        return shared

    def _kind(self, name: str, span: Span) -> ConnectorKind | None:
        try:
            kind = self._catalog.get(name)
        except HeadraceError as error:
            said = f"connector {name!r} cannot be used: {error.message}"
            self._found.add(span, Code.UNKNOWN_KIND, said, error.hint)
            return None
        if kind is None:
            hint = did_you_mean(name, self._catalog.kinds())
            self._found.add(span, Code.UNKNOWN_KIND, f"no connector has the type {name!r}", hint)
        return kind

    def _able(self, role: Role) -> list[str]:
        kinds = [self._catalog.get(each) for each in self._catalog.kinds()]
        return [each.kind for each in kinds if each and (each.source if role is Role.SOURCE else each.destination)]

    def _connection(self, node: Declaration, kind: ConnectorKind, cls: type, reader: OptionReader) -> Any:
        """Returns the node's connection: the shared one it names, or the one its own options describe."""
        spec = spec_of(kind.connection)
        own = [each.name for each in spec_of(cls).options] + ([SYNC_MODE] if node.role is Role.SOURCE else [])
        if node.connection is None:
            reader.unknown_keys(node.config, [*(each.name for each in spec.options), *own])
            values = reader.values(node.config, spec)
            return FAULTY if values is None else reader.construct(kind.connection, values, span=node.config_span)
        reader.unknown_keys(node.config, own)
        name, place = node.connection.name, node.connection.span
        shared = self._shared(name, place)
        if shared is None:
            return FAULTY
        if shared.kind != kind.kind:
            said = f"connection {name!r} is of type {shared.kind}, the node of type {kind.kind}"
            self._found.add(place, Code.CONNECTION_KIND, said, "make both the same type")
            return FAULTY
        return self.connection(shared)

    def _sync_mode(self, node: Declaration, cls: type, reader: OptionReader) -> Any:
        """Returns the `sync_mode` that a source asks for where its connector has no such option of its own, or None."""
        entry = node.config.entry(SYNC_MODE) if node.config is not None else None
        if entry is None or node.role is not Role.SOURCE or spec_of(cls).option(SYNC_MODE) is not None:
            return None
        return reader.value(SyncMode, entry.value, (SYNC_MODE,))

    def _is_able(self, options: Source | Destination, mode: Any, node: Declaration, reader: OptionReader) -> bool:
        if isinstance(options, Destination):
            written = options.capabilities.write_modes
            if options.write_mode in written:
                return True
            return self._unable(node, "write_mode", options.write_mode, sorted(written), reader)
        asked = getattr(options, SYNC_MODE, mode)
        able = options.capabilities.sync_modes
        if asked is not None and asked not in able:
            return self._unable(node, SYNC_MODE, str(asked), sorted(able), reader)
        column = getattr(options, "incremental_column", None)
        wants_column = asked is SyncMode.INCREMENTAL and column is None and hasattr(options, "incremental_column")
        if wants_column or (asked is SyncMode.FULL_REFRESH and column is not None):
            said = f"{SYNC_MODE}: {asked} and incremental_column do not fit together"
            hint = "name the column that grows: incremental_column" if wants_column else "leave one of them out"
            self._found.add(reader.spans().at(SYNC_MODE), Code.OPTIONS, said, hint)
            return False
        return True

    def _unable(self, node: Declaration, option: str, value: str, able: list[str], reader: OptionReader) -> bool:
        said = f"a {node.kind} {node.role} cannot do {option}: {value}"
        self._found.add(reader.spans().at(option), Code.CAPABILITY, said, f"it can: {', '.join(able)}")
        return False
