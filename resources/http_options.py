"""What the connectors over HTTP have in common for documents: connection, authentication, reading by pages; opens nothing by itself."""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from dsl.contracts.connectors import CheckResult, Connection
from dsl.contracts.policies import RateLimit
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from resources.endpoints import address_of, check_endpoint, name_of
from resources.sql import Tls

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection", "host", "accept-encoding"})
_AUTHORIZATION: Final = "authorization"
INSTALL: Final = "pip install 'headrace[rest]', 'headrace[graphql]' or 'headrace[soap]'"


class AuthType(StrEnum):
    """How a caller says who it is."""

    NONE = "none"
    BASIC = "basic"
    BEARER = "bearer"
    API_KEY = "api_key"
    OAUTH2 = "oauth2"


class Grant(StrEnum):
    """What an OAuth2 token is given for (RFC 6749)."""

    CLIENT_CREDENTIALS = "client_credentials"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the grant's name


class ClientAuth(StrEnum):
    """Where the client's id and secret stand when it asks for a token."""

    HEADER = "header"
    BODY = "body"


# What each way needs, and what else it takes.
_NEEDS: Final[dict[AuthType, tuple[str, ...]]] = {
    AuthType.NONE: (),
    AuthType.BASIC: ("username", "password"),
    AuthType.BEARER: ("token",),
    AuthType.API_KEY: ("key",),
    AuthType.OAUTH2: ("token_url", "client_id"),
}
_TAKES: Final[dict[AuthType, tuple[str, ...]]] = {
    AuthType.API_KEY: ("header", "param"),
    AuthType.OAUTH2: ("client_secret", "refresh_token", "scope"),
}


@dataclass(frozen=True, kw_only=True)
class Authentication:
    """Who calls."""

    type: AuthType = option(default=AuthType.NONE, doc="How the caller says who it is.")
    username: str | None = option(default=None, doc="basic: the user.")
    password: Secret | None = option(default=None, doc="basic: the password.", example="${API_PASSWORD}")
    token: Secret | None = option(default=None, doc="bearer: the token.", example="${API_TOKEN}")
    key: Secret | None = option(default=None, doc="api_key: the key.", example="${API_KEY}")
    header: str | None = option(default=None, doc="api_key: the header that it stands in.", example="X-Api-Key")
    param: str | None = option(default=None, doc="api_key: the query parameter that it stands in.", example="api_key")
    token_url: str | None = option(default=None, doc="oauth2: where tokens are asked for.")
    grant: Grant = option(default=Grant.CLIENT_CREDENTIALS, doc="oauth2: what a token is given for.")
    client_id: str | None = option(default=None, doc="oauth2: the client.")
    client_secret: Secret | None = option(default=None, doc="oauth2: its secret.", example="${CLIENT_SECRET}")
    client_auth: ClientAuth = option(default=ClientAuth.HEADER, doc="oauth2: where id and secret stand.")
    refresh_token: Secret | None = option(
        default=None,
        doc="oauth2: what the grant `refresh_token` shows. Where a server gives a new one at each use, that lives as long as "
        "the process only: such a server is no use for runs that nobody attends.",
    )
    scope: str | None = option(default=None, doc="oauth2: what is asked for.")

    def __post_init__(self) -> None:
        needs, takes = _NEEDS[self.type], _TAKES.get(self.type, ())
        for each in needs:
            if getattr(self, each) is None:
                raise OptionError("auth", f"{self.type} needs `{each}`", f"add {each}")
        others = {name for way in _NEEDS.values() for name in way} | {"header", "param", *_TAKES[AuthType.OAUTH2]}
        for each in sorted(others - {*needs, *takes}):
            if getattr(self, each) is not None:
                raise OptionError("auth", f"`{each}` has no meaning with type {self.type}", f"remove {each}")
        if self.type is AuthType.API_KEY and (self.header is None) == (self.param is None):
            raise OptionError("auth", "an API key stands in a header or in a parameter", "give header or param")
        if self.header is not None:
            check_header("auth", self.header)
        if self.type is AuthType.OAUTH2:
            self._check_grant()

    def _check_grant(self) -> None:
        if self.grant is Grant.REFRESH_TOKEN and self.refresh_token is None:
            raise OptionError("auth", "the grant refresh_token needs `refresh_token`", "add refresh_token")
        if self.grant is Grant.CLIENT_CREDENTIALS and (self.client_secret is None or self.refresh_token is not None):
            raise OptionError("auth", "the grant client_credentials needs `client_secret` alone", "add client_secret")
        if address_of(self.token_url, path=True) is None:
            raise OptionError("auth", "`token_url` is no address", "write https://host/path")


