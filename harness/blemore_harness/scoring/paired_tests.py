"""Paired tests of two systems: what a difference is worth if both systems' part were swapped, actor by actor.

If two systems are equally good, it makes no difference which of them gave an actor's rows. So all rows of an actor are
swapped between the two, and thresholds are chosen anew on what each then has: two systems of equal worth also differ by
the thresholds that they happened to get. Where only answers are known, these are swapped, with thresholds as they are,
and the test speaks of these very answers only.

On simulated pairs of equal worth (the challenge's clips, thresholds chosen cross-fitted for each), swapped rows give p
below .05 for 5 % of 400 pairs by ACC_P and 6 % by ACC_S and Score; swapped answers do for 6, 15 and 7 % of 800 pairs,
since the best beta jumps and takes ACC_S with it. For the same reason the interval of a difference is widened by what
choosing thresholds adds; docs/reference/results.md has figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_harness.errors import DataError
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.grid import OFFICIAL_GRID
from blemore_harness.scoring.intervals import (
    LEVEL,
    MEASURES,
    ActorCounts,
    check_alike,
    find_differences,
    score_counts,
)
from blemore_harness.scoring.measures import ranked_measure

SEED = 20260221
"""Seed of random swaps: the same predictions give the same p on every machine."""

EXACT_UNITS = 13
"""Up to this many actors every swap is tried (8,192 ways); with more, `RESAMPLES` random ones."""

RESAMPLES = 10_000
"""Random swaps of answers where there are more actors."""

SWAPS = 5_000
"""Random swaps of rows where there are more actors: a p of .05 is then good to about .003."""

CHUNK = 125
"""Swaps that are scored at once: some 4 MB of counts."""

MANY_PAIRS = 250
"""Most pairs of systems that Holm's correction suits: with more, the smallest p of `SWAPS` swaps is above .05."""

CELLS = 1_000_000
"""Differences of pairs that are held at once in a test of all pairs: 8 MB for each of three arrays."""

_SIZE = len(OFFICIAL_GRID)

Counts: TypeAlias = NDArray[np.float32]

Tables: TypeAlias = tuple[Counts, Counts]
"""Counts of `ActorGrids`: presence (A, 20), and salience (A, 400) by beta, then alpha, which is quick to search."""


def compare_counts(first: ActorCounts, second: ActorCounts) -> dict[str, dict[str, Any]]:
    """Compare two systems on the same clips, first minus second.

    Returns:
        per measure: what `find_differences` returns, and `p` (two-sided). Where both counts have grids, p is by
        `swap_rows`, and the interval is as much wider as choosing thresholds anew adds to the variance under swaps;
        else p is by `swap_answers`, and thresholds are held fixed.

    Raises:
        DataError: counts of other clips.
    """
    if first.grids is None or second.grids is None:
        values, added = swap_answers(first, second), np.zeros(len(MEASURES))
    else:
        drawn, real, extra = _swap_rows(first, second)
        values = _share_reached(drawn, real, extra)
        # With thresholds as they are, swaps of answers would vary by the sum of squares of what actors add.
        added = np.maximum((drawn**2).mean(axis=0) - (_effects(first, second) ** 2).sum(axis=0), 0)
    found = find_differences(first, second, added)
    return {name: {**found[name], "p": float(values[k])} for k, name in enumerate(MEASURES)}


def compare_all(counts: Mapping[str, ActorCounts]) -> dict[tuple[str, str], dict[str, Any]]:
    """Compare the Scores of all pairs of systems on the same clips, with p-values corrected for the number of pairs.

    Up to `MANY_PAIRS` pairs are tested one by one, as `compare_counts` does. Of more pairs Holm's correction would find
    no difference, and the time would grow to hours: these are tested at once, as `compare_answers` does.

    Args:
        counts: by name of the system.

    Returns:
        by pair of names, the better first (of equals the earlier), pairs in the order of `rank_counts`: the values of
        `compare_counts` for the Score (ACC_P without blends), and `adjusted`, p corrected for all of these pairs. Of
        many pairs the intervals hold with thresholds as they are.

    Raises:
        DataError: counts of other clips.
    """
    ranked = rank_counts(counts)
    pairs = list(combinations(ranked, 2))
    if len(pairs) > MANY_PAIRS:
        measure = ranked_measure(counts[ranked[0]])
        tested = compare_answers({name: counts[name] for name in ranked})
        return {(a, b): find_differences(counts[a], counts[b])[measure] | tested[a, b] for a, b in pairs}
    found = {(a, b): compare_counts(counts[a], counts[b])[ranked_measure(counts[a])] for a, b in pairs}
    adjusted = holm([each["p"] for each in found.values()])
    return {pair: each | {"adjusted": p} for (pair, each), p in zip(found.items(), adjusted, strict=True)}


