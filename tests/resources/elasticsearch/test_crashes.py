"""A run that dies at any request of a load, and the runs after it: nothing lost, nothing doubled, nothing left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from dsl.contracts.errors import FatalError
from tests.kit.elasticsearch import ElasticsearchServer
from tests.kit.process import ROOT
from tests.resources.elasticsearch import loading
from tests.resources.elasticsearch.faulty import Exchange, Fault, FaultyCluster, faithfully, faulty_cluster, status

TOTAL = 24
MODES = ("append", "upsert", "overwrite")


@pytest.fixture
def cluster(elasticsearch: ElasticsearchServer) -> Iterator[FaultyCluster]:
    with faulty_cluster(elasticsearch.host, elasticsearch.port) as served:
        yield served


def numbers_in(server: ElasticsearchServer, index: str) -> Counter[int]:
    return Counter(each["id"] for each in server.documents(index).values())


def dead(exchange: Exchange) -> None:
    """What a process that is gone hears: nothing it could go on with."""
    status(401)(exchange)


def dies_after(exchange: Exchange) -> None:
    exchange.forward()
    dead(exchange)


def dying(at: int, last: Fault) -> Callable[[int], Fault | None]:
    return lambda number: None if number < at else last if number == at else dead


@pytest.mark.parametrize("mode", MODES)
def test_a_run_may_die_at_every_request(elasticsearch: ElasticsearchServer, cluster: FaultyCluster, mode: str) -> None:
    """The k-th request is the last that the server acts on, for every k."""
    at = 0
    while True:
        index = elasticsearch.new_index()
        destination = loading.destination_at(cluster.port, index, mode)
        before = len(cluster.requests)
        cluster.at_request = dying(before + at, dies_after)
        try:
            loading.load(destination, TOTAL)
        except FatalError:
            survived = False
        else:
            survived = True
        cluster.at_request = lambda _: None
        loading.load(destination, TOTAL)
        assert numbers_in(elasticsearch, index) == Counter(range(TOTAL)), f"died at request {at}"
        leftovers = [each for each in elasticsearch.request("GET", "/*") if each.startswith(index)]
        assert len(leftovers) == 1, f"died at request {at}: {leftovers}"
        if survived:
            break
        at += 1
    assert at > 15, "the load has that many requests"


@pytest.mark.parametrize("mode", MODES)
def test_it_may_die_again_and_again(elasticsearch: ElasticsearchServer, cluster: FaultyCluster, mode: str) -> None:
    index = elasticsearch.new_index()
    destination = loading.destination_at(cluster.port, index, mode)
    for deaths in range(60):
        before = len(cluster.requests)
        cluster.at_request = dying(before + 12 + deaths % 6, (dead, dies_after)[deaths % 2])
        try:
            loading.load(destination, TOTAL)
        except FatalError:
            continue
        break
    assert deaths > 2
    assert numbers_in(elasticsearch, index) == Counter(range(TOTAL))


KILLED = {
    "the epoch's ids are noted": ("PUT /headrace-tokens/_doc", 3),
    "in the middle of a bulk request": ("_bulk", 2),
    "the documents are there and the token is not": ("_refresh", 2),
    "the token has moved": ("PUT /headrace-tokens/_doc", 5),
}


@pytest.mark.parametrize("mode", [MODES[0], *(pytest.param(each, marks=pytest.mark.slow) for each in MODES[1:])])
@pytest.mark.parametrize("moment", KILLED)
def test_a_process_is_killed(
    elasticsearch: ElasticsearchServer, cluster: FaultyCluster, mode: str, moment: str
) -> None:
    path, nth = KILLED[moment]
    index = elasticsearch.new_index()
    child: list[subprocess.Popen[bytes]] = []

    def kill(exchange: Exchange) -> None:
        operations = exchange.operations if path == "_bulk" else []
        if operations:
            exchange.forward(b"".join(line for each in operations[: len(operations) // 2] for line in each))
        else:
            exchange.forward()
        child[0].send_signal(signal.SIGKILL)

    def run(*sizes: int) -> int:
        given = {"port": cluster.port, "index": index, "mode": mode, "total": TOTAL, "sizes": sizes}
        command = [sys.executable, "-m", "tests.resources.elasticsearch.loading", json.dumps(given)]
        child[:] = [subprocess.Popen(command, cwd=ROOT)]
        return child[0].wait()

    cluster.on(path, *[faithfully] * (nth - 1), kill)
    assert run(7) == -signal.SIGKILL
    assert run(4) == 0
    assert numbers_in(elasticsearch, index) == Counter(range(TOTAL))