def check_header(name: str, header: str) -> None:
    """Refuses what cannot be the name of a header, or one that belongs to the transport.

    Args:
        name: The option at fault.
        header: The header.

    Raises:
        OptionError: It is.
    """
    if not _NAME.fullmatch(header) or header.lower() in _FRAMING:
        raise OptionError(name, f"header '{header}' cannot be set", "leave it out")


@dataclass(frozen=True, kw_only=True)
class HttpConnection(Connection):
    """How to reach a server over HTTP. Sub-classes say what is asked of it."""

    headers: dict[str, Secret] = option(
        default={}, doc="Headers of every request; they may be secrets.", example={"X-Tenant": "acme"}
    )
    auth: Authentication = option(default=Authentication(), doc="Who calls.", example={"type": "bearer"})
    tls: Tls = option(
        default=Tls.AUTO,
        doc="auto speaks HTTPS and verifies certificate and host name; http:// is refused but with the loopback address. "
        "disable allows it: whoever sees the network sees rows and keys.",
    )
    ca_file: str | None = option(
        default=None, doc="Certificates to trust, as a PEM file; the system's if absent.", advanced=True
    )
    timeout: timedelta = option(default=timedelta(seconds=60), doc="How long the server may be silent.", advanced=True)
    attempts: int = option(default=5, doc="How often one request is made, the first included.", advanced=True)
    longest_pause: timedelta = option(
        default=timedelta(minutes=2),
        doc="Where a server asks for a longer pause (`Retry-After`), it is the run that is tried again later.",
        advanced=True,
    )
    rate: RateLimit | None = option(
        default=None, doc="How fast it may be called: `requests` in each period `per`.", example={"requests": 10}
    )
    max_response_bytes: int = option(
        default=64 * 2**20, doc="An answer that is larger, packed or unpacked, is refused.", unit="size", advanced=True
    )
    allow_private_hosts: bool = option(default=False, doc="Whether it may lie inside the own network.", advanced=True)

    @property
    @abstractmethod
    def address(self) -> str:
        """Where everything begins."""

    @abstractmethod
    def check(self) -> CheckResult:
        """Reaches the server."""

    def check_options(self, name: str) -> None:
        """Refuses options that do not fit together; `name` is the option that holds the address.

        Raises:
            OptionError: Names the option at fault.
        """
        if address_of(self.address, path=True) is None:
            raise OptionError(
                name, "it is no address of a server", "write https://host/path; parameters and keys stand apart"
            )
        try:
            check_endpoint(self.address, self.tls, "it", path=True)
            if self.auth.token_url is not None:
                check_endpoint(self.auth.token_url, Tls.AUTO, "it", path=True)
        except OptionError as error:
            raise OptionError(name if error.name == "endpoint" else error.name, error.message, error.hint) from error
        for header in self.headers:
            check_header("headers", header)
            if header.lower() == _AUTHORIZATION and self.auth.type not in {AuthType.NONE, AuthType.API_KEY}:
                raise OptionError("headers", "Authorization is made by `auth`", "keep one of them")
        if self.timeout <= timedelta() or self.attempts < 1 or self.max_response_bytes < 1:
            raise OptionError(
                "timeout" if self.timeout <= timedelta() else "attempts", "it is too small", "leave it out"
            )
        if self.rate is not None and ((self.rate.requests or 0) < 1 or self.rate.rows or self.rate.per <= timedelta()):
            raise OptionError("rate", "it is counted in requests", "write {requests: 10, per: 1s}")

    def key_of(self, kind: str, *parts: str) -> tuple[str, ...]:
        """Returns the asset key of something there."""
        address = address_of(self.address, path=True)
        host = name_of(address) if address is not None else "unknown"
        path = [] if address is None else [each for each in address.path.split("/") if each]
        return (kind, host, *path, *(each for part in parts for each in part.split("/") if each))
