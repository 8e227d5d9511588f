"""Networks that are trained whole on the blends' soft labels: VideoMAE, TimeSformer and wav2vec2.

The recipes are the UZH paper's (arXiv 2603.23650) as far as it says. Licences of the default weights: CC-BY-NC-4.0 for
the two video transformers, Apache-2.0 for wav2vec2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.hookspecs import Card, Encoder, Modality, Model, Requirement, hookimpl
from blemore_plugins.cards import card_of
from blemore_plugins.finetuning.options import (
    RANDOM,
    FinetuningOptions,
    SoundOptions,
    TimeSformerOptions,
    VideoMAEOptions,
    VideoOptions,
)
from blemore_plugins.hub import identify_source, require_packages
from blemore_plugins.requirements import HUB_TOKEN, need

PACKAGES = ("torch", "transformers", "av", "PIL")

SMALL_TRAINING: Mapping[str, object] = {
    "model": "random-small",
    "batch_size": 16,
    "learning_rate": 2e-3,
    "head_rate": 1e-3,
    "schedule": "cosine",
    "warmup": 1,
    "selection": "last",
}
"""Fresh weights need a higher rate, and a laptop no second training."""

SMALL_PICTURES: Mapping[str, object] = {**SMALL_TRAINING, "frames": 2, "size": 48, "crop": 1.0}
"""Enough to see the whole path at work: fresh weights learn little of whole frames from 300 clips."""


class FinetunedEncoder(Encoder):
    """What the encoders of this package have in common."""

    prepares_each_clip: ClassVar[bool] = True

    def caveat(self, options: FinetuningOptions) -> str | None:
        """Report that a network which was never trained before is no real system."""
        return {"random": "untrained encoders", "random-small": "untrained small encoders"}.get(options.model)

    def card(self, options: FinetuningOptions) -> Card:
        """Return the card of the weights."""
        return card_of(options.model)

    def identify(self, options: FinetuningOptions) -> Mapping[str, object]:
        """Tell local weights by their content."""
        return {} if options.model in RANDOM else {"model": identify_source(options.model)}

    def requirements(self, options: FinetuningOptions) -> tuple[Requirement, ...]:
        """Return the packages, and the token of the hub."""
        return (*need("transformers"), HUB_TOKEN)

    def _fetch(self, options: FinetuningOptions, context: Context) -> None:
        """Fetch the weights and say in the record which they are."""
        require_packages(self.name, PACKAGES)
        from blemore_plugins.finetuning.loading import describe_model, find_model, refuse_faulty_transformers

        refuse_faulty_transformers()
        weights = find_model(self.name, options, download=True)
        context.note("model", describe_model(weights, options, context.cache))


class VideoEncoder(FinetunedEncoder):
    """A network on whole frames."""

    def prepare(self, clips: Clips, options: VideoOptions, context: Context) -> None:
        """Fetch the weights and decode all clips.

        Raises:
            ExtraMissing: a package is not installed, or transformers is too old.
            WeightsMissing: the weights are neither here nor reachable.
            MediaError: a clip cannot be decoded.
        """
        self._fetch(options, context)
        _decode(clips, options, context)


class VideoMAEEncoder(VideoEncoder):
    """VideoMAE on whole frames."""

    name: ClassVar[str] = "videomae"
    summary: ClassVar[str] = "VideoMAE on whole frames (16 a clip), trained whole with soft-label KL"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = VideoMAEOptions
    demo_options: ClassVar[Mapping[str, object]] = {**SMALL_PICTURES, "epochs": 8}

    def fit(self, fold: Fold, options: VideoOptions, context: Context) -> Model:
        """Train the network on the training clips; see `model.fit`."""
        require_packages(self.name, PACKAGES)
        from blemore_plugins.finetuning.model import fit
        from blemore_plugins.finetuning.video import IMAGENET, build_videomae, open_video

        return fit(fold, build_videomae, open_video(options, IMAGENET, context), options, context)

    def load(self, folder: Path, options: VideoOptions, context: Context) -> Model:
        """Read a trained network; see `model.load`."""
        require_packages(self.name, PACKAGES)
        from blemore_plugins.finetuning.model import load
        from blemore_plugins.finetuning.video import IMAGENET, build_videomae, open_video

        return load(folder, build_videomae, open_video(options, IMAGENET, context), options, context)


class TimeSformerEncoder(VideoEncoder):
    """TimeSformer on whole frames."""

    name: ClassVar[str] = "timesformer"
    summary: ClassVar[str] = "TimeSformer on whole frames (8 a clip), trained whole with soft-label KL"
    modality: ClassVar[Modality] = "video"
    Options: ClassVar[type[Any]] = TimeSformerOptions
    demo_options: ClassVar[Mapping[str, object]] = {**SMALL_PICTURES, "epochs": 6}

    def fit(self, fold: Fold, options: VideoOptions, context: Context) -> Model:
        """Train the network on the training clips; see `model.fit`."""
        require_packages(self.name, PACKAGES)
        from blemore_plugins.finetuning.model import fit
        from blemore_plugins.finetuning.video import TIMESFORMER, build_timesformer, open_video

        return fit(fold, build_timesformer, open_video(options, TIMESFORMER, context), options, context)

    def load(self, folder: Path, options: VideoOptions, context: Context) -> Model:
        """Read a trained network; see `model.load`."""
        require_packages(self.name, PACKAGES)
        from blemore_plugins.finetuning.model import load
        from blemore_plugins.finetuning.video import TIMESFORMER, build_timesformer, open_video

        return load(folder, build_timesformer, open_video(options, TIMESFORMER, context), options, context)


class SoundEncoder(FinetunedEncoder):
    """wav2vec2 end to end."""

    name: ClassVar[str] = "wav2vec2-finetuned"
    summary: ClassVar[str] = "wav2vec2-base trained end to end, attentive pooling, soft-label KL"
    modality: ClassVar[Modality] = "audio"
    Options: ClassVar[type[Any]] = SoundOptions
    demo_options: ClassVar[Mapping[str, object]] = {
        **SMALL_TRAINING,
        "epochs": 6,
        "seconds": 0.6,
        "front_end": True,
    }

    def prepare(self, clips: Clips, options: SoundOptions, context: Context) -> None:
        """Fetch the weights and decode the audio of all clips.

        Raises:
            ExtraMissing: a package is not installed, or transformers is too old.
            WeightsMissing: the weights are neither here nor reachable.
            MediaError: a clip without usable audio.
        """
        self._fetch(options, context)
        from blemore_plugins.finetuning.sound import prepare_waves

        prepare_waves(clips, context)

    def fit(self, fold: Fold, options: SoundOptions, context: Context) -> Model:
        """Train the network on the training clips; see `model.fit`."""
        require_packages(self.name, PACKAGES)
        from blemore_plugins.finetuning.model import fit
        from blemore_plugins.finetuning.sound import SoundSource, build_sound, open_waves

        return fit(fold, build_sound, SoundSource(open_waves(context), options), options, context)

    def load(self, folder: Path, options: SoundOptions, context: Context) -> Model:
        """Read a trained network; see `model.load`."""
        require_packages(self.name, PACKAGES)
        from blemore_plugins.finetuning.model import load
        from blemore_plugins.finetuning.sound import SoundSource, build_sound, open_waves

        return load(folder, build_sound, SoundSource(open_waves(context), options), options, context)


@hookimpl
def blemore_encoders() -> list[Encoder]:
    """Offer `videomae`, `timesformer` and `wav2vec2-finetuned`."""
    return [VideoMAEEncoder(), TimeSformerEncoder(), SoundEncoder()]


def _decode(clips: Clips, options: VideoOptions, context: Context) -> None:
    from blemore_harness.media.frame_cache import open_frames

    open_frames(context.cache, options.short_side).prepare(clips, context)
