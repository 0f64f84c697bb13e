"""Microsoft SQL Server as source and destination; imports no driver before something is opened."""

from resources.sqlserver.resource import CONNECTOR as CONNECTOR
