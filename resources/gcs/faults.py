"""What the errors of Google's SDK mean for the engine; opens nothing and repeats no secret that an answer may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse  # type: ignore[import-untyped]

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError, UnavailableError

NOT_FOUND = 404
EXISTS = 412
_QUERY = re.compile(r"\?[^\s\"']*(?=[\"'\s]|$)")
_SDK = (api.GoogleAPICallError, api.RetryError, InvalidResponse, DataCorruption)
_NETWORK = (requests.exceptions.RequestException, auth.TransportError)


def status_of(error: HeadraceError) -> int:
    """Returns the status of the server's answer behind an error, or 0 where none came."""
    cause = error.__cause__
    if isinstance(cause, api.RetryError):
        cause = cause.cause
    if isinstance(cause, InvalidResponse):
        return int(getattr(cause.response, "status_code", 0) or 0)
    return int(getattr(cause, "code", 0) or 0) if isinstance(cause, api.GoogleAPICallError) else 0


@contextmanager
def translating(where: str) -> Iterator[None]:
    """Turns what the SDK raises in the block into what the engine must do about it."""
    try:
        yield
    except _SDK as error:
        raise _answered(error, where) from error
    except auth.GoogleAuthError as error:
        raise _refused(error, where) from error
    except _NETWORK as error:
        raise _unanswered(error, where) from error


def _answered(error: Exception, where: str) -> HeadraceError:
    if isinstance(error, DataCorruption):
        return RetryableError("what arrived is not what was stored: damaged on its way", where=where)
    inner = error.cause if isinstance(error, api.RetryError) else error
    if isinstance(inner, _NETWORK):
        return _unanswered(inner, where)
    response = getattr(inner, "response", None)
    status = int(getattr(response, "status_code", 0) or getattr(inner, "code", 0) or 0)
    text = _said(inner, response)
    if status in {401, 403}:
        hint = "check credentials" if status == 401 else "allow storage.objects.create, get, list and delete"
        return FatalError(f"the server does not allow it: {text}", where=where, hint=hint, error_type=ErrorType.AUTH)
    if status == NOT_FOUND:
        return FatalError(f"there is no such bucket or object: {text}", where=where, hint="check bucket and endpoint")
    if status == 429:
        return RetryableError(
            "the server asks to slow down", where=where, error_type=ErrorType.THROTTLED, after=_seconds(response)
        )
    if status in {408, 409} or status >= 500 or not status:
        return RetryableError(f"the server failed: {status}: {text}", where=where, after=_seconds(response))
    if 300 <= status < 400:
        return FatalError("the server sends requests elsewhere", where=where, hint="check endpoint")
    return FatalError(f"the server refused it: {status}: {text}", where=where)


def _said(error: object, response: object) -> str:
    """Returns the server's own sentence, without the address that was asked."""
    message = str(getattr(error, "message", error))
    if response is not None:
        try:
            found = response.json()["error"]["message"]  # type: ignore[attr-defined] # requests' response
            message = str(found)
        except (ValueError, KeyError, TypeError):
            message = str(getattr(response, "reason", "")) or message
    return _QUERY.sub("", " ".join(message.split()))[:300]


def _seconds(response: object) -> float | None:
    text = str(getattr(response, "headers", {}).get("retry-after", ""))
    return float(text) if text.isdecimal() else None


def _refused(error: auth.GoogleAuthError, where: str) -> HeadraceError:
    if isinstance(error, auth.TransportError):
        return _unanswered(error, where)
    if isinstance(error, auth.DefaultCredentialsError):
        return FatalError(
            "there are no credentials",
            where=where,
            hint="add credentials, log in with gcloud, or set anonymous: true for a public bucket",
            error_type=ErrorType.AUTH,
        )
    why = _QUERY.sub("", " ".join(str(error.args[0] if error.args else error).split()))[:300]
    if getattr(error, "retryable", False):
        return UnavailableError(f"no token can be had: {why}", where=where)
    return FatalError(f"no token can be had: {why}", where=where, hint="check credentials", error_type=ErrorType.AUTH)


def _unanswered(error: Exception, where: str) -> HeadraceError:
    text = _QUERY.sub("", " ".join(str(error).split()))
    low = text.lower()
    if "certificate" in low and "ssl" in low:
        return FatalError(
            f"no trusted connection: {text}", where=where, hint="set ca_file to what signed the certificate"
        )
    if "wrong version number" in low.replace("_", " "):
        return FatalError(f"no TLS is spoken there: {text}", where=where, hint="check the endpoint's port and https://")
    if isinstance(error, (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL)):
        return FatalError(text, where=where, hint="check endpoint")
    return UnavailableError(f"cannot connect: {text}", where=where, hint="check endpoint, and that it is running")
