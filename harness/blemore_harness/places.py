"""Where things are kept on this machine, and the dataset that a command works on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from blemore_harness.context import Progress, Reporter
from blemore_harness.data.download import Dataset, read_dataset
from blemore_harness.data.views import View, open_view
from blemore_harness.demo import DEMO_MARKER, GENERATOR_VERSION, demo_is_complete, write_demo
from blemore_harness.errors import ConfigError
from blemore_harness.runs import hold

DEMO_NOTICE = (
    "No --data given: using the generated DEMO dataset (drawn faces, synthesised voices). "
    "Its numbers say nothing about BLEMORE."
)


def cache_root(environment: Mapping[str, str] = os.environ) -> Path:
    """Give the cache: `BLEMORE_CACHE`, else `blemore-harness` in the user's cache directory.

    Raises:
        ConfigError: somebody's home is asked for, and nobody knows where it is.
    """
    named, base = environment.get("BLEMORE_CACHE"), environment.get("XDG_CACHE_HOME")
    try:
        if named:
            return Path(named).expanduser()
        return (Path(base) if base else Path.home() / ".cache") / "blemore-harness"
    except RuntimeError:
        found = f"BLEMORE_CACHE={named}" if named else "no HOME"
        raise ConfigError(
            f"nobody knows which home folder is meant (found {found}): name a folder for the cache with BLEMORE_CACHE"
        ) from None


def demo_folder() -> Path:
    """Give the folder of the demo dataset in the cache; clips of another version of the generator lie elsewhere."""
    return cache_root() / f"demo-{GENERATOR_VERSION}"


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


def is_demo(data: Path | None) -> bool:
    """Say whether `--data` (or its absence) means the generated demo dataset, without reading it."""
    return data is None or (data / DEMO_MARKER).is_file()


def open_labels(data: Path | None, reporter: Reporter) -> Dataset:
    """As `open_dataset`, for a command that needs labels only: nothing is drawn for it.

    Raises:
        ConfigError: no data named, and no demo dataset drawn before.
    """
    if data is None and not demo_is_complete(demo_folder()):
        raise ConfigError("scoring needs labels: name your BLEMORE download with --data (or BLEMORE_DATA)")
    return open_dataset(data, reporter)


def make_demo(folder: Path, reporter: Reporter, seed: int = 0) -> None:
    """Write the demo dataset where it is not complete yet; a second process waits for the first."""
    with hold(folder.with_name(f"{folder.name}.making"), reporter.log):
        if demo_is_complete(folder, seed=seed):
            return
        reporter.log(f"drawing the demo clips into {folder}")
        with Counting(reporter, "drawing clips") as counting:
            write_demo(folder, seed=seed, progress=counting)


def open_dataset_view(dataset: Dataset, reporter: Reporter) -> View:
    """Open the view of a dataset that plugins get, its links and digests kept in the cache."""
    with Counting(reporter, "reading clips") as counting:
        return open_view(dataset, cache_root(), counting)


class Counting:
    """Turns calls of (done, total) into a progress bar that opens with the first call."""

    def __init__(self, reporter: Reporter, label: str) -> None:
        self._reporter, self._label = reporter, label
        self._stack = ExitStack()
        self._bar: Progress | None = None
        self._done = 0

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` pieces are done."""
        if self._bar is None:
            self._bar = self._stack.enter_context(self._reporter.progress(self._label, total))
        self._bar.advance(done - self._done)
        self._done = done
