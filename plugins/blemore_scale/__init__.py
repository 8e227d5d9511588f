"""Executors for clusters: `run --executor slurm` and `run --executor ray`."""
