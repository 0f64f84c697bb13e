"""Any GraphQL API as a source; imports no driver before something is opened."""

from resources.graphql.resource import CONNECTOR as CONNECTOR
