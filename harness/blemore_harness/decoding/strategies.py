"""The named strategies that turn probabilities into labels, each chosen on some folds and scored on others.

Every strategy makes a decoder from labelled rows. The harness chooses for fold k on the other folds, so that nothing is
scored on clips that it was chosen on, except where a strategy's name says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import LabelArray
from blemore_harness.decoding.choosing import Selection, choose_simplest
from blemore_harness.decoding.decoders import (
    CentredDecoder,
    Decoder,
    GapDecoder,
    Groups,
    Measure,
    ThresholdDecoder,
    centre_rows,
    log_rows,
    measure_gaps,
)
from blemore_harness.decoding.exact import search_exact
from blemore_harness.decoding.label_model import ExpectedScoreDecoder, fit_expected_score
from blemore_harness.errors import DataError
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.grid import OFFICIAL_GRID, ActorGrids, GridCounter, Thresholds, count_grids
from blemore_harness.protocol.rules import Scores, score


@dataclass(frozen=True)
class Sample:
    """Labelled rows that a strategy chooses on.

    Attributes:
        values: float64 (N, 6) probabilities, each row from a model that never saw its clip.
        truth: int8 (N, 6) percentages.
        folds: int64 (N,) fold of each clip.
        groups: int64 (N,) a number per actor.
        grids: right answers per actor at every pair of the official grid, counted once for all strategies.
    """

    values: FloatArray
    truth: LabelArray
    folds: NDArray[np.int64]
    groups: Groups
    grids: ActorGrids

    def only(self, fold: int) -> Sample:
        """Return the clips of one fold."""
        return self._take([fold])

    def without(self, fold: int) -> Sample:
        """Return the clips of all other folds."""
        return self._take([number for number in np.unique(self.folds).tolist() if number != fold])

    def _take(self, folds: list[int]) -> Sample:
        mask = np.isin(self.folds, folds)
        return Sample(self.values[mask], self.truth[mask], self.folds[mask], self.groups[mask], self.grids.take(folds))


def make_sample(values: FloatArray, truth: LabelArray, folds: NDArray[np.int64], groups: Groups) -> Sample:
    """Return labelled rows with what they get right; arguments as the attributes of `Sample`."""
    return Sample(values, truth, folds, groups, count_grids(values, truth, folds, groups))


@dataclass(frozen=True)
class Strategy:
    """A named way to choose a decoder.

    Attributes:
        name: what users type after `--thresholds`.
        summary: what it does, in a few words.
        learn: gives a decoder from labelled rows.
        sees: whether it is chosen on the `others` (the honest way), on the fold `itself`, or on `all` folds together.
        transductive: whether it looks at other clips of the actor that it decodes.
    """

    name: str
    summary: str
    learn: Callable[[Sample], Decoder]
    sees: Literal["others", "itself", "all"] = "others"
    transductive: bool = False


def evaluate_strategy(strategy: Strategy, sample: Sample, guessed: Groups | None = None) -> dict[int, Scores]:
    """Score a strategy on every fold, chosen on what it may see.

    Args:
        guessed: groups (N,) with which held-out clips are decoded in place of their true actors, as for test clips.

    Raises:
        DataError: fewer than two folds, for a strategy that chooses on the others.
    """
    return score_folds(decode_folds(strategy, sample, guessed), sample)


def score_folds(labels: LabelArray, sample: Sample) -> dict[int, Scores]:
    """Score labels of all clips of a sample, int8 (N, 6) percentages, fold by fold."""
    numbers = [int(k) for k in np.unique(sample.folds)]
    return {k: score(sample.truth[sample.folds == k], labels[sample.folds == k]) for k in numbers}


def decode_folds(strategy: Strategy, sample: Sample, guessed: Groups | None = None) -> LabelArray:
    """Decode every clip with what the strategy trained on what it may see of the clip's fold: int8 (N, 6).

    Arguments and errors as of `evaluate_strategy`.
    """
    numbers = [int(k) for k in np.unique(sample.folds)]
    if strategy.sees == "others" and len(numbers) < 2:
        raise DataError(f"'{strategy.name}' chooses on the other folds and needs at least 2, found {len(numbers)}")
    everywhere = strategy.learn(sample) if strategy.sees == "all" else None
    known = sample.groups if guessed is None else guessed
    labels = np.zeros_like(sample.truth)
    for fold in numbers:
        held_out = sample.folds == fold
        seen = sample.only(fold) if strategy.sees == "itself" else sample.without(fold)
        decoder = everywhere or strategy.learn(seen)
        labels[held_out] = decoder.decode(sample.values[held_out], known[held_out])
    return labels


def describe_decoder(decoder: Decoder) -> dict[str, object]:
    """Return a decoder that looks at one clip at a time as JSON types; `make_decoder` makes it again.

    Raises:
        DataError: it looks at other clips of the same actor.
    """
    if isinstance(decoder, ThresholdDecoder):
        return {"kind": "thresholds", "alpha": decoder.thresholds.alpha, "beta": decoder.thresholds.beta}
    if isinstance(decoder, ExpectedScoreDecoder):
        return {"kind": "expected-score", "weights": decoder.weights.tolist(), "blend_share": decoder.blend_share}
    raise DataError(f"{type(decoder).__name__} cannot be kept: it looks at other clips of the same actor")


def make_decoder(described: Mapping[str, Any]) -> Decoder:
    """Return the decoder that `describe_decoder` described."""
    if described["kind"] == "thresholds":
        return ThresholdDecoder(Thresholds(described["alpha"], described["beta"]))
    return ExpectedScoreDecoder(np.array(described["weights"]), described["blend_share"])


def _grid(sample: Sample) -> Decoder:
    return ThresholdDecoder(sample.grids.pooled().choose().thresholds)


def _best_fold(sample: Sample) -> Decoder:
    choices = [grid.choose() for grid in sample.grids.per_fold().values()]
    return ThresholdDecoder(max(choices, key=lambda choice: choice.scores.score).thresholds)


def _averaged(sample: Sample) -> Decoder:
    chosen = [grid.choose().thresholds for grid in sample.grids.per_fold().values()]
    mean = Thresholds(float(np.mean([t.alpha for t in chosen])), float(np.mean([t.beta for t in chosen])))
    return ThresholdDecoder(mean)


def _decoupled(sample: Sample) -> Decoder:
    grid = sample.grids.pooled()
    alpha = int(grid.presence[:, 0].argmax())
    beta = int(grid.salience[alpha].argmax())
    return ThresholdDecoder(Thresholds(float(OFFICIAL_GRID[alpha]), float(OFFICIAL_GRID[beta])))


def _exact(sample: Sample) -> Decoder:
    return ThresholdDecoder(search_exact(sample.values, sample.truth))


def _centred(sample: Sample) -> Decoder:
    centre = log_rows(sample.values).mean(axis=0)
    moved = centre_rows(sample.values, sample.groups, centre)
    return CentredDecoder(GridCounter(sample.truth).count(moved).choose().thresholds, centre)


def _gaps(measure: Measure, sample: Sample) -> Decoder:
    measured = measure_gaps(sample.values, sample.groups, measure)
    return GapDecoder(GridCounter(sample.truth).count(sample.values, measured).choose().thresholds, measure)


def _expected_score(sample: Sample) -> Decoder:
    return fit_expected_score(sample.values, sample.truth)


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        strategy.name: strategy
        for strategy in (
            Strategy("official", "alpha and beta of the scored fold itself", _grid, sees="itself"),
            Strategy("pooled", "one alpha and beta for all folds, the scored one too", _grid, sees="all"),
            Strategy("other-folds", "alpha and beta of the other folds' clips together", _grid),
            Strategy("best-fold", "alpha and beta of the best of the other folds", _best_fold),
            Strategy("averaged", "mean of the other folds' alphas and betas", _averaged),
            Strategy("decoupled", "alpha for ACC_P first, then beta for ACC_S", _decoupled),
            Strategy("exact", "the best real numbers instead of the grid", _exact),
            Strategy("expected-score", "the label that gains most under calibrated probabilities", _expected_score),
            Strategy("actor-centred", "every actor's mean logit removed first", _centred, transductive=True),
            Strategy(
                "actor-rank", "beta as a quantile of the actor's own gaps", partial(_gaps, "rank"), transductive=True
            ),
            Strategy("actor-scaled", "gaps standardised within the actor", partial(_gaps, "normal"), transductive=True),
        )
    }
)
"""Every strategy by name, in the order in which tables show them."""

HONEST = tuple(s.name for s in STRATEGIES.values() if s.sees == "others" and not s.transductive)
"""Strategies chosen on other folds that look at one clip at a time, the simplest first: test clips are decoded with one
of them where none is asked for."""


def choose_strategy(sample: Sample, labels: Mapping[str, LabelArray] | None = None) -> Selection:
    """Choose how test clips are decoded: the first of `HONEST`, unless another gains more than a standard error.

    Args:
        sample: labelled rows of two folds or more; each strategy decodes every fold as trained on the others.
        labels: by strategy, what `decode_folds` gives for this sample, where it is known already.

    Raises:
        DataError: fewer than two folds.
    """
    if labels is None:
        labels = {name: decode_folds(STRATEGIES[name], sample) for name in HONEST}
    return choose_simplest({name: labels[name] for name in HONEST}, sample.truth, sample.groups)
