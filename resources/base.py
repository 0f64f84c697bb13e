"""Shows a connection as a Dagster resource, built from its own options; knows no connector and reveals no secret."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, Literal

import pydantic
from dagster import ConfigurableResource, InitResourceContext

from dsl.contracts.connectors import Connection, ConnectorKind
from dsl.contracts.secret import Secret
from dsl.contracts.spec import Option, spec_of


class ConnectionResource(ConfigurableResource[Connection]):
    """A connection as Dagster sees it: strict and frozen; opening a run turns it into the connection itself.

    A secret stands here as its reference (`${NAME}`), never as its value; one written into the document is shown as
    `***` and kept on the class, outside every configuration that Dagster stores.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    connection_class: ClassVar[type[Connection]]
    literals: ClassVar[Mapping[str, Secret]] = {}

    def create_resource(self, context: InitResourceContext) -> Connection:
        """Returns the connection with the values of this run's configuration."""
        del context
        return self.to_connection()

    def to_connection(self) -> Connection:
        """Returns the connection that this configuration describes; opens nothing."""
        values: dict[str, Any] = {}
        for each in spec_of(self.connection_class).options:
            given = getattr(self, field_name(each.name))
            if given is not None or not each.nullable:
                values[each.name] = _from_plain(each.type, given)
        hidden = {name: secret for name, secret in self.literals.items() if str(values.get(name)) == str(secret)}
        return self.connection_class(**{**values, **hidden})


def resource_class(kind: ConnectorKind | type[Connection]) -> type[ConnectionResource]:
    """Builds the Dagster resource of a connector: one typed, documented field for each option of its connection.

    `PostgresConnection` becomes `PostgresResource`, in the module of its connection.
    """
    return _resource_class(kind.connection if isinstance(kind, ConnectorKind) else kind)


def resource_of(connection: Connection) -> ConnectionResource:
    """Returns the Dagster resource that shows this connection and gives it back in a run."""
    spec = spec_of(type(connection))
    given = {each.name: getattr(connection, each.name) for each in spec.options}
    literals = {name: value for name, value in given.items() if isinstance(value, Secret) and value.literal}
    cls = resource_class(type(connection))
    if literals:
        cls = type(cls.__name__, (cls,), {"literals": literals, "__module__": cls.__module__, "__doc__": cls.__doc__})
    return cls(**{field_name(name): _to_plain(value) for name, value in given.items() if value is not None})


def field_name(option: str) -> str:
    """Returns the resource field of an option: its own name, or with `_` behind where Dagster's class owns the name."""
    return f"{option}_" if hasattr(ConfigurableResource, option) else option


@cache
def _resource_class(connection: type[Connection]) -> type[ConnectionResource]:
    spec = spec_of(connection)
    fields: dict[str, Any] = {field_name(each.name): _field(each) for each in spec.options}
    model = pydantic.create_model(
        connection.__name__.removesuffix("Connection") + "Resource",
        __base__=ConnectionResource,
        __module__=connection.__module__,
        __doc__=spec.summary,
        **fields,
    )
    model.connection_class = connection
    return typing.cast("type[ConnectionResource]", model)


def _field(option: Option) -> tuple[Any, Any]:
    plain = _plain_type(option.type)
    unit = " (seconds)" if option.type is timedelta else ""
    secret = " A reference to a secret; never its value." if option.type is Secret else ""
    description = option.doc + unit + secret
    if option.required:
        return plain, pydantic.Field(description=description)
    if option.nullable:
        plain = plain | None
    return plain, pydantic.Field(default=_to_plain(option.default), description=description)


def _plain_type(kind: Any) -> Any:
    """Returns the type that Dagster's configuration has for a type of option."""
    if kind in {str, int, float, bool}:
        return kind
    if kind is Secret:
        return str
    if kind is timedelta:
        return float
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return Literal[tuple(each.value for each in kind)]
    if typing.get_origin(kind) is tuple:
        return types.GenericAlias(list, _plain_type(typing.get_args(kind)[0]))
    if typing.get_origin(kind) is dict or dataclasses.is_dataclass(kind):
        return dict[str, Any]
    return Any


def _to_plain(value: Any) -> Any:
    if isinstance(value, (Secret, StrEnum)):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (tuple, list)):
        return [_to_plain(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {each.name: getattr(value, each.name) for each in spec_of(type(value)).options}
        return {name: _to_plain(each) for name, each in held.items()}
    if isinstance(value, dict):
        return {key: _to_plain(each) for key, each in value.items()}
    return value


def _from_plain(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    if kind is Secret:
        return Secret(value)
    if kind is timedelta:
        return timedelta(seconds=value)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(value)
    if typing.get_origin(kind) is tuple:
        return tuple(_from_plain(typing.get_args(kind)[0], each) for each in value)
    if typing.get_origin(kind) is dict:
        return {key: _from_plain(typing.get_args(kind)[1], each) for key, each in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        kinds = {each.name: each.type for each in spec_of(kind).options}
        return kind(**{name: _from_plain(kinds[name], each) for name, each in value.items()})
    return value
