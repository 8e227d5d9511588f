"""An encoder made of any classifier with `predict_proba`, and of a function that turns a clip into its features."""

from __future__ import annotations

import contextlib
import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemore_harness.clips import EMOTIONS, Clip, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import ConfigError, DataError, PluginFailed
from blemore_harness.estimators.code import describe
from blemore_harness.estimators.inputs import ClipArrays
from blemore_harness.hookspecs import Card, Encoder, Modality, Requirement
from blemore_harness.predictions import Embeddings, Probabilities, embeddings_of

SUM_TOLERANCE = 1e-3
"""How far the sum of a row of `predict_proba` may be from 1."""


class SklearnEncoder(Encoder):
    """An encoder that trains a classifier of scikit-learn, or of a library like it, on features of clips.

    The classifier predicts emotions. A clip of one emotion is one training sample. A clip of a blend is two samples of
    the same features, one for each emotion, weighted by the saliences, where the classifier's `fit` takes
    `sample_weight`. Otherwise it is one sample, whose emotion is drawn with the saliences as probabilities. An emotion
    without training samples gets probability 0.

    Every fold trains a copy of the classifier (`sklearn.base.clone`, else `copy.deepcopy`). A parameter `random_state`
    that is None, nested ones too, is set from the seed of the fold. The last step of a pipeline gets the weights.
    Trained classifiers are not kept with a run, because they could only be written as pickles.

    Args:
        name: what users type after `--plugin`.
        features: turns a clip into a one-dimensional array, the same each time; or an encoder that defines `embed`,
            whose embeddings are the features and whose options are those of this encoder.
        estimator: an untrained classifier with `fit` and `predict_proba`; it is not changed.
        modality: what `features` takes as input; by default that of an encoder, else `audiovisual`.
        summary: one line for `blemore-harness plugins`.
        version: raise it when the features change for a reason that the code of `features` does not show.
        feature_sets: names of the released features that `features` reads. Then nothing is kept in the cache.

    Raises:
        ConfigError: a classifier without `predict_proba`, or features that are neither a function nor an encoder.
    """

    def __init__(
        self,
        name: str,
        features: Callable[[Clip], ArrayLike] | Encoder,
        estimator: Any,
        *,
        modality: Modality | None = None,
        summary: str = "",
        version: int = 1,
        feature_sets: tuple[str, ...] = (),
    ) -> None:
        kind = type(estimator).__name__
        if isinstance(estimator, type) or not all(hasattr(estimator, each) for each in ("fit", "predict_proba")):
            raise ConfigError(
                f"{name}: expected a classifier with `fit` and `predict_proba`, found "
                f"{estimator.__name__ if isinstance(estimator, type) else kind}: give an object, not its class; "
                "sklearn.calibration.CalibratedClassifierCV adds probabilities to classifiers without"
            )
        self._encoder = features if isinstance(features, Encoder) else None
        if self._encoder is None and (isinstance(features, type) or not callable(features)):
            raise ConfigError(f"{name}: expected features as a function of a clip or an encoder, found {features!r}")
        if self._encoder is not None and type(self._encoder).embed is Encoder.embed:
            raise ConfigError(f"{name}: '{self._encoder.name}' defines no `embed`: its embeddings cannot be features")
        self._estimator, self._sets = estimator, feature_sets
        self._arrays = ClipArrays(name, features, version, kept=not feature_sets) if callable(features) else None
        self._describe(name, modality, summary or f"{_last_step(estimator)} on features of a clip")

    def _describe(self, name: str, modality: Modality | None, summary: str) -> None:
        # What other encoders state in their class belongs to the instance here.
        vars(self).update(name=name, modality=modality or "audiovisual", summary=summary)
        if self._encoder is not None:
            inner = self._encoder
            modality = modality or inner.modality
            vars(self).update(modality=modality, Options=inner.Options, demo_options=inner.demo_options)

    def resolve_options(self, options: Any, feature_sets: frozenset[str]) -> Any:
        """Let the encoder of the features decide, if there is one."""
        return options if self._encoder is None else self._encoder.resolve_options(options, feature_sets)

    def caveat(self, options: Any) -> str | None:
        """Return the caveat of the encoder of the features, if there is one."""
        return None if self._encoder is None else self._encoder.caveat(options)

    def card(self, options: Any) -> Card:
        """Return the card of the encoder of the features, if there is one."""
        return Card() if self._encoder is None else self._encoder.card(options)

    def identify(self, options: Any) -> Mapping[str, object]:
        """Describe the classifier with its parameters and version, and the code of the features."""
        inner = {} if self._encoder is None else dict(self._encoder.identify(options))
        features = describe(type(self._encoder)) if self._arrays is None else self._arrays.identify()
        return {**inner, "estimator": describe(self._estimator), "features": features}

    def feature_sets(self, options: Any) -> tuple[str, ...]:
        """Name the released features that are read."""
        inner = () if self._encoder is None else self._encoder.feature_sets(options)
        return (*self._sets, *inner)

    def requirements(self, options: Any) -> tuple[Requirement, ...]:
        """Return the requirements of the encoder of the features, if there is one."""
        return () if self._encoder is None else self._encoder.requirements(options)

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        """Compute the features of all clips."""
        if self._arrays is not None:
            self._arrays.prepare(clips, context)
        elif self._encoder is not None:
            self._encoder.prepare(clips, options, context)

    def embed(self, clips: Clips, options: Any, context: Context) -> Embeddings:
        """Return the features, float32 (N, D).

        Raises:
            PluginFailed: features that are not one-dimensional, or of several lengths.
        """
        if self._encoder is not None:
            return embeddings_of(self._encoder.embed(clips, options, context), clips.ids)
        assert self._arrays is not None
        read = self._arrays.read(context)
        values = [read(clip) for clip in clips]
        shapes: dict[tuple[int, ...], str] = {}
        for array, clip in zip(values, clips, strict=True):
            shapes.setdefault(array.shape, clip.id)
        wrong = [shape for shape in shapes if len(shape) != 1] or list(shapes)[1:]
        if wrong:
            raise PluginFailed(
                f"{self.name}: expected a one-dimensional array of features, of one length for all clips, found shape "
                f"{wrong[0]} for clip {shapes[wrong[0]]} and {next(iter(shapes))} for clip {clips.ids[0]}",
                self.name,
            )
        return Embeddings(clips.ids, np.stack(values) if values else np.zeros((0, 0), np.float32))

    def fit(self, fold: Fold, options: Any, context: Context) -> ClassifierModel:
        """Train a copy of the classifier on the training clips.

        Raises:
            DataError: no training clips.
        """
        if not len(fold.train):
            raise DataError(f"{self.name}: training a classifier needs at least one training clip")
        values = self.embed(fold.train, options, context).values
        classifier = set_seeds(copy_estimator(self._estimator), context.seed)
        keyword = weight_keyword(classifier)
        if keyword is None:
            clips, emotions = draw_emotions(fold.train.targets, context.seed)
            weights = {}
        else:
            clips, emotions = np.nonzero(fold.train.targets)
            weights = {keyword: fold.train.targets[clips, emotions].astype(np.float64)}
        context.note("blends", "one sample, emotion drawn" if keyword is None else "two samples, weighted")
        # As 0 to K - 1: some libraries take no other labels.
        present, classes = np.unique(emotions, return_inverse=True)
        with _warnings_to(context, self.name):
            classifier.fit(values[clips], classes, **weights)
        return ClassifierModel(self, options, classifier, present)


