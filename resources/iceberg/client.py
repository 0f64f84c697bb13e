"""pyiceberg as this connector uses it: one table of one catalog, errors in our words; decides nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyiceberg
from pyiceberg import exceptions as refused
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import Table

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError, UnavailableError
from resources.stores.secrets import reveal

if TYPE_CHECKING:
    from resources.iceberg.resource import IcebergConnection

_LOST = (refused.CommitFailedException, refused.ValidationException, refused.TableAlreadyExistsError)
_DENIED = (
    refused.UnauthorizedError,
    refused.ForbiddenError,
    refused.AuthorizationExpiredError,
    refused.OAuthError,
    refused.SignError,
)
_GONE = (refused.NoSuchTableError, refused.NoSuchNamespaceError, refused.NoSuchIdentifierError)


class LostRaceError(Exception):
    """Another commit came first; nothing of this one is in the table."""


def connect(connection: IcebergConnection, where: str) -> Catalog:
    """Opens the catalog; reveals its secrets.

    Raises:
        UnavailableError: It cannot be reached.
    """
    given = {name.replace("_", "-"): value for name, value in connection.properties.items()}
    found = {name: reveal(each) for name, each in connection.secrets.items()}
    for name, secret in (("token", connection.token), ("credential", connection.credential)):
        if secret is not None:
            found[name] = reveal(secret)
    if connection.warehouse:
        found["warehouse"] = connection.warehouse
    kind = "rest" if connection.rest else "sql"
    with told(where):
        return load_catalog(connection.catalog, **{**given, **found, "type": kind, "uri": connection.uri})


def reach(connection: IcebergConnection) -> str:
    """Reaches the catalog; returns what it is.

    Raises:
        UnavailableError: It cannot be reached.
    """
    where = f"iceberg catalog '{connection.uri}'"
    catalog = connect(connection, where)
    with contextlib.closing(catalog), told(where):
        count = len(catalog.list_namespaces())
    return f"pyiceberg {pyiceberg.__version__}, {count} namespaces"


def load(catalog: Catalog, name: str, where: str) -> Table | None:
    """Returns a table as it is now; None if there is none."""
    with told(where):
        try:
            return catalog.load_table(name)
        except _GONE:
            return None


@contextlib.contextmanager
def told(where: str) -> Iterator[None]:
    """Turns the driver's errors into ours.

    Raises:
        LostRaceError: Another commit came first.
        RetryableError: Unknown whether a commit came through, or the service asks to wait.
        UnavailableError: The catalog or the store cannot be reached.
        FatalError: It refuses.
    """
    try:
        yield
    except (HeadraceError, LostRaceError, pa.ArrowException, *_GONE):
        raise
    except _LOST as error:
        raise LostRaceError(str(error)) from error
    except Exception as error:  # the driver passes on what its catalogs, its stores and SQLAlchemy raise
        raise _translated(error, where) from error


def _translated(error: Any, where: str) -> HeadraceError:
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
    if isinstance(error, _DENIED):
        return FatalError(
            f"access is refused: {text}", where=where, error_type=ErrorType.AUTH, hint="check the secrets"
        )
    if isinstance(error, refused.CommitStateUnknownException | refused.TooManyRequestsError | refused.ServerError):
        return RetryableError(text, where=where)
    if isinstance(error, OSError | refused.ServiceUnavailableError):
        return UnavailableError(f"it cannot be reached: {text}", where=where)
    if isinstance(error, ValueError | TypeError | refused.BadRequestError | refused.ValidationError):
        return FatalError(f"the table refuses: {text}", where=where)
    return UnavailableError(text, where=where)
