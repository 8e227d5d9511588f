"""The dataset that a command works on: the download that is named, or the generated demo dataset."""

from __future__ import annotations

from pathlib import Path

from blemore_harness.context import Reporter
from blemore_harness.data.download import Dataset, read_dataset
from blemore_harness.demo import demo_is_complete
from blemore_harness.demo.opening import demo_folder, make_demo
from blemore_harness.errors import ConfigError

DEMO_NOTICE = (
    "No --data given: using the generated DEMO dataset (drawn faces, synthesised voices). "
    "Its numbers say nothing about BLEMORE."
)


def open_dataset(data: Path | None, reporter: Reporter, fold_seed: int = 0) -> Dataset:
    """Read the dataset at `data`; without one, the generated demo dataset, made if need be, and say so loudly."""
    if data is not None:
        dataset = read_dataset(data, fold_seed)
        for text in dataset.warnings:
            reporter.warn(text)
        return dataset
    reporter.warn(DEMO_NOTICE)
    folder = demo_folder()
    make_demo(folder, reporter)
    return read_dataset(folder, fold_seed)


def open_labels(data: Path | None, reporter: Reporter) -> Dataset:
    """As `open_dataset`, for a command that needs labels only: nothing is drawn for it.

    Raises:
        ConfigError: no data named, and no demo dataset drawn before.
    """
    if data is None and not demo_is_complete(demo_folder()):
        raise ConfigError("scoring needs labels: name your BLEMORE download with --data (or BLEMORE_DATA)")
    return open_dataset(data, reporter)
