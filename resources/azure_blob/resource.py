"""Azure Blob Storage's options: how to reach a container, what to read, where to write; imports no driver and opens nothing itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar
from urllib.parse import SplitResult

from dsl.contracts.capabilities import DestinationCapabilities, Proof
from dsl.contracts.connectors import CheckResult, ConnectorKind
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from resources.endpoints import address_of, check_endpoint, name_of
from resources.file_options import StoreConnection, StoreDestination, StoreSource, exactly_once
from resources.file_paths import fault_of
from resources.object_store import ObjectStore
from resources.sql import Tls

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"\$root|\$web|[a-z0-9](?:[a-z0-9]|-(?!-)){1,61}[a-z0-9]")
LARGEST_BLOCK = 512 * 2**20


@dataclass(frozen=True, kw_only=True)
class AzureBlobConnection(StoreConnection):
    """A container of an Azure storage account, with or without a hierarchical namespace.

    Credentials are the account's key, a shared access signature, or the identity that Azure's SDK finds where both are
    absent (environment, managed or workload identity, the login of `az`), which needs `pip install azure-identity` and the
    role *Storage Blob Data Contributor*.
    """

    account: str = option(doc="The storage account.", example="mylake")
    container: str = option(doc="The container.", example="lake")
    prefix: str = option(
        default="", doc="The folder below which everything lies: nothing outside it can be named.", example="team/a"
    )
    account_key: Secret | None = option(
        default=None, doc="A key of the account; an identity if absent.", example="${AZURE_STORAGE_KEY}"
    )
    sas_token: Secret | None = option(
        default=None,
        doc="A shared access signature instead of a key: to read, create, write, delete and list.",
        example="${AZURE_STORAGE_SAS_TOKEN}",
    )
    anonymous: bool = option(default=False, doc="Send no credentials, for containers that are public.", advanced=True)
    endpoint: str | None = option(
        default=None,
        doc="The address of the account's blob service; https://ACCOUNT.blob.core.windows.net if absent or empty.",
        example="https://mylake.blob.core.chinacloudapi.cn",
        advanced=True,
    )
    tls: Tls = option(
        default=Tls.AUTO,
        doc="auto verifies the certificate and allows an http:// endpoint on the loopback address only. disable allows "
        "http:// anywhere: whoever sees the network sees the rows, though never the account's key.",
    )
    ca_file: str | None = option(
        default=None, doc="Certificates to trust, as a PEM file; those that the SDK brings if absent.", advanced=True
    )
    block_bytes: int = option(
        default=8 * 2**20,
        doc="Bytes in a block of an upload; a file has at most 50,000, and three are held in memory for each.",
        unit="size",
        advanced=True,
    )
    connect_timeout: timedelta = option(
        default=timedelta(seconds=10), doc="How long to wait for a connection.", advanced=True
    )
    timeout: timedelta = option(
        default=timedelta(seconds=60), doc="How long to wait for the server's next bytes.", advanced=True
    )

    def __post_init__(self) -> None:
        if not _ACCOUNT.fullmatch(self.account):
            raise OptionError("account", f"'{self.account}' is no account's name", "3 to 24 small letters and digits")
        if not _CONTAINER.fullmatch(self.container):
            raise OptionError(
                "container", f"'{self.container}' is no container's name", "write the name without an address or a path"
            )
        why = fault_of(self.prefix.removesuffix("/")) if self.prefix else ""
        if why:
            raise OptionError("prefix", f"'{self.prefix}' is no folder: {why}", "write it like team/a")
        given = [self.account_key is not None, self.sas_token is not None, self.anonymous]
        if sum(given) > 1:
            name = "anonymous" if self.anonymous else "sas_token"
            raise OptionError(name, "other credentials are given as well", "keep one of them")
        check_endpoint(self.endpoint, self.tls, "Azure", path=True)
        if not 2**16 <= self.block_bytes <= LARGEST_BLOCK:
            raise OptionError("block_bytes", "a block holds 64KiB to 512MiB", "leave it out for 8MiB")
        for name in ("connect_timeout", "timeout"):
            if getattr(self, name) <= timedelta():
                raise OptionError(name, "an answer takes longer than nothing", "write a duration such as 60s")

    @property
    def address(self) -> SplitResult | None:
        """The parts of the endpoint, or None where there is none."""
        return address_of(self.endpoint, path=True)

    @property
    def host(self) -> str | None:
        """The host that rows travel to, if it is not the account's own."""
        return None if self.address is None else self.address.hostname

    @property
    def url(self) -> str:
        """The address of the account's blob service."""
        return self.endpoint or f"https://{self.account}.blob.core.windows.net"

    @property
    def root(self) -> str:
        """What every key begins with: "" or a folder with its `/`."""
        folder = self.prefix.removesuffix("/")
        return f"{folder}/" if folder else ""

    @property
    def place(self) -> str:
        """How errors name it."""
        return f"azure://{self.account}/{self.container}/{self.root}".removesuffix("/")

    def open_store(self, *, create: bool = False) -> ObjectStore:
        del create
        from resources.azure_blob.store import AzureBlobStore

        return AzureBlobStore(self)

    def check(self) -> CheckResult:
        from resources.azure_blob.client import describe

        try:
            return CheckResult(healthy=True, details=describe(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def key_of(self, *parts: str) -> tuple[str, ...]:
        # An account has one name in all of Azure; another server's has it on that server only.
        address = self.address
        own = address is None or (address.hostname or "").startswith(f"{self.account}.")
        server = () if own or address is None else (name_of(address),)
        folders = (each for each in self.root.split("/") if each)
        return ("azure_blob", *server, self.account, self.container, *folders, *parts)


@dataclass(frozen=True, kw_only=True)
class AzureBlobSource(StoreSource):
    """Blobs of one kind: one blob, all below a prefix, or all that a glob matches, in the order of their names.

    `schema` names the columns to read and their types; without it the first blob suggests them. A blob that is replaced
    while it is read ends the run with an error: what was read is never a mixture of two.
    """

    connection: AzureBlobConnection


@dataclass(frozen=True, kw_only=True)
class AzureBlobDestination(StoreDestination):
    """Blobs of one format below a prefix.

    Exactly once: rows are blocks that belong to no blob yet; a conditional put of an entry in a log beside the data
    (`_headrace/`) is the commit, after which the lists of blocks are put and the blobs appear, each whole. A crash in
    between is finished by the next run, within the week for which Azure keeps such blocks. Whoever lists the prefix never
    sees a row that was not committed.
    """

    capabilities: ClassVar[DestinationCapabilities] = exactly_once(Proof.EMULATOR)

    connection: AzureBlobConnection


CONNECTOR = ConnectorKind(
    kind="azure_blob",
    title="Azure Blob Storage",
    connection=AzureBlobConnection,
    source=AzureBlobSource,
    destination=AzureBlobDestination,
    extra="azure",
    example="""\
type: azure_blob
config:
  account: mylake
  container: lake
  account_key: ${AZURE_STORAGE_KEY}
  path: orders
  format: parquet
""",
)
