"""Classifiers of scikit-learn and of libraries like it as encoders: samples, weights, seeds, identities, checks."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.errors import ConfigError, DataError, MediaError, PluginFailed
from blemore_harness.estimators import SklearnEncoder
from blemore_harness.estimators.classifier import draw_emotions, weight_keyword
from blemore_harness.estimators.code import describe
from blemore_harness.hookspecs import Encoder, NoOptions
from blemore_harness.predictions import Embeddings, softmax
from blemore_harness.systems.submission import from_plugins
from blemore_harness.testing import check_subject
from blemore_harness.testing.subjects import Subject
from estimator_cases import MATERIAL, Bare, glimpse
from fakes import LABELS, make_context, make_fold
from released_files import write_released
from toys import Bench, offer, open_bench, system

FOLD = make_fold(5, 2)
"""Clips of ang, disg, hap, ang/disg 50/50 and ang/hap 70/30, in this order."""


def number(clip: Clip) -> list[float]:
    return [float(int(clip.content, 16)), 1.0]


class Plain:
    """A classifier with `fit` and `predict_proba` only; its answer is set."""

    def __init__(self, answer: Any = (0.2, 0.3, 0.5)) -> None:
        self.answer = answer
        self.asked: list[np.ndarray] = []

    def fit(self, X: np.ndarray, y: np.ndarray) -> None:
        self.X, self.y = X, y

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        self.asked.append(X)
        return np.array([self.answer])


class Weighted(Plain):
    """The same with weights."""

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> None:
        super().fit(X, y)
        self.weights = sample_weight


def fit(estimator: Any, folder: Path, features: Any = number, fold: Fold = FOLD) -> Any:
    encoder, context = SklearnEncoder("toy", features, estimator), make_context(folder)
    encoder.prepare(Clips((*fold.train, *fold.held_out)), NoOptions(), context)
    return encoder.fit(fold, NoOptions(), context), context


def test_a_blend_is_two_samples_weighted_by_its_saliences(tmp_path: Path) -> None:
    estimator = Weighted()
    model, context = fit(estimator, tmp_path)
    assert not hasattr(estimator, "X"), "every fold trains a copy"
    assert model.classifier.X[:, 0].tolist() == [0, 1, 2, 3, 3, 4, 4]
    assert model.classifier.y.tolist() == [0, 1, 2, 0, 1, 0, 2]
    np.testing.assert_allclose(model.classifier.weights, [1, 1, 1, 0.5, 0.5, 0.7, 0.3], rtol=1e-6)
    assert context.reporter.notes["blends"] == "two samples, weighted"
    rows = model.predict(FOLD.held_out, context).values
    np.testing.assert_allclose(rows, [[0.2, 0.3, 0, 0.5, 0, 0]] * 2)
    assert [values.shape for values in model.classifier.asked] == [(1, 2), (1, 2)], "clip by clip"


def test_without_weights_the_emotion_of_a_blend_is_drawn_by_its_saliences(tmp_path: Path) -> None:
    model, context = fit(Plain(), tmp_path)
    assert model.classifier.X[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert model.classifier.y[:3].tolist() == [0, 1, 2]
    assert model.classifier.y[3] in (0, 1)
    assert model.classifier.y[4] in (0, 2)
    assert context.reporter.notes["blends"] == "one sample, emotion drawn"
    targets = np.tile((LABELS / 100).astype(np.float32), (4000, 1))
    clips, emotions = draw_emotions(targets, 3)
    assert clips.tolist() == list(range(20000))
    shares = np.array([np.bincount(emotions[kind::5], minlength=6) for kind in range(5)]) / 4000
    np.testing.assert_array_equal(shares[:3], LABELS[:3] / 100)
    np.testing.assert_allclose(shares, LABELS / 100, atol=0.03)
    assert (shares[LABELS == 0] == 0).all()
    np.testing.assert_array_equal(draw_emotions(targets, 3)[1], emotions)
    assert not np.array_equal(draw_emotions(targets, 4)[1], emotions)


@pytest.mark.parametrize(
    ("answer", "found"),
    [((0.5, 0.5), "3 prob"), ((0.2, 0.2, 0.2), "sum to 1"), ((1.5, -0.5, 0.0), "-0.5"), ((np.nan, 0.5, 0.5), "nan")],
)
def test_wrong_probabilities_are_refused(tmp_path: Path, answer: Any, found: str) -> None:
    model, context = fit(Plain(answer), tmp_path)
    with pytest.raises(PluginFailed, match=f"toy: .*{found}"):
        model.predict(FOLD.held_out, context)


def test_wrong_features_are_named(tmp_path: Path) -> None:
    def broken(clip: Clip) -> Any:
        return [1.0, np.nan if clip.id == "t3" else 1e300 if clip.id == "t9" else 2.0]

    with pytest.raises(MediaError, match="t3") as raised:
        fit(Plain(), tmp_path, broken)
    assert raised.value.clip == "t3"
    with pytest.raises(PluginFailed, match=r"array of numbers .*U1"):
        fit(Plain(), tmp_path, lambda clip: "a")
    with pytest.raises(PluginFailed, match=r"\(4,\).*t1.*\(3,\).*t0"):
        fit(Plain(), tmp_path, lambda clip: [1.0] * (3 + (clip.id == "t1")))
    with pytest.raises(PluginFailed, match=r"\(2, 2\).*t0"):
        fit(Plain(), tmp_path, lambda clip: np.ones((2, 2)))
    empty = Fold(0, Clips((), (), np.zeros((0, 6), dtype=np.int8)), FOLD.held_out)
    with pytest.raises(DataError, match="at least one training clip"):
        fit(Plain(), tmp_path, fold=empty)


@pytest.mark.parametrize(
    ("features", "estimator", "named"),
    [
        (number, Plain, "Plain"),
        (number, object(), "predict_proba"),
        ("WavLM", Plain(), "WavLM"),
        (Encoder, Plain(), "E"),
    ],
)
def test_what_is_no_classifier_or_no_function_is_refused(features: Any, estimator: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=f"toy: .*{named}"):
        SklearnEncoder("toy", features, estimator)


class Calls:
    count = 0


def counted(clip: Clip) -> list[float]:
    Calls.count += 1
    return [1.0]


def test_features_are_computed_once_per_code_and_version(tmp_path: Path) -> None:
    clips, context = FOLD.held_out, make_context(tmp_path)
    Calls.count = 0
    for version, sets, expected in ((1, (), 2), (1, (), 2), (2, (), 4), (2, ("WavLM_large",), 8)):
        encoder = SklearnEncoder("toy", counted, Plain(), version=version, feature_sets=sets)
        encoder.prepare(clips, NoOptions(), context)
        encoder.embed(clips, NoOptions(), context)
        assert Calls.count == expected


def test_a_function_that_fills_a_list_of_its_own_finds_its_features_again(tmp_path: Path) -> None:
    seen: list[str] = []

    def remember(clip: Clip) -> list[int]:
        seen.append(clip.id)
        return [len(seen)]

    encoder, context = SklearnEncoder("toy", remember, Plain()), make_context(tmp_path)
    encoder.prepare(FOLD.held_out, NoOptions(), context)
    assert encoder.embed(FOLD.held_out, NoOptions(), context).values.tolist() == [[1], [2]]


class Embedding(Encoder):
    """An encoder whose embeddings are features, with an option."""

    name = "inner"
    summary = "embeddings"
    modality = "audio"

    def feature_sets(self, options: Any) -> tuple[str, ...]:
        return ("WavLM_large",)

    def embed(self, clips: Clips, options: Any, context: Any) -> Embeddings:
        return Embeddings(clips.ids[::-1], np.array([number(clip) for clip in clips])[::-1])


def test_embeddings_of_an_encoder_are_features(tmp_path: Path) -> None:
    encoder = SklearnEncoder("toy", Embedding(), Weighted())
    assert (encoder.modality, encoder.feature_sets(NoOptions())) == ("audio", ("WavLM_large",))
    context = make_context(tmp_path)
    encoder.prepare(FOLD.held_out, NoOptions(), context)
    model = encoder.fit(FOLD, NoOptions(), context)
    assert model.classifier.X[:, 0].tolist() == [0, 1, 2, 3, 3, 4, 4]
    with pytest.raises(ConfigError, match="'plain' defines no `embed`"):
        SklearnEncoder("toy", type("P", (Encoder,), {"name": "plain"})(), Plain())


def test_warnings_of_a_library_are_kept_with_the_run(tmp_path: Path) -> None:
    class Warning_(Plain):
        def fit(self, X: np.ndarray, y: np.ndarray) -> None:
            for _ in range(2):
                warnings.warn("did not converge:\nSTOP. See the manual.", UserWarning, stacklevel=1)

    _, context = fit(Warning_(), tmp_path)
    assert context.reporter.warnings == ["toy: the classifier warns: did not converge"]


SETTINGS = """
import json, sys
from blemore_harness.estimators import SklearnEncoder
from blemore_harness.hookspecs import NoOptions
RATE = 16000
def helper(clip):
    return {2: clip, 1: RATE}
