"""Oracle Database as source and destination; imports no driver before something is opened."""

from resources.oracle.resource import CONNECTOR as CONNECTOR
