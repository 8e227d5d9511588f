"""What finished folds add up to: out-of-fold rows, official and cross-fitted scores, every threshold strategy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from blemore_harness.clips import LabelArray
from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.decoding.choosing import Selection
from blemore_harness.decoding.strategies import (
    STRATEGIES,
    Sample,
    Strategy,
    choose_strategy,
    decode_folds,
    make_sample,
    score_folds,
)
from blemore_harness.files.runs import FoldResult
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.grid import Choice
from blemore_harness.protocol.rules import Scores
from blemore_harness.protocol.thresholds import choose_on_others, choose_per_fold, summarise
from blemore_harness.record.scores import (
    Difference,
    Drop,
    FoldChoice,
    FoldScores,
    Intervals,
    Mean,
    Means,
    Sensitivity,
    Spread,
    StrategyScores,
)
from blemore_harness.scoring.intervals import ActorCounts, count_chosen, find_intervals
from blemore_harness.scoring.measures import ranked_measure
from blemore_harness.scoring.paired_tests import compare_all
from blemore_harness.scoring.sensitivity import expected_drop, measure_sensitivity

TOO_GOOD = 0.6
"""Score that no real system comes near: published ones reach .311 in cross-validation and .279 on the test set."""


@dataclass(frozen=True)
class SystemPredictions:
    """All rows of one system, under opaque ids.

    Attributes:
        out_of_fold: training clips, in the order of the view: each row from a fold that held its clip out.
        refitted: training clips again, from the final fit that saw all their labels (fusions only): what the papers
            report, whose weights are chosen on the very folds that they score.
        test: test clips, from the final fit; None where there are none.
        facts: per fold, what was noted.
    """

    out_of_fold: Probabilities
    refitted: Probabilities | None
    test: Probabilities | None
    facts: tuple[Mapping[str, Any], ...]

    @classmethod
    def gather(cls, results: Mapping[int | None, FoldResult], blinded: BlindedDataset) -> SystemPredictions:
        """Join the folds' rows on the clip id."""
        opaque = blinded.opaque
        joined: dict[str, Any] = {}
        final: dict[str, Any] = {}
        for index, result in results.items():
            rows = result.probabilities
            target = final if index is None else joined
            target.update({opaque[name]: row for name, row in zip(rows.ids, rows.values, strict=True)})
        facts = tuple(dict(result.facts) for result in results.values())
        return cls(
            _rows(joined, blinded.train.ids),
            _rows(final, blinded.train.ids) if final and all(name in final for name in blinded.train.ids) else None,
            _rows(final, blinded.test.ids) if final and len(blinded.test) else None,
            facts,
        )


@dataclass(frozen=True)
class ScoredSystem:
    """What a system scores; all but `counts` and `selection` stands in the record, see `record.FinishedSystem`.

    Attributes:
        selection: threshold strategy of clips that have no fold, see `choose_strategy`.
        counts: right answers per actor with cross-fitted thresholds, and with all: what comparisons of systems take.
    """

    official: Means
    cross_fitted: Means
    intervals: Intervals | None
    sensitivity: Sensitivity
    strategies: Mapping[str, StrategyScores]
    folds: tuple[FoldScores, ...]
    selection: Selection
    counts: ActorCounts


def score_system(rows: SystemPredictions, blinded: BlindedDataset) -> ScoredSystem:
    """Score a system both ways, per fold and summarised, and by every named threshold strategy.

    Official: alpha and beta chosen per fold on that fold, and a fusion's weights on all folds, as the papers do.
    Cross-fitted: alpha and beta (and weights) for a fold chosen on the other folds.
    """
    sample = sample_of(rows.out_of_fold, blinded)
    # A fusion's final weights have seen the scored folds, as in the papers.
    refitted = sample if rows.refitted is None else sample_of(rows.refitted, blinded)
    optimistic = choose_per_fold(refitted.grids.per_fold())
    honest, counts = count_answers(sample)
    measured = measure_sensitivity(sample.grids.per_fold())
    drop = expected_drop(count_chosen(refitted.grids, optimistic), counts)[ranked_measure(counts)]
    intervals = find_intervals(counts)
    used = {name: sample if strategy.sees == "others" else refitted for name, strategy in STRATEGIES.items()}
    labels = {name: decode_folds(STRATEGIES[name], seen) for name, seen in used.items()}
    scored = ScoredSystem(
        official=_summarise(choice.scores for choice in optimistic.values()),
        cross_fitted=_summarise(choice.scores for choice in honest.values()),
        intervals=Intervals(**{name: _ends(found) for name, found in intervals.items()}) if intervals else None,
        sensitivity=Sensitivity(
            Spread(**measured["alpha"]),
            Spread(**measured["beta"]),
            measured["transfer_loss"],
            Drop(drop["difference"], drop["interval"] and _ends(drop["interval"])),
        ),
        strategies={name: _score_strategy(strategy, labels[name], used[name]) for name, strategy in STRATEGIES.items()},
        folds=tuple(
            FoldScores(fold, int((blinded.folds == fold).sum()), _describe(optimistic[fold]), _describe(honest[fold]))
            for fold in optimistic
        ),
        selection=choose_strategy(sample, labels),
        counts=counts,
    )
    return scored if counts.blends.any() else _drop_undefined(scored)


