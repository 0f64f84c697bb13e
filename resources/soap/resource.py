"""The options of a SOAP service: its WSDL, who calls, which operation; imports no driver and opens nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from dsl.contracts.connectors import BatchReader, CheckResult, ConnectorKind, ReadRequest, Stream
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from dsl.contracts.state import Json, State
from resources.endpoints import address_of, check_endpoint
from resources.http_options import HttpConnection
from resources.http_source import PagedSource, PageType, Pagination, check_path


@dataclass(frozen=True, kw_only=True)
class UsernameToken:
    """WS-Security: who calls, in the head of each message."""

    username: str = option(doc="The user.")
    password: Secret = option(doc="Its password.", example="${SOAP_PASSWORD}")
    digest: bool = option(default=True, doc="Send a digest of the password with a nonce, rather than the password.")


@dataclass(frozen=True, kw_only=True)
class SoapConnection(HttpConnection):
    """A SOAP service (1.1 or 1.2), described by a WSDL.

    The WSDL, what it imports and the service itself must be at one server (scheme, host and port), or at that of `endpoint`.
    """

    wsdl: str = option(doc="The address of the WSDL, without `?wsdl`.", example="https://erp.example.com/invoices")
    wsdl_query: str = option(default="wsdl", doc="What follows the address of the WSDL, behind `?`.", advanced=True)
    endpoint: str | None = option(
        default=None,
        doc="Where operations are called, if not where the WSDL says.",
        example="https://erp.example.com/ws",
    )
    service: str | None = option(default=None, doc="The service, where the WSDL has several.", advanced=True)
    port: str | None = option(default=None, doc="Its port, where it has several.", advanced=True)
    username_token: UsernameToken | None = option(default=None, doc="WS-Security: who calls.")

    def __post_init__(self) -> None:
        self.check_options("wsdl")
        if self.endpoint is not None:
            if address_of(self.endpoint, path=True) is None:
                raise OptionError("endpoint", "it is no address of a server", "write https://host/path")
            check_endpoint(self.endpoint, self.tls, "it", path=True)

    @property
    def address(self) -> str:
        return self.wsdl

    def check(self) -> CheckResult:
        from resources.soap.service import list_operations

        try:
            found = list_operations(self)
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))
        return CheckResult(healthy=True, details=f"the WSDL describes {len(found)} operations")

    def discover(self) -> Sequence[Stream]:
        from resources.soap.service import list_operations

        return [Stream(each) for each in list_operations(self)]


@dataclass(frozen=True, kw_only=True)
class SoapSource(PagedSource):
    """Records in the result of one operation.

    Columns come from the XML Schema: integers of their size, `decimal` as decimal(38, 10) (more digits are rejected), `dateTime`
    as a time with a zone. A `dateTime` without a zone is rejected unless a declared `schema` says that it has none;
    where the schema cannot tell (a JSON path with a filter), one must be declared.

    A fault is an error of the run; one that blames the server is tried again first. Documents with a DTD or with entities are refused.
    An absent list means that there are no records: a message that is cut off is no XML.
    """

    connection: SoapConnection
    operation: str = option(doc="The operation to call; it must be safe to call twice.", example="ListInvoices")
    arguments: dict[str, Json] = option(default={}, doc="Its arguments.", example={"status": "open"})
    records: str = option(
        default="$", doc="Where the records are in its result, as a JSON path (RFC 9535).", example="$.Invoices.Invoice"
    )
    pagination: Pagination = option(
        default=Pagination(), doc="How they are cut into pages: page, offset or cursor; `param` is the argument."
    )

    def __post_init__(self) -> None:
        self.check_paging()
        check_path("records", self.records)
        if self.pagination.type in {PageType.LINK_HEADER, PageType.NEXT_URL} or self.pagination.cursor_header:
            raise OptionError("pagination", "SOAP has pages by an argument alone", "take page, offset or cursor")

    @property
    def incremental(self) -> bool:
        """Whether a run reads only what is new."""
        return self.incremental_column is not None

    @property
    def physical_name(self) -> tuple[str, ...]:
        return self.connection.key_of("soap", self.operation)

    @property
    def place(self) -> str:
        return f"soap {'/'.join(self.physical_name[1:])}"

    def discover_schema(self) -> pa.Schema:
        from resources.soap.pages import discover

        return discover(self)

    def read(self, request: ReadRequest, state: State | None) -> BatchReader:
        from resources.soap.pages import open_reader

        return open_reader(self, request, state)


CONNECTOR = ConnectorKind(
    kind="soap",
    title="SOAP",
    connection=SoapConnection,
    source=SoapSource,
    extra="soap",
    example="""\
type: soap
config:
  wsdl: https://erp.example.com/invoices
  username_token:
    username: headrace
    password: ${SOAP_PASSWORD}
  operation: ListInvoices
  arguments:
    status: open
  pagination:
    type: offset
    param: offset
""",
)
