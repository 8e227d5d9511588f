"""The resolved configuration of feature extraction, from options and the files of a model."""

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
from blemore_plugins.speech.options import LAST, RANDOM_SMALL, WEIGHTED, parse_layers

FILES = (("config.json",), ("model.safetensors", "pytorch_model.bin"))
"""Required files of a model."""

PREPROCESSOR = ("preprocessor_config.json", "processor_config.json")
"""Files that may hold the settings of a model's feature extractor."""

HUB_FLOOR = 1e-7
"""Added to the variance of a waveform, as in the models' released feature extractors; a silent clip stays silent."""

S3PRL_FLOOR = 1e-5
"""The same in s3prl, which normalises with torch's `layer_norm` if the checkpoint sets `normalize`."""

RULE = 2
"""Version of this package's features; part of the cache key."""


class Settings(Protocol):
    """The options of the network."""

    @property
    def model(self) -> str:
        """Hugging Face id, folder or `random-small`."""

    @property
    def revision(self) -> str:
        """Branch, tag or commit."""

    @property
    def weighted(self) -> bool:
        """Whether the head learns a weighted sum of layers."""


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the features of a waveform.

    Attributes:
        encoder: name of the encoder, for messages.
        model: the option `model`, for messages.
        kind: type of the model.
        small: name of the small random network; empty with weights.
        weights: files of the model; None for a small random network.
        layers: indices of the hidden states that are averaged; None for the network's last hidden state.
        floor: added to the variance when a waveform is normalised; None for no normalisation.
        outputs: whether what the model computes for a whole clip is computed as well, such as the regression head of an
            emotion model.
        alone: whether each clip is run separately on every device.
        precision: `fp32`, or `bf16` for weights and activations.
        regressors: files of regressors on the hidden states; None for none.
        weighted: whether the hidden states are kept layer by layer instead of averaged; `layers` is None for all.
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
    precision: str = "fp32"
    regressors: Weights | None = None
    weighted: bool = False

    @property
    def folder(self) -> Path | None:
        """Folder of the model's files; None for a small random network."""
        return self.weights.folder if self.weights else None

    def identity(self, cache: Cache) -> dict[str, object]:
        """Return the identification of the weights, for cache keys and records."""
        if self.weights is None:
            _, settings = SMALL[self.small]
            return {"random": self.small, "seed": SMALL_SEED, **settings}
        regressors = {"regressors": self.regressors.identity(cache)} if self.regressors else {}
        return {**self.weights.identity(cache), **regressors}

    def facts(self, cache: Cache) -> dict[str, object]:
        """Return everything that changes the features of a waveform, for cache keys.

        Raises:
            ExtraMissing: torch or transformers is not installed.
        """
        layers: object = LAST if self.layers is None else list(self.layers)
        if self.weighted:
            layers = {WEIGHTED: "all" if self.layers is None else layers}
        packages = ["torch", "transformers"]
        # Transformers uses its filter banks if it is installed.
        packages += ["torchaudio"] if self.kind.input in ("patches", "windows") else []
        rounded = {} if self.precision == "fp32" else {"precision": self.precision}
        return {
            "rule": RULE,
            "audio": audio_key(),
            "model": self.identity(cache),
            "layers": layers,
            "floor": self.floor,
            "outputs": self.outputs,
            "alone": self.alone,
            "versions": {name: _version(name, self.encoder) for name in packages},
            **rounded,
        }


def settle_recipe(
    encoder: str,
    small: str,
    options: Settings,
    *,
    kind: Kind | None = None,
    also: tuple[tuple[str, ...], ...] = (),
    always_normalise: bool = False,
    outputs: bool = False,
    compat: bool = False,
    download: bool = False,
) -> Recipe:
    """Find a model's files and resolve how its features are computed.

    Args:
        encoder: name of the encoder, as in `--set`.
        small: name of its small random network.
        options: model, and layers where there is a choice.
        kind: the kind that the encoder is made for; None for the kind that the files tell.
        also: further required files of the model.
        always_normalise: whether audio for models of type wav2vec2 is normalised regardless of their settings.
        outputs, compat: the options of the same names.
        download: whether files may be downloaded.

    Raises:
        WeightsMissing, DataError: see `hub` and `kinds`.
        InvalidOption: a model that is not supported, or not with these options.
    """
    layers, weighted = parse_layers(getattr(options, "layers", LAST)), options.weighted
    alone, hub_floor = compat, S3PRL_FLOOR if compat else HUB_FLOOR
    if options.model == RANDOM_SMALL:
        kind = kind or KINDS[SMALL[small][0]]
        floor = hub_floor if kind.input == "wave" else None
        return Recipe(encoder, RANDOM_SMALL, kind, small, None, layers, floor, outputs, alone, weighted=weighted)
    option = f"{encoder}.model"
    files = (*FILES, *also)
    wanted = files if always_normalise else (*files, PREPROCESSOR)
    weights = find_weights(options.model, wanted, option, revision=options.revision, download=download)
    found = find_kind(weights.folder, kind)
    if always_normalise and found.type != "wav2vec2":
        wanted = (*files, PREPROCESSOR)
        weights = find_weights(options.model, wanted, option, revision=options.revision, download=download)
    if outputs and kind is None and found.type != "wav2vec2":
        raise InvalidOption(f"outputs: expected an emotion model of type wav2vec2, found '{found.type}'")
    floor = hub_floor if found.input == "wave" else None
    if len(weights.files) > len(files):
        settings = read_preprocessor(weights.files[-1])
        if settings.get("sampling_rate", found.rate) != found.rate:
            rate = settings["sampling_rate"]
            raise InvalidOption(f"model: expected a sampling rate of {found.rate} Hz, found {rate}")
        floor = floor if settings.get("do_normalize", True) else None
    return Recipe(encoder, options.model, found, "", weights, layers, floor, outputs, alone, weighted=weighted)


def extra_missing(encoder: str, error: ImportError) -> ExtraMissing:
    """Return the error for a missing package."""
    return ExtraMissing(
        f'{encoder} requires torch, transformers and av ({error}): pip install "blemore-harness[encoders]"'
    )


def _version(package: str, encoder: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise extra_missing(encoder, error) from error
