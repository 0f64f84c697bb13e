"""Resources of dlt as sources: their rows are taken, dlt's own pipeline, state store and loading are not used."""

from resources.dlt.resource import CONNECTOR as CONNECTOR
