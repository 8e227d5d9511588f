"""Where a system is right and where it is wrong: per group of clips, and which errors it makes.

Numbers here are shares of all clips together and not means over folds, so that small groups are not weighed up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.protocol.grid import number_actors
from blemore_harness.protocol.rules import EQUAL, NEUTRAL, label_text
from blemore_harness.scoring.intervals import share_interval

BoolArray = NDArray[np.bool_]

FREQUENT = 10
"""How many wrong answers are listed."""


@dataclass(frozen=True)
class Answers:
    """Decoded clips of one system, and who is in them.

    Attributes:
        truth, labels: int8 (N, 6) percentages.
        folds: int64 (N,).
        actors, genders: a text per clip; empty genders where the metadata has none.
    """

    truth: LabelArray
    labels: LabelArray
    folds: NDArray[np.int64]
    actors: tuple[str, ...]
    genders: tuple[str, ...]

    @property
    def blends(self) -> BoolArray:
        """Bool (N,): true blends."""
        return np.asarray((self.truth > 0).sum(axis=1) == 2)

    @property
    def present(self) -> BoolArray:
        """Bool (N,): the set of emotions is right."""
        return np.asarray(((self.truth > 0) == (self.labels > 0)).all(axis=1))

    @property
    def exact(self) -> BoolArray:
        """Bool (N,): a true blend, and emotions and saliences are right."""
        return np.asarray((self.truth == self.labels).all(axis=1) & self.blends)


def break_down(answers: Answers) -> dict[str, list[dict[str, Any]]]:
    """Return a row per group of clips, by what they are grouped by.

    Returns:
        rows of `name`, `clips`, `actors`, `blends`, `acc_presence`, `acc_salience` (None without blends), each accuracy
        with a 95 % interval over actors (`..._interval`; None for clips of fewer than three actors). Emotions have
        `recall` and `precision` of being named at all.
    """
    numbers, _ = number_actors(answers.folds, answers.actors)
    return {
        kind: [_row(name, mask, answers, numbers) | _named(kind, name, answers) for name, mask in groups]
        for kind, groups in _groupings(answers).items()
    }


def _groupings(answers: Answers) -> dict[str, list[tuple[str, BoolArray]]]:
    truth, blends = answers.truth, answers.blends
    neutral = truth[:, NEUTRAL] > 0
    even = blends & (truth == EQUAL).any(axis=1)
    pairs = np.array(["+".join(_emotions(row)) if blend else "" for row, blend in zip(truth, blends, strict=True)])
    found = {
        "kind": [("single", ~blends & ~neutral), ("neutral", neutral), ("blend", blends)],
        "salience": [("50/50", even), ("70/30", blends & ~even)],
        "emotion": [(name, truth[:, k] > 0) for k, name in enumerate(EMOTIONS)],
        "pair": [(name, pairs == name) for name in np.unique(pairs[blends]).tolist()],
        "fold": [(str(k), answers.folds == k) for k in np.unique(answers.folds).tolist()],
        "gender": list(_by_text(answers.genders)),
        "actor": list(_by_text(answers.actors)),
    }
    return {kind: [(name, mask) for name, mask in groups if mask.any()] for kind, groups in found.items()}


def _by_text(texts: Sequence[str]) -> Iterator[tuple[str, BoolArray]]:
    values = np.array(texts)
    for name in np.unique(values).tolist():
        if name:
            yield name, np.asarray(values == name)


def _row(name: str, mask: BoolArray, answers: Answers, numbers: NDArray[np.int64]) -> dict[str, Any]:
    blends, count = mask & answers.blends, int(numbers.max()) + 1
    row: dict[str, Any] = {
        "name": name,
        "clips": int(mask.sum()),
        "actors": len(np.unique(numbers[mask])),
        "blends": int(blends.sum()),
    }
    for measure, right, of in (
        ("acc_presence", answers.present, mask),
        ("acc_salience", answers.exact, blends),
    ):
        row[measure] = float(right[of].mean()) if of.any() else None
        row[f"{measure}_interval"] = share_interval(
            np.bincount(numbers[right & of], minlength=count), np.bincount(numbers[of], minlength=count)
        )
    return row


def _named(kind: str, name: str, answers: Answers) -> dict[str, Any]:
    """Report how often an emotion is named where it is there, and there where it is named."""
    if kind != "emotion":
        return {}
    column = EMOTIONS.index(name)
    there, said = answers.truth[:, column] > 0, answers.labels[:, column] > 0
    both = int((there & said).sum())
    return {"recall": both / int(there.sum()), "precision": both / int(said.sum()) if said.any() else None}


def count_errors(answers: Answers) -> dict[str, Any]:
    """Count what kinds of errors there are, and which wrong answers are the most frequent.

    Returns:
        `kinds`: clips per kind of answer, adding up to all clips. `frequent`: rows of `truth`, `answer`, `clips` (how
        often) and `of` (clips of that truth), sets of emotions only, the most frequent first. `saliences`: rows of
        true salience against answered one, where the pair is right, the emotion of the first letter first.
    """
    names = ["+".join(_emotions(row)) for row in answers.truth]
    wrong = Counter(
        (name, "+".join(_emotions(row)))
        for name, row, right in zip(names, answers.labels, answers.present, strict=True)
        if not right
    )
    totals = Counter(names)
    ranked = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT]
    return {
        "kinds": {name: int(mask.sum()) for name, mask in find_kinds(answers).items()},
        "frequent": [
            {"truth": truth, "answer": answer, "clips": count, "of": totals[truth]} for (truth, answer), count in ranked
        ],
        "saliences": _saliences(answers),
    }


def find_kinds(answers: Answers) -> dict[str, BoolArray]:
    """Return which clips have each kind of answer, bool (N,) by kind; every clip has one."""
    blends, said = answers.blends, (answers.labels > 0).sum(axis=1) == 2
    return {
        "right": (~blends & answers.present) | answers.exact,
        "right pair, wrong salience": blends & answers.present & ~answers.exact,
        "blend answered with one of its emotions": blends & ~said & _overlap(answers),
        "blend answered with another single emotion": blends & ~said & ~_overlap(answers),
        "blend answered with another pair": blends & said & ~answers.present,
        "single answered with another single": ~blends & ~said & ~answers.present,
        "single answered with a blend that holds it": ~blends & said & _overlap(answers),
        "single answered with a blend without it": ~blends & said & ~_overlap(answers),
    }


def _saliences(answers: Answers) -> list[dict[str, Any]]:
    """Count answered saliences per true one among blends whose pair is right."""
    mine = answers.blends & answers.present
    pairs = Counter(
        (label_text(truth).rpartition(" ")[2], label_text(said).rpartition(" ")[2])
        for truth, said in zip(answers.truth[mine], answers.labels[mine], strict=True)
    )
    shown = ("50/50", "70/30", "30/70")
    return [{"truth": truth, **{said: pairs[truth, said] for said in shown}} for truth in shown]


def _overlap(answers: Answers) -> BoolArray:
    return np.asarray(((answers.truth > 0) & (answers.labels > 0)).any(axis=1))


def _emotions(row: NDArray[np.int8]) -> list[str]:
    return [name for name, share in zip(EMOTIONS, row, strict=True) if share > 0]
