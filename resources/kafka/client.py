"""Opens Kafka's clients and puts their errors into words; reads and writes no message."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # it does export it

from dsl.contracts.connectors import Stream
from dsl.contracts.errors import (
    ErrorType,
    FatalError,
    FencedError,
    HeadraceError,
    RetryableError,
    SchemaError,
    UnavailableError,
)
from resources.kafka import codes
from resources.sql import Tls, loopback
from resources.stores.secrets import reveal_optional

if TYPE_CHECKING:
    from resources.kafka.resource import KafkaConnection

SECONDS = 15.0
_LOG = logging.getLogger("headrace.kafka")
# The library would write to standard error by itself; what matters of it becomes an error with a place.
_LOG.addHandler(logging.NullHandler())

_FENCED = frozenset({
    codes.FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
})  # fmt: skip
_AWAY = frozenset({
    codes.ALL_BROKERS_DOWN,
    codes.TRANSPORT,
    codes.RESOLVE,
    codes.TIMED_OUT,
    codes.TIMED_OUT_QUEUE,
    codes.MSG_TIMED_OUT,
    KafkaError.BROKER_NOT_AVAILABLE,
})  # fmt: skip
_REFUSED = frozenset({
    codes.AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
})  # fmt: skip
_UNKNOWN = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, codes.UNKNOWN_TOPIC, codes.UNKNOWN_PARTITION})
_HINTS: Mapping[object, str] = {
    ErrorType.AUTH: "check the login and its rights",
    KafkaError.MSG_SIZE_TOO_LARGE: "raise the topic's `max.message.bytes`",
}


def place_of(connection: KafkaConnection, topic: str = "") -> str:
    """Returns how errors name the cluster, or a topic in it."""
    return f"kafka {connection.brokers[0]}" + (f" topic '{topic}'" if topic else "")


def settings(connection: KafkaConnection, **more: Any) -> dict[str, Any]:
    """Returns the configuration of a client.

    Raises:
        FatalError: A secret cannot be had.
    """
    password = reveal_optional(connection.password)
    secure = connection.tls is not Tls.DISABLE and not (connection.tls is Tls.AUTO and _local(connection))
    held: dict[str, Any] = {
        "bootstrap.servers": ",".join(connection.brokers),
        "client.id": "headrace",
        "security.protocol": ("SASL_" if password is not None else "") + ("SSL" if secure else "PLAINTEXT"),
        "socket.connection.setup.timeout.ms": 10_000,
        "logger": _LOG,
        # Each call that fails says so by itself.
        "error_cb": _overheard,
    }
    if password is not None:
        mechanism = str(connection.mechanism)
        held |= {"sasl.mechanism": mechanism, "sasl.username": connection.username, "sasl.password": password}
    if secure:
        held |= {"ssl.endpoint.identification.algorithm": "none" if connection.tls is Tls.REQUIRE else "https"}
        held |= {"enable.ssl.certificate.verification": connection.tls is not Tls.REQUIRE}
        key = reveal_optional(connection.key_password)
        files = {
            "ssl.ca.location": connection.ca_file,
            "ssl.certificate.location": connection.certificate_file,
            "ssl.key.location": connection.key_file,
            "ssl.key.password": key,
        }
        held |= {name: value for name, value in files.items() if value is not None}
    return {**held, **{name.replace("_", "."): value for name, value in more.items()}}


def _overheard(error: KafkaError) -> None:
    _LOG.debug("%s", error)


def _local(connection: KafkaConnection) -> bool:
    return all(loopback(each.rpartition(":")[0].strip("[]")) for each in connection.brokers)


class Worded:
    """Puts the driver's errors into words: what leaves its `with` is a HeadraceError.

    Args:
        explain: What an error means.
    """

    def __init__(self, explain: Callable[[KafkaError], HeadraceError]) -> None:
        self._explain = explain

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, KafkaException):
            raise self._explain(error.args[0]) from error


def worded(where: str) -> Worded:
    """Puts the driver's errors at a place into words."""
    return Worded(lambda error: fault(error, where))


