"""A model that is saved and loaded gives the same predictions to the last bit: every fusion, every trained head."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clip, Clips
from blemore_harness.errors import DataError
from blemore_harness.hookspecs import Fusion, NoOptions
from blemore_harness.predictions import Embeddings
from blemore_harness.running.requests import MODEL_ENDINGS
from blemore_harness.systems.plugins import load_plugins
from blemore_plugins.best_of import BestOf, BestOfOptions, Selected, SelectedModel, make_candidate
from blemore_plugins.features.encoder import FeatureEncoder
from blemore_plugins.late import LateFusion
from blemore_plugins.late.options import LateOptions
from blemore_plugins.means import SeedAverage
from blemore_plugins.structured import Structured, StructuredOptions
from blemore_plugins.weighted import WeightedLogitMean, WeightedLogitMeanOptions
from fakes import make_context, make_fold
from fusion_cases import fit, make_members, make_truth, predict

OWN = "blemore-harness"
TRUTH = make_truth(1, 60)
SEEN = make_members(2, TRUTH, (0.2, 0.4, 0.6))
NEW = make_members(3, make_truth(4, 40), (0.2, 0.4, 0.6))
KINDS = ("mean", "logit-mean", "weighted-logit-mean", "stack", "structured", "late")
CASES: dict[str, tuple[Fusion, Any]] = {
    **{kind: (make_candidate(kind), None) for kind in KINDS},  # type: ignore[arg-type]
    "weighted-logit-mean": (WeightedLogitMean(), WeightedLogitMeanOptions(strengths=(0.1,))),
    "late, given weights": (LateFusion(), LateOptions(weights="m2=0.25,m0=0.75,m1=0")),
    "ordinal": (Structured(), StructuredOptions(ratio="ordinal")),
}


@cache
def fitted(case: str) -> Any:
    fusion, options = CASES[case]
    return fit(fusion, SEEN, TRUTH, options)[0]


def reload(system: Any, options: Any, model: Any, folder: Path) -> Any:
    """Save a model, and load it in an otherwise empty context; only files of allowed kinds are written."""
    home = folder / "model"
    home.mkdir()
    model.save(home)
    written = [path for path in home.rglob("*") if path.is_file()]
    assert written
    assert {path.suffix for path in written} <= set(MODEL_ENDINGS)
    return system.load(home, options, make_context(folder / "elsewhere"))


@pytest.mark.parametrize("case", CASES)
def test_a_fusion_of_probabilities_gives_the_same_when_it_is_loaded(case: str, tmp_path: Path) -> None:
    fusion, options = CASES[case]
    again = reload(fusion, options or fusion.Options(), fitted(case), tmp_path)
    assert predict(again, NEW).tobytes() == predict(fitted(case), NEW).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_chosen_gives_the_same_when_it_is_loaded(kind: Any, tmp_path: Path) -> None:
    again = reload(BestOf(), BestOf.Options(), SelectedModel(Selected(kind, None), fitted(kind)), tmp_path)
    assert again.selected.name == kind
    assert predict(again, NEW).tobytes() == predict(fitted(kind), NEW).tobytes()


def test_a_choice_is_saved_with_its_name(tmp_path: Path) -> None:
    options = BestOfOptions(candidates=("mean", "logit-mean"), inner_folds=2)
    model, _ = fit(BestOf(), SEEN, TRUTH, options)
    assert reload(BestOf(), options, model, tmp_path).selected == model.selected


def test_a_mean_over_seeds_gives_the_same_when_it_is_loaded(tmp_path: Path) -> None:
    seen, new = ({f"toy@seed{k}": rows for k, rows in enumerate(each.values())} for each in (SEEN, NEW))
    model = fit(SeedAverage(), seen, TRUTH)[0]
    again = reload(SeedAverage(), NoOptions(), model, tmp_path)
    assert predict(again, new).tobytes() == predict(model, new).tobytes()


def test_every_fusion_of_ours_is_among_the_cases_or_takes_embeddings() -> None:
    tried = {BestOf.name, SeedAverage.name, *(fusion.name for fusion, _ in CASES.values())}
    offered = [each[0].system for each in load_plugins({}).offers.values() if each[0].distribution.name == OWN]
    assert {x.name for x in offered if isinstance(x, Fusion) and x.takes == "probabilities"} == tried


@pytest.mark.parametrize("case", ["mean", "logit-mean", "weighted-logit-mean", "late"])
def test_a_mean_answers_from_the_base_models_that_are_there(case: str) -> None:
    model = fitted(case)
    there = {name: NEW[name] for name in ("m1", "m2")}
    found = predict(model, there)
    weights = getattr(model, "weights", dict.fromkeys(NEW, 1.0))
    share = {name: weights[name] / (weights["m1"] + weights["m2"]) for name in there}
    if case in ("mean", "late"):
        wanted = sum(share[name] * rows for name, rows in there.items())
    else:
        logs = sum(share[name] * np.log(np.maximum(rows, 1e-5)) for name, rows in there.items())
        wanted = np.exp(logs)
        wanted /= wanted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    with pytest.raises(DataError, match="m0"):
        predict(model, {"stranger": NEW["m0"]})


@pytest.mark.parametrize("case", ["stack", "structured"])
def test_a_regression_names_the_base_model_that_is_missing(case: str) -> None:
    with pytest.raises(DataError, match=f"{case}.*m1"):
        predict(fitted(case), {name: NEW[name] for name in ("m0", "m2")})


@pytest.mark.encoders
@pytest.mark.parametrize("normalise_actors", [False, True])
@pytest.mark.parametrize("rows", ["clips", "embeddings"])
@pytest.mark.parametrize("head", ["mlp-512", "linear"])
def test_a_head_gives_the_same_when_it_is_loaded(head: Any, rows: str, normalise_actors: bool, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    options = ToyFeatures.Options(head=head, rows=rows, normalise_actors=normalise_actors, epochs=3, patience=3)
    fold, context = make_fold(60, 20), make_context(tmp_path)
    model = ToyFeatures().fit(fold, options, context)
    wanted = model.predict(fold.held_out, context).values
    again = reload(ToyFeatures(), options, model, tmp_path)
    assert (again.scaler.identity is not None) == normalise_actors
    found = again.predict(fold.held_out.take([3, 0, 1]), make_context(tmp_path / "elsewhere")).values
    assert found.tobytes() == wanted[[3, 0, 1]].tobytes()


class ToyFeatures(FeatureEncoder):
    """Frame-level features that are noise, and tell the actor."""

    name, summary, modality = "toy-features", "noise", "video"

    def frame_features(self, clip: Clip, options: Any, context: Any) -> np.ndarray:
        draw = np.random.default_rng(int(clip.content, 16))
        return (draw.normal(size=(1 + int(clip.content, 16) % 4, 8)) + int(clip.id[1:]) % 5).astype(np.float32)

    def embed(self, clips: Clips, options: Any, context: Any) -> Embeddings:
        rows = [self.frame_features(clip, options, context).mean(axis=0) for clip in clips]
        return Embeddings(clips.ids, np.stack(rows))
