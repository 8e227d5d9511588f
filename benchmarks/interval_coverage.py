"""Measure how often intervals over actors hold the truth, and what paired tests find and miss.

    python benchmarks/interval_coverage.py [intervals|groups|thresholds|pairs|choices|several] [--replicates 1000] [--json]

Actors are made up, with the numbers of clips of the real label table: a system is right with each of them at the
actor's own rate, which is drawn from a beta distribution (a beta-binomial model), in worlds of four accuracies by three
spreads between actors. `intervals`: those of ACC_P, ACC_S and Score for several numbers of actors and folds, beside the
percentile bootstrap within folds that they replace. `groups`: those of shares of a group's clips. `thresholds`: those
of the Score with thresholds chosen on the other folds, on probabilities. `pairs`: how often two equally good systems
are told apart, and how often two are that differ by the least difference. `choices`: how often
two equally good systems are that have thresholds of their own. `several`: how often any two of three or
five equally good systems are. About six minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from blemore_harness.protocol.grid import count_grids, place_on_grid
from blemore_harness.protocol.thresholds import choose_on_others
from blemore_harness.scoring.intervals import (
    MEASURES,
    ActorCounts,
    count_chosen,
    find_differences,
    find_intervals,
    score_counts,
    share_interval,
)
from blemore_harness.scoring.paired_tests import compare_all, compare_counts, swap_answers, tie_groups
from fakes import LABELS

Array = NDArray[Any]

LEVELS = ((0.18, 0.25), (0.25, 0.4), (0.35, 0.5), (0.5, 0.6))
"""ACC_P, and the share of blends with the right emotions whose saliences are right too."""

CONCENTRATIONS = (6.0, 20.0, 60.0)
"""Of the beta distribution of an actor's rates: a standard deviation over actors of about .17, .10 and .06."""

SHARED = 0.6
"""Correlation of an actor's rates between two systems."""

REAL = ([(54, 30)] * 6 + [(64, 40), (54, 30), (26, 0), (54, 30)], [(54, 30)] * 9,
        [(54, 30), (55, 29), (63, 31), (54, 30), (26, 0)] + [(54, 30)] * 4,
        [(54, 30)] * 3 + [(50, 30), (26, 0), (56, 30), (54, 30), (54, 30), (70, 30)],
        [(54, 30)] * 2 + [(49, 29), (27, 27)] + [(54, 30)] * 6)  # fmt: skip
"""Clips and blends of each actor in the five folds of the challenge."""

FEW = ((54, 30), (54, 30), (64, 40), (26, 0), (54, 30), (27, 27), (54, 30), (54, 30), (50, 30), (55, 29), (54, 30))
"""The same of the first actors where there are fewer."""


