"""Any HTTP API that speaks JSON; imports no driver before something is opened."""

from resources.rest.resource import CONNECTOR as CONNECTOR
