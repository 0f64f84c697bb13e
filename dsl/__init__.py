"""The workflow language: text in, plan out; no I/O, no Dagster, no threads."""
