"""Opens a connection to a Redis server and puts its errors into words; reads and writes no row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dsl.contracts.connectors import Stream
from dsl.contracts.errors import ErrorType, FatalError, RetryableError, SchemaError, UnavailableError
from resources.sql import Tls, loopback
from resources.stores.secrets import reveal_optional

if TYPE_CHECKING:
    from resources.redis.resource import RedisConnection

LISTED = 1000


def place_of(connection: RedisConnection, key: str = "") -> str:
    """Returns how errors name the server, or a key of it."""
    return f"redis {connection.host}:{connection.port}" + (f" key '{key}'" if key else "")


@contextmanager
def worded(where: str) -> Iterator[None]:
    """Puts the driver's errors into words.

    Raises:
        HeadraceError: What the engine must do.
    """
    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        hint = "check username and password, and the user's rights"
        raise FatalError(f"not allowed: {error}", where=where, hint=hint, error_type=ErrorType.AUTH) from error
    except redis.TimeoutError as error:
        hint = "raise `timeout`?"
        raise RetryableError("no answer in time", where=where, hint=hint, error_type=ErrorType.TIMEOUT) from error
    except redis.BusyLoadingError as error:
        raise UnavailableError("the server is still loading", where=where) from error
    except redis.ConnectionError as error:
        text = str(error)
        if "certificate" in text.lower() or "ssl" in text.lower():
            hint = "set ca_file, or mend the certificate; does the server speak TLS?"
            raise FatalError(f"no trusted connection: {text}", where=where, hint=hint) from error
        raise UnavailableError(f"cannot connect: {text}", where=where, hint="check host, port and `tls`") from error
    except redis.ResponseError as error:
        raise _refused(str(error), where) from error
    except redis.RedisError as error:
        raise RetryableError(str(error), where=where) from error


def _refused(said: str, where: str) -> FatalError | RetryableError:
    if said.startswith("WRONGTYPE"):
        return SchemaError("the key holds something else", where=where, hint="choose another key")
    if said.startswith(("OOM", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "READONLY")):
        return RetryableError(said, where=where, hint="the server takes no writes for now")
    if said.startswith("MOVED"):
        return FatalError("this is a cluster, which rows and token cannot share", where=where, hint="name one server")
    return FatalError(said, where=where)


def open_client(connection: RedisConnection) -> Any:
    """Opens a connection; whoever asked closes it.

    Raises:
        FatalError: A secret or a certificate cannot be used.
    """
    secure = connection.tls is not Tls.DISABLE and not (connection.tls is Tls.AUTO and loopback(connection.host))
    trust = {"ssl_ca_certs": connection.ca_file} if connection.ca_file else {}
    verifies = connection.tls is not Tls.REQUIRE
    tls = {"ssl": True, "ssl_check_hostname": verifies, "ssl_cert_reqs": "required" if verifies else "none", **trust}
    seconds = connection.timeout.total_seconds()
    with worded(place_of(connection)):
        return redis.Redis(
            host=connection.host,
            port=connection.port,
            db=connection.database,
            username=connection.username,
            password=reveal_optional(connection.password),
            socket_timeout=seconds,
            socket_connect_timeout=min(seconds, 10.0),
            # A command whose answer was lost may have counted: only the token tells.
            retry=Retry(NoBackoff(), 0),
            client_name="headrace",
            protocol=2,
            **(tls if secure else {}),  # type: ignore[arg-type]
        )


def server_version(connection: RedisConnection) -> str:
    """Returns the version of the server."""
    with worded(place_of(connection)), open_client(connection) as client:
        return f"Redis {client.info('server')['redis_version']}"


def streams_of(connection: RedisConnection) -> Sequence[Stream]:
    """Lists the keys that hold streams."""
    with worded(place_of(connection)), open_client(connection) as client:
        found = sorted(islice(client.scan_iter(_type="STREAM"), LISTED))
    return [Stream(each.decode(errors="backslashreplace")) for each in found]
