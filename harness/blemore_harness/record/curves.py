"""Training curves that plugins note (`Context.note_curve`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
