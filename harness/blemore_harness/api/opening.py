"""What a call works on: a download or the demo dataset, and the folder of runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from blemore_harness.api.reporting import open_reporter
from blemore_harness.context import Reporter
from blemore_harness.data.download import Dataset
from blemore_harness.errors import ConfigError
from blemore_harness.systems.datasets import read_data

DEMO_NOTICE = (
    "No dataset is named (--data): using the generated DEMO dataset (drawn faces, synthesised voices). "
    "Its numbers say nothing about BLEMORE."
)


def load_dataset(
    data: str | Path | None = None, fold_seed: int = 0, *, extra_train: str | Path | Sequence[str | Path] = ()
) -> Dataset:
    """Read a BLEMORE download, or another corpus.

    Args:
        data: folder of a download, its metadata file, or `NAME:FOLDER` of another corpus as of `plugins()`;
            None takes `BLEMORE_DATA`, and without that the generated demo dataset, which is made on first use.
        fold_seed: seed of the folds where the dataset has none.
        extra_train: other corpora, `NAME:FOLDER`, whose clips every fold is trained on and none holds out.

    Raises:
        DataError: nothing there, or a dataset that contradicts itself.
        UnknownName: nobody reads a corpus of that name.
        ConfigError: `extra_train` that names no corpus, one twice, or the one that is scored.

    >>> len(bh.load_dataset("data").ids)
    60
    """
    return open_dataset(data_folder(data), open_reporter(), fold_seed, list_extra(extra_train))


def open_dataset(
    data: Path | None, reporter: Reporter, fold_seed: int = 0, extra: Sequence[str | Path] = ()
) -> Dataset:
    """Return the dataset at `data`; without one, warn, and return the generated demo dataset, made if need be.

    Args:
        data: folder of a download, its metadata file, or `NAME:FOLDER` of another corpus.
        reporter: shows warnings and progress.
        fold_seed: as of `read_dataset`.
        extra: other corpora to train on, `NAME:FOLDER`.

    Raises:
        BlemoreError: as of `read_data`.
    """
    if data is None:
        from blemore_harness.demo.opening import demo_folder, make_demo

        reporter.warn(DEMO_NOTICE)
        make_demo(demo_folder(), reporter)
        data = demo_folder()
        dataset = read_data(data, fold_seed, extra)
    else:
        dataset = read_data(data, fold_seed, extra)
        for text in dataset.warnings:
            reporter.warn(text)
    for other in dataset.extra:
        for text in other.warnings:
            reporter.warn(f"--extra-train {other.corpus}: {text}")
    return dataset


def list_extra(extra_train: str | Path | Sequence[str | Path]) -> tuple[str | Path, ...]:
    """Return the corpora of a call as a tuple: one may be given by itself."""
    return (extra_train,) if isinstance(extra_train, str | Path) else tuple(extra_train)


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
    """Return where a dataset lies: as given, else `BLEMORE_DATA`; None for neither."""
    named = data if data is not None else os.environ.get("BLEMORE_DATA")
    return Path(named) if named else None


def runs_folder(runs: str | Path | None) -> Path:
    """Return where runs are kept: as given, else `BLEMORE_RUNS`, else `blemore-runs` in the working folder."""
    return Path(runs if runs is not None else os.environ.get("BLEMORE_RUNS") or "blemore-runs")
