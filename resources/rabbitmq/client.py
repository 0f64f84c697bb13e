"""Opens connections to a RabbitMQ broker and puts the driver's errors into words; reads and writes no row."""

from __future__ import annotations

import logging
import ssl
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pika
from pika import exceptions

from dsl.contracts.errors import (
    ErrorType,
    FatalError,
    HeadraceError,
    RetryableError,
    SchemaError,
    UnavailableError,
)
from resources.sql import Tls
from resources.stores.secrets import reveal

if TYPE_CHECKING:
    from resources.rabbitmq.resource import RabbitMQConnection

# The driver would write to standard error by itself; what matters of it becomes an error with a place.
logging.getLogger("pika").addHandler(logging.NullHandler())

_NOT_FOUND, _REFUSED, _LOCKED, _FORCED, _NOT_ALLOWED = 404, 403, 405, 320, 530
_TRANSIENT = frozenset({_FORCED, _LOCKED, 311, 506, 541})
_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}


def place_of(connection: RabbitMQConnection, name: str = "") -> str:
    """Returns how errors name the broker, or a queue, stream or exchange of it."""
    return f"rabbitmq {connection.address}" + (f" '{name}'" if name else "")


def parameters(connection: RabbitMQConnection) -> pika.ConnectionParameters:
    """Returns how the driver is to connect.

    Raises:
        FatalError: A secret or a certificate cannot be used.
    """
    seconds = connection.timeout.total_seconds()
    host, _, port = connection.address.rpartition(":")
    return pika.ConnectionParameters(
        host=host,
        port=int(port),
        virtual_host=connection.virtual_host,
        credentials=pika.PlainCredentials(connection.username, reveal(connection.password), erase_on_connect=True),
        ssl_options=pika.SSLOptions(_trust(connection), connection.host) if connection.secure else None,
        # Nobody speaks while an epoch is filled or committed, however long that takes: the kernel asks instead.
        heartbeat=0,
        tcp_options=_ALIVE,
        blocked_connection_timeout=seconds,
        socket_timeout=min(seconds, 10.0),
        stack_timeout=min(seconds, 15.0),
        client_properties={"connection_name": "headrace"},
    )


def _trust(connection: RabbitMQConnection) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=connection.ca_file)
        if connection.tls is Tls.REQUIRE:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if connection.certificate_file is not None:
            context.load_cert_chain(connection.certificate_file, connection.key_file)
    except (OSError, ssl.SSLError) as error:
        hint = "check ca_file, certificate_file and key_file"
        raise FatalError(f"a certificate cannot be used: {error}", where=place_of(connection), hint=hint) from error
    return context


@contextmanager
def worded(where: str) -> Iterator[None]:
    """Puts the driver's errors into words.

    Raises:
        HeadraceError: What the engine must do.
    """
    try:
        yield
    except (exceptions.AMQPError, OSError) as error:
        raise fault(error, where) from error


def fault(error: BaseException, where: str) -> HeadraceError:
    """Returns what an error of the driver means for the engine."""
    said = _said(error)
    if isinstance(error, exceptions.ChannelClosedByBroker | exceptions.ConnectionClosedByBroker):
        return _closed(error.reply_code, error.reply_text, where)
    if isinstance(
        error,
        exceptions.AuthenticationError | exceptions.ProbableAuthenticationError | exceptions.ProbableAccessDeniedError,
    ):
        hint = "check username, password and virtual_host, and the user's rights"
        return FatalError("not allowed", where=where, hint=hint, error_type=ErrorType.AUTH)
    if "certificate" in said.lower() or "ssl" in said.lower():
        hint = "set ca_file, or mend the certificate; does the broker speak TLS?"
        return FatalError(f"no trusted connection: {said}", where=where, hint=hint)
    if isinstance(error, exceptions.IncompatibleProtocolError):
        return FatalError("it does not speak AMQP 0.9.1", where=where, hint="check port and `tls`")
    if isinstance(error, exceptions.ConnectionClosed | exceptions.AMQPChannelError):
        return RetryableError(f"the connection was lost: {said}", where=where)
    return UnavailableError(f"cannot connect: {said}", where=where, hint="check host, port and `tls`")


def _closed(code: int, text: str, where: str) -> HeadraceError:
    if code == _NOT_FOUND:
        return SchemaError(f"it is not there: {text}", where=where, hint="check its name, or create it")
    if code in {_REFUSED, _NOT_ALLOWED}:
        hint = "check virtual_host, and the user's rights"
        return FatalError(f"not allowed: {text}", where=where, hint=hint, error_type=ErrorType.AUTH)
    if code in _TRANSIENT:
        return RetryableError(text, where=where)
    return FatalError(f"the broker refused ({code}): {text}", where=where)


