"""Elasticsearch and OpenSearch; imports no driver before something is opened."""

from resources.elasticsearch.resource import CONNECTOR as CONNECTOR
