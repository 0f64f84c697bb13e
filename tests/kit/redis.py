"""A real Redis, one key a test. It may not keep anything on disk."""

import uuid
from dataclasses import dataclass, field
from typing import Any

import redis

from tests.kit.process import ServerProcess, find_program, free_port, make_folder


@dataclass(frozen=True)
class RedisServer:
    """A running server. `new_key()` isolates a test; the user `headrace` has the password that it was started with."""

    host: str
    port: int
    version: str
    process: ServerProcess = field(repr=False)

    def client(self) -> Any:
        """Return a connection of the test's own."""
        return redis.Redis(self.host, self.port)

    def new_key(self) -> str:
        """Return a key that nobody else has; nothing is there yet."""
        return f"t-{uuid.uuid4().hex[:12]}"


def start_redis(password: str) -> RedisServer:
    """Start a server on a free port.

    Args:
        password: That of the user `headrace`; the default user needs none.

    Raises:
        Unavailable: redis-server is not installed, or does not start; carries its log.
    """
    program = find_program("redis-server")
    folder = make_folder("redis")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    users = ["--user", "headrace", "on", f">{password}", "~*", "&*", "+@all"]
    process = ServerProcess("redis", [program, *options, *users], folder)
    server = RedisServer("127.0.0.1", port, "", process)
    process.wait_until(lambda: server.client().ping())
    return RedisServer(server.host, port, server.client().info("server")["redis_version"], process)
