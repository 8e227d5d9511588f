"""What finished runs say beyond their scores: two systems compared, one system taken apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

from blemore_harness.decoding.strategies import STRATEGIES
from blemore_harness.scoring.breakdown import Answers, break_down, count_errors, find_kinds
from blemore_harness.scoring.calibration import measure_calibration
from blemore_harness.scoring.caveats import describe_selection
from blemore_harness.scoring.intervals import (
    LEVEL,
    ActorCounts,
    count_actors,
    find_intervals,
    say_difference,
    score_counts,
)
from blemore_harness.scoring.loaded_files import LoadedFile
from blemore_harness.scoring.measures import keep_defined, ranked_measure
from blemore_harness.scoring.paired_tests import compare_all, compare_counts, rank_counts, tie_groups
from blemore_harness.scoring.published import MEASURES
from blemore_harness.scoring.reading import LoadedSystem, check_same_clips
from blemore_harness.scoring.sensitivity import expected_drop, measure_sensitivity

DEFAULT_STRATEGY = "other-folds"
"""Thresholds of the other folds' clips: the official grid, and nothing scored on what it was chosen on."""


def compare_systems(
    first: LoadedSystem | LoadedFile, second: LoadedSystem | LoadedFile, strategy: str = DEFAULT_STRATEGY
) -> dict[str, Any]:
    """Compare two systems on the same clips; files are loaded for the clips of what they are compared with.

    Returns:
        Measures that are not defined, as without blends, are None. `thresholds`: the strategy; None where nothing is
        decoded by it. `systems`: run, name, mark, scores and intervals of both. `differences`: per measure, first minus
        second, see `paired_tests.compare_counts`. `swapped`: what was swapped for p, `rows` or `answers`. `sentence`:
        the difference of the Score (ACC_P without blends) in words.

    Raises:
        RunError: systems on other clips or folds.
        UnknownName: nobody knows the strategy.
    """
    if isinstance(first, LoadedSystem) and isinstance(second, LoadedSystem):
        check_same_clips(first, second)
    one, two = count_system(first, strategy), count_system(second, strategy)
    differences = compare_counts(one, two)
    names = [_title(first, second), _title(second, first)]
    decoded = first.sample is not None or second.sample is not None
    ranked = ranked_measure(one)
    name = MEASURES[ranked]
    what = f"cross-fitted {name}" if strategy == DEFAULT_STRATEGY else f"{name} ({strategy})"
    return {
        "thresholds": strategy if decoded else None,
        "caveat": _caveat(strategy) if decoded else None,
        "level": LEVEL,
        "clips": len(first.ids),
        "actors": len(one.folds),
        "systems": [_describe(first, one, names[0]), _describe(second, two, names[1])],
        "differences": keep_defined(differences, one),
        "swapped": "answers" if one.grids is None or two.grids is None else "rows",
        "sentence": say_difference(names[0], names[1], differences[ranked], what if decoded else name),
    }


def compare_all_systems(systems: Mapping[str, LoadedSystem], strategy: str = DEFAULT_STRATEGY) -> dict[str, Any]:
    """Compare all pairs of several systems on the same clips by their Scores.

    Args:
        systems: by the name to show.

    Returns:
        `ranked`: names, the best first. `scores`: by name. `pairs`: in that order, `systems` (two names, the better
        first) and what `paired_tests.compare_all` returns. `groups`: `paired_tests.tie_groups`.

    Raises:
        RunError: systems on other clips or folds.
        UnknownName: nobody knows the strategy.
    """
    loaded = list(systems.values())
    for other in loaded[1:]:
        check_same_clips(loaded[0], other)
    counts = {name: count_system(system, strategy) for name, system in systems.items()}
    pairs, ranked = compare_all(counts), rank_counts(counts)
    return {
        "ranked": ranked,
        "scores": {name: score_counts(counts[name])[ranked_measure(counts[name])] for name in ranked},
        "pairs": [{"systems": list(pair), **found} for pair, found in pairs.items()],
        "groups": tie_groups(ranked, pairs),
    }


