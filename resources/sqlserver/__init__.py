"""Microsoft SQL Server as source and destination; the package's surface is its connector kind."""

from resources.sqlserver.resource import CONNECTOR as CONNECTOR
