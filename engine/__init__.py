"""The runtime: stages in, batches through, checkpoints out. It may import neither YAML nor Dagster."""
