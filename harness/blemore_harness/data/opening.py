"""The blinded dataset that a command works on, with its progress reported."""

from __future__ import annotations

from contextlib import ExitStack

from blemore_harness.context import Progress, Reporter
from blemore_harness.data.blinded import BlindedDataset, blind_dataset
from blemore_harness.data.download import Dataset
from blemore_harness.disk import cache_root


def open_blinded(dataset: Dataset, reporter: Reporter) -> BlindedDataset:
    """Return a dataset as plugins may see it; its links and digests are kept in the cache."""
    with Counting(reporter, "reading clips") as counting:
        blinded = blind_dataset(dataset, cache_root(), counting, reporter.log)
    for text in blinded.warnings:
        reporter.warn(text)
    return blinded


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
