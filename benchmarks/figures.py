"""What a benchmark found, as JSON: one flat object of numbers, each under a name that ends in its unit."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from blemore_harness.disk import write_atomically


def add_json(parser: argparse.ArgumentParser) -> None:
    """Give a benchmark the option that `history.py` calls it with."""
    parser.add_argument("--json", type=Path, help="file for the figures, which `history.py` keeps")


def write_figures(path: Path | None, figures: Mapping[str, float]) -> None:
    """Write figures where they are asked for: names such as `late together, s of CPU`, or `... times faster`."""
    if path is not None:
        rounded = {name: float(f"{value:.4g}") for name, value in figures.items()}
        write_atomically(path, json.dumps(rounded, indent=1) + "\n")
