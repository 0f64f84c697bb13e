"""An event loop in a thread of its own, so that a stage's thread can wait for many calls at once; knows nothing of what they do."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from engine.channel import CancelledError

T = TypeVar("T")

_LOOK_SECONDS = 0.1
_CLOSE_SECONDS = 3.0


class LoopThread:
    """Runs coroutines for threads that are not part of the loop.

    Args:
        name: The thread's name.
        ended: Whether the run should end.
    """

    def __init__(self, name: str, ended: Callable[[], bool]) -> None:
        self._ended = ended
        self._loop = asyncio.new_event_loop()
        # Daemon: a call that cannot be cancelled must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for a coroutine's result.

        Raises:
            CancelledError: The run should end; the coroutine has been cancelled.
            BaseException: What the coroutine raised.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not concurrent.futures.wait((future,), _LOOK_SECONDS).done:
                if self._ended():
                    raise CancelledError
            return future.result()
        finally:
            future.cancel()

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancels what is under way, runs a last coroutine, and ends the thread; safe to call twice."""
        if self._loop.is_closed() or not self._thread.is_alive():
            return
        future = asyncio.run_coroutine_threadsafe(self._finish(last), self._loop)
        concurrent.futures.wait((future,), _CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECONDS)

    async def _finish(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await last()

    def _work(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()
