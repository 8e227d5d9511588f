"""Everything a plugin author must read: the hooks, and the kinds of object that they offer.

Hooks register, objects work. A plugin is a module (or object) named by an entry point in the group `blemore_harness`,
whose functions are marked with `hookimpl`:

    from blemore_harness.hookspecs import Encoder, hookimpl

    @hookimpl
    def blemore_encoders():
        return [MyEncoder()]

A plugin may also add commands to `blemore-harness`: click commands named by entry points of the group
`blemore_harness.commands`, which are imported only when they are called.

No hook can change a score. Whatever a plugin raises, a `BlemoreError` as well, makes its system a failed one, with the
message, the line of its code and a file with the traceback; the other systems go on. Only a `ConfigError` (such as
`InvalidOption`) of `Options`, `resolve_options`, `feature_sets`, `identify` or `caveat` ends the command.

Held-out labels never reach a plugin. The released file names spell out the label, so ids and paths that a plugin sees
are stand-ins, and clips come in an order that says nothing; the harness translates back.
Import heavy packages (torch, transformers) inside functions: listing plugins must not load them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import pluggy
from numpy.typing import NDArray

from blemore_harness.clips import Clip, Clips, Corpus, Fold
from blemore_harness.context import Context
from blemore_harness.errors import PluginFailed
from blemore_harness.executors import Executor
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.record.folds import Curve, find_curves
from blemore_harness.record.types import Record, SystemFacts

if TYPE_CHECKING:
    from blemore_harness.heads.frames import FrameSource

PROJECT = "blemore_harness"
"""Name of the pluggy project, and of the entry-point group that plugins register in."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Modality = Literal["video", "audio", "audiovisual"]


@dataclass(frozen=True)
class NoOptions:
    """Options of a system that has none."""


@dataclass(frozen=True)
class Requirement:
    """A package or a key that an encoder needs on this machine, besides numpy.

    Attributes:
        name: of the package, as it is installed, or of the environment variable that holds the key.
        kind: which of the two.
        module: the name under which a package is imported; empty where it is `name` with underscores.
        least: the first version of a package that works, such as `5.18`; empty where any does.
        below: the first version that may not work any more; empty where none is known.
        advice: what to do where a package cannot be imported; empty where installing it again is all.
    """

    name: str
    kind: Literal["package", "key"] = "package"
    module: str = ""
    least: str = ""
    below: str = ""
    advice: str = ""


@dataclass(frozen=True)
class Card:
    """What people want to know of a system before they use it or compare with it; None is shown as "not declared".

    Attributes:
        code_licence: licence of its code, such as `Apache-2.0`.
        weights_licence: licence of the pretrained weights; `none` where it has none, `unknown` where nobody says.
        pretraining: data that the weights were trained on; `none` without weights, `unknown` where nobody says.
        acted: whether that data holds corpora of acted emotions, as BLEMORE is one.
        acted_corpora: which, where it does.
        parameters: number of pretrained parameters; 0 without weights.
        paid: whether using it costs money.
        source: paper, or address of the model's page.
    """

    code_licence: str | None = None
    weights_licence: str | None = None
    pretraining: str | None = None
    acted: Literal["yes", "no", "unknown"] | None = None
    acted_corpora: tuple[str, ...] = ()
    parameters: int | None = None
    paid: bool | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        texts = (self.code_licence, self.weights_licence, self.pretraining, self.source, *self.acted_corpora)
        if not all(text is None or (isinstance(text, str) and text.strip()) for text in texts):
            raise TypeError(f"a card's texts: expected words, or None where nothing is declared, found {texts}")
        if self.acted not in ("yes", "no", "unknown", None) or not isinstance(self.paid, bool | None):
            raise TypeError(f"acted: expected yes, no or unknown, and paid: True or False, found {self}")
        if self.parameters is not None and (type(self.parameters) is not int or self.parameters < 0):
            raise TypeError(f"parameters: expected a whole number of at least 0, found {self.parameters!r}")


class Model(Protocol):
    """What an encoder's `fit` gives back.

    One that is to answer for new clips (`blemore-harness predict`) also defines `save(folder)`, which writes it into an
    empty folder as `.safetensors` and `.json` files; the encoder's `load` makes it again.
    """

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        """Return a row of probabilities for every clip, in any order; a subset of clips must give the same rows."""


