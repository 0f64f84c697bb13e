"""Reads a WSDL and calls operations through a client of ours: the wall, limits, verified TLS; no DTD, no entity, no file, no other host."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dsl.contracts.errors import ErrorType, FatalError, HeadraceError, RetryableError
from resources.http_answers import Answer, Request, refusal
from resources.http_client import HttpClient
from resources.soap.resource import SoapConnection
from resources.sql import suggestion
from resources.stores.secrets import reveal

try:
    import zeep
    from lxml import etree  # type: ignore[import-untyped]
    from zeep.exceptions import DTDForbidden, EntitiesForbidden, Fault, TransportError, ValidationError, XMLSyntaxError
    from zeep.helpers import serialize_object
    from zeep.transports import Transport
    from zeep.wsse.username import UsernameToken
except ModuleNotFoundError as error:
    raise FatalError(
        "the library of SOAP is not installed", hint="pip install 'headrace[soap]', which brings zeep"
    ) from error

_LONGEST = 300
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_CALLER = ("client", "sender", "mustunderstand", "versionmismatch", "dataencodingunknown")
_AUTH = ("failedauthentication", "invalidsecurity", "invalidsecuritytoken", "securitytokenunavailable", "failedcheck")
# What is sent and received is the business of nobody's log: it holds rows and passwords.
logging.getLogger("zeep.transports").setLevel(logging.WARNING)


@dataclass(frozen=True)
class _Reply:
    """An answer as zeep reads it."""

    status_code: int
    content: bytes
    headers: Mapping[str, str]
    encoding: str | None = None


class _Unreadable(logging.Filter):
    """Makes an error of what zeep only logs before it goes on with nothing: a value that does not fit its type."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info:
            raise FatalError("a value in the answer does not fit the type that the WSDL gives it")
        return True


logging.getLogger("zeep.xsd.types.simple").addFilter(_Unreadable())


class _EmptyTexts(zeep.Plugin):
    """Keeps an element without text apart from one that is not there: zeep takes both for nothing."""

    def ingress(self, envelope: Any, http_headers: Any, operation: Any) -> Any:
        """Sees an answer before it is read."""
        del operation
        for each in envelope.iter(etree.Element):
            if each.text is None and len(each) == 0 and each.get(_NIL) not in {"true", "1"}:
                each.text = ""
        return envelope, http_headers


class _Transport(Transport):
    """Carries zeep's documents and messages."""

    def __init__(self, client: HttpClient, endpoint: HttpClient) -> None:
        # Its own constructor would open a session that goes round the wall.
        self.cache = self.session = self.operation_timeout = self.load_timeout = None
        self._close_session = False
        self.logger = logging.getLogger("zeep.transports")
        self._client, self._endpoint = client, endpoint

    def load(self, url: Any) -> bytes:
        """Loads a document that belongs to the service."""
        client = self._at(str(url))
        return client.ask(Request("GET", str(url), headers={"accept": "text/xml, application/xml"}), _body)

    def post(self, address: str, message: bytes, headers: Mapping[str, str]) -> Any:
        """Sends a message; a status that is no success is an answer where it holds a fault."""
        client = self._at(address)
        request = Request("POST", address, headers={**headers, "accept": "text/xml, application/xml"}, body=message)
        answer = client.send(request)
        faulty = answer.status in {400, 500} and b"Fault" in answer.body
        if not answer.succeeded and not faulty:
            raise refusal(answer, client.place(request))
        kept = {"Content-Type": answer.headers.get("content-type", "text/xml")}
        return _Reply(answer.status, answer.body, kept)

    def _at(self, url: str) -> HttpClient:
        for each in (self._client, self._endpoint):
            if each.belongs(url):
                return each
        raise FatalError(
            "the WSDL leads to another server than its own",
            where=self._client.where,
            hint="set endpoint: to where operations are called; what is imported must be at one of the two",
        )


def _body(answer: Answer) -> bytes:
    return answer.body


