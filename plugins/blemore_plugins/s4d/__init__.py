"""The face encoder: S4D-ViTMoE on face crops, adapted to blends with soft labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.hookspecs import Card, Encoder, Modality, Model, Requirement, hookimpl
from blemore_plugins.cards import card_of
from blemore_plugins.hub import identify_source, require_packages
from blemore_plugins.requirements import HUB_TOKEN, need
from blemore_plugins.s4d.options import RANDOM, WEIGHT_FILES, S4DOptions

PACKAGES = ("torch", "torchvision", "facenet_pytorch", "av", "PIL")


class S4DEncoder(Encoder):
    """Face crops through a video transformer with a mixture of adapter experts, trained on the blends' soft labels."""

    name: ClassVar[str] = "s4d"
    summary: ClassVar[str] = "S4D-ViTMoE on MTCNN face crops, experts and head adapted with soft-label KL"
    modality: ClassVar[Modality] = "video"
    prepares_each_clip: ClassVar[bool] = True
    Options: ClassVar[type[Any]] = S4DOptions
    # Fresh weights need everything trained, at a higher rate; small drawn images need less of a detector.
    # Batches of 32 save a quarter of the training, but lower the Score from .33 to .29 (rate 1.5e-3) or .25 (2e-3).
    demo_options: ClassVar[Mapping[str, object]] = {
        "weights": "random-small",
        "train": "all",
        "size": 32,
        "step": 4,
        "detect_every": 64,
        "detect_size": 96,
        "smallest_face": 0.45,
        "frames": 2,
        "stride": 8,
        "segments": 4,
        "epochs": 18,
        "warmup": 2,
        "learning_rate": 1e-3,
        "crop": 1.0,
        "route_noise": "off",
        "drop_tokens": "off",
    }

    def caveat(self, options: S4DOptions) -> str | None:
        """Report that a network which never saw a face before is no real system."""
        return {"random": "untrained encoders", "random-small": "untrained small encoders"}.get(options.weights)

    def card(self, options: S4DOptions) -> Card:
        """Return the card of the weights."""
        return card_of(options.weights)

    def identify(self, options: S4DOptions) -> Mapping[str, object]:
        """Tell local weights by their content."""
        return {} if options.weights in RANDOM else {"weights": identify_source(options.weights)}

    def requirements(self, options: S4DOptions) -> tuple[Requirement, ...]:
        """Return the packages, and the token of the hub."""
        return (*need("torchvision", "facenet-pytorch", "safetensors"), HUB_TOKEN)

    def prepare(self, clips: Clips, options: S4DOptions, context: Context) -> None:
        """Fetch the weights and cut the faces out of all clips.

        Raises:
            ExtraMissing: a package of the extra is not installed.
            WeightsMissing: the weights are neither here nor reachable.
            MediaError: a clip cannot be decoded.
        """
        require_packages("s4d", PACKAGES)
        from blemore_plugins.hub import find_weights
        from blemore_plugins.s4d.faces import extract_faces

        if options.weights not in RANDOM:
            found = find_weights(options.weights, [WEIGHT_FILES], "s4d.weights", download=True)
            context.note("weights", found.identity(context.cache))
        extract_faces(clips, options, context)

    def fit(self, fold: Fold, options: S4DOptions, context: Context) -> Model:
        """Adapt the network to the training clips; see `model.fit`."""
        require_packages("s4d", PACKAGES)
        from blemore_plugins.s4d.model import fit

        return fit(fold, options, context)

    def load(self, folder: Path, options: S4DOptions, context: Context) -> Model:
        """Read a trained network; see `model.load`."""
        require_packages("s4d", PACKAGES)
        from blemore_plugins.s4d.model import load

        return load(folder, options, context)


@hookimpl
def blemore_encoders() -> list[Encoder]:
    """Return the encoder `s4d`."""
    return [S4DEncoder()]
