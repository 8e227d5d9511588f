"""What is computed from a wave, settled: options and the files of a model turned into everything that decides."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from blemore_harness.cache import Cache
from blemore_harness.errors import ExtraMissing, InvalidOption
from blemore_harness.media.audio import audio_key
from blemore_plugins.hub import Weights, find_weights
from blemore_plugins.speech.kinds import KINDS, SMALL, SMALL_SEED, Kind, find_kind, read_preprocessor
from blemore_plugins.speech.options import LAST, RANDOM_SMALL, parse_layers

RATE = 16_000
"""Samples per second of all models that are run here."""

FILES = (("config.json",), ("model.safetensors", "pytorch_model.bin"))
"""What is needed of every model."""

PREPROCESSOR = ("preprocessor_config.json", "processor_config.json")
"""Where the settings of a model's feature extractor stand."""

HUB_FLOOR = 1e-7
"""Added to the variance of a wave, as the models' released feature extractors do; a silent clip stays silent."""

S3PRL_FLOOR = 1e-5
"""The same in s3prl, which normalises with torch's `layer_norm` where the checkpoint's `normalize` says so."""

RULE = 2
"""Version of what this package computes; part of the cache key."""


class Settings(Protocol):
    """What options say about the network."""

    @property
    def model(self) -> str:
        """Hub id, folder or `random-small`."""

    @property
    def revision(self) -> str:
        """Branch, tag or commit."""

    @property
    def layers(self) -> str:
        """Which hidden states."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what becomes of a wave.

    Attributes:
        encoder: for messages.
        model: as the user named it, for messages.
        kind: type of the model.
        small: which small random network; empty with weights.
        weights: files of the model; None for a small random network.
        layers: indices of the hidden states that are averaged; None for the network's own last.
        floor: added to the variance when a wave is normalised; None leaves waves as they are.
        outputs: whether the regression head of an emotion model is run as well.
        alone: whether each clip is run by itself on every device.
    """

    encoder: str
    model: str
    kind: Kind
    small: str
    weights: Weights | None
    layers: tuple[int, ...] | None
    floor: float | None
    outputs: bool = False
    alone: bool = False

    @property
    def folder(self) -> Path | None:
        """Where the files of the model lie; None for a small random network."""
        return self.weights.folder if self.weights else None

    def identity(self, cache: Cache) -> dict[str, object]:
        """Report which weights these are, for cache keys and records."""
        if self.weights is None:
            _, settings = SMALL[self.small]
            return {"random": self.small, "seed": SMALL_SEED, **settings}
        return self.weights.identity(cache)

    def facts(self, cache: Cache) -> dict[str, object]:
        """Return every fact that changes what becomes of a wave, for cache keys.

        Raises:
            ExtraMissing: torch or transformers is not installed.
        """
        packages = ["torch", "transformers"]
        # Its filter banks are used where it is installed.
        packages += ["torchaudio"] if self.kind.hears == "patches" else []
        return {
            "rule": RULE,
            "audio": audio_key(),
            "model": self.identity(cache),
            "layers": LAST if self.layers is None else list(self.layers),
            "floor": self.floor,
            "outputs": self.outputs,
            "alone": self.alone,
            "versions": {name: _version(name, self.encoder) for name in packages},
        }


def settle_recipe(
    encoder: str,
    small: str,
    options: Settings,
    *,
    always_normalise: bool,
    outputs: bool = False,
    compat: bool = False,
    download: bool = False,
) -> Recipe:
    """Find a model's files and decide how its audio is computed.

    Args:
        encoder: its name, by which users set options.
        small: name of its small random network.
        options: which model and layers.
        always_normalise: whether models of type wav2vec2 hear normalised waves without being asked for their settings.
        outputs, compat: as of the options of the same names.
        download: whether the network may be used.

    Raises:
        WeightsMissing, DataError: see `hub` and `kinds`.
        InvalidOption: a model that cannot be run here, or not with these options.
    """
    layers = parse_layers(options.layers)
    alone, hub_floor = compat, S3PRL_FLOOR if compat else HUB_FLOOR
    if options.model == RANDOM_SMALL:
        kind = KINDS[SMALL[small][0]]
        floor = hub_floor if kind.hears == "wave" else None
        return Recipe(encoder, RANDOM_SMALL, kind, small, None, layers, floor, outputs, alone)
    option = f"{encoder}.model"
    wanted = FILES if always_normalise else (*FILES, PREPROCESSOR)
    weights = find_weights(options.model, wanted, option, revision=options.revision, download=download)
    kind = find_kind(weights.folder)
    if always_normalise and kind.type != "wav2vec2":
        wanted = (*FILES, PREPROCESSOR)
        weights = find_weights(options.model, wanted, option, revision=options.revision, download=download)
    if outputs and kind.type != "wav2vec2":
        raise InvalidOption(f"outputs: expected an emotion model of type wav2vec2, found '{kind.type}'")
    floor = hub_floor if kind.hears == "wave" else None
    if len(weights.files) > len(FILES):
        settings = read_preprocessor(weights.files[-1])
        if settings.get("sampling_rate", RATE) != RATE:
            raise InvalidOption(f"model: expected one for {RATE} samples per second, found {settings['sampling_rate']}")
        floor = floor if settings.get("do_normalize", True) else None
    return Recipe(encoder, options.model, kind, "", weights, layers, floor, outputs, alone)


def extra_missing(encoder: str, error: ImportError) -> ExtraMissing:
    """Make the error for a package that is not installed."""
    return ExtraMissing(
        f'{encoder} needs torch, transformers and av ({error}): pip install "blemore-harness[encoders]"'
    )


def _version(package: str, encoder: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise extra_missing(encoder, error) from error
