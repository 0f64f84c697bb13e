"""Credentials of a caller over HTTP: headers, keys, and OAuth2 tokens that are renewed before they end; shows none of them."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import quote, quote_plus, urlencode

from dsl.contracts.errors import ErrorType, FatalError, RetryableError
from dsl.contracts.redaction import remember
from resources.http_answers import Answer, Request, refusal
from resources.http_options import Authentication, AuthType, ClientAuth, Grant
from resources.stores.secrets import reveal, reveal_optional

MARGIN_SECONDS: Final = 30.0
DEFAULT_SECONDS: Final = 300.0
"""How long a token is taken to live that does not say it."""

Send = Callable[[Request], Answer]


class Credentials(Protocol):
    """What is shown to the server with each request."""

    def current(self) -> dict[str, str]:
        """The header, or the parameter, by its name."""

    def renew(self, used: dict[str, str]) -> bool:
        """Hears that what was shown is refused; tells whether there is something else to show."""


@dataclass(frozen=True)
class _Fixed:
    shown: dict[str, str] = field(repr=False)

    def current(self) -> dict[str, str]:
        return self.shown

    def renew(self, used: dict[str, str]) -> bool:
        del used
        return False


@dataclass
class _Token:
    value: str = field(repr=False)
    until: float


@dataclass
class _Kept:
    """The token of one client, shared by all that this process opens."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    token: _Token | None = None
    refresh: str | None = field(default=None, repr=False)


_kept: dict[str, _Kept] = {}
_guard = threading.Lock()


@dataclass(frozen=True)
class TokenSource:
    """Asks for OAuth2 tokens.

    Attributes:
        auth: The options.
        send: Makes one request without credentials.
        where: Names the caller in errors.
    """

    auth: Authentication
    send: Send
    where: str

    def current(self) -> dict[str, str]:
        """The token in its header; asked for where there is none that lasts."""
        kept = self._shared()
        with kept.lock:
            if kept.token is None or kept.token.until <= time.monotonic():
                kept.token = self._asked(kept)
            return {"authorization": f"Bearer {kept.token.value}"}

    def renew(self, used: dict[str, str]) -> bool:
        """Forgets a token that was refused, unless another was asked for meanwhile."""
        kept = self._shared()
        with kept.lock:
            if kept.token is not None and used.get("authorization") == f"Bearer {kept.token.value}":
                kept.token = None
        return True

    def _shared(self) -> _Kept:
        auth = self.auth
        secrets = [reveal_optional(each) or "" for each in (auth.client_secret, auth.refresh_token)]
        parts = (auth.token_url, auth.client_id, auth.grant, auth.scope, *secrets)
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        with _guard:
            return _kept.setdefault(key, _Kept())

    def _asked(self, kept: _Kept) -> _Token:
        auth = self.auth
        form = {"grant_type": str(auth.grant)}
        if auth.scope is not None:
            form["scope"] = auth.scope
        if auth.grant is Grant.REFRESH_TOKEN:
            form["refresh_token"] = kept.refresh or reveal_optional(auth.refresh_token) or ""
        headers = {"content-type": "application/x-www-form-urlencoded"}
        secret, client = reveal_optional(auth.client_secret), auth.client_id or ""
        if auth.client_auth is ClientAuth.HEADER and secret is not None:
            headers["authorization"] = _basic(quote(client, safe=""), quote(secret, safe=""))
        else:
            form |= {"client_id": client, **({} if secret is None else {"client_secret": secret})}
        request = Request("POST", auth.token_url or "", headers=headers, body=urlencode(form).encode())
        return self._taken(self.send(request), kept)

    def _taken(self, answer: Answer, kept: _Kept) -> _Token:
        where = f"{self.where}: token of client '{self.auth.client_id}'"
        if answer.status in {400, 401, 403}:
            hint = "check client_id, client_secret, refresh_token and scope"
            raise FatalError(
                f"no token is given (HTTP status {answer.status})", where=where, hint=hint, error_type=ErrorType.AUTH
            )
        if not answer.succeeded:
            raise refusal(answer, where)
        try:
            said = json.loads(answer.body)
            value, lasts = said["access_token"], float(said.get("expires_in") or DEFAULT_SECONDS)
            refresh = said.get("refresh_token")
            sound = isinstance(value, str) and value and value.isascii() and value.isprintable()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            sound = False
        if not sound:
            raise RetryableError("the answer holds no token", where=where)
        if isinstance(refresh, str) and refresh:
            kept.refresh = remember(refresh)
        return _Token(remember(value), time.monotonic() + max(lasts - min(MARGIN_SECONDS, lasts / 2), 0.0))


def credentials_of(auth: Authentication, tokens: TokenSource, where: str) -> Credentials:
    """Returns what is shown to the server.

    Raises:
        FatalError: A secret cannot be had, or cannot stand in a header.
    """
    if auth.type is AuthType.OAUTH2:
        return tokens
    shown: dict[str, str] = {}
    if auth.type is AuthType.BASIC:
        shown["authorization"] = _basic(auth.username or "", reveal_optional(auth.password) or "")
    elif auth.type is AuthType.BEARER and auth.token is not None:
        shown["authorization"] = f"Bearer {reveal(auth.token)}"
    elif auth.type is AuthType.API_KEY and auth.key is not None:
        key = reveal(auth.key)
        for each in (quote(key, safe=""), quote_plus(key)):
            remember(each)
        shown[auth.param or (auth.header or "").lower()] = key
    if auth.param is None and not all(each.isascii() and each.isprintable() for each in shown.values()):
        raise FatalError(
            "a key holds characters that no header can", where=where, hint="is there a line break at its end?"
        )
    return _Fixed(shown)


def _basic(user: str, password: str) -> str:
    return "Basic " + remember(base64.b64encode(f"{user}:{password}".encode()).decode())