@dataclass(frozen=True)
class Layout:
    """Actors in folds.

    Attributes:
        name: to print.
        folds, clips, blends: int64 (A,), of each actor.
    """

    name: str
    folds: NDArray[np.int64]
    clips: NDArray[np.int64]
    blends: NDArray[np.int64]

    @classmethod
    def of(cls, actors: int, folds: int) -> Layout:
        """Spread some actors over folds; 47 in five folds are those of the challenge."""
        sizes = list(map(len, REAL)) if actors == 47 else [actors // folds + (k < actors % folds) for k in range(folds)]
        table = [*chain(*REAL)] if actors == 47 else list(FEW[:actors])
        clips, blends = np.array(table).T
        name = f"{actors} actors in {folds} fold{'s' * (folds > 1)}"
        return cls(name, np.repeat(np.arange(folds), sizes), clips, blends)


LAYOUTS = [Layout.of(*each) for each in ((47, 5), (11, 1), (11, 5), (8, 4), (5, 2), (5, 1), (3, 1))]


@dataclass(frozen=True)
class World:
    """A system: ACC_P, share of exact saliences among right blends, and how alike actors are."""

    presence: float
    exact: float
    concentration: float

    @property
    def truth(self) -> dict[str, float]:
        """The expected ACC_P, ACC_S and Score."""
        salience = self.presence * self.exact
        return dict(zip(MEASURES, (self.presence, salience, (self.presence + salience) / 2), strict=True))

    def draw(self, rng: np.random.Generator, layout: Layout, shared: Array | None = None) -> ActorCounts:
        """Draw the right answers of a system.

        Args:
            shared: float64 (2, A), standard normal: what makes actors easy or hard for other systems too.
        """
        own = rng.standard_normal((2, len(layout.folds)))
        places = own if shared is None else np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own
        present, exact = (
            betaincinv(mean * self.concentration, (1 - mean) * self.concentration, ndtr(place))
            for mean, place in zip((self.presence, self.exact), places, strict=True)
        )
        pairs = rng.binomial(layout.blends, present)
        singles = rng.binomial(layout.clips - layout.blends, present)
        return ActorCounts(layout.folds, layout.clips, layout.blends, pairs + singles, rng.binomial(pairs, exact))


WORLDS = [World(*level, concentration) for level, concentration in product(LEVELS, CONCENTRATIONS)]


class Tally:
    """How often intervals hold the truth, by world."""

    def __init__(self) -> None:
        self.worlds: list[list[tuple[bool, bool, float]]] = []

    def add(self, interval: list[float], truth: float) -> None:
        """Note an interval of the present world."""
        low, high = interval
        self.worlds[-1].append((high < truth, low > truth, high - low))

    def summary(self) -> dict[str, float]:
        """Return coverage with its least and largest of a world, shares below and above the truth, and mean width."""
        found = np.array([np.mean(world, axis=0) for world in self.worlds])
        held = 1 - found[:, 0] - found[:, 1]
        below, above, width = found.mean(axis=0)
        return {"holds": held.mean(), "least": held.min(), "most": held.max(), "below": below, "above": above,
                "width": width}  # fmt: skip


def bootstrap_intervals(counts: ActorCounts, rng: np.random.Generator, draws: int = 400) -> dict[str, list[float]]:
    """Return percentile intervals of a bootstrap that draws one actor fewer than a fold has, within folds."""
    presence, salience, seen = np.zeros(draws), np.zeros(draws), np.zeros(draws)
    folds = np.unique(counts.folds)
    for fold in folds:
        mine = counts.folds == fold
        size = int(mine.sum())
        drawn = rng.multinomial(size - 1, np.full(size, 1 / size), size=draws)
        clips, blends, present, exact = (drawn @ counts.table[mine]).T
        presence += present / np.maximum(clips, 1) / len(folds)
        salience += exact / np.maximum(blends, 1)
        seen += blends > 0
    salience = salience[seen > 0] / seen[seen > 0]
    presence = presence[seen > 0]
    drawn_scores = (presence, salience, (presence + salience) / 2)
    return {name: np.percentile(each, [2.5, 97.5]).tolist() for name, each in zip(MEASURES, drawn_scores, strict=True)}


def study_intervals(replicates: int) -> Iterator[dict[str, Any]]:
    """Measure the intervals of the reported scores."""
    for layout in LAYOUTS:
        kinds: dict[str, dict[str, Tally]] = {
            kind: {name: Tally() for name in MEASURES} for kind in ("harness", "bootstrap")
        }
        for number, world in enumerate(WORLDS):
            rng = np.random.default_rng([1, number])
            for tallies in kinds.values():
                for tally in tallies.values():
                    tally.worlds.append([])
            for _ in range(replicates):
                counts = world.draw(rng, layout)
                found = {"harness": find_intervals(counts), "bootstrap": bootstrap_intervals(counts, rng)}
                for kind, intervals in found.items():
                    for name, interval in (intervals or {}).items():
                        kinds[kind][name].add(interval, world.truth[name])
        for kind, name in product(kinds, MEASURES):
            yield {"layout": layout.name, "kind": kind, "measure": name, **kinds[kind][name].summary()}


def study_groups(replicates: int) -> Iterator[dict[str, Any]]:
    """Measure the intervals of the share of a group's clips, of which actors have few and not equally many."""
    for actors, most in product((47, 11, 5, 3), (4, 26)):
        tally = Tally()
        for number, (mean, concentration) in enumerate(product((0.1, 0.3, 0.6), CONCENTRATIONS)):
            rng = np.random.default_rng([2, number])
            tally.worlds.append([])
            for _ in range(replicates):
                clips = rng.integers(most // 2, most + 1, actors)
                rates = rng.beta(mean * concentration, (1 - mean) * concentration, actors)
                interval = share_interval(rng.binomial(clips, rates), clips)
                assert interval is not None
                tally.add(interval, mean)
        yield {"layout": f"{actors} actors, {most // 2} to {most} clips each", **tally.summary()}


def draw_values(
    rng: np.random.Generator, truth: Array, actor: Array, actors: int, signal: float, style: float,
    shared: tuple[Array, Array] | None = None,
) -> Array:  # fmt: skip
    """Draw probabilities of clips: a signal, noise, and what actors add to logits and to their scale.

    Args:
        shared: standard normal, (N, 6) by clip and (A, 6) by actor: noise that other systems have too.
    """
    noise, manner = rng.standard_normal(truth.shape), rng.standard_normal((actors, 6))
    if shared is not None:
        noise, manner = (
            np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own
            for common, own in zip(shared, (noise, manner), strict=True)
        )
    logits = truth / 100 * signal + 0.8 * noise + style * manner[actor]
    powers = np.exp(logits * np.exp(rng.normal(0, style / 2, actors))[actor, None])
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def draw_truth(rng: np.random.Generator, layout: Layout) -> tuple[Array, Array]:
    """Draw labels and the actor of each clip: as many blends as the actor has."""
    actor = np.repeat(np.arange(len(layout.folds)), layout.clips)
    singles, blends = np.flatnonzero((LABELS > 0).sum(1) == 1), np.flatnonzero((LABELS > 0).sum(1) == 2)
    kind = [
        np.concatenate([rng.choice(blends, both), rng.choice(singles, clips - both)])
        for clips, both in zip(layout.clips, layout.blends, strict=True)
    ]
    return LABELS[np.concatenate(kind)].astype(np.int8), actor


def study_thresholds(replicates: int) -> Iterator[dict[str, Any]]:
    """Measure the intervals of scores with cross-fitted thresholds, against 1,000 other actors with these thresholds.

    `expected` is the same against the mean of the reported scores over replicates: thresholds vary as well.
    """
    others = Layout("others", np.zeros(1000, dtype=np.int64), np.full(1000, 54), np.full(1000, 30))
    for layout in (each for each in LAYOUTS if len(np.unique(each.folds)) > 1):
        same, expected = {name: Tally() for name in MEASURES}, {name: Tally() for name in MEASURES}
        for number, (signal, style) in enumerate(product((2.0, 3.5), (0.2, 0.5))):
            rng = np.random.default_rng([3, number])
            labels, owner = draw_truth(rng, others)
            values = draw_values(rng, labels, owner, len(others.folds), signal, style)
            whole = count_grids(values, labels, np.zeros(len(labels), dtype=np.int64), owner).pooled()
            for tally in (*same.values(), *expected.values()):
                tally.worlds.append([])
            kept = []
            for _ in range(max(replicates // 5, 1)):
                truth, actor = draw_truth(rng, layout)
                values = draw_values(rng, truth, actor, len(layout.folds), signal, style)
                grids = count_grids(values, truth, layout.folds[actor], actor)
                chosen = choose_on_others(grids.per_fold())
                counts = count_chosen(grids, chosen)
                places = [place_on_grid(choice.thresholds) for choice in chosen.values()]
                found = [whole.scores_at(*place) for place in places]
                right = np.mean([(each.presence, each.salience, each.score) for each in found], axis=0)
                intervals = find_intervals(counts)
                assert intervals is not None
                kept.append((score_counts(counts), intervals))
                for name, value in zip(MEASURES, right, strict=True):
                    same[name].add(intervals[name], float(value))
            for name in MEASURES:
                mean = float(np.mean([scores[name] for scores, _ in kept]))
                for _, intervals in kept:
                    expected[name].add(intervals[name], mean)
        for kind, tallies in (("same thresholds", same), ("expected", expected)):
            for name in MEASURES:
                yield {"layout": layout.name, "kind": kind, "measure": name, **tallies[name].summary()}


def study_pairs(replicates: int) -> Iterator[dict[str, Any]]:
    """Count equal pairs that are told apart, and pairs of the least difference that are."""
    for layout in LAYOUTS:
        rows = []
        for number, world in enumerate(WORLDS):
            rng = np.random.default_rng([4, number])
            equal = []
            for _ in range(replicates):
                one, two = draw_pair(rng, world, world, layout)
                found = find_differences(one, two)["score"]
                low, high = found["interval"]
                clear, rare = not low <= 0 <= high, swap_answers(one, two)[2] < 0.05
                equal.append((clear, rare, clear and rare))
            better, power = world, np.nan
            for _ in range(2):  # the variance grows a little with the difference
                minima = [
                    find_differences(*draw_pair(rng, better, world, layout))["score"]["minimum"] for _ in range(200)
                ]
                least = float(np.sqrt(np.mean(np.square(np.array(minima, dtype=np.float64)))))
                better = replace(world, presence=world.presence + least * 2 / (1 + world.exact))
            if np.isfinite(least):
                told = []
                for _ in range(replicates):
                    one, two = draw_pair(rng, better, world, layout)
                    low, high = find_differences(one, two)["score"]["interval"]
                    told.append((not low <= 0 <= high) and swap_answers(one, two)[2] < 0.05)
                power = float(np.mean(told))
            rows.append([*np.mean(equal, axis=0), least, power])
        means = np.mean(rows, axis=0)
        names = ("interval", "p", "both", "minimum", "power")
        yield {"layout": layout.name, **dict(zip(names, means.tolist(), strict=True)),
               "least_power": float(np.min(rows, axis=0)[4]), "most_power": float(np.max(rows, axis=0)[4])}  # fmt: skip


def draw_pair(rng: np.random.Generator, first: World, second: World, layout: Layout) -> tuple[ActorCounts, ActorCounts]:
    """Draw two systems with the same actors."""
    shared = rng.standard_normal((2, len(layout.folds)))
    return first.draw(rng, layout, shared), second.draw(rng, layout, shared)


def study_choices(replicates: int) -> Iterator[dict[str, Any]]:
    """Count equal pairs that are told apart whose thresholds are chosen on the other folds, each system for itself."""
    for layout, (signal, style) in product((LAYOUTS[0], LAYOUTS[2], LAYOUTS[3]), ((2.0, 0.2), (3.5, 0.5))):
        rng = np.random.default_rng(6)
        told = []
        for _ in range(max(replicates // 4, 1)):
            truth, actor = draw_truth(rng, layout)
            shared = (rng.standard_normal(truth.shape), rng.standard_normal((len(layout.folds), 6)))
            pair = []
            for _ in range(2):
                values = draw_values(rng, truth, actor, len(layout.folds), signal, style, shared)
                grids = count_grids(values, truth, layout.folds[actor], actor)
                pair.append(replace(count_chosen(grids, choose_on_others(grids.per_fold())), grids=grids))
            found, fixed = compare_counts(*pair), find_differences(*pair)
            ends = [(fixed[name]["interval"], found[name]["interval"], found[name]["p"]) for name in MEASURES]
            told.append([[not a[0] <= 0 <= a[1], not b[0] <= 0 <= b[1], p < 0.05] for a, b, p in ends])
        for name, means in zip(MEASURES, np.mean(told, axis=0).tolist(), strict=True):
            yield {"layout": layout.name, "signal": signal, "style": style, "measure": name,
                   **dict(zip(("fixed", "interval", "p"), means, strict=True))}  # fmt: skip


def study_several(replicates: int) -> Iterator[dict[str, Any]]:
    """Count trials in which some of several equally good systems are told apart, by p alone and corrected."""
    for layout, systems in product((LAYOUTS[0], LAYOUTS[2]), (3, 5)):
        rng = np.random.default_rng([5, systems])
        told = []
        for k in range(max(replicates // 2, 1)):
            shared = rng.standard_normal((2, len(layout.folds)))
            world = WORLDS[k % len(WORLDS)]
            counts = {str(number): world.draw(rng, layout, shared) for number in range(systems)}
            pairs = compare_all(counts)
            ranked = list(dict.fromkeys(name for pair in pairs for name in pair))
            told.append((any(found["p"] < 0.05 for found in pairs.values()),
                         any(found["adjusted"] < 0.05 for found in pairs.values()),
                         len(tie_groups(ranked, pairs)) > 1))  # fmt: skip
        names = ("uncorrected", "corrected", "groups")
        means = np.mean(told, axis=0).tolist()
        yield {"layout": layout.name, "systems": systems, **dict(zip(names, means, strict=True))}


STUDIES = {
    "intervals": study_intervals, "groups": study_groups, "thresholds": study_thresholds, "pairs": study_pairs,
    "choices": study_choices, "several": study_several,
}  # fmt: skip


def write_row(row: Mapping[str, Any]) -> str:
    """Write a row in a line."""
    return "  ".join(f"{key} {value:.3f}" if isinstance(value, float) else f"{value}" for key, value in row.items())


def main() -> None:
    """Run the studies that are named, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], default=list(STUDIES))
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    for name in asked.studies or STUDIES:
        for row in STUDIES[name](asked.replicates):
            numbers = {key: float(value) if isinstance(value, np.floating) else value for key, value in row.items()}
            print(json.dumps({"study": name, **numbers}) if asked.json else f"{name}: {write_row(numbers)}", flush=True)


if __name__ == "__main__":
    main()
