"""Snowflake as destination; imports no driver before something is opened."""

from resources.snowflake.resource import CONNECTOR as CONNECTOR
