"""What the errors of Azure and of its SDK mean for the engine; opens nothing and repeats no secret that an answer may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from azure.core import exceptions as sdk

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError, UnavailableError

NOT_FOUND = frozenset({"BlobNotFound", "404"})
EXISTS = frozenset({"BlobAlreadyExists", "UnauthorizedBlobOverwrite", "409"})
CHANGED = frozenset({"ConditionNotMet", "412"})
BLOCKS_GONE = frozenset({"InvalidBlockList", "InvalidBlockId"})
_QUERY = re.compile(r"\?[^\s\"']*(?=[\"'\s]|$)")
_KEYS = "check account and account_key or sas_token"
# Source: Azure Storage's reference, "Common REST API error codes" and "Blob Storage error codes".
_AUTH = {
    "AuthenticationFailed": ("the server refuses the credentials, or the clock of this machine is wrong", _KEYS),
    "AuthorizationFailure": ("the server refuses the credentials, or its firewall this machine", _KEYS),
    "InvalidAuthenticationInfo": ("the server refuses the credentials", _KEYS),
    "NoAuthenticationInformation": ("the server wants credentials", "add account_key or sas_token"),
    "PublicAccessNotPermitted": ("the server wants credentials", "add account_key or sas_token"),
    "AuthorizationPermissionMismatch": (
        "the server does not allow it",
        "allow to read, create, write, delete and list: Storage Blob Data Contributor",
    ),
    "AuthorizationProtocolMismatch": ("the signature allows https:// only", "check endpoint"),
}
_FATAL = {
    "ContainerNotFound": ("there is no such container", "check container and account, or create it"),
    "ContainerBeingDeleted": ("the container is being deleted", "check container"),
    "AccountIsDisabled": ("the account is disabled", "enable it"),
    "InvalidResourceName": ("no container or blob can have this name", "check container and prefix"),
    "LeaseIdMissing": ("somebody holds a lease on it", "break the lease, or write to another path"),
    "BlobImmutableDueToPolicy": ("a policy of the container forbids changes", "write to another container"),
}


def code_of(error: HeadraceError) -> str:
    """Returns the code of the server's answer behind an error, or "" where none came."""
    return _code(error.__cause__) if isinstance(error.__cause__, sdk.HttpResponseError) else ""


def _code(error: sdk.HttpResponseError) -> str:
    found = getattr(error, "error_code", None)
    return str(getattr(found, "value", found) or error.status_code or "")


@contextmanager
def translating(where: str) -> Iterator[None]:
    """Turns what the SDK raises in the block into what the engine must do about it."""
    try:
        yield
    except sdk.ClientAuthenticationError as error:
        raise _refused(error, where) from error
    except sdk.HttpResponseError as error:
        raise _answered(error, where) from error
    except sdk.AzureError as error:
        raise _unanswered(error, where) from error


def _refused(error: sdk.ClientAuthenticationError, where: str) -> HeadraceError:
    if error.status_code:
        return _answered(error, where)
    why = _first_line(error)
    hint = "add account_key or sas_token, or give this machine an identity"
    return FatalError(f"no credentials: {why}", where=where, hint=hint, error_type=ErrorType.AUTH)


def _answered(error: sdk.HttpResponseError, where: str) -> HeadraceError:
    code, status = _code(error), error.status_code or 0
    if code in _AUTH or status in {401, 403}:
        message, hint = _AUTH.get(code, (f"the server does not allow it: {_first_line(error)}", _KEYS))
        return FatalError(message, where=where, hint=hint, error_type=ErrorType.AUTH)
    if code in _FATAL:
        message, hint = _FATAL[code]
        return FatalError(message, where=where, hint=hint)
    text = f"{code}: {_first_line(error)}"
    if status in {429, 503} or code in {"ServerBusy", "TooManyRequests"}:
        return RetryableError(
            "the server asks to slow down", where=where, error_type=ErrorType.THROTTLED, after=_seconds(error)
        )
    if status >= 500 or status == 408:
        return RetryableError(f"the server failed: {text}", where=where, after=_seconds(error))
    if 300 <= status < 400:
        return FatalError("the server sends requests elsewhere", where=where, hint="check endpoint")
    if not status or status < 300:
        hint = "check endpoint, and what stands between"
        return FatalError(f"what answers is no Azure Blob Storage: {_first_line(error)}", where=where, hint=hint)
    return FatalError(f"the server refused it: {text}", where=where)


def _unanswered(error: sdk.AzureError, where: str) -> HeadraceError:
    text = _first_line(error)
    low = text.lower()
    if "certificate" in low and "ssl" in low:
        return FatalError(
            f"no trusted connection: {text}", where=where, hint="set ca_file to what signed the certificate"
        )
    if "wrong version number" in low.replace("_", " "):
        return FatalError(f"no TLS is spoken there: {text}", where=where, hint="check the endpoint's port and https://")
    if isinstance(error, (sdk.ServiceRequestError, sdk.ServiceResponseError, sdk.IncompleteReadError)):
        return UnavailableError(f"cannot connect: {text}", where=where, hint="check endpoint, and that it is running")
    return FatalError(text, where=where)


def _first_line(error: Exception) -> str:
    lines = str(getattr(error, "message", "") or error).splitlines() or [type(error).__name__]
    return _QUERY.sub("", " ".join(lines[0].split()))[:300]


def _seconds(error: sdk.HttpResponseError) -> float | None:
    text = str(getattr(error.response, "headers", {}).get("Retry-After", "") or "")
    return float(text) if text.isdecimal() else None
