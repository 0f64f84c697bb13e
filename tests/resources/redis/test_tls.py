"""A server that speaks TLS: trusted by its authority only, and by its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from resources.redis.resource import RedisConnection
from resources.sql import Tls
from tests.kit.process import ServerProcess, find_program, free_port, make_folder
from tests.kit.tls import Certificates, make_certificates


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path)


@pytest.fixture
def port(certificates: Certificates) -> Iterator[int]:
    number = free_port()
    files: dict[str, Path] = {
        "cert": certificates.certificate,
        "key": certificates.key,
        "ca-cert": certificates.authority,
    }
    options: list[str] = [part for name, path in files.items() for part in (f"--tls-{name}-file", str(path))]
    command: list[str] = [
        str(find_program("redis-server")),
        "--port",
        "0",
        "--tls-port",
        str(number),
        "--bind",
        "127.0.0.1",
        "127.0.0.2",
    ]
    process = ServerProcess(
        "redis", [*command, *options, "--tls-auth-clients", "no", "--save", ""], make_folder("redis")
    )
    connection = RedisConnection(host="127.0.0.1", port=number, tls=Tls.REQUIRE)

    def ready() -> None:
        assert connection.check().healthy, connection.check().details

    try:
        process.wait_until(ready)
        yield number
    finally:
        process.stop()


def test_a_server_is_trusted_by_its_authority_and_its_name(port: int, certificates: Certificates) -> None:
    unknown = RedisConnection(host="127.0.0.1", port=port, tls=Tls.VERIFY_FULL)
    assert "no trusted connection" in unknown.check().details
    known = replace(unknown, ca_file=str(certificates.authority))
    assert known.check().healthy, known.check().details
    renamed = replace(known, host="127.0.0.2")
    assert "no trusted connection" in renamed.check().details
    plain = replace(known, tls=Tls.DISABLE)
    assert not plain.check().healthy