class FusionModel(Protocol):
    """What a fusion's `fit` gives back; it may define `save`, as a `Model`."""

    def predict(self, clips: Clips, base_models: Mapping[str, Any], context: Context) -> Probabilities:
        """Return a row of probabilities for every clip from what the base models give for the same clips.

        For new clips a base model may be missing, since they have no audio or no face: answer from the others where
        that has a meaning, else raise `DataError`.
        """


class Encoder:
    """A system that is trained on labelled clips and predicts six probabilities per clip.

    Subclass it, set the attributes and write `embed` (the harness then trains its MLP head on the embeddings) or `fit`.

    Attributes:
        name: what users type after `--plugin`: lower case letters, digits and dashes.
        summary: one line for `blemore-harness plugins`.
        modality: what it takes as input.
        Options: frozen dataclass, every field with a default and every check in `__post_init__` (`InvalidOption`).
            Fields that cannot change a number (workers, time limits) are declared with `options.incidental`.
            An Options class that extends `heads.HeadOptions` lets users set the head of an `embed`-only encoder.
        demo_options: values of Options that let it run on the demo dataset without weights, hub or key: the same code
            at a small size. What the user sets wins over them.
        store: name of the released feature folder whose files `frame_features` gives, such as `WavLM_large`, or empty.
        prepares_each_clip: whether `prepare` treats every clip by itself, so that workers may share the clips.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    modality: ClassVar[Modality]
    Options: ClassVar[type[Any]] = NoOptions
    demo_options: ClassVar[Mapping[str, object]] = {}
    store: ClassVar[str] = ""
    prepares_each_clip: ClassVar[bool] = False

    def resolve_options(self, options: Any, feature_sets: frozenset[str]) -> Any:
        """Decide what depends on the dataset, such as an `auto` that means released features where there are some.

        Called first, and with nothing but names; every other method, the identity and the record get what it gives.

        Args:
            options: as the user set them.
            feature_sets: names of the released features that the dataset has, as `feature_sets` gives them.
        """
        return options

    def caveat(self, options: Any) -> str | None:
        """Return in a few words why these results are no real system's (`untrained small encoder`), or None.

        Every table and record of the run carries the words.
        """
        return None

    def is_trained(self, options: Any) -> bool:
        """Return whether it needs training clips; without, `prepare` is not given those of other corpora."""
        return True

    def card(self, options: Any) -> Card:
        """Return licences, pretraining data and other facts of what runs with these options, for users and records.

        Called before anything is prepared, and by `blemore-harness plugins NAME` with the default options.
        """
        return Card()

    def identify(self, options: Any) -> Mapping[str, object]:
        """Return facts (JSON types) that change numbers and that the options alone do not tell.

        They go into the identity; one named as an option stands in its place, as the digest of a local weights file
        does for its path. Called before anything is prepared or downloaded.
        """
        return {}

    def feature_sets(self, options: Any) -> tuple[str, ...]:
        """Name the released features that it reads, whose contents enter the identity.

        Folders, such as `WavLM_large`, and aggregated files, such as `wavlm_static_features`: of these a clip's file is
        there only where they are named here.
        """
        return ()

    def requirements(self, options: Any) -> tuple[Requirement, ...]:
        """Return the packages and keys that it needs with these options.

        Called by `blemore-harness doctor` only, which says what is missing, broken or of another version. What the
        harness itself uses (torch for heads, av and pillow for clips) need not be named.
        """
        return ()

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        """Download and extract ahead of training; called with all clips, unlabelled (see `prepares_each_clip`).

        The only place that may use the network. `blemore-harness doctor` calls it with no clips, no network and a cache
        that is thrown away: whatever is missing (weights, packages, a key) should be said then too. Keep per-clip
        arrays in `context.cache`, so that an interrupted extraction resumes by clip.
        """

    def frame_features(self, clip: Clip, options: Any, context: Context) -> NDArray[np.float32]:
        """Return a clip's frame-level features, float32 (T, D), in the released layout; called after `prepare`.

        `blemore-harness prepare --export DIR` writes them down for other programs.
        """
        raise PluginFailed(f"'{self.name}' has no frame-level features", self.name)

    def frame_source(self, options: Any, context: Context) -> FrameSource | None:
        """Return what the head pools besides the embeddings, or None: `frame_features` for a head with `queries`."""
        from blemore_harness.heads.frames import FrameSource

        source = FrameSource(lambda clip: self.frame_features(clip, options, context))
        return source if getattr(options, "queries", 0) else None

    def embed(self, clips: Clips, options: Any, context: Context) -> Embeddings:
        """Return a label-free embedding per clip; called after `prepare`, with unlabelled clips."""
        raise PluginFailed(f"'{self.name}' defines neither `embed` nor `fit`", self.name)

    def fit(self, fold: Fold, options: Any, context: Context) -> Model:
        """Train on `fold.train`; the default trains the harness's MLP head on what `embed` gives."""
        from blemore_harness.heads.fitting import fit_encoder

        return fit_encoder(self, fold, options, context)

    def load(self, folder: Path, options: Any, context: Context) -> Model:
        """Return the model that `save` wrote, the same to the last bit; the default reads the MLP head on `embed`."""
        if type(self).fit is not Encoder.fit:
            raise PluginFailed(f"'{self.name}' does not define `load`", self.name)
        from blemore_harness.heads.fitting import load_encoder

        return load_encoder(self, folder, options, context)

    def fit_folds(self, folds: Sequence[Fold], options: Any, contexts: Sequence[Context]) -> Iterable[Model]:
        """Train on several folds, with a context for each; returns their models in the same order.

        Called with all folds that are left to do (with `--isolate` with one, so that no worker holds the labels that
        another fold holds out). The default is a generator that calls `fit` fold by fold: each model is taken, its
        predictions are written to disk, and only then is the next fold trained. Define it where folds are faster
        together, and return a list: as the default does for the harness's own head on a GPU. The models must be those
        of `fit` but for rounding: same initial weights, batches and dropout. The labels that one fold holds out are
        within reach in another: train each on its own training clips only, which the check `together` tests.
        """
        if type(self).fit is Encoder.fit:
            from blemore_harness.heads.fitting import fit_encoder_folds

            return fit_encoder_folds(self, folds, options, contexts)
        return (self.fit(fold, options, context) for fold, context in zip(folds, contexts, strict=True))