def compare_with_best(systems: Sequence[LoadedSystem]) -> dict[str, float]:
    """Return p of every other system of a run against the best one, corrected for all pairs, by cross-fitted Score.

    Raises:
        RunError: systems on other clips or folds.
    """
    found = compare_all_systems({system.name: system for system in systems})
    best = found["ranked"][0]
    return {pair["systems"][1]: pair["adjusted"] for pair in found["pairs"] if pair["systems"][0] == best}


def count_system(system: LoadedSystem | LoadedFile, strategy: str = DEFAULT_STRATEGY) -> ActorCounts:
    """Count a system's right answers per actor; by the default strategy with counts at all thresholds.

    Raises:
        UnknownName: nobody knows the strategy.
    """
    counts = _count(system.answers(strategy))
    if strategy != DEFAULT_STRATEGY or system.sample is None:
        return counts
    return replace(counts, grids=system.sample.grids)


def analyse_system(system: LoadedSystem) -> dict[str, Any]:
    """Take one system apart, on out-of-fold rows and cross-fitted thresholds.

    Returns:
        JSON types: who it is, `scores` and `intervals`, `breakdown`, `errors` (with clip `ids` by kind), `calibration`
        and `sensitivity` (with `drop`).
    """
    answers, official = system.answers(DEFAULT_STRATEGY), system.answers("official")
    counts, sample = _count(answers), system.sample
    drop = expected_drop(_count(official), counts)
    return {
        **_describe(system, counts, system.name),
        "thresholds": DEFAULT_STRATEGY,
        "level": LEVEL,
        "clips": len(system.ids),
        "actors": len(counts.folds),
        "breakdown": break_down(answers),
        "errors": {
            **count_errors(answers),
            "ids": {kind: list(compress(system.ids, mask)) for kind, mask in find_kinds(answers).items()},
        },
        "calibration": measure_calibration(sample.values, sample.truth),
        "sensitivity": {**measure_sensitivity(sample.grids.per_fold()), "drop": keep_defined(drop, counts)},
    }


def _count(answers: Answers) -> ActorCounts:
    return count_actors(answers.truth, answers.labels, answers.folds, answers.actors)


def _describe(system: LoadedSystem | LoadedFile, counts: ActorCounts, title: str) -> dict[str, Any]:
    return {
        "title": title,
        "run": system.run,
        "system": system.name,
        "caveat": "; ".join(_marks(system)) or None,
        "scores": keep_defined(score_counts(counts), counts),
        "intervals": (found := find_intervals(counts)) and keep_defined(found, counts),
        "ranked_by": MEASURES[ranked_measure(counts)],
    }


def _marks(system: LoadedSystem | LoadedFile) -> list[str]:
    """Report what must stand beside a system's numbers wherever they are shown."""
    if isinstance(system, LoadedFile):
        return list(system.caveats)
    record = system.record
    mine = next(found for found in record.finished if found.name == system.name)
    caveats = [record.caveat] if record.caveat else []
    caveats += [f"optimistic: {words}" for words in describe_selection(mine, record.finished)]
    if record.data.fold_source == "made" and not record.data.corpus:
        caveats.append("folds made here, not the official ones")
    return caveats


def _title(system: LoadedSystem | LoadedFile, other: LoadedSystem | LoadedFile) -> str:
    """Name a system by itself where that tells it from the other one, else with its run."""
    return system.name if system.name != other.name else f"{system.name} ({system.run})"


def _caveat(strategy: str) -> str | None:
    """Report what a strategy's numbers are not, or None."""
    found = STRATEGIES[strategy]
    if found.sees != "others":
        return f"optimistic: '{strategy}' chooses on the clips that are scored"
    return f"transductive: '{strategy}' looks at other clips of the actor" if found.transductive else None