class Service:
    """An open way to one service.

    Args:
        connection: Where it is, and who calls.
        where: Names it in errors.

    Raises:
        RetryableError: It cannot be reached, or its WSDL is not whole.
        FatalError: It may not be called, or its WSDL cannot be used.
    """

    def __init__(self, connection: SoapConnection, where: str) -> None:
        self.where, self._connection = where, connection
        self._client = HttpClient(connection, where)
        self._endpoint = self._client if connection.endpoint is None else HttpClient(_at(connection), where)
        try:
            self._zeep = self._client.repeat(self._loaded)
            self._proxy = self._bound()
        except BaseException:
            self.close()
            raise

    def call(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        """Calls an operation until there is an answer; raises as HTTP does, and for faults."""
        self.output(operation)
        result = self._client.repeat(lambda: self._told(lambda: self._proxy[operation](**arguments)))
        return serialize_object(result, target_cls=dict)  # type: ignore[no-untyped-call]

    def output(self, operation: str) -> Any:
        """Returns the type of an operation's result message.

        Raises:
            FatalError: There is no such operation.
        """
        known = self.operations()
        if operation not in known:
            raise FatalError(
                f"there is no operation '{operation}'", where=self.where, hint=suggestion(operation, known)
            )
        body = self._proxy._binding._operations[operation].output.body  # noqa: SLF001 - zeep has no other way to say it
        return None if body is None else body.type

    def operations(self) -> list[str]:
        """Returns the names of all operations, sorted."""
        return sorted(self._proxy._binding._operations)  # noqa: SLF001 - as above

    def close(self) -> None:
        """Closes the connections; safe to call twice."""
        self._client.close()
        self._endpoint.close()

    def _loaded(self) -> Any:
        connection, token = self._connection, self._connection.username_token
        settings = zeep.Settings(forbid_dtd=True, forbid_entities=True, xml_huge_tree=False)
        security = None
        if token is not None:
            security = UsernameToken(token.username, reveal(token.password), use_digest=token.digest)  # type: ignore[no-untyped-call]
        url = f"{connection.wsdl}?{connection.wsdl_query}" if connection.wsdl_query else connection.wsdl
        transport = _Transport(self._client, self._endpoint)
        options: dict[str, Any] = {"wsse": security, "transport": transport, "settings": settings}
        return self._told(lambda: zeep.Client(url, plugins=[_EmptyTexts()], **options))  # type: ignore[no-untyped-call]

    def _bound(self) -> Any:
        connection = self._connection
        try:
            proxy = self._zeep.bind(connection.service, connection.port)
            if connection.endpoint is not None:
                proxy = self._zeep.create_service(proxy._binding.name, connection.endpoint)  # noqa: SLF001 - as above
        except (ValueError, AttributeError) as error:
            raise FatalError(
                "the WSDL describes no such service or port", where=self.where, hint="check service and port"
            ) from error
        return proxy

    def _told(self, act: Any) -> Any:
        """Does something with zeep and puts its errors into words."""
        try:
            return act()
        except HeadraceError:
            raise
        except Fault as error:
            raise fault(str(error.code or ""), str(error.message or ""), self.where) from error
        except (DTDForbidden, EntitiesForbidden) as error:
            raise FatalError("the document holds a DTD or entities, which are refused", where=self.where) from error
        except (XMLSyntaxError, TransportError, etree.XMLSyntaxError) as error:
            raise RetryableError("the answer is no whole XML document", where=self.where) from error
        except (ValidationError, TypeError) as error:
            told = f"the operation does not take these arguments: {_line(str(error))}"
            raise FatalError(told, where=self.where, hint="check `arguments`") from error
        except (zeep.exceptions.Error, LookupError, ValueError, AttributeError) as error:
            told = f"the WSDL or the answer cannot be read: {_line(str(error))}"
            raise RetryableError(told, where=self.where) from error


def fault(code: str, message: str, where: str) -> HeadraceError:
    """Returns what a SOAP fault means for the engine."""
    told = f"the service reports a fault ({code.rpartition(':')[2] or 'without a code'}): {_line(message)}"
    kind = code.rpartition(":")[2].partition(".")[0].lower()
    if kind in _AUTH:
        return FatalError(told, where=where, hint="check username_token and auth", error_type=ErrorType.AUTH)
    if kind in _CALLER:
        return FatalError(told, where=where, hint="check operation and arguments")
    return RetryableError(told, where=where)


def list_operations(connection: SoapConnection) -> list[str]:
    """Returns the names of all operations; raises as `Service` does."""
    service = Service(connection, f"soap {connection.key_of('soap')[1]}")
    try:
        return service.operations()
    finally:
        service.close()


def _at(connection: SoapConnection) -> SoapConnection:
    """Returns the connection that has its address where operations are called."""
    return type(connection)(**{**vars(connection), "wsdl": connection.endpoint})


def _line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]
