"""Thirty-two processes that call one endpoint behind a shared breaker and note what they were let through for. It asserts nothing."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path

from dagster import DagsterInstance

from dsl.contracts.policies import CircuitBreakerPolicy
from engine.breaker import Breaker, OpenBreakerError
from engine.context import SystemClock
from resources.stores.breakers import SharedBreakers

PROCESSES = 32
POLICY = CircuitBreakerPolicy(failures=5, cooldown=timedelta(seconds=1.5))
KEY = "http/dead"


def call(port: int) -> bool:
    """Ask the endpoint once; tell whether it answered."""
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            return connection.recv(1) == b"!"
    except OSError:
        return False


def work(home: Path, port: int) -> None:
    """Call until a file says that it is over; write one line for each call."""
    store = SharedBreakers.of(DagsterInstance.local_temp(str(home / "dagster")))
    breaker = Breaker(KEY, POLICY, store, SystemClock())
    with (home / f"{os.getpid()}.calls").open("w", buffering=1) as log:
        while not (home / "over").exists():
            try:
                permit = breaker.admit()
            except OpenBreakerError:
                time.sleep(0.1)
                continue
            since = store.get(KEY).since
            worked = call(port)
            began = None if since is None else since.isoformat()
            log.write(json.dumps([permit.opening, permit.probe, worked, began if permit.probe else None]) + "\n")
            (breaker.succeeded if worked else breaker.failed)(permit)
            if worked:
                time.sleep(0.1)


def main(home: Path, port: int) -> int:
    """Fork them and wait for them; tell how many failed."""
    children = []
    for _ in range(PROCESSES):
        child = os.fork()
        if child == 0:
            work(home, port)
            os._exit(0)
        children.append(child)
    return sum(os.waitpid(each, 0)[1] != 0 for each in children)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
