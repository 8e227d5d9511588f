"""The dataset that a command works on: the download that is named, or the generated demo dataset."""

from __future__ import annotations

from pathlib import Path

from blemore_harness.context import Reporter
from blemore_harness.data.download import Dataset, read_dataset
from blemore_harness.errors import ConfigError

DEMO_NOTICE = (
    "No --data given: using the generated DEMO dataset (drawn faces, synthesised voices). "
    "Its numbers say nothing about BLEMORE."
)


def open_dataset(data: Path | None, reporter: Reporter, fold_seed: int = 0) -> Dataset:
    """Return the dataset at `data`; without one, warn, and return the generated demo dataset, made if need be.

    Args:
        data: folder of a download, or its metadata file.
        reporter: shows warnings and progress.
        fold_seed: as of `read_dataset`.

    Raises:
        DataError: nothing there, or a download that contradicts itself.
    """
    if data is not None:
        dataset = read_dataset(data, fold_seed)
        for text in dataset.warnings:
            reporter.warn(text)
        return dataset
    from blemore_harness.demo.opening import demo_folder, make_demo

    reporter.warn(DEMO_NOTICE)
    folder = demo_folder()
    make_demo(folder, reporter)
    return read_dataset(folder, fold_seed)


def open_labels(data: Path | None, reporter: Reporter) -> Dataset:
    """Return the dataset for a command that needs labels only: the demo dataset is not made for it.

    Raises:
        ConfigError: no data named, and no demo dataset drawn before.
    """
    if data is None:
        from blemore_harness.demo import demo_is_complete
        from blemore_harness.demo.opening import demo_folder

        if not demo_is_complete(demo_folder()):
            raise ConfigError("scoring needs labels: name your BLEMORE download with --data (or BLEMORE_DATA)")
    return open_dataset(data, reporter)
