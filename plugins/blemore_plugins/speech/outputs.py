"""Audio encoders of 2026: frame-level features of a frozen model, and what it computes for a whole clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Store
from blemore_harness.clips import Clip
from blemore_harness.context import Context
from blemore_harness.errors import WeightsMissing
from blemore_harness.hookspecs import Modality, Requirement
from blemore_plugins.cards import AUDIO_OF_IMAGEBIND
from blemore_plugins.features.encoder import Extractor
from blemore_plugins.hub import find_weights, identify_source
from blemore_plugins.requirements import HUB_TOKEN, need
from blemore_plugins.speech.encoder import DEMO
from blemore_plugins.speech.kinds import CLAP, IMAGEBIND, QWEN2_AUDIO, WHISPER
from blemore_plugins.speech.options import (
    EMOTIONS,
    RANDOM_SMALL,
    ClapOptions,
    EmpathicVoiceOptions,
    ImageBindAudioOptions,
    Qwen2AudioOptions,
    WhisperOptions,
)
from blemore_plugins.speech.recipe import Recipe, settle_recipe
from blemore_plugins.speech.released import OUTPUTS, SpeechExtractor, SpeechFeatureEncoder

REGRESSORS = tuple((f"model_{emotion}_best.pth",) for emotion in EMOTIONS)
"""Required files of the regressors."""

IMAGEBIND_FILES = (("imagebind_huge.pth", "model.safetensors", "pytorch_model.bin"),)

IMAGEBIND_HINT = (
    "; or download https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth (4.5 GB, CC-BY-NC-SA-4.0) and set "
    "imagebind-audio.model to its path"
)


class Qwen2AudioExtractor(SpeechExtractor):
    """Qwen2-Audio, whose tokens around a clip are read as well."""

    def settle(self, options: Any, context: Context, download: bool = False) -> Recipe:
        """Find the weights, and the tokenizer where the language model is used."""
        outputs = options.embedding != "statistics"
        also = (("tokenizer.json",),) if outputs else ()
        recipe = settle_recipe(
            self.encoder, self.small, options, kind=self.kind, also=also, outputs=outputs, download=download
        )
        return replace(recipe, precision=options.precision_on(context.device))


class ImageBindAudioExtractor(SpeechExtractor):
    """ImageBind, a file without configuration."""

    def identify(self, options: Any) -> Mapping[str, object]:
        """Identify a local file by its contents."""
        return {} if options.model == RANDOM_SMALL else {"model": identify_source(options.model, IMAGEBIND_FILES)}

    def requirements(self, options: Any) -> tuple[Requirement, ...]:
        """Return the packages, and the token of the hub."""
        return (*need("torchaudio", "transformers"), HUB_TOKEN)

    def settle(self, options: Any, context: Context, download: bool = False) -> Recipe:
        """Find the file."""
        weights = None
        if options.model != RANDOM_SMALL:
            option = f"{self.encoder}.model"
            try:
                weights = find_weights(
                    options.model, IMAGEBIND_FILES, option, revision=options.revision, download=download
                )
            except WeightsMissing as error:
                raise WeightsMissing(
                    f"{error}{IMAGEBIND_HINT}", error.source, f"{error.todo}{IMAGEBIND_HINT}"
                ) from error
        outputs = options.embedding != "statistics"
        return Recipe(self.encoder, options.model, IMAGEBIND, self.small, weights, None, None, outputs)


class EmpathicVoiceExtractor(SpeechExtractor):
    """Whisper with regressors in files of their own."""

    def identify(self, options: Any) -> Mapping[str, object]:
        """Identify local files by their contents."""
        if options.model == RANDOM_SMALL or options.embedding == "statistics":
            return super().identify(options)
        return {**super().identify(options), "regressors": identify_source(options.regressors)}

    def settle(self, options: Any, context: Context, download: bool = False) -> Recipe:
        """Find the weights of the Whisper model and the regressors."""
        recipe = super().settle(options, context, download)
        if recipe.weights is None or not recipe.outputs:
            return recipe
        option, revision = f"{self.encoder}.regressors", options.regressors_revision
        regressors = find_weights(options.regressors, REGRESSORS, option, revision=revision, download=download)
        return replace(recipe, regressors=regressors)


class OutputEncoder(SpeechFeatureEncoder):
    """Frame-level features and outputs of a frozen audio model, with the harness's classification head.

    Features are extracted from the clips. A folder that `prepare --export` wrote is read with `source=released`.
    """

    modality: ClassVar[Modality] = "audio"
    demo_options: ClassVar[Mapping[str, object]] = DEMO

    def resolve_options(self, options: Any, feature_sets: frozenset[str]) -> Any:
        """Replace `auto`: exported features have no outputs."""
        if options.source == "auto" and getattr(options, "embedding", "statistics") != "statistics":
            return replace(options, source="media")
        return super().resolve_options(options, feature_sets)

    def _vector(self, clip: Clip, options: Any, context: Context, store: Store) -> NDArray[np.float32]:
        """Return the statistics, the outputs, or both, of one clip from the cache."""
        chosen = getattr(options, "embedding", "statistics")
        outputs = [store.load(clip, OUTPUTS)] if chosen != "statistics" else []
        statistics = [super()._vector(clip, options, context, store)] if chosen != "outputs" else []
        return np.concatenate([*statistics, *outputs])


class WhisperEncoder(OutputEncoder):
    """Whisper's encoder: one hidden state per 20 ms, those of the padding to 30 s left out.

    Clips longer than 30 s are split. Licence of the default weights: MIT.
    """

    name: ClassVar[str] = "whisper"
    summary: ClassVar[str] = "frozen Whisper encoder, hidden states of the clip without padding, MLP head"
    Options: ClassVar[type[Any]] = WhisperOptions
    store: ClassVar[str] = "Whisper"
    extractor: ClassVar[Extractor | None] = SpeechExtractor("whisper", "whisper", WHISPER)


class Qwen2AudioEncoder(OutputEncoder):
    """Qwen2-Audio: hidden states of its audio encoder, one per 40 ms, and the last one of its language model.

    The language model reads the audio between the tokens `<|audio_bos|>` and `<|audio_eos|>` and no further text. Clips
    longer than 30 s are split. Licence of the default weights: Apache-2.0.
    """

    name: ClassVar[str] = "qwen2-audio"
    summary: ClassVar[str] = "frozen Qwen2-Audio, statistics of its audio encoder and last token, MLP head"
    Options: ClassVar[type[Any]] = Qwen2AudioOptions
    store: ClassVar[str] = "Qwen2_Audio"
    extractor: ClassVar[Extractor | None] = Qwen2AudioExtractor("qwen2-audio", "qwen2-audio", QWEN2_AUDIO)


class ClapEncoder(OutputEncoder):
    """CLAP: the projected embedding of a clip; frame-level features are the means over frequency of its last map.

    Audio has 48 kHz. Shorter clips are repeated up to 10 s, as the model's settings say; longer ones are split.
    Licence of the default weights: Apache-2.0.
    """

    name: ClassVar[str] = "clap"
    summary: ClassVar[str] = "frozen CLAP, one embedding per clip, MLP head"
    Options: ClassVar[type[Any]] = ClapOptions
    store: ClassVar[str] = "CLAP"
    extractor: ClassVar[Extractor | None] = SpeechExtractor("clap", "clap", CLAP)


class ImageBindAudioEncoder(OutputEncoder):
    """ImageBind's audio encoder: the mean embedding of three windows of 2 s.

    Licence of the weights: CC-BY-NC-SA-4.0, which excludes commercial use.
    """

    name: ClassVar[str] = "imagebind-audio"
    summary: ClassVar[str] = "frozen ImageBind audio encoder, mean of three windows (non-commercial), MLP head"
    Options: ClassVar[type[Any]] = ImageBindAudioOptions
    store: ClassVar[str] = "ImageBind_audio"
    extractor: ClassVar[Extractor | None] = ImageBindAudioExtractor("imagebind-audio", "imagebind-audio", IMAGEBIND)

    def named_weights(self, options: Any) -> str:
        """Name the audio encoder, which is a part of the file."""
        return AUDIO_OF_IMAGEBIND if options.model == ImageBindAudioOptions.model else str(options.model)


class EmpathicVoiceEncoder(OutputEncoder):
    """Empathic-Insight-Voice: intensities of 40 emotions, by regressors on a fine-tuned Whisper encoder.

    The regressors read all hidden states of a window of 30 s, those of padding included; of clips longer than 30 s the
    mean of the windows is taken. Licence of the default weights: CC-BY-4.0.
    """

    name: ClassVar[str] = "empathic-voice"
    summary: ClassVar[str] = "frozen Empathic-Insight-Voice: intensities of 40 emotions, MLP head"
    Options: ClassVar[type[Any]] = EmpathicVoiceOptions
    store: ClassVar[str] = "Empathic_Voice"
    extractor: ClassVar[Extractor | None] = EmpathicVoiceExtractor("empathic-voice", "whisper", WHISPER)

    def named_weights(self, options: Any) -> str:
        """Return the regressors, or the Whisper model where they are not used."""
        regressors = options.model != RANDOM_SMALL and options.embedding != "statistics"
        return str(options.regressors if regressors else options.model)