class Fusion:
    """A system whose inputs are encoders' outputs.

    Attributes: as of `Encoder`, without modality, and
        takes: `probabilities` of its base models, or their `embeddings`, which every base model must have.
        folds_share_work: whether its own `fit_folds` saves more than workers that fit the folds at the same time.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Options: ClassVar[type[Any]] = NoOptions
    demo_options: ClassVar[Mapping[str, object]] = {}
    takes: ClassVar[Literal["probabilities", "embeddings"]] = "probabilities"
    folds_share_work: ClassVar[bool] = True

    def caveat(self, options: Any) -> str | None:
        """As `Encoder.caveat`."""
        return None

    def card(self, options: Any) -> Card:
        """As `Encoder.card`, of what the fusion adds to its base models, which have cards of their own."""
        return Card()

    def identify(self, options: Any) -> Mapping[str, object]:
        """As `Encoder.identify`."""
        return {}

    def fit(self, fold: Fold, base_models: Mapping[str, Any], options: Any, context: Context) -> FusionModel:
        """Train on what the base models give for `fold.train`, by base model name.

        Where it takes probabilities: `Probabilities` for `fold.train`, in its order, out of fold: each row comes from a
        model that never saw its clip, so that nothing is chosen on the clips that it is scored on.

        Where it takes embeddings: `Embeddings` for `fold.train` and, behind them, `fold.held_out`; label-free. A fusion
        that is trained on those of the held-out clips is transductive, and its `caveat` must say so.
        """
        raise PluginFailed(f"'{self.name}' does not define `fit`", self.name)

    def load(self, folder: Path, options: Any, context: Context) -> FusionModel:
        """Return the model that `save` wrote, as `Encoder.load`."""
        raise PluginFailed(f"'{self.name}' does not define `load`", self.name)

    def fit_folds(
        self, folds: Sequence[Fold], base_models: Sequence[Mapping[str, Any]], options: Any, contexts: Sequence[Context]
    ) -> Iterable[FusionModel]:
        """Train on several folds, with base models and a context for each; as `Encoder.fit_folds`.

        Define it for a fusion that searches on nearly the same probabilities fold by fold and can share that work. The
        models must be those of `fit`, to the last bit.
        """
        each = zip(folds, base_models, contexts, strict=True)
        return (self.fit(fold, given, options, context) for fold, given, context in each)


class Tracker:
    """Passes runs on to an experiment tracker; `blemore-harness run --track NAME` switches it on.

    Attributes:
        name: what users type after `--track`: lower case letters, digits and dashes.
        summary: one line for `blemore-harness plugins`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    def connect(self) -> object:
        """Return an object with some of the last three hooks below, marked with `hookimpl`.

        Called before anything slow. The object hears of every run of the command; what its hooks raise is a warning.

        Raises:
            BlemoreError: it cannot be used on this machine, as a package is missing (`ExtraMissing`); the command ends.
        """
        raise PluginFailed(f"'{self.name}' does not define `connect`", self.name)


