"""A network that cuts connections, swallows answers and comes back: every byte and every row once."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from dsl.contracts.connectors import Token
from dsl.contracts.errors import RetryableError, UnavailableError
from resources.s3.resource import S3Connection, S3Destination
from resources.s3.store import S3Store
from resources.testing import sample
from tests.kit.proxy import FaultProxy, fault_proxy
from tests.kit.s3 import Bucket
from tests.resources.object_store_suite import sealed
from tests.resources.s3.test_suites import rows_in

MIB = 2**20
SCHEMA = sample(0, 0).schema
TOKEN = Token(workflow="cuts", stage="load")
IN_ANSWER_TO_PUT = len(b"HTTP/1.1 100 Continue\r\n\r\n") + 5
"""Bytes after which the server has done what a put asks, but its answer is not whole."""


@pytest.fixture
def proxy(bucket: Bucket) -> Iterator[FaultProxy]:
    host, port = bucket.endpoint.removeprefix("http://").split(":")
    with fault_proxy(host, int(port)) as proxy:
        yield proxy


@pytest.fixture
def through(connection: S3Connection, proxy: FaultProxy) -> S3Connection:
    return dataclasses.replace(connection, endpoint=f"http://127.0.0.1:{proxy.port}")


@contextmanager
def cutting(proxy: FaultProxy, seed: int, *, cuts: int, longest: float) -> Iterator[None]:
    """Resets all connections so many times while the block runs, after pauses that a seed decides; then lets it end."""
    ended, choose = threading.Event(), random.Random(seed)
    made = 0

    def cut() -> None:
        nonlocal made
        while made < cuts and not ended.wait(choose.uniform(0.01, longest)):
            proxy.reset_all()
            made += 1

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert made > cuts // 4, "it was over before it was cut"


def test_a_lost_answer_to_a_conditional_put_is_found_out(through: S3Connection, proxy: FaultProxy) -> None:
    with closing(S3Store(through)) as store:
        assert store.create("log/0", b"0")
        for number in range(1, 6):
            proxy.reset_after = IN_ANSWER_TO_PUT
            assert store.create(f"log/{number}", b"mine") is True, "the put that was not answered was ours"
            proxy.reset_after = IN_ANSWER_TO_PUT
            assert store.create(f"log/{number}", b"mine") is False
        assert proxy.resets == 10


def test_a_conditional_put_that_nobody_answers_is_unknown_and_can_be_read(
    through: S3Connection, proxy: FaultProxy
) -> None:
    with closing(S3Store(through)) as store:
        assert store.create("log/0", b"0")
        proxy.reset_after = IN_ANSWER_TO_PUT
        watching = threading.Thread(target=_refuse_after_reset, args=(proxy,))
        watching.start()
        with pytest.raises(UnavailableError):
            store.create("log/1", b"mine")
        watching.join()
        proxy.heal()
        assert store.read("log/1") == b"mine"
        assert store.create("log/1", b"mine again") is False


def _refuse_after_reset(proxy: FaultProxy) -> None:
    while not proxy.resets:
        time.sleep(0.001)
    proxy.refuse = True


def test_a_lost_answer_to_a_publication_is_found_out(through: S3Connection, proxy: FaultProxy) -> None:
    with closing(S3Store(through)) as store:
        for number in range(5):
            ticket = sealed(store, f"lake/{number}", b"rows")
            proxy.reset_after = 0
            store.publish(ticket)
            assert store.read(f"lake/{number}") == b"rows"
        assert proxy.resets == 5


@pytest.mark.parametrize("seed", range(3))
def test_an_upload_that_is_cut_arrives_whole(
    through: S3Connection, proxy: FaultProxy, bucket: Bucket, seed: int
) -> None:
    content = random.Random(seed).randbytes(30 * MIB + seed)
    with closing(S3Store(through)) as store:
        ticket = None
        with cutting(proxy, seed, cuts=20, longest=0.1):
            while ticket is None:
                staged = store.stage("lake/a")
                try:
                    for at in range(0, len(content), MIB):
                        staged.write(content[at : at + MIB])
                    ticket = staged.seal()
                except RetryableError:
                    staged.discard()
        proxy.heal()
        store.publish(ticket)
    assert bucket.get("lake/a") == content


def test_reading_goes_on_where_it_was_cut(through: S3Connection, proxy: FaultProxy, bucket: Bucket) -> None:
    content = random.Random(7).randbytes(20 * MIB)
    bucket.put("a", content)
    choose = random.Random(8)
    with closing(S3Store(through)) as store:
        (found,) = store.list("a")
        with store.open(found) as opened:
            got = bytearray()
            while piece := opened.read(300_000):
                got += piece
                if proxy.reset_after is None:
                    proxy.reset_after = choose.randrange(6 * MIB)
    assert proxy.resets >= 3
    assert got == content


@pytest.mark.parametrize("seed", range(3))
def test_a_load_through_a_network_that_is_cut_brings_every_row_once(
    through: S3Connection, proxy: FaultProxy, bucket: Bucket, seed: int
) -> None:
    destination = S3Destination(connection=through, path="lake", file_rows=25)
    epochs, tries = 12, 0
    with cutting(proxy, seed, cuts=40, longest=0.08):
        while True:
            tries += 1
            assert tries < 200
            try:
                with destination.open_writer(SCHEMA, TOKEN) as writer:
                    committed = writer.get_state()
                    first = 1 if committed is None else committed.epoch + 1
                    for epoch in range(first, epochs + 1):
                        writer.write(sample(epoch * 100, 50))
                        writer.commit(epoch, {"v": 1}, final=epoch == epochs)
                    break
            except RetryableError:
                continue
    ids = sorted(row["id"] for row in rows_in(bucket, "lake/part-"))
    assert ids == [epoch * 100 + row for epoch in range(1, epochs + 1) for row in range(50)]
