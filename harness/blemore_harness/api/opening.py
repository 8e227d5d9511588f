"""What a call works on: a download or the demo dataset, and the folder of runs."""

from __future__ import annotations

import os
from pathlib import Path

from blemore_harness.api.reporting import open_reporter
from blemore_harness.context import Reporter
from blemore_harness.data.download import Dataset, read_dataset
from blemore_harness.errors import ConfigError

DEMO_NOTICE = (
    "No dataset is named (--data): using the generated DEMO dataset (drawn faces, synthesised voices). "
    "Its numbers say nothing about BLEMORE."
)


def load_dataset(data: str | Path | None = None, fold_seed: int = 0) -> Dataset:
    """Read a BLEMORE download.

    Args:
        data: its folder, or its metadata file; None takes `BLEMORE_DATA`, and without that the generated demo dataset,
            which is made on first use.
        fold_seed: seed of the folds where the metadata has none.

    Raises:
        DataError: nothing there, or a download that contradicts itself.

    >>> len(bh.load_dataset("data").ids)
    60
    """
    return open_dataset(data_folder(data), open_reporter(), fold_seed)


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
    """Return the dataset where labels alone are needed: the demo dataset is not made for it.

    Raises:
        ConfigError: no data named, and no demo dataset drawn before.
    """
    if data is None:
        from blemore_harness.demo import demo_is_complete
        from blemore_harness.demo.opening import demo_folder

        if not demo_is_complete(demo_folder()):
            raise ConfigError("scoring needs labels: name your BLEMORE download with --data (or BLEMORE_DATA)")
    return open_dataset(data, reporter)


def data_folder(data: str | Path | None) -> Path | None:
    """Return where a download lies: as given, else `BLEMORE_DATA`; None for neither."""
    named = data if data is not None else os.environ.get("BLEMORE_DATA")
    return Path(named) if named else None


def runs_folder(runs: str | Path | None) -> Path:
    """Return where runs are kept: as given, else `BLEMORE_RUNS`, else `blemore-runs` in the working folder."""
    return Path(runs if runs is not None else os.environ.get("BLEMORE_RUNS") or "blemore-runs")
