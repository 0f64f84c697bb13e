"""The driver's own codes of errors, under names that say that they are its public ones; no I/O."""

from __future__ import annotations

from confluent_kafka import KafkaError

ALL_BROKERS_DOWN = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - the driver begins the names of its own codes so
AUTHENTICATION = KafkaError._AUTHENTICATION  # noqa: SLF001 - the driver begins the names of its own codes so
AUTO_OFFSET_RESET = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001 - the driver begins the names of its own codes so
FATAL = KafkaError._FATAL  # noqa: SLF001 - the driver begins the names of its own codes so
FENCED = KafkaError._FENCED  # noqa: SLF001 - the driver begins the names of its own codes so
MSG_TIMED_OUT = KafkaError._MSG_TIMED_OUT  # noqa: SLF001 - the driver begins the names of its own codes so
PARTITION_EOF = KafkaError._PARTITION_EOF  # noqa: SLF001 - the driver begins the names of its own codes so
PURGE_QUEUE = KafkaError._PURGE_QUEUE  # noqa: SLF001 - the driver begins the names of its own codes so
RESOLVE = KafkaError._RESOLVE  # noqa: SLF001 - the driver begins the names of its own codes so
SSL = KafkaError._SSL  # noqa: SLF001 - the driver begins the names of its own codes so
STATE = KafkaError._STATE  # noqa: SLF001 - the driver begins the names of its own codes so
TIMED_OUT = KafkaError._TIMED_OUT  # noqa: SLF001 - the driver begins the names of its own codes so
TIMED_OUT_QUEUE = KafkaError._TIMED_OUT_QUEUE  # noqa: SLF001 - the driver begins the names of its own codes so
TRANSPORT = KafkaError._TRANSPORT  # noqa: SLF001 - the driver begins the names of its own codes so
UNKNOWN_PARTITION = KafkaError._UNKNOWN_PARTITION  # noqa: SLF001 - the driver begins the names of its own codes so
UNKNOWN_TOPIC = KafkaError._UNKNOWN_TOPIC  # noqa: SLF001 - the driver begins the names of its own codes so