def _drop_undefined(scored: ScoredSystem) -> ScoredSystem:
    """Return what is defined without blends: ACC_P. The Score that is chosen by is half of it, so choices are the same.

    Args:
        scored: with an ACC_S of 0, as the official code has it.
    """

    def keep(found: Any) -> Any:
        return replace(found, acc_salience=None, score=None)

    return replace(
        scored,
        official=keep(scored.official),
        cross_fitted=keep(scored.cross_fitted),
        intervals=scored.intervals and keep(scored.intervals),
        strategies={name: keep(each) for name, each in scored.strategies.items()},
        folds=tuple(
            replace(fold, official=keep(fold.official), cross_fitted=keep(fold.cross_fitted)) for fold in scored.folds
        ),
    )


def count_answers(sample: Sample) -> tuple[Mapping[int, Choice], ActorCounts]:
    """Return the cross-fitted alpha and beta of every fold, and the right answers per actor with them and with all."""
    honest = choose_on_others(sample.grids.per_fold())
    return honest, replace(count_chosen(sample.grids, honest), grids=sample.grids)


def compare_best(scores: Mapping[str, ScoredSystem]) -> Difference | None:
    """Compare the two systems with the best cross-fitted Score, the better first; None for fewer than two systems.

    Args:
        scores: by system, all on the same clips; p is corrected for the number of their pairs.
    """
    pairs = compare_all({name: found.counts for name, found in scores.items()})
    if not pairs:
        return None
    best, found = next(iter(pairs.items()))
    interval = found["interval"] and _ends(found["interval"])
    return Difference(best, found["difference"], interval, found["adjusted"], found["minimum"])


def suspect_leaks(scores: Mapping[str, ScoredSystem]) -> list[str]:
    """Warn of systems whose Score is far above anything published, a line per system.

    Args:
        scores: by system, on clips of BLEMORE.
    """
    lines = []
    for name, found in scores.items():
        best = max((each.mean for each in (found.official.score, found.cross_fitted.score) if each), default=0.0)
        if best > TOO_GOOD:
            lines.append(
                f"{name}: a Score of {best:.3f} is far above anything published on BLEMORE (over {TOO_GOOD:g}): look "
                "for a leak of labels or of held-out clips before you believe it"
            )
    return lines


def _score_strategy(strategy: Strategy, labels: LabelArray, sample: Sample) -> StrategyScores:
    scores = _summarise(score_folds(labels, sample).values())
    return StrategyScores(**vars(scores), sees=strategy.sees, transductive=strategy.transductive)


def _summarise(scores: Iterable[Scores]) -> Means:
    return Means(**{measure: Mean(**found) for measure, found in summarise(scores).items()})


def _ends(interval: list[float]) -> tuple[float, float]:
    low, high = interval
    return low, high


def sample_of(rows: Probabilities, blinded: BlindedDataset) -> Sample:
    """Return the rows of all training clips with what strategies learn from."""
    assert blinded.train.actors is not None
    groups = np.unique(blinded.train.actors, return_inverse=True)[1].astype(np.int64)
    return make_sample(rows.values, blinded.train.labels, blinded.folds, groups)


def _describe(choice: Choice) -> FoldChoice:
    scores = choice.scores
    return FoldChoice(**asdict(choice.thresholds), acc_presence=scores.presence, acc_salience=scores.salience,
                      score=scores.score)  # fmt: skip


def _rows(found: Mapping[str, Any], ids: tuple[str, ...]) -> Probabilities:
    return Probabilities(ids, np.array([found[name] for name in ids]).reshape(len(ids), -1))