def features(clip, names=frozenset("abc")):
    return helper(clip)
class Mine:
    def __init__(self, k):
        self.k = k
    def fit(self, X, y):
        return self
    def predict_proba(self, X):
        return X
print(json.dumps(SklearnEncoder("toy", features, Mine(3)).identify(NoOptions())))
"""


def identity_of(folder: Path, text: str) -> str:
    (folder / "settings.py").write_text(text)
    done = subprocess.run([sys.executable, "settings.py"], capture_output=True, text=True, cwd=folder, check=True)
    return done.stdout


def test_the_identity_follows_code_constants_and_parameters(tmp_path: Path) -> None:
    first = identity_of(tmp_path, SETTINGS)
    assert identity_of(tmp_path, SETTINGS + "\n# a comment elsewhere\n") == first
    changes = {"16000": "8000", "{2:": "{3:", "Mine(3)": "Mine(4)", "return X": "return X + 1", "helper(clip)\n": "1\n"}
    found = {identity_of(tmp_path, SETTINGS.replace(old, new)) for old, new in changes.items()}
    assert len(found - {first}) == len(changes)


def test_what_is_described() -> None:
    def outer(size: int) -> Any:
        return lambda clip: clip * size

    assert describe(outer(2)) != describe(outer(3))
    assert describe(outer(2)) == describe(outer(2))
    assert describe(lambda clip: 1) != describe(lambda clip: 2), "two lambdas of one function of a file"
    assert describe(np.float64(0.5)) != describe(np.float32(0.5))
    assert describe([1, 2.0, None, True, {"a": np.zeros(2)}])[:4] == [1, 2.0, None, True]
    assert describe(np.add) == f"numpy.add {np.__version__}"
    assert describe(np.mean) != describe(np.sum)
    assert describe(functools.cache(number)) == describe(functools.cache(number)) != describe(functools.cache(glimpse))
    loop: list[Any] = []
    loop.append(loop)
    assert describe(loop) == ["recursive"]


def test_entered_in_python_it_is_evaluated_and_not_trained_again(tmp_path: Path) -> None:
    bench: Bench = open_bench(tmp_path, 6, 4)

    def run() -> tuple[Any, Path]:
        encoder = SklearnEncoder("toy", lambda clip: [float(int(clip.content[:4], 16))], Uniform())
        return bench.run(offer(encoder)[0], from_plugins(["toy"]))

    record, folder = run()
    assert record["status"] == "finished"
    assert system(record, "toy")["cross_fitted"] == system(run()[0], "toy")["cross_fitted"]
    assert Uniform.fits == 4, "three folds and the final fit, once"
    assert not list(folder.parent.rglob("model/*"))


def read_released(clip: Clip) -> np.ndarray:
    return np.load(clip.features("WavLM_large")).mean(axis=0)


@pytest.mark.parametrize("sets", [("WavLM_large",), ()])
def test_released_features_are_read_where_they_are_named(tmp_path: Path, sets: tuple[str, ...]) -> None:
    data = tmp_path / "data"
    write_released(data, {"WavLM_large": 4}, actors=6)
    dataset = read_dataset(data)
    bench = Bench(dataset, blind_dataset(dataset, tmp_path / "views"), tmp_path)
    encoder = SklearnEncoder("toy", read_released, Nearest(), feature_sets=sets)
    record, _ = bench.run(offer(encoder)[0], from_plugins(["toy"]))
    if sets:
        assert system(record, "toy")["official"]["score"]["mean"] > 0.5
    else:
        assert "`feature_sets`" in str(record)


class Nearest(Plain):
    """Probabilities by the distance to the mean of each emotion."""

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray) -> None:
        self.centres = np.array([np.average(X[y == k], axis=0, weights=sample_weight[y == k]) for k in np.unique(y)])

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return softmax(-((X[:, None] - self.centres) ** 2).sum(axis=2))


class Uniform(Plain):
    """The same for every clip; counts its trainings."""

    fits = 0

    def fit(self, X: np.ndarray, y: np.ndarray) -> None:
        Uniform.fits += 1
        self.classes_ = np.unique(y)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


sklearn = pytest.importorskip("sklearn")

from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.svm import SVC  # noqa: E402


def make_svc() -> Any:
    return make_pipeline(StandardScaler(), SVC(probability=True))


ESTIMATORS = {
    "logistic": lambda: LogisticRegression(),
    "forest": lambda: RandomForestClassifier(20),
    "svc": make_svc,
    "boosting": lambda: GradientBoostingClassifier(n_estimators=5, subsample=0.8),
    "neighbours": lambda: KNeighborsClassifier(3),
    "bayes": lambda: GaussianNB(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATORS)
def test_real_classifiers_keep_the_contract(tmp_path: Path, name: str) -> None:
    encoder = SklearnEncoder("toy", glimpse, ESTIMATORS[name]())
    verdicts = list(check_subject(Subject(encoder), Bare(tmp_path)))
    assert [(v.check, v.reason) for v in verdicts if not v.good] == []
    passed = {verdict.check for verdict in verdicts if verdict.status == "passed"}
    assert passed >= {"learns", "repeats", "missing-emotion", "batch-invariance", "no-labels", "embeddings"}


def test_probabilities_are_those_of_the_classifier(tmp_path: Path) -> None:
    """Trained by hand on the weighted samples."""
    fold = MATERIAL.fold
    model, context = fit(LogisticRegression(C=3.0), tmp_path, glimpse, fold)
    samples, labels, weights = [], [], []
    for clip, target in zip(fold.train, fold.train.targets, strict=True):
        for emotion in np.flatnonzero(target):
            samples.append(np.float32(glimpse(clip)))
            labels.append(["ang", "disg", "fea", "hap", "sad", "neu"][emotion])
            weights.append(float(target[emotion]))
    by_hand = LogisticRegression(C=3.0).fit(np.array(samples), labels, sample_weight=weights)
    order = [list(by_hand.classes_).index(label) for label in ["ang", "disg", "fea", "hap", "sad", "neu"]]
    expected = by_hand.predict_proba(np.array([np.float32(glimpse(clip)) for clip in fold.held_out]))[:, order]
    np.testing.assert_allclose(model.predict(fold.held_out, context).values, expected, atol=1e-4)


def test_seeds_that_are_not_set_come_from_the_fold(tmp_path: Path) -> None:
    model, context = fit(RandomForestClassifier(2), tmp_path)
    assert model.classifier.random_state == context.seed
    assert fit(RandomForestClassifier(2, random_state=3), tmp_path)[0].classifier.random_state == 3
    piped = fit(make_pipeline(StandardScaler(), RandomForestClassifier(2)), tmp_path)[0].classifier
    assert piped[-1].random_state == context.seed


def test_the_last_step_of_a_pipeline_gets_the_weights(tmp_path: Path) -> None:
    assert weight_keyword(make_svc()) == "svc__sample_weight"
    assert weight_keyword(make_pipeline(StandardScaler(), make_svc())) == "pipeline__svc__sample_weight"
    assert weight_keyword(make_pipeline(StandardScaler(), KNeighborsClassifier())) is None
    steps = make_pipeline(StandardScaler(), Weighted())
    model, _ = fit(steps, tmp_path)
    np.testing.assert_allclose(model.classifier[-1].weights, [1, 1, 1, 0.5, 0.5, 0.7, 0.3], rtol=1e-6)


def test_the_version_and_the_parameters_of_a_classifier_are_part_of_the_identity() -> None:
    facts = SklearnEncoder("toy", number, make_svc()).identify(NoOptions())
    text = str(facts["estimator"])
    assert f"SVC {sklearn.__version__}" in text
    assert "'gamma': 'scale'" in text


FIVE = """
from sklearn.linear_model import LogisticRegression
from blemore_harness.estimators import SklearnEncoder
from blemore_harness.hookspecs import hookimpl
blemore_encoders = hookimpl(lambda: [SklearnEncoder("mine", glimpse, LogisticRegression())])
"""


def test_entered_as_a_plugin_in_five_lines(tmp_path: Path) -> None:
    assert len(FIVE.split("\n")) - 2 <= 5
    space: dict[str, Any] = {"glimpse": glimpse}
    exec(textwrap.dedent(FIVE), space)
    [encoder] = space["blemore_encoders"]()
    verdicts = check_subject(Subject(encoder), Bare(tmp_path), ("declares", "learns"))
    assert [verdict.status for verdict in verdicts] == ["passed", "passed"]