def compare_answers(counts: Mapping[str, ActorCounts]) -> dict[tuple[str, str], dict[str, float]]:
    """Compare the Scores of all pairs of many systems by swaps of answers, corrected for the number of pairs.

    The answers of an actor are swapped in all pairs at once, and a pair is held against the largest difference of any
    pair, in units of its deviation under swaps (max-T, Westfall and Young, 1993). With a hundred systems on few actors
    this finds differences where `holm` cannot find any: its smallest p-value is that of one swap times the number of
    pairs. If all systems are equally good, some pair is called different in at most 5 % of cases.

    Args:
        counts: by name of the system, the best first.

    Returns:
        by pair of names, the better first: `difference`, `p` (two-sided, as of `swap_answers`) and `adjusted`.

    Raises:
        DataError: counts of other clips.
    """
    names = list(counts)
    pairs = list(combinations(range(len(names)), 2))
    if not pairs:
        return {}
    first = counts[names[0]]
    for name in names[1:]:
        check_alike(first, counts[name])
    # What each actor adds to each Score, against the first system, which all differences share: (A, S).
    column = MEASURES.index(ranked_measure(first))
    parts = np.stack([_effects(counts[name], first)[:, column] for name in names], axis=1)
    left, right = np.array(pairs).T
    units = np.sqrt(((parts[:, left] - parts[:, right]) ** 2).sum(axis=0))
    units[units == 0] = np.inf  # the same answers: never a difference
    swaps, extra = _draw_swaps(len(parts), RESAMPLES)
    real = parts.sum(axis=0)[left] - parts.sum(axis=0)[right]
    reached, largest = np.zeros(len(pairs)), np.empty(len(swaps))
    size = np.abs(real) / units - 1e-9  # sums in another order differ in the last bits
    step = max(1, CELLS // len(pairs))
    for start in range(0, len(swaps), step):
        sums = (1.0 - 2.0 * swaps[start : start + step]) @ parts
        drawn = np.abs(sums[:, left] - sums[:, right]) / units
        reached += (drawn >= size).sum(axis=0)
        largest[start : start + step] = drawn.max(axis=1)
    exceeded = len(swaps) - np.searchsorted(np.sort(largest), size)
    count = len(swaps) + extra
    return {
        (names[i], names[j]): {"difference": float(real[k]), "p": p, "adjusted": adjusted}
        for k, ((i, j), p, adjusted) in enumerate(
            zip(pairs, ((reached + extra) / count).tolist(), ((exceeded + extra) / count).tolist(), strict=True)
        )
    }


def rank_counts(counts: Mapping[str, ActorCounts]) -> list[str]:
    """Return the names of systems by their Score, the best first; of equals the earlier."""
    scores = {name: score_counts(each)["score"] for name, each in counts.items()}
    return sorted(scores, key=lambda name: -scores[name])


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down method, in the order given.

    If all that are below .05 afterwards are called differences, one or more of them is called so wrongly in at most 5 %
    of cases, whatever the tests depend on (Holm, 1979).

    >>> holm([0.01, 0.04, 0.03]), holm([0.8, 0.9]), holm([])
    ([0.03, 0.06, 0.06], [1.0, 1.0], [])
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, k in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[k]))
        adjusted[k] = largest
    return adjusted


