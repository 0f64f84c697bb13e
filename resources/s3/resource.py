"""S3's options: how to reach a bucket, what to read from it, where to write in it; imports no driver and opens nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from urllib.parse import SplitResult

from dsl.contracts.connectors import CheckResult, ConnectorKind
from dsl.contracts.errors import HeadraceError
from dsl.contracts.secret import Secret
from dsl.contracts.spec import OptionError, option
from resources.endpoints import address_of, check_endpoint, name_of
from resources.file_options import StoreConnection, StoreDestination, StoreSource
from resources.file_paths import fault_of
from resources.object_store import ObjectStore
from resources.sql import Tls

_AMAZON = (".amazonaws.com", ".amazonaws.com.cn")
SMALLEST_PART = 5 * 2**20
LARGEST_PART = 512 * 2**20


class Encryption(StrEnum):
    """How the server encrypts what is written."""

    BUCKET = "bucket"
    SSE_S3 = "sse-s3"
    SSE_KMS = "sse-kms"


@dataclass(frozen=True, kw_only=True)
class S3Connection(StoreConnection):
    """A bucket of Amazon S3, or of a server that speaks its protocol (MinIO, SeaweedFS, Ceph, R2).

    Credentials are the two keys, or what the AWS SDK finds where they are absent: the environment, its configuration
    files, the role of the machine or the pod. A server must honour `If-None-Match` in a put (Amazon's does, MinIO's,
    SeaweedFS's); one that does not is refused at the first commit. Parts of files that were never finished cost space
    until they are discarded by the next run, or by the bucket's rule for incomplete uploads: let that rule leave them at least a week.
    """

    bucket: str = option(doc="The bucket.", example="lake")
    region: str | None = option(
        default=None, doc="Its region; AWS_REGION or us-east-1 if absent.", example="eu-central-1"
    )
    endpoint: str | None = option(
        default=None, doc="The server's address; Amazon's if absent or empty.", example="https://minio.example.com:9000"
    )
    prefix: str = option(
        default="", doc="The folder below which everything lies: nothing outside it can be named.", example="team/a"
    )
    access_key_id: Secret | None = option(
        default=None, doc="The access key's id; the SDK's own search if absent.", example="${AWS_ACCESS_KEY_ID}"
    )
    secret_access_key: Secret | None = option(
        default=None, doc="The access key's secret.", example="${AWS_SECRET_ACCESS_KEY}"
    )
    session_token: Secret | None = option(
        default=None, doc="The token that belongs to temporary keys.", example="${AWS_SESSION_TOKEN}"
    )
    anonymous: bool = option(default=False, doc="Send no credentials, for buckets that are public.", advanced=True)
    tls: Tls = option(
        default=Tls.AUTO,
        doc="auto verifies the certificate and allows an http:// endpoint on the loopback address only. disable allows "
        "http:// anywhere: whoever sees the network sees the rows, though never the secret key.",
    )
    ca_file: str | None = option(
        default=None, doc="Certificates to trust, as a PEM file; those that the SDK brings if absent.", advanced=True
    )
    path_style: bool | None = option(
        default=None,
        doc="Whether the bucket stands in the path of addresses, not in the host name; true with an endpoint if absent.",
        advanced=True,
    )
    encryption: Encryption = option(
        default=Encryption.BUCKET, doc="How objects are encrypted; as the bucket says if absent.", advanced=True
    )
    kms_key: str | None = option(
        default=None, doc="The key of sse-kms; the account's own if absent.", example="alias/lake", advanced=True
    )
    part_bytes: int = option(
        default=8 * 2**20,
        doc="Bytes in a part of an upload; a file has at most 10,000, and three are held in memory for each.",
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
        if not self.bucket or ("/" in self.bucket and not self.bucket.startswith("arn:")):
            raise OptionError(
                "bucket", f"'{self.bucket}' is no bucket's name", "write the name without s3:// or a path"
            )
        why = fault_of(self.prefix.removesuffix("/")) if self.prefix else ""
        if why:
            raise OptionError("prefix", f"'{self.prefix}' is no folder: {why}", "write it like team/a")
        self._check_credentials()
        check_endpoint(self.endpoint, self.tls, "Amazon")
        if self.kms_key is not None and self.encryption is not Encryption.SSE_KMS:
            raise OptionError("kms_key", "it has no meaning here", "add encryption: sse-kms")
        if not SMALLEST_PART <= self.part_bytes <= LARGEST_PART:
            raise OptionError("part_bytes", "a part holds 5MiB to 512MiB", "leave it out for 8MiB")
        for name in ("connect_timeout", "timeout"):
            if getattr(self, name) <= timedelta():
                raise OptionError(name, "an answer takes longer than nothing", "write a duration such as 60s")

    def _check_credentials(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            missing = "secret_access_key" if self.secret_access_key is None else "access_key_id"
            raise OptionError(
                missing, "an access key's id and secret belong together", f"add {missing}, or remove both"
            )
        if self.session_token is not None and self.access_key_id is None:
            raise OptionError(
                "session_token", "it belongs to keys that are not given", "add access_key_id and its secret"
            )
        if self.anonymous and self.access_key_id is not None:
            raise OptionError("anonymous", "keys are given as well", "keep one of them")

    @property
    def address(self) -> SplitResult | None:
        """The parts of the endpoint, or None where there is none that can be used."""
        return address_of(self.endpoint)

    @property
    def host(self) -> str | None:
        """The host that rows travel to, if it is not Amazon's."""
        return None if self.address is None else self.address.hostname

    @property
    def root(self) -> str:
        """What every key begins with: "" or a folder with its `/`."""
        folder = self.prefix.removesuffix("/")
        return f"{folder}/" if folder else ""

    @property
    def place(self) -> str:
        """How errors name it."""
        return f"s3://{self.bucket}/{self.root}".removesuffix("/")

    def open_store(self, *, create: bool = False) -> ObjectStore:
        del create
        from resources.s3.store import S3Store

        return S3Store(self)

    def check(self) -> CheckResult:
        from resources.s3.client import describe

        try:
            return CheckResult(healthy=True, details=describe(self))
        except HeadraceError as error:
            return CheckResult(healthy=False, details=str(error))

    def key_of(self, *parts: str) -> tuple[str, ...]:
        host = "" if self.address is None else name_of(self.address)
        # Amazon's buckets have one name in all the world; another server's have it on that server only.
        server = () if not host or host.endswith(_AMAZON) else (host,)
        return ("s3", *server, self.bucket, *(each for each in self.root.split("/") if each), *parts)


@dataclass(frozen=True, kw_only=True)
class S3Source(StoreSource):
    """Objects of one kind: one object, all below a prefix, or all that a glob matches, in the order of their names.

    `schema` names the columns to read and their types; without it the first object suggests them. An object that is
    replaced while it is read ends the run with an error: what was read is never a mixture of two.
    """

    connection: S3Connection


@dataclass(frozen=True, kw_only=True)
class S3Destination(StoreDestination):
    """Objects of one format below a prefix.

    Exactly once: rows are parts of uploads that nobody sees; a conditional put of an entry in a log beside the data
    (`_headrace/`) is the commit, after which the uploads are completed and the objects appear, each whole. A crash in
    between is finished by the next run. Whoever lists the prefix never sees a row that was not committed.
    """

    connection: S3Connection


CONNECTOR = ConnectorKind(
    kind="s3",
    title="Amazon S3 and compatible stores",
    connection=S3Connection,
    source=S3Source,
    destination=S3Destination,
    extra="s3",
    example="""\
type: s3
config:
  bucket: lake
  region: eu-central-1
  path: orders
  format: parquet
""",
)