def _said(error: BaseException) -> str:
    """Returns what an error and those within it say: the driver wraps some that have no text of their own."""
    parts = [repr(each) if isinstance(each, BaseException) else str(each) for each in error.args if each]
    return "; ".join(parts) or repr(error)


def open_connection(connection: RabbitMQConnection, where: str) -> Any:
    """Opens a connection; whoever asked closes it.

    Raises:
        FatalError: It may not be opened so.
        UnavailableError: No broker answers.
    """
    with worded(where):
        return pika.BlockingConnection(parameters(connection))


def properties(**facts: Any) -> pika.BasicProperties:
    """Returns what is said of a message that the broker keeps on disk."""
    return pika.BasicProperties(delivery_mode=2, **facts)  # type: ignore[no-untyped-call]


def close_quietly(connection: Any) -> None:
    """Closes a connection that may be closed or broken already."""
    with suppress(exceptions.AMQPError, OSError):
        if connection.is_open:
            connection.close()


def ready_in(connection: Any, queue: str, where: str) -> int:
    """Returns how many messages of a queue nobody has; 0 for a stream, of which AMQP does not tell.

    Raises:
        SchemaError: There is no such queue.
    """
    with worded(where):
        channel = connection.channel()
        count: int = channel.queue_declare(queue, passive=True).method.message_count
        channel.close()
    return count


def server_version(connection: RabbitMQConnection) -> str:
    """Returns what a broker of this connection says of itself.

    Raises:
        HeadraceError: It cannot be reached, or refuses.
    """
    where = place_of(connection)
    opened = open_connection(connection, where)
    try:
        with worded(where):
            opened.channel().close()
    finally:
        close_quietly(opened)
    return f"RabbitMQ at {connection.address}, virtual host {connection.virtual_host}"


@dataclass(frozen=True)
class Delivery:
    """One message as it came.

    Attributes:
        tag: By which it is acknowledged.
        method: Where it came from, and whether it came before.
        properties: What its publisher said of it.
        body: What it holds.
    """

    tag: int
    method: Any
    properties: Any
    body: bytes

    @property
    def headers(self) -> Mapping[str, Any]:
        """Its headers."""
        return self.properties.headers or {}


class Tap:
    """A consumer whose messages wait here until they are taken; acknowledges nothing by itself.

    Args:
        connection: The connection, which is not closed with it.
        queue: What to consume.
        prefetch: Messages that may be under way.
        where: Names the queue in errors.
        arguments: The consumer's.
    """

    def __init__(
        self, connection: Any, queue: str, prefetch: int, where: str, arguments: Mapping[str, Any] | None = None
    ) -> None:
        self._connection, self._queue, self._where = connection, queue, where
        self._arguments = dict(arguments or {})
        self._waiting: deque[Delivery] = deque()
        self._gone = False
        with worded(where):
            self._channel = connection.channel()
            self._channel.basic_qos(prefetch_count=prefetch)
            self._channel.add_on_cancel_callback(self._cancelled)
            self._consumer = self._consume()

    def take(self, count: int, seconds: float) -> list[Delivery]:
        """Returns messages that have come, waiting that long for the first.

        Raises:
            RetryableError: The connection is lost, or the queue is gone.
        """
        if not self._waiting:
            with worded(self._where):
                self._connection.process_data_events(seconds)
        if self._gone and not self._waiting:
            raise RetryableError("the broker ended the reading: was it removed?", where=self._where)
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def acknowledge(self, tag: int) -> None:
        """Acknowledges a message and all before it."""
        with worded(self._where):
            self._channel.basic_ack(tag, multiple=True)

    def renew(self) -> None:
        """Lets the broker send as many messages more as may be under way, though none were acknowledged."""
        with worded(self._where):
            # Those that were sent stay this channel's; those that come meanwhile are handed to the callback first.
            self._channel.basic_cancel(self._consumer)
            self._consumer = self._consume()

    def _consume(self) -> str:
        tag: str = self._channel.basic_consume(self._queue, self._came, arguments=self._arguments)
        return tag

    def _came(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        del channel
        self._waiting.append(Delivery(method.delivery_tag, method, properties, body))

    def _cancelled(self, frame: Any) -> None:
        del frame
        self._gone = True
