"""What the errors of SSH, SFTP and its library mean for the engine; opens nothing and repeats no secret."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from paramiko.ssh_exception import (
    AuthenticationException,
    BadHostKeyException,
    IncompatiblePeer,
    SSHException,
)

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError, UnavailableError


@contextmanager
def connecting(where: str) -> Iterator[None]:
    """Turns what befalls a connection that is being made into what the engine must do about it."""
    try:
        yield
    except BadHostKeyException as error:
        raise FatalError(
            f"the server's key is not the one that is known: it shows {line_of(error.key)}",
            where=where,
            hint="ask the server's owner before you change host_keys or known_hosts: somebody may stand between",
            error_type=ErrorType.AUTH,
        ) from error
    except AuthenticationException as error:
        raise FatalError(
            f"the server refuses the login: {error}",
            where=where,
            hint="check username, and password or private_key",
            error_type=ErrorType.AUTH,
        ) from error
    except IncompatiblePeer as error:
        raise FatalError(f"no common ground with the server: {error}", where=where, hint="upgrade it") from error
    except (SSHException, EOFError, OSError) as error:
        raise UnavailableError(
            f"cannot connect: {error}", where=where, hint="check host and port, and that an SSH server is running"
        ) from error


@contextmanager
def asking(where: str, alive: Callable[[], bool]) -> Iterator[None]:
    """Turns what befalls a request into what the engine must do about it; a file that is missing stays `FileNotFoundError`.

    Args:
        where: What is asked about.
        alive: Tells whether the connection still stands.

    Raises:
        FileNotFoundError: There is no such file or folder.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise FatalError("permission denied", where=where, hint="may this login read and write there?") from error
    except (SSHException, EOFError, TimeoutError) as error:
        raise UnavailableError(f"the connection was lost: {error}", where=where) from error
    except OSError as error:
        raise _failed(error, where, alive=alive()) from error


def _failed(error: OSError, where: str, *, alive: bool) -> HeadraceError:
    said = str(error.strerror or error)
    if not alive or error.errno in {errno.EPIPE, errno.ECONNRESET}:
        return UnavailableError(f"the connection was lost: {said}", where=where)
    low = said.lower()
    if any(each in low for each in ("no space", "quota")):
        return FatalError(f"the server says: {said}", where=where, hint="make room, run again: nothing was committed")
    return RetryableError(f"the server says: {said}", where=where)


def line_of(key: Any) -> str:
    """Returns a server's key as `host_keys` takes it."""
    return f"{key.get_name()} {key.get_base64()}"
