"""Connectors as Dagster resources. It may not import the engine, nor one connector another."""
