"""A load that is killed or frozen at any of the writer's places, and the loads after it: nothing lost, nothing doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from dsl.contracts.errors import FatalError, UnavailableError
from tests.kit.process import ROOT
from tests.kit.redis import RedisServer, start_redis
from tests.resources.redis import loading

TOTAL = 40


def numbers_in(server: RedisServer, key: str) -> Counter[int]:
    return Counter(int(fields[b"id"]) for _, fields in server.client().xrange(key))


def child(server: RedisServer, key: str, faults: str) -> subprocess.Popen[bytes]:
    given = {"port": server.port, "key": key, "total": TOTAL, "size": 3}
    command = [sys.executable, "-m", "tests.resources.redis.loading", json.dumps(given)]
    environment = {**os.environ, "HEADRACE_TEST": "1", "HEADRACE_FAILPOINTS": faults}
    return subprocess.Popen(command, cwd=ROOT, env=environment)


@pytest.mark.parametrize("place", ["redis.fenced@1", "redis.checked@3", "redis.committed@3"])
def test_a_process_is_killed(redis_server: RedisServer, place: str) -> None:
    key = redis_server.new_key()
    name, _, visit = place.partition("@")
    assert child(redis_server, key, f"{name}=kill@{visit}").wait() == -signal.SIGKILL
    loading.load(loading.destination_at(redis_server.port, key), TOTAL, 5)
    assert numbers_in(redis_server, key) == Counter(range(TOTAL))


def test_a_process_that_was_frozen_wakes_up_too_late(redis_server: RedisServer) -> None:
    key = redis_server.new_key()
    zombie = child(redis_server, key, "redis.checked=freeze@2")
    try:
        os.waitid(os.P_PID, zombie.pid, os.WSTOPPED)
        loading.load(loading.destination_at(redis_server.port, key), TOTAL, 5)
        zombie.send_signal(signal.SIGCONT)
        assert zombie.wait() == 1, "it ends with an error"
    finally:
        zombie.kill()
        zombie.wait()
    assert numbers_in(redis_server, key) == Counter(range(TOTAL))


def test_a_server_that_dies_loses_rows_and_token_together() -> None:
    server = start_redis("x")
    try:
        destination = loading.destination_at(server.port, server.new_key())
        writer = destination.open_writer(loading.SCHEMA, loading.TOKEN)
        writer.commit(1, {"v": 1})
        server.client().flushall()
        with pytest.raises(FatalError, match="the token is gone"):
            writer.commit(2, {"v": 1})
        server.process.crash()
        with pytest.raises(UnavailableError, match="cannot connect"):
            writer.commit(2, {"v": 1})
        writer.close()
    finally:
        server.process.stop()
