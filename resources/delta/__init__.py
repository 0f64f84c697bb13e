"""Delta Lake tables as destinations: rows and token in one entry of the table's own log."""

from resources.delta.resource import CONNECTOR as CONNECTOR