def fault(error: KafkaError, where: str) -> HeadraceError:
    """Returns what an error of the driver means for the engine."""
    code, said = error.code(), error.str()
    if code in _FENCED:
        return FencedError("a newer run writes this stream", where=where)
    if code == codes.SSL or "ssl" in said.lower():
        return FatalError(f"no trusted connection: {said}", where=where, hint="set ca_file, or mend the certificate")
    if code in _AWAY:
        hint = "check `brokers`, that they run, and whether they want TLS or a login"
        return UnavailableError(f"no answer: {said}", where=where, hint=hint)
    if code in _UNKNOWN:
        return SchemaError("there is no such topic", where=where, hint="check its name, or create it")
    if error.retriable() or error.txn_requires_abort():
        return RetryableError(said, where=where)
    kind = ErrorType.AUTH if code in _REFUSED else None
    return FatalError(said, where=where, hint=_HINTS.get(kind or code, ""), error_type=kind)


def open_consumer(connection: KafkaConnection, group: str = "") -> Consumer:
    """Opens a reader of committed messages that never moves by itself; whoever asked closes it."""
    with worded(place_of(connection)):
        return Consumer(
            settings(
                connection,
                group_id=group or "headrace",
                enable_auto_commit=False,
                enable_partition_eof=True,
                auto_offset_reset="error",
                isolation_level="read_committed",
                allow_auto_create_topics=False,
            )
        )


def open_admin(connection: KafkaConnection) -> AdminClient:
    """Opens a client that asks for and makes topics."""
    with worded(place_of(connection)):
        return AdminClient(settings(connection))


def partitions_of(client: Any, topic: str, where: str) -> list[int]:
    """Returns the numbers of a topic's partitions.

    Raises:
        SchemaError: There is no such topic.
        UnavailableError: No broker answers.
    """
    with worded(where):
        found = client.list_topics(topic, timeout=SECONDS).topics.get(topic)
    if found is None or not found.partitions:
        raise SchemaError("there is no such topic", where=where, hint="check its name, or create it")
    if found.error is not None:
        raise fault(found.error, where)
    return sorted(found.partitions)


def bounds_of(consumer: Consumer, topic: str, partitions: Sequence[int], where: str) -> dict[int, tuple[int, int]]:
    """Returns of each partition the first offset that is kept, and the one behind the last committed message."""
    with worded(where):
        return {
            each: consumer.get_watermark_offsets(TopicPartition(topic, each), timeout=SECONDS) for each in partitions
        }


def make_topic(connection: KafkaConnection, topic: str, facts: Mapping[str, str], partitions: int, copies: int) -> None:
    """Creates a topic unless there is one; -1 leaves a number to the brokers.

    Raises:
        HeadraceError: It cannot be created, or no broker answers.
    """
    where = place_of(connection, topic)
    admin = open_admin(connection)
    with worded(where):
        if topic in admin.list_topics(timeout=SECONDS).topics:
            return
        made = NewTopic(topic, partitions, copies, config=dict(facts))
        try:
            admin.create_topics([made], request_timeout=SECONDS)[topic].result(SECONDS * 2)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def cluster_of(connection: KafkaConnection) -> str:
    """Returns what the cluster says of itself."""
    admin = open_admin(connection)
    with worded(place_of(connection)):
        found = admin.list_topics(timeout=SECONDS)
    return f"{len(found.brokers)} brokers, {len(found.topics)} topics"


def topics_of(connection: KafkaConnection) -> Sequence[Stream]:
    """Lists the topics that are not the brokers' own."""
    admin = open_admin(connection)
    with worded(place_of(connection)):
        found = admin.list_topics(timeout=SECONDS).topics
    return [Stream(each) for each in sorted(found) if not each.startswith("_")]
