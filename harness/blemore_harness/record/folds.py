"""Facts about single folds: training curves that plugins note (`Context.note_curve`), and where a fold was computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """Where a fold was computed; no number depends on it.

    Attributes:
        fold: its number; null for the final fit.
        host: name of the machine; null for folds of earlier versions.
        worker: its process, or the engine's name for its job; null in the harness's own process.
        device: cpu or cuda; null where no call needed to know.
        gpu: its name; null without one.
    """

    fold: int | None
    host: str | None = None
    worker: str | None = None
    device: str | None = None
    gpu: str | None = None


@dataclass(frozen=True)
class Curve:
    """A training curve that a plugin noted.

    Attributes:
        fold: in which it was trained; None for the final fit.
        name: such as `training loss`.
        epochs: where each value belongs.
        values: as many.
    """

    fold: int | None
    name: str
    epochs: tuple[float, ...]
    values: tuple[float, ...]


def find_curves(fold: int | None, notes: Mapping[str, Any]) -> tuple[Curve, ...]:
    """Return the training curves among what was noted in a fold, or in the final fit (None)."""
    found = []
    for name, value in notes.items():
        curve = value.get("curve") if isinstance(value, Mapping) else None
        if isinstance(curve, Mapping) and curve.keys() == {"epochs", "values"}:
            found.append(Curve(fold, name, tuple(curve["epochs"]), tuple(curve["values"])))
    return tuple(found)
