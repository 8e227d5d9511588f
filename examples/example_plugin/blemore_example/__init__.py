"""An encoder, a fusion and a notification hook, which the harness finds by the entry point of this distribution."""

from __future__ import annotations

from collections.abc import Iterable

from blemore_example.file_bytes import FileBytes
from blemore_example.median import Median
from blemore_example.scores import write_scores
from blemore_harness.hookspecs import Encoder, Fusion, RunFinished, hookimpl


@hookimpl
def blemore_encoders() -> Iterable[Encoder]:
    """Offer the encoder."""
    return [FileBytes()]


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Offer the fusion."""
    return [Median()]


@hookimpl
def blemore_run_finished(event: RunFinished) -> None:
    """Write the scores for spreadsheets."""
    write_scores(event)
