"""DuckDB files as source and destination; imports no driver before something is opened."""

from resources.duckdb.resource import CONNECTOR as CONNECTOR
