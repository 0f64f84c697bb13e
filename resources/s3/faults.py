"""What the errors of S3 and of its SDK mean for the engine; opens nothing and repeats no secret that an answer may hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from botocore import exceptions as sdk

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError, UnavailableError

NOT_FOUND = frozenset({"NoSuchKey", "404", "NotFound"})
EXISTS = frozenset({"PreconditionFailed", "412"})
CONFLICT = frozenset({"ConditionalRequestConflict", "OperationAborted", "409"})
UPLOAD_GONE = frozenset({"NoSuchUpload"})
DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "403", "Forbidden"})
UNSUPPORTED = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
LOST_IN_ANSWER = (sdk.ReadTimeoutError, sdk.ResponseStreamingError, sdk.IncompleteReadError, sdk.FlexibleChecksumError)
"""What reading the body of an answer raises when the connection ends, or its bytes are not those that were stored."""

_QUERY = re.compile(r"\?[^\s\"']*(?=[\"'\s]|$)")
_KEYS = "check access_key_id and secret_access_key"


@dataclass(frozen=True)
class _Meaning:
    message: str
    hint: str
    error: type[HeadraceError] = FatalError
    error_type: ErrorType | None = None


def _auth(message: str, hint: str) -> _Meaning:
    return _Meaning(message, hint, error_type=ErrorType.AUTH)


_ELSEWHERE = _Meaning("the bucket is in another region", "set region to the bucket's own")
_REDIRECTED = _Meaning(
    "the server sends requests elsewhere", "check endpoint and region, and whether it wants https://"
)
_SLOW = _Meaning("the server asks to slow down", "", RetryableError, ErrorType.THROTTLED)
_CONFLICT = _Meaning("others change this object at the same time", "", RetryableError)
_FULL = _Meaning("the server has no space left for this", "free space, or raise the quota")
# Source: Amazon S3 API reference, "Error responses", and the additions of servers that speak its protocol.
_MEANINGS = {
    "NoSuchBucket": _Meaning("there is no such bucket", "check bucket and endpoint, or create it"),
    "InvalidBucketName": _Meaning("no bucket can have this name", "check bucket"),
    "InvalidAccessKeyId": _auth("the server does not know the access key", _KEYS),
    "SignatureDoesNotMatch": _auth("the secret does not belong to the access key", _KEYS),
    "InvalidSecurity": _auth("the server refuses the credentials", _KEYS),
    "InvalidToken": _auth("the server refuses the session token", "check session_token, or renew the temporary keys"),
    "ExpiredToken": _auth("the temporary keys have expired", "renew them"),
    "TokenRefreshRequired": _auth("the temporary keys have expired", "renew them"),
    "RequestTimeTooSkewed": _auth(
        "the clock of this machine differs too much from the server's", "set the clock (NTP), here or there"
    ),
    "RequestExpired": _auth("the server takes the request for an old one", "set the clock (NTP), here or there"),
    "PermanentRedirect": _ELSEWHERE,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    **dict.fromkeys(("301", "302", "307", "308"), _REDIRECTED),
    "SlowDown": _SLOW,
    "Throttling": _SLOW,
    "ThrottlingException": _SLOW,
    "RequestLimitExceeded": _SLOW,
    "TooManyRequests": _SLOW,
    "429": _SLOW,
    "RequestTimeout": _Meaning("the server gave up waiting for the request", "", RetryableError, ErrorType.TIMEOUT),
    "BadDigest": _Meaning("what arrived is not what was sent: damaged on its way", "", RetryableError),
    "XAmzContentChecksumMismatch": _Meaning(
        "what arrived is not what was sent: damaged on its way", "", RetryableError
    ),
    **dict.fromkeys(CONFLICT, _CONFLICT),
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "XMinioAdminBucketQuotaExceeded": _FULL,
    "InsufficientStorage": _FULL,
    "507": _FULL,
}


def code_of(error: HeadraceError) -> str:
    """Returns the code of the server's answer behind an error, or "" where none came."""
    cause = error.__cause__
    return str(cause.response.get("Error", {}).get("Code", "")) if isinstance(cause, sdk.ClientError) else ""


@contextmanager
def translating(where: str) -> Iterator[None]:
    """Turns what the SDK raises in the block into what the engine must do about it."""
    try:
        yield
    except sdk.ClientError as error:
        raise _answered(error, where) from error
    except sdk.BotoCoreError as error:
        raise _unanswered(error, where) from error


def _answered(error: sdk.ClientError, where: str) -> HeadraceError:
    details, facts = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    code, status = str(details.get("Code", "")), facts.get("HTTPStatusCode", 0)
    action = error.operation_name
    if code in DENIED:
        said = str(details.get("Message", "")).rstrip(".")
        why = "" if said.lower() in {"", "access denied", "forbidden"} else f": {said}"
        message = f"the server does not allow {action}{why}"
        return FatalError(message, where=where, hint=_permission(action), error_type=ErrorType.AUTH)
    text = f"{action} failed: {code}: {details.get('Message', '')}".rstrip(": ")
    unknown = _Meaning(text, "", RetryableError if status >= 500 else FatalError)
    meaning = _MEANINGS.get(code) or _MEANINGS.get(str(status)) or unknown
    if issubclass(meaning.error, RetryableError):
        after = _seconds(facts.get("HTTPHeaders", {}).get("retry-after", ""))
        return RetryableError(
            meaning.message, where=where, hint=meaning.hint, error_type=meaning.error_type, after=after
        )
    return meaning.error(meaning.message, where=where, hint=meaning.hint, error_type=meaning.error_type)


def _permission(action: str) -> str:
    needed = {
        "ListObjectsV2": "ListBucket",
        "HeadObject": "GetObject",
        "CreateMultipartUpload": "PutObject",
        "UploadPart": "PutObject",
        "CompleteMultipartUpload": "PutObject",
        "ListMultipartUploads": "ListBucketMultipartUploads",
    }.get(action, action)
    return f"allow s3:{needed} for this bucket and prefix"


def _seconds(text: str) -> float | None:
    return float(text) if text.isdecimal() else None


def _unanswered(error: sdk.BotoCoreError, where: str) -> HeadraceError:
    text = _QUERY.sub("", " ".join(str(error).split()))
    if isinstance(error, sdk.SSLError) and "certificate" in text.lower():
        hint = "set ca_file to what signed the certificate"
        return FatalError(f"no trusted connection: {text}", where=where, hint=hint)
    if isinstance(error, sdk.SSLError) and "wrong version number" in text.lower().replace("_", " "):
        return FatalError(f"no TLS is spoken there: {text}", where=where, hint="check the endpoint's port and https://")
    if isinstance(error, sdk.ConnectionError):
        return UnavailableError(f"cannot connect: {text}", where=where, hint="check endpoint, and that it is running")
    if isinstance(error, (sdk.HTTPClientError, *LOST_IN_ANSWER)):
        return UnavailableError(f"the connection was lost: {text}", where=where)
    if isinstance(error, sdk.NoCredentialsError):
        hint = "add access_key_id and secret_access_key, or anonymous: true for a public bucket"
        return FatalError("there are no credentials", where=where, hint=hint, error_type=ErrorType.AUTH)
    if isinstance(error, (sdk.PartialCredentialsError, sdk.CredentialRetrievalError, sdk.TokenRetrievalError)):
        return FatalError(f"no credentials: {text}", where=where, hint=_KEYS, error_type=ErrorType.AUTH)
    return FatalError(text, where=where)
