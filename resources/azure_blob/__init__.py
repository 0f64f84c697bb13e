"""Azure Blob Storage as source and destination; imports no driver before something is opened."""

from resources.azure_blob.resource import CONNECTOR as CONNECTOR
