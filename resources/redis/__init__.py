"""Redis and what speaks its protocol; imports no driver before something is opened."""

from resources.redis.resource import CONNECTOR as CONNECTOR