@dataclass(frozen=True)
class ClassifierModel:
    """A trained classifier.

    Attributes:
        encoder: gives the features.
        options: of the encoder.
        classifier: trained on the labels 0 to K - 1.
        present: the emotion of each label, as its position in `EMOTIONS`.
    """

    encoder: SklearnEncoder
    options: Any
    classifier: Any
    present: NDArray[np.int64]

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        """Return the classifier's probabilities, clip by clip, so that none depends on the others of the call.

        Raises:
            PluginFailed: what `predict_proba` returns is not a row of probabilities of the trained classes.
        """
        values = self.encoder.embed(clips, self.options, context).values
        columns = self.present[getattr(self.classifier, "classes_", np.arange(len(self.present)))]
        rows = np.zeros((len(clips), len(EMOTIONS)))
        with _warnings_to(context, self.encoder.name):
            for row, features in zip(rows, values, strict=True):
                given = np.asarray(self.classifier.predict_proba(features[None]), dtype=np.float64)
                if given.shape != (1, len(columns)) or not (given >= 0).all() or abs(given.sum() - 1) > SUM_TOLERANCE:
                    raise PluginFailed(
                        f"{self.encoder.name}: expected {len(columns)} probabilities of `predict_proba` that sum to 1, "
                        f"found {given.tolist()}",
                        self.encoder.name,
                    )
                row[columns] = given[0] / given.sum()
        return Probabilities(clips.ids, rows)


def copy_estimator(estimator: Any) -> Any:
    """Return an untrained copy of an estimator with the same parameters."""
    try:
        from sklearn.base import clone
    except ImportError:
        return copy.deepcopy(estimator)
    return clone(estimator, safe=False)


def set_seeds(estimator: Any, seed: int) -> Any:
    """Set each `random_state` that is None, of nested estimators too, and return the estimator."""
    if not hasattr(estimator, "get_params"):
        return estimator
    unset = [name for name, value in estimator.get_params(deep=True).items() if value is None]
    seeds = {name: seed for name in unset if name.rpartition("__")[2] == "random_state"}
    return estimator.set_params(**seeds) if seeds else estimator


def weight_keyword(estimator: Any) -> str | None:
    """Return the argument of `fit` that takes sample weights, for a pipeline that of its last step, or None."""
    if steps := getattr(estimator, "steps", None):
        name, last = steps[-1]
        inner = weight_keyword(last)
        return inner and f"{name}__{inner}"
    return "sample_weight" if "sample_weight" in inspect.signature(estimator.fit).parameters else None


def draw_emotions(targets: NDArray[np.float32], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw an emotion for each clip with its saliences as probabilities.

    Args:
        targets: (N, 6), rows summing to 1.
        seed: of the draws.

    Returns:
        Positions of the clips, 0 to N - 1, and of their emotions.
    """
    draws = np.random.default_rng(seed).random(len(targets))
    bounds = targets.astype(np.float64).cumsum(axis=1)
    return np.arange(len(targets)), (draws[:, None] * bounds[:, -1:] >= bounds).sum(axis=1)


def _last_step(estimator: Any) -> str:
    steps = getattr(estimator, "steps", None)
    return _last_step(steps[-1][1]) if steps else type(estimator).__name__


@contextlib.contextmanager
def _warnings_to(context: Context, name: str) -> Iterator[None]:
    """Report the first line of each distinct warning of a library inside the block, in the run's log and record."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(each.message).strip().partition("\n")[0].rstrip(" :") for each in caught):
        context.warn(f"{name}: the classifier warns: {text}")
