"""Channels are bounded in rows and bytes, keep order, pass errors on, and let nobody wait for ever; crews end together."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.channel import CancelledError, Channel, Crew, NothingYetError

WAIT = 10.0


def _channel(rows: int = 10, size: int = 1000) -> Channel[int]:
    return Channel(rows=rows, size=size)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1200)), max_size=30))
def test_never_more_under_way_than_the_bound_or_one_item(items: list[tuple[int, int]]) -> None:
    channel, crew = _channel(), Crew()
    sent: list[int] = []

    def produce() -> None:
        for number, (rows, size) in enumerate(items):
            channel.put(number, rows=rows, size=size)
            sent.append(number)
        channel.end()

    crew.start("producer", produce)
    found: list[int] = []
    while True:
        # What was sent and not yet got is under way; the producer may only add to it meanwhile.
        under_way = items[len(found) : len(sent)]
        assert len(under_way) <= 1 or sum(rows for rows, _ in under_way) <= 10
        assert len(under_way) <= 1 or sum(size for _, size in under_way) <= 1000
        item = channel.get(WAIT)
        if item is None:
            break
        found.append(item)
    assert found == list(range(len(items)))
    assert crew.join(WAIT) == ()


@pytest.mark.parametrize(("rows", "size"), [(6, 1), (1, 600)])
def test_a_full_channel_makes_the_producer_wait(rows: int, size: int) -> None:
    channel, crew, put = _channel(), Crew(), threading.Event()
    channel.put(1, rows=rows, size=size)

    def second() -> None:
        channel.put(2, rows=rows, size=size)
        put.set()

    crew.start("producer", second)
    assert not put.wait(0.1)
    assert channel.get(WAIT) == 1
    assert put.wait(WAIT)
    assert channel.get(WAIT) == 2
    assert crew.join(WAIT) == ()


def test_an_item_larger_than_the_bound_passes_alone() -> None:
    channel = _channel()
    channel.put(1, rows=10**6, size=10**9)
    assert channel.get(WAIT) == 1
    channel.put(2, rows=1, size=1)
    assert channel.get(WAIT) == 2


def test_an_error_comes_after_the_items_and_stays() -> None:
    channel = _channel()
    channel.put(1, rows=1, size=1)
    channel.end(ValueError("broken"))
    channel.end()
    assert channel.get() == 1
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            channel.get()


def test_the_end_stays_the_end() -> None:
    channel = _channel()
    channel.end()
    assert list(channel) == []
    assert channel.get() is None


def test_nothing_yet_is_told_in_time() -> None:
    with pytest.raises(NothingYetError):
        _channel().get(0.01)


@pytest.mark.parametrize("side", ["put", "get"])
def test_cancelling_frees_whoever_waits(side: str) -> None:
    channel, crew, raised = _channel(rows=1), Crew(), threading.Event()
    if side == "put":
        channel.put(0, rows=1, size=1)

    def wait() -> None:
        try:
            if side == "put":
                channel.put(1, rows=1, size=1)
            else:
                channel.get()
        except CancelledError:
            raised.set()

    crew.on_cancel(channel.cancel)
    crew.start("waiting", wait)
    assert not raised.wait(0.05)
    crew.cancel()
    assert raised.wait(WAIT)
    assert crew.join(WAIT) == ()
    with pytest.raises(CancelledError):
        channel.put(2, rows=1, size=1)
    with pytest.raises(CancelledError):
        channel.get()


def test_what_is_registered_after_cancelling_is_done_at_once() -> None:
    crew, done = Crew(), threading.Event()
    crew.cancel()
    crew.on_cancel(done.set)
    assert done.is_set()


def test_joining_waits_so_long_in_all_and_names_who_is_left() -> None:
    crew, go = Crew(), threading.Event()
    for number in range(5):
        crew.start(f"hanging-{number}", go.wait)  # type: ignore[arg-type]
    began = time.monotonic()
    left = crew.join(0.2)
    assert time.monotonic() - began < 5 * 0.2
    assert left == tuple(f"hanging-{number}" for number in range(5))
    go.set()
    assert crew.join(WAIT) == ()


def test_threads_started_by_threads_are_joined_too() -> None:
    crew, ended = Crew(), threading.Event()

    def inner() -> None:
        time.sleep(0.05)
        ended.set()

    crew.start("outer", lambda: crew.start("inner", inner))
    assert crew.join(WAIT) == ()
    assert ended.is_set()


def test_context_variables_reach_the_threads() -> None:
    run: ContextVar[str] = ContextVar("run", default="")
    seen: list[str] = []
    token = run.set("run-1")
    crew = Crew()
    crew.start("worker", lambda: seen.append(run.get()))
    crew.join(WAIT)
    run.reset(token)
    assert seen == ["run-1"]
