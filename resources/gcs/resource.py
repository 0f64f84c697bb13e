"""Google Cloud Storage's options: how to reach a bucket, what to read, where to write; imports no driver and opens nothing itself."""

from __future__ import annotations

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

CHUNK_STEP = 256 * 2**10
LARGEST_CHUNK = 512 * 2**20


@dataclass(frozen=True, kw_only=True)
class GcsConnection(StoreConnection):
    """A bucket of Google Cloud Storage.

    Credentials are the JSON key of a service account, or what Google's SDK finds where it is absent (application default
    credentials): GOOGLE_APPLICATION_CREDENTIALS, the login of `gcloud`, the identity of the machine or the pod. They need
    storage.objects.create, get, list and, to publish files, delete.
    """

    bucket: str = option(doc="The bucket.", example="lake")
    prefix: str = option(
        default="", doc="The folder below which everything lies: nothing outside it can be named.", example="team/a"
    )
    credentials: Secret | None = option(
        default=None,
        doc="The JSON key of a service account or an authorized user; the SDK's own search if absent.",
        example="${secret:file/gcs-key.json}",
    )
    anonymous: bool = option(default=False, doc="Send no credentials, for buckets that are public.", advanced=True)
    billing_project: str | None = option(
        default=None,
        doc="The project that pays, for buckets whose requester does.",
        example="my-project",
        advanced=True,
    )
    endpoint: str | None = option(
        default=None,
        doc="The server's address; Google's if absent or empty.",
        example="https://storage.me-central2.rep.googleapis.com",
        advanced=True,
    )
    tls: Tls = option(
        default=Tls.AUTO,
        doc="auto verifies the certificate and allows an http:// endpoint on the loopback address only. disable allows "
        "http:// anywhere: whoever sees the network sees the rows and the token.",
    )
    ca_file: str | None = option(
        default=None, doc="Certificates to trust, as a PEM file; those that the SDK brings if absent.", advanced=True
    )
    kms_key: str | None = option(
        default=None,
        doc="The Cloud KMS key that encrypts what is written; the bucket's own if absent.",
        example="projects/p/locations/eu/keyRings/r/cryptoKeys/k",
        advanced=True,
    )
    chunk_bytes: int = option(
        default=8 * 2**20,
        doc="Bytes in a request of an upload, in steps of 256KiB; a smaller file is sent as one.",
        unit="size",
        advanced=True,
    )
    timeout: timedelta = option(
        default=timedelta(seconds=60), doc="How long to wait for the server's next bytes.", advanced=True
    )

    def __post_init__(self) -> None:
        if not self.bucket or "/" in self.bucket:
            raise OptionError(
                "bucket", f"'{self.bucket}' is no bucket's name", "write the name without gs:// or a path"
            )
        why = fault_of(self.prefix.removesuffix("/")) if self.prefix else ""
        if why:
            raise OptionError("prefix", f"'{self.prefix}' is no folder: {why}", "write it like team/a")
        if self.anonymous and self.credentials is not None:
            raise OptionError("anonymous", "credentials are given as well", "keep one of them")
        check_endpoint(self.endpoint, self.tls, "Google")
        if self.chunk_bytes % CHUNK_STEP or not 0 < self.chunk_bytes <= LARGEST_CHUNK:
            raise OptionError("chunk_bytes", "it is no multiple of 256KiB up to 512MiB", "leave it out for 8MiB")
        if self.timeout <= timedelta():
            raise OptionError("timeout", "an answer takes longer than nothing", "write a duration such as 60s")

    @property
    def address(self) -> SplitResult | None:
        """The parts of the endpoint, or None where there is none."""
        return address_of(self.endpoint)

    @property
    def host(self) -> str | None:
        """The host that rows travel to, if it is not Google's."""
        return None if self.address is None else self.address.hostname

    @property
    def root(self) -> str:
        """What every key begins with: "" or a folder with its `/`."""
        folder = self.prefix.removesuffix("/")
        return f"{folder}/" if folder else ""

    @property
    def place(self) -> str:
        """How errors name it."""
        return f"gs://{self.bucket}/{self.root}".removesuffix("/")

    def open_store(self, *, create: bool = False) -> ObjectStore:
        del create
        from resources.gcs.store import GcsStore

        return GcsStore(self)

    def check(self) -> CheckResult:
        from resources.gcs.client import describe

        try:
            return CheckResult(healthy=True, details=describe(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def key_of(self, *parts: str) -> tuple[str, ...]:
        # Google's buckets have one name in all the world; another server's have it on that server only.
        address = self.address
        foreign = address is not None and not (address.hostname or "").endswith(".googleapis.com")
        server = (name_of(address),) if address is not None and foreign else ()
        return ("gcs", *server, self.bucket, *(each for each in self.root.split("/") if each), *parts)


@dataclass(frozen=True, kw_only=True)
class GcsSource(StoreSource):
    """Objects of one kind: one object, all below a prefix, or all that a glob matches, in the order of their names.

    `schema` names the columns to read and their types; without it the first object suggests them. Every request names the
    generation of the object: what was read is never a mixture of two.
    """

    connection: GcsConnection


@dataclass(frozen=True, kw_only=True)
class GcsDestination(StoreDestination):
    """Objects of one format below a prefix.

    Exactly once: rows are objects in `_headrace/tmp`, where no reader looks; the creation of an entry in a log beside the
    data (`ifGenerationMatch=0`) is the commit, after which the server copies each object to its name in one act. A crash in
    between is finished by the next run. Whoever lists the prefix never sees a row that was not committed.
    """

    capabilities: ClassVar[DestinationCapabilities] = exactly_once(Proof.EMULATOR)

    connection: GcsConnection


CONNECTOR = ConnectorKind(
    kind="gcs",
    title="Google Cloud Storage",
    connection=GcsConnection,
    source=GcsSource,
    destination=GcsDestination,
    extra="gcs",
    example="""\
type: gcs
config:
  bucket: lake
  path: orders
  format: parquet
""",
)
