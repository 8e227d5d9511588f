"""What this plugin offers: the executors `slurm` and `ray`, whose packages are imported when one is used."""

from __future__ import annotations

from blemore_harness.executors import Executor
from blemore_harness.hookspecs import hookimpl
from blemore_scale.ray_cluster import RayCluster
from blemore_scale.slurm import Slurm


@hookimpl
def blemore_executors() -> list[type[Executor]]:
    """Offer them."""
    return [Slurm, RayCluster]
