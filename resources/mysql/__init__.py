"""MySQL and MariaDB as source and destination; imports no driver before something is opened."""

from resources.mysql.resource import CONNECTOR as CONNECTOR
