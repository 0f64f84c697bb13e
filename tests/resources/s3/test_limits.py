"""What is large, and what travels encrypted: memory stays bounded, certificates are verified."""

from __future__ import annotations

import dataclasses
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dsl.contracts.errors import FatalError
from resources.s3.resource import S3Connection
from resources.s3.store import S3Store
from tests.kit.s3 import Bucket
from tests.kit.tls import Certificates, make_certificates
from tests.resources.object_store_suite import sealed
from tests.resources.s3.test_store import opening_of

MIB = 2**20


def test_an_object_of_200_megabytes_passes_through_little_memory(connection: S3Connection) -> None:
    code = f"""
import hashlib, random, resource
def held():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
store.create("warm", b"x"); store.read("warm"); list(store.list(""))
before, block, digest = held(), random.Random(1).randbytes({MIB}), hashlib.sha256()
staged = store.stage("big")
for number in range(200):
    piece = number.to_bytes(4, "big") + block
    staged.write(piece)
    digest.update(piece)
store.publish(staged.seal())
written = held() - before
(found,) = store.list("big")
read, size = hashlib.sha256(), 0
with store.open(found) as opened:
    while piece := opened.read({MIB}):
        read.update(piece)
        size += len(piece)
print(json.dumps([size, found.size, read.hexdigest() == digest.hexdigest(), written, held() - before]))
"""
    (line,) = opening_of(connection).elsewhere(code)
    size, listed, same, written, both = json.loads(line)
    assert size == listed == 200 * (MIB + 4)
    assert same
    assert written < 64, "MiB: three parts of 8 and what the client needs"
    assert both < 80


def test_a_file_larger_than_its_parts_allow_is_refused_by_name(
    connection: S3Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.s3.staged.MOST_PARTS", 2)
    with closing(S3Store(connection)) as store:
        staged = store.stage("lake/a")
        with pytest.raises(FatalError, match=r"lake/a: a file has at most 2 parts.*raise part_bytes"):
            staged.write(bytes(25 * MIB))
        staged.discard()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


@pytest.fixture
def encrypted(bucket: Bucket, connection: S3Connection, certificates: Certificates) -> Iterator[S3Connection]:
    """The server behind TLS with a certificate that a test authority signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    host, port = bucket.endpoint.removeprefix("http://").split(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_serve, args=(client, context, (host, int(port))), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield dataclasses.replace(connection, endpoint=f"https://127.0.0.1:{listener.getsockname()[1]}")
        listener.shutdown(socket.SHUT_RDWR)


def _serve(client: socket.socket, context: ssl.SSLContext, upstream: tuple[str, int]) -> None:
    try:
        secure = context.wrap_socket(client, server_side=True)
    except (ssl.SSLError, OSError):
        client.close()
        return
    server = socket.create_connection(upstream)
    threading.Thread(target=_pump, args=(server, secure), daemon=True).start()
    _pump(secure, server)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(65536):
            target.sendall(chunk)
    except OSError:
        pass
    finally:
        target.close()


def test_certificates_are_verified(encrypted: S3Connection, certificates: Certificates) -> None:
    distrusting = encrypted.check()
    assert not distrusting.healthy
    assert "no trusted connection" in distrusting.details
    assert "set ca_file" in distrusting.details
    trusting = dataclasses.replace(encrypted, ca_file=str(certificates.authority))
    assert trusting.check().healthy, trusting.check().details
    with closing(S3Store(trusting)) as store:
        store.publish(sealed(store, "a", b"rows" * 3 * MIB))
        assert store.read("a") == b"rows" * 3 * MIB
    missing = dataclasses.replace(encrypted, ca_file="/nowhere/ca.pem").check()
    assert "there is no file '/nowhere/ca.pem' (check ca_file)" in missing.details


def test_a_server_without_tls_is_told(connection: S3Connection) -> None:
    spoken = dataclasses.replace(connection, endpoint=str(connection.endpoint).replace("http:", "https:")).check()
    assert "no TLS is spoken there" in spoken.details
