"""Iceberg tables as destinations: rows and token in one commit of the catalog."""

from resources.iceberg.resource import CONNECTOR as CONNECTOR
