"""Publishes many messages at once and waits until the broker has confirmed or returned each; repeats nothing by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pika
from pika import exceptions
from pika.adapters.select_connection import IOLoop

from dsl.contracts.errors import ErrorType, FatalError, RetryableError
from resources.rabbitmq.client import fault, worded

AT_ONCE = 2000


@dataclass(frozen=True)
class Outgoing:
    """One message.

    Attributes:
        routing_key: Where to.
        body: The value.
        properties: What is said of it; its message_id is no other's of the same call.
    """

    routing_key: str
    body: bytes
    properties: pika.BasicProperties


class Publisher:
    """A connection that only publishes, and works only within the calls of its methods.

    Args:
        parameters: How to connect.
        exchange: Where to.
        where: Names it in errors.
        seconds: How long the broker may be silent.

    Raises:
        HeadraceError: No broker answers, or it refuses.
    """

    def __init__(self, parameters: pika.ConnectionParameters, exchange: str, where: str, seconds: float) -> None:
        self._exchange, self._where, self._seconds = exchange, where, seconds
        self._loop = IOLoop()
        self._error: BaseException | None = None
        self._channel: Any = None
        self._confirms = False
        self._number = self._done = 0
        self._open: dict[int, str] = {}
        self._returned: set[str] = set()
        self._nacked = False
        with worded(where):
            self._connection = pika.SelectConnection(
                parameters,
                on_open_callback=self._opened,
                on_open_error_callback=self._failed,
                on_close_callback=self._failed,
                custom_ioloop=self._loop,
            )
        try:
            self._run_until(lambda: self._confirms)
        except BaseException:
            self.close()
            raise

    def send(self, messages: Sequence[Outgoing]) -> set[int]:
        """Publishes messages; returns the places of those that no queue takes.

        Raises:
            RetryableError: Some may not be kept: the connection was lost, or a queue refused them.
            SchemaError: There is no such exchange.
        """
        self._returned.clear()
        self._nacked = False
        for start in range(0, len(messages), AT_ONCE):
            for each in messages[start : start + AT_ONCE]:
                self._publish(each)
            self._run_until(lambda: not self._open)
        if self._nacked:
            raise RetryableError("a queue refused messages: is it full?", where=self._where)
        return {at for at, each in enumerate(messages) if each.properties.message_id in self._returned}

    def close(self) -> None:
        """Closes the connection; a second call does nothing."""
        if self._connection.is_open:
            self._connection.close()
            self._run(lambda: self._connection.is_closed)
        self._loop.close()

    def _publish(self, message: Outgoing) -> None:
        if self._error is not None:
            raise self._worded(self._error)
        with worded(self._where):
            self._channel.basic_publish(
                self._exchange, message.routing_key, message.body, message.properties, mandatory=True
            )
        self._number += 1
        self._open[self._number] = str(message.properties.message_id)

    # ---- what the driver calls --------------------------------------------------------------------------------------

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._ready)

    def _ready(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._failed)
        channel.add_on_return_callback(self._came_back)
        channel.confirm_delivery(self._confirmed, callback=self._confirming)

    def _confirming(self, frame: Any) -> None:
        del frame
        self._confirms = True
        self._loop.stop()

    def _came_back(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        del channel, method, body
        self._returned.add(properties.message_id)

    def _confirmed(self, frame: Any) -> None:
        self._nacked |= isinstance(frame.method, pika.spec.Basic.Nack)
        tag = frame.method.delivery_tag
        for each in range(self._done + 1, tag + 1) if frame.method.multiple else (tag,):
            self._open.pop(each, None)
        if frame.method.multiple:
            self._done = max(self._done, tag)
        if not self._open:
            self._loop.stop()

    def _failed(self, source: Any, error: BaseException) -> None:
        del source
        self._error = self._error or error
        self._loop.stop()

    def _run_until(self, done: Callable[[], bool]) -> None:
        """Works until something is so.

        Raises:
            HeadraceError: The connection failed, or nothing came in time.
        """
        late = self._run(lambda: done() or self._error is not None)
        if self._error is not None:
            raise self._worded(self._error)
        if late:
            said = f"nothing was confirmed for {self._seconds:g} s"
            raise RetryableError(said, where=self._where, error_type=ErrorType.TIMEOUT)

    def _run(self, done: Callable[[], bool]) -> bool:
        """Works until something is so, or it is late: tells whether it is."""
        late = False

        def wake() -> None:
            nonlocal late
            late = True
            self._loop.stop()

        timer = self._loop.call_later(self._seconds, wake)
        while not done() and not late:
            self._loop.start()
        self._loop.remove_timeout(timer)
        return late and not done()

    def _worded(self, error: BaseException) -> Exception:
        if isinstance(error, exceptions.AMQPError | OSError):
            return fault(error, self._where)
        return FatalError(f"the driver failed: {error!r}", where=self._where)
