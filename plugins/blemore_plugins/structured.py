"""Structured fusion: which emotions, then in which ratio, decided for the best expected Score without thresholds.

A 16-way head gives the probability of every set of emotions (6 alone, 10 pairs), a 3-way head that of the ratio (70/30,
50/50, 30/70) of every pair. Both are regressions on the base models' log-probabilities. The label with the best
expected Score is always a valid one, and is written as a row that the official decoding turns into exactly that label:

    alone 1    even .5/.5    uneven .75/.25

for every alpha above 0 and up to .25 together with every beta from 0 to below .5: 50 of the 400 pairs of the official
grid. No row can do better, and none for all pairs: an uneven blend needs a smaller value s of at least alpha and a
difference, at most 1 - 2 s, above beta, so (alpha, beta) works for a suitable s only where 2 alpha + beta < 1; the
s with most pairs of the grid lie around .25. Outside the range rows are read as something else: with a
larger beta uneven blends become even, with an alpha up to .5 uneven ones become their larger emotion, above that even
ones become their first. The search for thresholds takes one of these only where it scores better, and otherwise the
smallest pair of the range.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import EMOTIONS, Clips, Fold, LabelArray
from blemore_harness.context import Context
from blemore_harness.disk import read_json, write_json
from blemore_harness.errors import InvalidOption
from blemore_harness.hookspecs import Card, Fusion, hookimpl
from blemore_harness.options import searched
from blemore_harness.predictions import FloatArray, Probabilities
from blemore_harness.protocol.rules import BLENDS, NEUTRAL, SINGLE
from blemore_plugins.cards import fusion_card
from blemore_plugins.logistic import Problem, as_inputs, predict_logs
from blemore_plugins.means import MODEL_FILE, log_rows, mean_logs, require_all
from blemore_plugins.regularisation import Fitted, LogisticOptions, fit_regularised, strength_folds

PAIRS = tuple(combinations(range(NEUTRAL), 2))
"""The sets of two emotions that blend."""

RATIOS = tuple(sorted(BLENDS, reverse=True))
"""Percentages of a pair's first and second emotion: 70/30, 50/50, 30/70."""

UNEVEN = 0.75
"""The larger value of a row that stands for an uneven blend; see above."""

MAX_ALPHA, BETA_BELOW = 1 - UNEVEN, 2 * UNEVEN - 1
"""Thresholds for which a row is decoded to its label: alpha above 0 and up to the first, beta below the second."""

CONSTANT = 10.0
"""Size of the constant input, so that the frequency of a set is regularised a hundred times less than the rest."""


