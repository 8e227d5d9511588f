"""The fusion that chooses a fusion: by other actors of the training part, like a literal loop, and fitted on all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.decoding.strategies import STRATEGIES, choose_strategy, decode_folds, make_sample
from blemore_harness.errors import InvalidOption
from blemore_harness.hookspecs import Fusion
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.rules import decode, score
from blemore_plugins.best_of import BestOf, BestOfOptions
from blemore_plugins.late import LateFusion
from blemore_plugins.late.options import LateOptions
from blemore_plugins.means import LogitMean, Mean
from blemore_plugins.regularisation import actor_folds
from fakes import RecordingReporter, make_context, make_fold
from fusion_cases import fit, make_members, make_truth, predict

TRUTH = make_truth(0, 210)
MEMBERS = make_members(1, TRUTH, (0.35, 0.2, 0.0))


def literal_score(kind: type, settings: object, folds: int) -> float:
    """Fit on other actors, predict, decode as test clips would be, score; the mean over parts."""
    clips = make_fold(len(TRUTH), 1, actors=7).train
    parts = actor_folds(clips, folds, 7)
    rows = np.zeros((len(TRUTH), 6))
    for part in parts:
        learnt = {name: values[~part] for name, values in MEMBERS.items()}
        actors = [actor for actor, held in zip(clips.actors or (), part, strict=True) if not held]
        assert len(set(actors)) < 7
        # `fit` of the helper gives clips actors in turn: the weights found do not depend on who is who.
        model, _ = fit(kind(), learnt, TRUTH[~part], settings)
        rows[part] = predict(model, {name: values[part] for name, values in MEMBERS.items()})
    inside = np.argmax(parts, axis=0)
    sample = make_sample(rows, TRUTH, inside, np.arange(len(TRUTH)) % 7)
    labels = decode_folds(STRATEGIES[choose_strategy(sample).name], sample)
    found = [score(TRUTH[part], labels[part]).score for part in parts]
    return float(np.mean(found))


def test_the_surest_gain_on_other_actors_is_fitted_on_all() -> None:
    options = BestOfOptions(candidates=("mean", "logit-mean", "late"), inner_folds=3)
    model, book = fit(BestOf(), MEMBERS, TRUTH, options)
    literal = {
        "mean": literal_score(Mean, Mean.Options(), 3),
        "logit-mean": literal_score(LogitMean, LogitMean.Options(), 3),
        "late": literal_score(LateFusion, LateOptions(search="climb"), 3),
    }
    assert book.notes["inner scores"] == pytest.approx(literal, abs=1e-6)
    gains = book.notes["gain over mean and its standard error"]
    assert isinstance(gains, dict)
    assert list(gains) == ["logit-mean", "late"]
    sure = {name: difference - error for name, (difference, error) in gains.items()}
    assert book.notes["chosen"] == max(sure, key=lambda name: sure[name]) == "late"
    assert sure["late"] > 0
    alone, _ = fit(LateFusion(), MEMBERS, TRUTH)
    labels = model.selected.decoder.decode(predict(alone, MEMBERS), None)
    for thresholds in ((0.05, 0.05), (0.24, 0.48)):
        assert (decode(predict(model, MEMBERS), *thresholds) == labels).all(), "rows stand for labels"
    assert "weights" in book.notes, "what the chosen one says is kept"


def test_without_evidence_the_first_candidate_is_kept() -> None:
    """Of five replicates with base models that are alike, a fusion with weights seldom has more than luck."""
    chosen = []
    for seed in range(5):
        truth = make_truth(seed, 210)
        options = BestOfOptions(candidates=("logit-mean", "weighted-logit-mean", "mean"))
        _, book = fit(BestOf(), make_members(seed + 20, truth, (0.3, 0.3, 0.3)), truth, options)
        chosen.append(book.notes["chosen"])
    assert chosen.count("logit-mean") >= 3


def test_a_useless_base_model_is_evidence() -> None:
    truth = make_truth(3, 420)
    useless = make_members(4, truth, (0.35, 0.3, 0.0, 0.0, 0.0, 0.0))
    _, book = fit(BestOf(), useless, truth, BestOfOptions(candidates=("logit-mean", "weighted-logit-mean")))
    assert book.notes["chosen"] == "weighted-logit-mean"


@pytest.mark.parametrize("actors", [1, 2])
def test_with_too_few_actors_the_simplest_is_used_and_noted(actors: int) -> None:
    model, book = fit(BestOf(), MEMBERS, TRUTH, actors=actors)
    assert book.notes["chosen"] == "logit-mean"
    assert str(actors) in str(book.notes["reason"])
    assert book.warnings == []
    reference, _ = fit(LogitMean(), MEMBERS, TRUTH)
    assert (predict(model, MEMBERS) == predict(reference, MEMBERS)).all()


@pytest.mark.slow
def test_structured_wins_where_members_answer_in_code() -> None:
    """Base models whose rows are permuted tell all, but no mean of them does."""
    swapped = {name: values[:, [1, 2, 3, 4, 0, 5]] for name, values in make_members(2, TRUTH, (0.8, 0.7)).items()}
    _, book = fit(BestOf(), swapped, TRUTH, BestOfOptions(candidates=("logit-mean", "structured")))
    assert book.notes["chosen"] == "structured"
    assert "set" in book.notes


def test_tries_say_nothing_and_the_same_seed_chooses_the_same() -> None:
    options = BestOfOptions(candidates=("mean", "late"))
    first, book = fit(BestOf(), MEMBERS, TRUTH, options)
    again, other = fit(BestOf(), MEMBERS, TRUTH, options)
    assert book.notes == other.notes
    assert (predict(first, MEMBERS) == predict(again, MEMBERS)).all()
    assert [label for label, _ in book.bars if label == "late: weights"] in ([], ["late: weights"])


def fit_folds(folds: list[Fold], settings: BestOfOptions, home: Path) -> tuple[Any, list[RecordingReporter]]:
    """Fit folds at once, with the rows of `MEMBERS` for their clips; returns the models and what they told."""
    books = [RecordingReporter() for _ in folds]
    contexts = [make_context(home / str(n), reporter=book) for n, book in enumerate(books)]
    given = []
    for fold, context in zip(folds, contexts, strict=True):
        context.workspace.mkdir(parents=True, exist_ok=True)
        at = [int(name[1:]) for name in fold.train.ids]
        given.append({name: Probabilities(fold.train.ids, rows[at]) for name, rows in MEMBERS.items()})
    return BestOf().fit_folds(folds, given, settings, contexts), books


def make_folds(count: int) -> list[Fold]:
    """Folds over the clips, each of two actors."""
    clips = Clips(tuple(Clip(f"c{i}") for i in range(len(TRUTH))), tuple(f"A{i % 8}" for i in range(len(TRUTH))), TRUTH)
    part = np.arange(len(TRUTH)) % 8 // 2
    return [Fold(n, clips.take(part != n), clips.take(part == n).unlabelled()) for n in range(count)]


def test_folds_that_choose_late_share_its_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options, folds = BestOfOptions(candidates=("mean", "late")), make_folds(3)
    models, books = fit_folds(folds, options, tmp_path)
    assert [book.notes["chosen"] for book in books] == ["late"] * 3
    assert [label for book in books for label, _ in book.bars if label == "late: weights"] == ["late: weights"]
    monkeypatch.setattr(LateFusion, "fit_folds", Fusion.fit_folds)
    for fold, model, book in zip(folds, models, books, strict=True):
        other = RecordingReporter()
        at = [int(name[1:]) for name in fold.train.ids]
        given = {name: Probabilities(fold.train.ids, rows[at]) for name, rows in MEMBERS.items()}
        alone = BestOf().fit(fold, given, options, make_context(tmp_path / "alone", reporter=other))
        assert alone.model == model.model
        assert (predict(alone, MEMBERS) == predict(model, MEMBERS)).all()
        assert book.notes == other.notes


def test_where_nothing_is_shared_choices_are_kept_and_folds_are_finished_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, folds = BestOfOptions(candidates=("mean", "logit-mean")), make_folds(2)
    assert isinstance(fit_folds(folds, options, tmp_path)[0], Iterator)
    first = {path.name: path.read_text() for path in (tmp_path / "0" / "work").iterdir()}
    assert list(first) == ["inner-scores.json"]
    monkeypatch.setattr(BestOf, "_try", None)  # nothing is tried again
    _, books = fit_folds(folds, options, tmp_path)
    notes, rows = json.loads(first["inner-scores.json"])
    assert books[0].notes == notes
    assert np.shape(rows) == (len(folds[0].train), 6)
    assert set(books[0].notes["inner scores"]) == {"mean", "logit-mean"}


@pytest.mark.parametrize(
    "wrong", [{"candidates": ("late",)}, {"candidates": ("late", "late")}, {"candidates": ()}, {"inner_folds": 1}]
)
def test_options_that_leave_no_choice_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidOption, match="expected at least 2"):
        BestOfOptions(**wrong)  # type: ignore[arg-type]
