"""What users can set on late fusion, and weights that they give instead of having them searched."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blemore_harness.errors import ConfigError, InvalidOption
from blemore_harness.options import incidental, searched

ROUNDING = 0.01
"""How far given weights may sum from 1: printed weights are rounded to three digits each."""


@dataclass(frozen=True)
class LateOptions:
    """How weights are found.

    Attributes:
        step: distance between neighbouring weights of the grid; 1 must be a multiple of it.
        refine: whether to improve the best point of the grid with finer moves.
        search: `exhaustive` tries every point of the grid; `climb` tries a coarse grid of at most 4,000 points and
            moves on from its best one in steps of `step`.
        limit: points that `exhaustive` tries at most. Where the grid has more, a coarser one is tried and then climbed
            from, which the record tells; the default is all of step 0.1 up to 15 base models.
        min_weight: weight of every base model at least.
        max_weight: weight of a base model at most.
        weights: weights to use as they are, with no search: `s4d=0.4,wav2vec2=0.6`, or the path of a .toml or .json
            file with a number by base model (TOML: at the top, or in a table `weights`). Every base model needs one, 0
            too.
        renormalise: whether weights of base models that do not take part are dropped and the others made to sum to 1.
        backend: what searches; the choice is the same to the last bit. `auto` is numba where it is installed, else
            numpy; numpy also where there is little to search, since compiling takes seconds.
    """

    step: float = 0.1
    refine: bool = True
    search: Literal["exhaustive", "climb"] = "exhaustive"
    limit: int = 2_000_000
    min_weight: float = 0.0
    max_weight: float = searched(1.0, 0.5, 1.0)
    weights: str = ""
    renormalise: bool = False
    backend: Literal["auto", "numba", "numpy"] = incidental("auto")

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1 or abs(1 / self.step - round(1 / self.step)) > 1e-9:
            raise InvalidOption(f"step: expected a number that divides 1, such as 0.1 or 0.05, found {self.step}")
        if self.limit < 1:
            raise InvalidOption(f"limit: expected at least 1 point, found {self.limit}")
        if not 0 <= self.min_weight <= self.max_weight <= 1:
            raise InvalidOption(
                "min_weight and max_weight: expected 0 <= min_weight <= max_weight <= 1, found "
                f"{self.min_weight} and {self.max_weight}"
            )
        if self.weights:
            self.given()

    def given(self) -> dict[str, float]:
        """Read `weights`; empty where they are to be searched.

        Raises:
            InvalidOption: text or a file that does not hold weights.
        """
        path = Path(self.weights).expanduser()
        found = _read_file(path) if path.suffix in (".toml", ".json") else _read_text(self.weights)
        wrong = [name for name, weight in found.items() if not (math.isfinite(weight) and weight >= 0)]
        if wrong:
            raise InvalidOption(f"weights: expected numbers from 0 to 1, found {found[wrong[0]]} for '{wrong[0]}'")
        if found and not self.renormalise and abs(sum(found.values()) - 1) > ROUNDING:
            raise InvalidOption(
                f"weights: expected a sum of 1 (within {ROUNDING}, for rounded ones), found {sum(found.values()):.6g}: "
                "set renormalise=true to have them divided by it"
            )
        return found


def share_out(given: dict[str, float], base_models: Iterable[str], renormalise: bool) -> dict[str, float]:
    """Return the weights of the base models that take part, in their order, summing to 1.

    Raises:
        ConfigError: a base model without a weight, a weight of a stranger unless `renormalise`, or nothing but zeros.
    """
    names = list(base_models)
    lacking = [name for name in names if name not in given]
    if lacking:
        raise ConfigError(f"weights: none for '{lacking[0]}'; give {lacking[0]}=0 to leave it out")
    strangers = [name for name in given if name not in names and given[name] > 0]
    if strangers and not renormalise:
        raise ConfigError(
            f"weights: '{strangers[0]}' does not take part (base models: {', '.join(names)}); "
            "set renormalise=true to drop it and have the others sum to 1"
        )
    total = math.fsum(given[name] for name in names)  # `sum` rounds in another way from Python 3.12 on
    if total <= 0:
        raise ConfigError(f"weights: expected one above 0 among {', '.join(names)}, found none")
    return {name: given[name] / total for name in names}


def _read_text(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        try:
            weight = float(value)
        except ValueError:
            name = ""
        if not (name and equals):
            raise InvalidOption(f"weights: expected NAME=WEIGHT, such as s4d=0.4,wav2vec2=0.6, found '{part}'")
        if name in found:
            raise InvalidOption(f"weights: expected one for each base model, found two for '{name}'")
        found[name] = weight
    return found


def _read_file(path: Path) -> dict[str, float]:
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise InvalidOption(f"weights: cannot read {path}: {error}") from None
    table = document.get("weights", document) if isinstance(document, dict) else document
    if not isinstance(table, dict) or not table or any(type(value) not in (int, float) for value in table.values()):
        raise InvalidOption(f"weights: expected a number by base model in {path}, found something else")
    return {name: float(value) for name, value in table.items()}
