"""An encoder and a fusion that the harness finds by the entry point of this distribution."""

from __future__ import annotations

from collections.abc import Iterable

from blemore_example.file_bytes import FileBytes
from blemore_example.median import Median
from blemore_harness.hookspecs import Encoder, Fusion, hookimpl


@hookimpl
def blemore_encoders() -> Iterable[Encoder]:
    """Offer the encoder."""
    return [FileBytes()]


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Offer the fusion."""
    return [Median()]
