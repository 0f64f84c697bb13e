"""RabbitMQ by AMQP 0.9.1: streams and queues; imports no driver before something is opened."""

from resources.rabbitmq.resource import CONNECTOR as CONNECTOR
