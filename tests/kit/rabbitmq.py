"""A real RabbitMQ with TLS, one queue a test. It may not keep anything on disk after the tests."""

import os
import signal
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika

from tests.kit.process import ServerProcess, find_program, free_port, give_to_server, make_folder
from tests.kit.tls import Certificates, make_certificates

_PLACE = "/usr/lib/rabbitmq/bin"


class _Process(ServerProcess):
    """The server; ends the port mapper too, which the server leaves behind as a daemon of its own.

    Attributes:
        mapper: The mapper's port, which tells it from those of other servers.
    """

    mapper = 0

    def stop(self) -> None:
        """End the server, then its mapper, and delete the folder."""
        super().stop()
        for pid in _daemons_at(self.mapper):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _daemons_at(port: int) -> list[int]:
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"ERL_EPMD_PORT={port}".encode() in (each / "environ").read_bytes().split(b"\0"):
                found.append(int(each.name))
    return found


@dataclass(frozen=True)
class RabbitMQServer:
    """A running server. `new_name()` isolates a test; the user `headrace` has all rights."""

    host: str
    port: int
    tls_port: int
    password: str = field(repr=False)
    certificates: Certificates
    version: str
    process: ServerProcess = field(repr=False)

    def connect(self) -> Any:
        """Open a connection of the test's own."""
        login = pika.PlainCredentials("headrace", self.password)
        return pika.BlockingConnection(pika.ConnectionParameters(self.host, self.port, credentials=login, heartbeat=0))

    def new_name(self) -> str:
        """Return a name of a queue that nobody else has; nothing is there yet."""
        return f"t-{uuid.uuid4().hex[:12]}"


def start_rabbitmq(password: str) -> RabbitMQServer:
    """Start a server on free ports.

    Args:
        password: That of the user `headrace`.

    Raises:
        Unavailable: RabbitMQ is not installed, or does not start; carries its log.
    """
    program = find_program("rabbitmq-server", _PLACE)
    folder = make_folder("rabbitmq")
    certificates = make_certificates(folder)
    port, tls_port, spread, mapper = (free_port() for _ in range(4))
    settings = {
        "listeners.tcp.default": f"127.0.0.1:{port}",
        "listeners.ssl.1": f"127.0.0.1:{tls_port}",
        "listeners.ssl.2": f"127.0.0.2:{tls_port}",
        "ssl_options.cacertfile": certificates.authority,
        "ssl_options.certfile": certificates.certificate,
        "ssl_options.keyfile": certificates.key,
        "ssl_options.verify": "verify_none",
        "default_user": "headrace",
        "default_pass": password,
        "log.console": "true",
        "log.console.level": "warning",
        "log.file": "false",
        "disk_free_limit.absolute": "50MB",
    }
    conf = folder / "rabbitmq.conf"
    conf.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    (folder / "plugins").write_text("[].\n")
    environment = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"headrace-{uuid.uuid4().hex[:8]}@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_CONFIG_FILE": str(conf),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_DIST_PORT": str(spread),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
    }
    give_to_server(folder)
    process = _Process("rabbitmq", [program], folder, drop_root=True, environment=environment)
    process.mapper = mapper
    server = RabbitMQServer("127.0.0.1", port, tls_port, password, certificates, _version(), process)

    def ready() -> None:
        server.connect().close()

    process.wait_until(ready)
    return server


def _version() -> str:
    found = sorted(Path(_PLACE).parent.glob("lib/rabbitmq_server-*"))
    return found[-1].name.rpartition("-")[2] if found else "of this machine"
