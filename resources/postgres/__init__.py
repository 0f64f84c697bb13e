"""PostgreSQL as source and destination; imports no driver before something is opened."""

from resources.postgres.resource import CONNECTOR as CONNECTOR
