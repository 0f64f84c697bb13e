"""Finds a resource by its import path and runs it on a state of ours; knows no rows and keeps no state of its own."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from dsl.contracts.connectors import Stream
from dsl.contracts.errors import FatalError, HeadraceError, RetryableError, SchemaError
from resources.code_wall import check_code_allowed
from resources.sql import suggestion
from resources.stores.secrets import reveal

if TYPE_CHECKING:
    from resources.dlt.resource import DltConnection

LARGEST_STATE: Final = 256 * 2**10


def streams_of(connection: DltConnection) -> list[Stream]:
    """Lists the resources."""
    return [Stream(name) for name in _resources(built(connection))]


def built(connection: DltConnection) -> Any:
    """Imports what the path names and calls it with its arguments; returns a `DltSource` or a `DltResource`.

    Raises:
        FatalError: It may not be run, is not there, or is something else.
    """
    where = connection.place
    check_code_allowed(where)
    try:
        from dlt.extract.resource import DltResource
        from dlt.extract.source import DltSource
    except ImportError as error:
        raise FatalError("dlt is not installed", where=where, hint="pip install 'headrace[dlt]'") from error
    given = {**connection.arguments, **{name: reveal(each) for name, each in connection.secrets.items()}}
    module, _, name = connection.source.partition(":")
    with told(where, "it cannot be loaded"):
        found = getattr(importlib.import_module(module), name, None)
        if callable(found) and not (isinstance(found, DltSource | DltResource) and not given):
            found = found(**given)
    if not isinstance(found, DltSource | DltResource):
        raise FatalError(f"it is {type(found).__name__}, not a source or resource of dlt", where=where)
    if isinstance(found, DltResource) and _is_spent(found):
        hint = "make the resource of a function, or of a list"
        raise FatalError("it was made of a generator that has been read already", where=where, hint=hint)
    return found


def _is_spent(resource: Any) -> bool:
    """Tells whether a resource is over: one of a generator is, once it was read in this process, and would yield nothing."""
    held = resource._pipe.gen  # noqa: SLF001 - dlt tells it of sources only (`exhausted`)
    return inspect.isgenerator(held) and inspect.getgeneratorstate(held) != inspect.GEN_CREATED


def chosen(connection: DltConnection, resource: str | None, where: str) -> Any:
    """Returns what is iterated for one resource.

    Raises:
        SchemaError: There is no such resource, or there are several and none is named.
    """
    found = built(connection)
    names = _resources(found)
    if resource is None and len(names) == 1:
        (resource,) = names
    if resource is None:
        told_names = ", ".join(names)
        raise SchemaError(f"it has several resources: {told_names}", where=where, hint="name one under `resource`")
    if resource not in names:
        raise SchemaError(f"there is no resource '{resource}'", where=where, hint=suggestion(resource, names))
    return found.with_resources(resource) if hasattr(found, "with_resources") else found


def _resources(found: Any) -> list[str]:
    return sorted(found.resources) if hasattr(found, "resources") else [str(found.name)]


def state_from(text: Any) -> dict[str, Any]:
    """Returns dlt's state from its text in ours; {} for none. Nothing is shared with any other reader's."""
    from dlt.common.versioned_state import json_decode_state

    return dict(json_decode_state(text)) if isinstance(text, str) else {}


def text_of(state: dict[str, Any], where: str) -> str:
    """Returns what resources keep, as text; dlt's dates, decimals and bytes come back as such.

    Raises:
        FatalError: It cannot be kept, or is too large.
    """
    from dlt.common.versioned_state import json_encode_state

    kept: Any = {"sources": state.get("sources", {})}
    try:
        text = json_encode_state(kept)
        json.loads(text)
    except (TypeError, ValueError) as error:
        raise FatalError(f"the resource's state is no JSON: {error}", where=where) from error
    if len(text) > LARGEST_STATE:
        raise FatalError(f"the resource's state has {len(text)} bytes, more than {LARGEST_STATE}", where=where)
    return text


def items_of(found: Any, state: Any, where: str) -> Iterator[Any]:
    """Yields what a resource yields, while it reads and changes `state`.

    Raises:
        RetryableError: The resource failed.
    """
    from dlt.common.configuration.container import Container
    from dlt.common.pipeline import StateInjectableContext

    with told(where, "it failed"):
        # dlt takes the state that stands in its container at this moment, and uses it to the end.
        with Container().injectable_context(StateInjectableContext(state=state)):
            items = iter(found)
        while (item := next(items, _END)) is not _END:
            yield item


_END: Final = object()


@contextlib.contextmanager
def told(where: str, what: str) -> Iterator[None]:
    """Says of whatever comes out of foreign code where it came from.

    Raises:
        FatalError: Code or configuration is missing.
        RetryableError: Anything else.
    """
    from dlt.common.configuration.exceptions import ConfigurationException
    from dlt.extract.exceptions import ParametrizedResourceUnbound

    try:
        yield
    except HeadraceError:
        raise
    except (ImportError, ConfigurationException, ParametrizedResourceUnbound, NameError, TypeError) as error:
        raise FatalError(
            f"{what}: {_first_lines(error)}", where=where, hint="check `source` and `arguments`"
        ) from error
    except Exception as error:  # anything may come out of code that others wrote
        raise RetryableError(f"{what}: {_first_lines(error)}", where=where) from error


def _first_lines(error: BaseException) -> str:
    cause = error.__cause__ if type(error).__name__ == "ResourceExtractionError" and error.__cause__ else error
    lines = str(cause).strip().splitlines() or [""]
    return f"{type(cause).__name__}: {' '.join(lines)[:500]}"
