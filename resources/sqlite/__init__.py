"""SQLite files as source and destination; imports no driver before something is opened."""

from resources.sqlite.resource import CONNECTOR as CONNECTOR
