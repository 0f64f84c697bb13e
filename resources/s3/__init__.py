"""S3, and what speaks its protocol, as source and destination; imports no driver before something is opened."""

from resources.s3.resource import CONNECTOR as CONNECTOR
