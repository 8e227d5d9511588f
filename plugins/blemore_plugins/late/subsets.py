"""Sets of clips that weights are chosen on, each all clips but one group: one pass over the points serves them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

NONE = -1
"""Stands for no group: the set is all clips."""


@dataclass(frozen=True)
class Subsets:
    """Which sets of clips there are.

    A clip's label at a point does not depend on who else is counted, so right answers are counted by group once, and a
    set's are the total less those of the group that it leaves out.

    Attributes:
        group: int64 (N,), number of the group that each clip is of.
        left_out: by set, number of the group that it leaves out, or `NONE`.
    """

    group: IntArray
    left_out: tuple[int, ...]

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.group.max(initial=0)) + 1

    def mask(self, number: int) -> NDArray[np.bool_]:
        """Return the mask (N,) of a set's clips."""
        return self.group != self.left_out[number]


def whole(clips: int) -> Subsets:
    """Return the single set of all clips."""
    return Subsets(np.zeros(clips, dtype=np.int64), (NONE,))


def find_subsets(sets: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], Subsets] | None:
    """Return the names of all clips, and the sets as all of them but a group; None where two sets leave out one clip.

    >>> find_subsets([["b", "c"], ["a", "c"], ["a", "b", "c"]])
    (('b', 'c', 'a'), Subsets(group=array([1, 2, 0]), left_out=(0, 1, -1)))
    """
    names = tuple(dict.fromkeys(chain.from_iterable(sets)))
    place = {name: number for number, name in enumerate(names)}
    absent = np.ones((len(sets), len(names)), dtype=bool)
    for number, base_models in enumerate(sets):
        absent[number, [place[name] for name in base_models]] = False
    if (absent.sum(axis=0) > 1).any():
        return None
    # Clips that every set has are a group that none leaves out.
    missed_by = np.where(absent.any(axis=0), absent.argmax(axis=0), len(sets))
    numbers, group = np.unique(missed_by, return_inverse=True)
    position = {int(number): i for i, number in enumerate(numbers)}
    return names, Subsets(group.astype(np.int64), tuple(position.get(number, NONE) for number in range(len(sets))))