@dataclass(frozen=True)
class StructuredOptions(LogisticOptions):
    """How strongly both regressions are regularised, see `LogisticOptions`, and how ratios are modelled.

    Attributes:
        ratio: `nominal`, three ratios of their own; `ordinal`, three steps from all to nothing of a pair's first
            emotion, with fewer parameters: see `mirror`.
    """

    ratio: Literal["nominal", "ordinal"] = searched("nominal", choices=("nominal", "ordinal"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio not in ("nominal", "ordinal"):
            raise InvalidOption(f"ratio: expected nominal or ordinal, found '{self.ratio}'")


@dataclass(frozen=True)
class StructuredModel:
    """Both heads and what a right ratio is worth.

    Attributes:
        names: the base models, in the order of the inputs.
        sets: float64 (6 M + 1, 16).
        ratios: float64 (M + 11, 3); ordinal (M + 12, 3).
        worth: Score of a right ratio against that of a right set: clips by blends; 0 without blends.
        epsilon: probabilities below it count as this much.
        ordinal: whether `ratios` belongs to `ordinal_inputs`.
    """

    names: tuple[str, ...]
    sets: FloatArray
    ratios: FloatArray
    worth: float
    epsilon: float
    ordinal: bool = False

    def predict(self, clips: Clips, base_models: Mapping[str, Probabilities], context: Context) -> Probabilities:
        """Return the row of the label with the best expected Score; of equals the first of `label_rows`.

        Raises:
            DataError: a base model is missing.
        """
        require_all(self.names, base_models, "structured")
        logs = log_rows(self.names, base_models, self.epsilon)
        sets = np.exp(predict_logs(set_inputs(logs), set_offset(logs), self.sets))
        worths = [sets[:, : len(EMOTIONS)]]
        for number in range(len(PAIRS)):
            pair = np.full(logs.shape[1], number)
            inputs = ordinal_inputs(logs, pair) if self.ordinal else ratio_inputs(logs, pair)
            ratios = np.exp(predict_logs(inputs, ratio_offset(logs, pair), self.ratios))
            # Of N clips, B blends: a right set adds 1/N to ACC_P, a right ratio of a right set 1/B to ACC_S.
            worths.append(sets[:, len(EMOTIONS) + number, None] * (1 + self.worth * ratios))
        return Probabilities(clips.ids, label_rows()[np.hstack(worths).argmax(axis=1)])

    def save(self, folder: Path) -> None:
        """Write names, both heads and numbers."""
        write_json(folder / MODEL_FILE, {**vars(self), "sets": self.sets.tolist(), "ratios": self.ratios.tolist()})


class Structured(Fusion):
    """A 16-way head for the set of emotions and a 3-way head for the ratio of a pair, decided by expected Score."""

    name = "structured"
    summary = "set of emotions, then ratio of the pair; decides for the best expected Score, without thresholds"
    Options = StructuredOptions

    def card(self, options: StructuredOptions) -> Card:
        """Return the card of a fusion."""
        return fusion_card()

    def fit(
        self, fold: Fold, base_models: Mapping[str, Probabilities], options: StructuredOptions, context: Context
    ) -> StructuredModel:
        """Fit both heads on the base models' out-of-fold rows."""
        # Sorted: the order in which base models were named must change nothing.
        names = tuple(sorted(base_models))
        logs = log_rows(names, base_models, options.epsilon)
        held = strength_folds(fold.train, options, context)
        ordinal = options.ratio == "ordinal"
        problems = make_problems(fold.train.labels, logs, ordinal)
        fitted: dict[str, Fitted] = {}
        with context.progress("structured: strengths", 2 * (len(options.strengths) + 1)) as bar:
            for head, (problem, which) in problems.items():
                parts = [mask[which] for mask in held]
                if ordinal and head == "ratio":
                    parts = [np.concatenate([mask, mask]) for mask in parts]
                fitted[head] = fit_regularised(problem, parts, options.strengths, bar.advance)
                context.note(head, fitted[head].describe())
        blends = int(problems["ratio"][1].sum())
        worth = len(fold.train) / blends if blends else 0.0
        return StructuredModel(names, fitted["set"].weights, fitted["ratio"].weights, worth, options.epsilon, ordinal)

    def load(self, folder: Path, options: StructuredOptions, context: Context) -> StructuredModel:
        """Read names, both heads and numbers."""
        facts = read_json(folder / MODEL_FILE)
        arrays = {"sets": np.array(facts["sets"]), "ratios": np.array(facts["ratios"])}
        return StructuredModel(**{**facts, "names": tuple(facts["names"]), **arrays})


def make_problems(
    truth: LabelArray, logs: FloatArray, ordinal: bool = False
) -> dict[str, tuple[Problem, NDArray[np.bool_]]]:
    """Return what each head is fitted on, and the mask (N,) of the clips that this takes: all, and the blends.

    Args:
        truth: int8 (N, 6).
        logs: the base models' log-probabilities, float64 (M, N, 6).
        ordinal: whether ratios are modelled as ordered; their problem then has every blend twice, see `mirror`.
    """
    chosen, ratio = number_sets(truth)
    blend = chosen >= len(EMOTIONS)
    pair, blends = chosen[blend] - len(EMOTIONS), logs[:, blend]
    sets = Problem(set_inputs(logs), np.eye(len(EMOTIONS) + len(PAIRS))[chosen], set_offset(logs))
    inputs = ordinal_inputs(blends, pair) if ordinal else ratio_inputs(blends, pair)
    ratios = Problem(inputs, np.eye(len(RATIOS))[ratio[blend]], ratio_offset(blends, pair))
    ratios = mirror(ratios, len(logs) + len(PAIRS)) if ordinal else ratios
    return {"set": (sets, np.ones(len(truth), dtype=bool)), "ratio": (ratios, blend)}


def number_sets(truth: LabelArray) -> tuple[np.ndarray[tuple[int], np.dtype[np.intp]], ...]:
    """Return each label's set (0 to 15: emotions alone, then `PAIRS`) and ratio (place in `RATIOS`; 0 where alone)."""
    sets, ratios = np.zeros(len(truth), dtype=np.intp), np.zeros(len(truth), dtype=np.intp)
    for clip, label in enumerate(truth):
        present = tuple(np.flatnonzero(label).tolist())
        if len(present) == 1:
            sets[clip] = present[0]
        else:
            sets[clip] = len(EMOTIONS) + PAIRS.index(present)
            ratios[clip] = RATIOS.index((int(label[present[0]]), int(label[present[1]])))
    return sets, ratios


def label_rows() -> FloatArray:
    """Return the rows, float64 (36, 6), that stand for emotions alone, then for every pair in every ratio of
    `RATIOS`.
    """
    rows = [*np.eye(len(EMOTIONS))]
    for one, two in PAIRS:
        for first, second in RATIOS:
            row = np.zeros(len(EMOTIONS))
            row[one] = 0.5 if first == second else UNEVEN if first > second else 1 - UNEVEN
            row[two] = 1 - row[one]
            rows.append(row)
    return np.stack(rows)


def set_inputs(logs: FloatArray) -> FloatArray:
    """Return the set head's inputs, float64 (N, 6 M + 1), of base models' log-probabilities (M, N, 6)."""
    inputs = as_inputs(logs)
    inputs[:, -1] *= CONSTANT
    return inputs


def set_offset(logs: FloatArray) -> FloatArray:
    """Return the set logits that base models' mean log-probabilities suggest, float64 (N, 16): how near a set's label
    is.

    Minus the Kullback-Leibler divergence of a row from the label, half and half for pairs.
    """
    mean = mean_logs(logs)
    pairs = [0.5 * mean[:, one] + 0.5 * mean[:, two] + np.log(2) for one, two in PAIRS]
    return np.column_stack([mean, *pairs])


def ratio_inputs(logs: FloatArray, pair: np.ndarray[tuple[int], np.dtype[np.intp]]) -> FloatArray:
    """Return the ratio head's inputs, float64 (N, M + 11), of clips that are taken for these pairs (N,).

    How far each base model prefers the pair's first emotion, how far their mean prefers one, and which pair it is.
    """
    one, two = np.array(PAIRS)[pair].T
    clips = np.arange(len(pair))
    differences = (logs[:, clips, one] - logs[:, clips, two]).T
    mean = mean_logs(logs)
    clear = np.abs(mean[clips, one] - mean[clips, two])
    return np.column_stack([differences, clear, np.eye(len(PAIRS))[pair]])


def ordinal_inputs(logs: FloatArray, pair: np.ndarray[tuple[int], np.dtype[np.intp]]) -> FloatArray:
    """Return the ordinal ratio head's inputs, float64 (N, M + 12), of clips that are taken for these pairs (N,).

    Those that change sign where a pair's emotions change places: how far each base model prefers the first, and which
    pair it is (M + 10). Then those that do not: how far the base models' mean prefers one, and 1.
    """
    inputs = ratio_inputs(logs, pair)
    differences, clear, which = np.split(inputs, (len(logs), len(logs) + 1), axis=1)
    return np.column_stack([differences, which, clear, np.ones(len(pair))])


def mirror(problem: Problem, signed: int) -> Problem:
    """Return a problem of ratios with every row a second time, the pair's emotions in the other order.

    The minimum then is symmetric: a signed input x adds (w x, 0, -w x) to the logits of 70/30, 50/50 and 30/70, another
    (v x, -2 v x, v x), for rows of weights sum to 0 under the penalty. This is the ordinal adjacent-categories model:
    log P(70/30) / P(50/50) = u - t and log P(50/50) / P(30/70) = u + t, with u of the signed inputs, t of the others.

    Args:
        problem: its classes in the order of `RATIOS`.
        signed: so many inputs come first that change sign.
    """
    sign = np.where(np.arange(problem.inputs.shape[1]) < signed, -1.0, 1.0)
    return Problem(
        np.concatenate([problem.inputs, problem.inputs * sign]),
        np.concatenate([problem.targets, problem.targets[:, ::-1]]),
        np.concatenate([problem.offset, problem.offset[:, ::-1]]),
    )


def ratio_offset(logs: FloatArray, pair: np.ndarray[tuple[int], np.dtype[np.intp]]) -> FloatArray:
    """Return the ratio logits that base models' mean log-probabilities suggest, float64 (N, 3), as `set_offset`
    does.
    """
    one, two = np.array(PAIRS)[pair].T
    clips = np.arange(len(pair))
    mean = mean_logs(logs)
    columns = []
    for percentages in RATIOS:
        first, second = (share / SINGLE for share in percentages)
        entropy = -(first * np.log(first) + second * np.log(second))
        columns.append(first * mean[clips, one] + second * mean[clips, two] + entropy)
    return np.column_stack(columns)


@hookimpl
def blemore_fusions() -> Iterable[Fusion]:
    """Offer structured fusion."""
    return [Structured()]
