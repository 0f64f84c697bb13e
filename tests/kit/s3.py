"""A real S3 server (SeaweedFS) that checks signatures and conditional writes, one bucket a test. It may not know the data."""

import json
import subprocess
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from tests.kit.process import ServerProcess, find_program, free_port, make_folder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Bucket:
    """One empty bucket of a test's own, with the address and keys of its server."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str
    bucket: str

    def client(self) -> "S3Client":
        """Return a boto3 client with path-style addresses and signature version 4."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
        )

    def put(self, key: str, body: bytes) -> None:
        """Store an object."""
        self.client().put_object(Bucket=self.bucket, Key=key, Body=body)

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        return self.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys below a prefix in order."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return sorted(found["Key"] for page in pages for found in page.get("Contents", []))


@dataclass(frozen=True)
class S3Server:
    """A running server. `new_bucket()` isolates a test."""

    host: str
    port: int
    access_key: str
    secret_key: str = field(repr=False)
    region: str
    version: str
    process: ServerProcess = field(repr=False)

    @property
    def endpoint(self) -> str:
        """The address for `endpoint_url`."""
        return f"http://{self.host}:{self.port}"

    def bucket(self, name: str) -> Bucket:
        """Return a bucket by name without creating it."""
        return Bucket(self.endpoint, self.access_key, self.secret_key, self.region, name)

    def new_bucket(self) -> Bucket:
        """Create an empty bucket with a name nobody else has."""
        made = self.bucket(f"t-{uuid.uuid4().hex[:12]}")
        made.client().create_bucket(Bucket=made.bucket)
        return made


def start_s3() -> S3Server:
    """Start a server on free ports.

    Raises:
        Unavailable: SeaweedFS is not installed, or does not start; carries its log.
    """
    program = find_program("weed")
    version = subprocess.run([program, "version"], check=True, capture_output=True, text=True).stdout.split()[2]
    folder = make_folder("s3")
    access_key, secret_key = f"AK{uuid.uuid4().hex[:14].upper()}", uuid.uuid4().hex
    identity = {
        "name": "headrace",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    port = free_port()
    # Every gRPC port is set: their default is the HTTP port + 10000, which need not be free.
    ports = [
        f"-{part}.port{kind}={port if (part, kind) == ('s3', '') else free_port()}"
        for part in ("master", "volume", "filer", "s3")
        for kind in ("", ".grpc")
    ]
    command: list[str | Path] = [
        program,
        f"-logdir={folder}",
        "server",
        f"-dir={folder / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=0",
        *ports,
    ]
    process = ServerProcess("seaweedfs", command, folder, environment={"WEED_S3_SSE_KEK": uuid.uuid4().hex * 2})
    server = S3Server("127.0.0.1", port, access_key, secret_key, "us-east-1", version, process)

    def ready() -> None:
        # Answering comes before having a volume to write to.
        probe = server.bucket("ready")
        probe.client().create_bucket(Bucket=probe.bucket)
        probe.put("probe", b"1")
        probe.client().delete_object(Bucket=probe.bucket, Key="probe")
        probe.client().delete_bucket(Bucket=probe.bucket)

    process.wait_until(ready)
    return server
