"""Apache Kafka and what speaks its protocol; imports no driver before something is opened."""

from resources.kafka.resource import CONNECTOR as CONNECTOR
