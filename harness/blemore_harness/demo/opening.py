"""Location of the generated demo dataset, and its creation once for all processes."""

from __future__ import annotations

from pathlib import Path

from blemore_harness.context import Reporter
from blemore_harness.data.opening import Counting
from blemore_harness.demo import GENERATOR_VERSION, demo_is_complete, write_demo
from blemore_harness.disk import cache_root, hold


def demo_folder() -> Path:
    """Return the folder of the demo dataset in the cache, which depends on the version of the generator."""
    return cache_root() / f"demo-{GENERATOR_VERSION}"


def make_demo(folder: Path, reporter: Reporter, seed: int = 0) -> None:
    """Write the demo dataset unless it is complete; a second process waits for the first."""
    with hold(folder.with_name(f"{folder.name}.making"), reporter.log):
        if demo_is_complete(folder, seed=seed):
            return
        reporter.log(f"generating the demo dataset in {folder}")
        with Counting(reporter, "generating clips") as counting:
            write_demo(folder, seed=seed, progress=counting)
