"""Google Cloud Storage as source and destination; imports no driver before something is opened."""

from resources.gcs.resource import CONNECTOR as CONNECTOR