@hookspec
def blemore_encoders() -> Iterable[Encoder]:  # type: ignore[empty-body]
    """Return the encoders that this plugin offers. Called when a name is first looked up, or plugins are listed."""


@hookspec
def blemore_fusions() -> Iterable[Fusion]:  # type: ignore[empty-body]
    """Return the fusions that this plugin offers. Called when a name is first looked up, or when plugins are listed."""


@hookspec
def blemore_experiment_trackers() -> Iterable[Tracker]:  # type: ignore[empty-body]
    """Return the trackers that this plugin offers. Called as `blemore_encoders`."""


@hookspec
def blemore_corpora() -> Iterable[Corpus]:  # type: ignore[empty-body]
    """Return the corpora that this plugin can read besides BLEMORE. Called as `blemore_encoders`."""


@hookspec
def blemore_executors() -> Iterable[type[Executor]]:  # type: ignore[empty-body]
    """Return the executors that this plugin offers, as classes. Called as `blemore_encoders`."""


@dataclass(frozen=True)
class RunStarted:
    """A run starts or resumes.

    Attributes:
        folder: the run's folder.
        record: what is known so far: the submission, the dataset, the machine; no systems yet.
        systems: that are about to be evaluated: encoders, then the fusion.
    """

    folder: Path
    record: Record
    systems: tuple[SystemFacts, ...] = ()


@dataclass(frozen=True)
class FoldFinished:
    """A fold of a system, or its final fit, is safely on disk: just trained, or found there.

    Attributes:
        folder: the run's folder.
        record: of the run so far.
        system: name of the system.
        fold: number of the fold; None for the final fit on all training clips.
        seconds: time of training and prediction.
        times_asked: how often the system asked for scores of the held-out clips.
        notes: what the plugin noted, by name.
        warnings: what was warned of.
        probabilities: of the held-out clips (final fit: of test clips, and a fusion's training clips); opaque ids.
    """

    folder: Path
    record: Record
    system: str
    fold: int | None
    seconds: float
    times_asked: int
    notes: Mapping[str, Any]
    warnings: tuple[str, ...]
    probabilities: Probabilities

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The training curves among the notes (`Context.note_curve`), in their order."""
        return find_curves(self.fold, self.notes)


@dataclass(frozen=True)
class RunFinished:
    """A run has ended.

    Attributes:
        folder: the run's folder, with `record.json`, `table.txt` and the leaderboard file, if there is one.
        record: with all results and the final status: finished, failed or interrupted.
    """

    folder: Path
    record: Record


@hookspec
def blemore_run_started(event: RunStarted) -> None:
    """Take note of a run that starts or resumes. Called by the pipeline once the configuration hash is known.

    This hook and the next two each get a copy of their own, and one that raises becomes a warning.
    """


@hookspec
def blemore_fold_finished(event: FoldFinished) -> None:
    """Take note of a fold's result. Called by the pipeline after the fold is safely on disk."""


@hookspec
def blemore_run_finished(event: RunFinished) -> None:
    """Take note of the final record. Called by the pipeline exactly once per run, whatever the status."""