def tie_groups(ranked: Sequence[str], pairs: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[list[str]]:
    """Put systems that cannot be told apart from the best of a group into that group.

    The first group is the best system with all systems whose `adjusted` p against it is .05 or more, wherever they
    stand; the best of those left over begins the next group, and so on. So every system lies beyond noise below the
    best of each earlier group, and members of a group need not be alike: two of them may differ from each other. If
    all systems are equally good, there is more than one group in at most 5 % of cases.

    Args:
        ranked: names, the best first, as of `rank_counts`.
        pairs: as of `compare_all`.

    >>> tie_groups("abc", {("a", "b"): {"adjusted": 0.2}, ("a", "c"): {"adjusted": 0.01}, ("b", "c"): {"adjusted": 1}})
    [['a', 'b'], ['c']]
    """
    left, groups = list(ranked), []
    while left:
        best = left[0]
        group = [best, *(name for name in left[1:] if pairs[best, name]["adjusted"] >= (100 - LEVEL) / 100)]
        groups.append(group)
        left = [name for name in left if name not in group]
    return groups


def swap_answers(first: ActorCounts, second: ActorCounts) -> FloatArray:
    """Return two-sided p-values (3,) of ACC_P, ACC_S and Score under swaps of both systems' answers per actor.

    All swaps where there are at most `EXACT_UNITS` actors, else `RESAMPLES` random ones, the real one counted among
    them.
    """
    effects = _effects(first, second)
    swaps, extra = _draw_swaps(len(effects), RESAMPLES)
    return _share_reached((1.0 - 2.0 * swaps) @ effects, effects.sum(axis=0), extra)


def swap_rows(first: ActorCounts, second: ActorCounts) -> FloatArray:
    """As `swap_answers`, for rows, with thresholds of each fold chosen anew on the other folds after every swap.

    All swaps where there are at most `EXACT_UNITS` actors, else `SWAPS` random ones.

    Raises:
        DataError: counts without grids, or fewer than two folds.
    """
    return _share_reached(*_swap_rows(first, second))


def _swap_rows(first: ActorCounts, second: ActorCounts) -> tuple[FloatArray, FloatArray, int]:
    """Return the differences after each swap (R, 3), the real ones (3,), and whether to count these besides."""
    one, two, folds = first.grids, second.grids, first.folds
    if one is None or two is None or len(np.unique(folds)) < 2:
        raise DataError("swapping rows needs counts at all thresholds, of at least two folds")
    swaps, extra = _draw_swaps(len(folds), SWAPS)
    # Counts as floats of 32 bits, which are exact below 16 million: products of matrices of whole numbers are slow.
    mine, other = (
        (grids.presence.astype(np.float32), grids.salience.swapaxes(1, 2).reshape(len(folds), -1).astype(np.float32))
        for grids in (one, two)
    )
    drawn = [_differences(mine, other, first, swaps[start : start + CHUNK]) for start in range(0, len(swaps), CHUNK)]
    real = _differences(mine, other, first, np.zeros((1, len(folds))))[0]
    return np.concatenate(drawn), real, extra


def _draw_swaps(units: int, count: int) -> tuple[FloatArray, int]:
    """Return which actors are swapped, 1 or 0, float64 (R, A), and whether the real way is to be counted besides."""
    if units <= EXACT_UNITS:
        return ((np.arange(2**units)[:, None] >> np.arange(units)) & 1).astype(np.float64), 0
    return np.random.default_rng(SEED).integers(0, 2, size=(count, units)).astype(np.float64), 1


def _share_reached(drawn: FloatArray, real: FloatArray, extra: int) -> FloatArray:
    """Return the share of swaps with differences (R, 3) at least as large as the real ones (3,)."""
    # Sums in another order differ in the last bits: what is equal must count as reached.
    reached = np.abs(drawn) >= np.abs(real) - 1e-12
    return np.asarray((reached.sum(axis=0) + extra) / (len(drawn) + extra), dtype=np.float64)


def _differences(one: Tables, two: Tables, counts: ActorCounts, swaps: FloatArray) -> FloatArray:
    """Return ACC_P, ACC_S and Score of the first minus the second after each swap (R, A): float64 (R, 3)."""
    actors = [counts.folds == fold for fold in np.unique(counts.folds)]
    clips = np.array([counts.clips[which].sum() for which in actors], dtype=np.float64)
    blends = np.array([counts.blends[which].sum() for which in actors], dtype=np.float64)
    columns = np.ascontiguousarray(swaps.T, dtype=np.float32)

    first, second = [], []
    for own, theirs in zip(one, two, strict=True):
        mine = np.empty((len(actors), own.shape[1], len(swaps)), dtype=np.float32)
        for fold, which in enumerate(actors):
            np.matmul((theirs - own)[which].T, columns[which], out=mine[fold])
            mine[fold] += own[which].sum(axis=0)[:, None]
        both = np.array([(own + theirs)[which].sum(axis=0) for which in actors])
        first.append(mine)
        second.append(both[:, :, None] - mine)
    return _cross_fitted(first[0], first[1], clips, blends) - _cross_fitted(second[0], second[1], clips, blends)


def _cross_fitted(presence: Counts, salience: Counts, clips: FloatArray, blends: FloatArray) -> FloatArray:
    """Choose each fold's thresholds on the others and score: (R, 3) from counts (K, 20, R) and (K, 400, R)."""
    whole_presence, whole_salience = presence.sum(axis=0), salience.sum(axis=0)
    means = np.zeros((presence.shape[2], 2))
    draws = np.arange(len(means))
    for fold in range(len(clips)):
        of, out_of = clips.sum() - clips[fold], max(blends.sum() - blends[fold], 1)
        # For an alpha, the best beta is that with the most right blends; so only alphas are compared by the Score,
        # rounded as `GridScores.surface` is, so that the choice is the official one, the first of equal ones.
        others = (whole_salience - salience[fold]).reshape(_SIZE, _SIZE, -1)
        alone = (whole_presence - presence[fold]).astype(np.float64)
        alpha = (0.5 * (alone / of) + 0.5 * (others.max(axis=0).astype(np.float64) / out_of)).argmax(axis=0)
        beta = others[:, alpha, draws].argmax(axis=0)
        means[:, 0] += presence[fold][alpha, draws] / clips[fold] / len(clips)
        means[:, 1] += salience[fold][beta * _SIZE + alpha, draws] / max(blends[fold], 1) / len(clips)
    return np.column_stack([means, means.mean(axis=1)])


def _effects(first: ActorCounts, second: ActorCounts) -> FloatArray:
    """Return what each actor adds to the three differences: float64 (A, 3)."""
    numbers = np.unique(first.folds)
    clips, blends = np.zeros(len(first.folds)), np.zeros(len(first.folds))
    for fold in numbers:
        mine = first.folds == fold
        clips[mine], blends[mine] = first.clips[mine].sum(), max(int(first.blends[mine].sum()), 1)
    presence = (first.presence - second.presence) / clips / len(numbers)
    salience = (first.salience - second.salience) / blends / len(numbers)
    return np.column_stack([presence, salience, (presence + salience) / 2])
