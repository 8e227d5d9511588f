"""Audio through wav2vec2, end to end: building the network, and what it is fed with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blemore_harness.cache import Store
from blemore_harness.clips import Clip
from blemore_harness.context import Context
from blemore_harness.errors import MediaError
from blemore_harness.media.audio import audio_key, read_audio, warn_of_silence
from blemore_harness.media.frame_files import work_side_by_side
from blemore_harness.networks import seeded
from blemore_plugins.finetuning.groups import NOTHING, Anatomy, Built
from blemore_plugins.finetuning.loading import checkpoint_activations, find_model, make_head, read_config
from blemore_plugins.finetuning.options import SoundOptions
from blemore_plugins.hub import load_strictly

RATE = 16_000
"""Samples per second of all wav2vec2 models."""

SHORTEST = 400
"""Samples of one frame: the field of the convolutions."""

VARIANCE_FLOOR = 1e-7
"""Added to the variance of a wave, as the models' released feature extractors do; a silent clip stays silent."""

WAVES_VERSION = 1
"""Counts changes of what the cache holds."""

GROUP = 16
"""Clips decoded side by side."""

ATTENTION_WIDTH = 128
"""Hidden units of the network that weights frames, as in attentive statistics pooling (arXiv 1803.10963)."""

SPREAD_FLOOR = 1e-6
"""Added to a variance over time before its root."""

LEFT_OUT = re.compile(
    r"(quantizer|project_q|project_hid|lm_head|classifier|projector)\..*|(wav2vec2\.)?masked_spec_embed"
)
"""What only pre-training, recognition or classification needs, and the vector that stands for masked frames."""

SMALL: Mapping[str, Any] = {
    "conv_dim": (16,) * 7,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
"""The layout of wav2vec2-base, thin."""


class Pooling(nn.Module):
    """Mean and standard deviation over time, weighted by a small network or not.

    Args:
        width: of the frames.
        attentive: whether to weight them; at first all weights are equal.
    """

    def __init__(self, width: int, attentive: bool) -> None:
        super().__init__()
        self.score: nn.Module | None = None
        if attentive:
            last = nn.Linear(ATTENTION_WIDTH, 1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.score = nn.Sequential(nn.Linear(width, ATTENTION_WIDTH), nn.Tanh(), last)

    def forward(self, frames: Tensor) -> Tensor:
        """Return float32 (B, 2 * width) of frames (B, T, width)."""
        frames = frames.float()
        scores = self.score(frames).float() if self.score is not None else torch.zeros_like(frames[..., :1])
        weights = scores.softmax(dim=1)
        mean = (weights * frames).sum(dim=1)
        variance = (weights * (frames - mean[:, None]).square()).sum(dim=1)
        return torch.cat([mean, (variance + SPREAD_FLOOR).sqrt()], dim=1)


class SoundClassifier(nn.Module):
    """wav2vec2 under pooling and a head of six outputs.

    Args:
        trunk: the transformers model.
        options: pooling, masking, dropout of the head.
    """

    def __init__(self, trunk: Any, options: SoundOptions) -> None:
        super().__init__()
        self._mask, self._mask_length = options.mask, options.mask_length
        self.trunk = trunk
        width = trunk.config.hidden_size
        self.pool = Pooling(width, options.pooling == "attention")
        self.head = make_head(2 * width, options.head_dropout)

    def forward(self, waves: Tensor) -> Tensor:
        """Return logits (B, 6) of waves of one length (B, samples)."""
        masked = None
        if self.training and self._mask:
            length = count_frames(self.trunk.config, waves.shape[1])
            masked = draw_spans(len(waves), length, self._mask, self._mask_length).to(waves.device)
        frames = self.trunk(waves, mask_time_indices=masked).last_hidden_state
        return self.head(self.pool(frames))


def count_frames(config: Any, samples: int) -> int:
    """Report how many frames a network makes of a wave of at least `SHORTEST` samples."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def draw_spans(count: int, frames: int, share: float, length: int) -> Tensor:
    """Draw which frames are masked, bool (count, frames), from torch's global generator.

    Spans of `length` begin at random frames, so many that they would cover `share` if they did not overlap; at least
    one.
    """
    length = min(length, frames)
    spans = max(1, round(share * frames / length))
    starts = torch.randint(0, frames - length + 1, (count, spans, 1))
    covered = (starts + torch.arange(length)).flatten(1)
    return torch.zeros(count, frames, dtype=torch.bool).scatter_(1, covered, True)


def build_sound(options: SoundOptions, context: Context) -> Built:
    """Load wav2vec2 with a fresh head, or make one with fresh weights.

    Raises:
        DataError: weights that do not fit.
        WeightsMissing, InvalidOption: none there, or of another model.
    """
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    # The vector for masked frames is there where the configuration masks; whether it is used is decided below.
    settings: dict[str, Any] = {"layerdrop": options.layerdrop, "mask_time_prob": 0.05, "mask_feature_prob": 0.0}
    weights = find_model("wav2vec2-finetuned", options)
    if weights is None:
        small = SMALL if options.model == "random-small" else {}
        with seeded(context.seed):
            trunk = Wav2Vec2Model(Wav2Vec2Config(**settings, **small))
    else:
        read_config(weights.folder, "wav2vec2")
        trunk = load_strictly(Wav2Vec2Model, weights.folder, LEFT_OUT, dtype=torch.float32, **settings)
    trunk.config.apply_spec_augment = bool(options.mask)
    if not options.front_end:
        trunk.freeze_feature_encoder()
    if options.gradient_checkpointing:
        checkpoint_activations(trunk)
    with seeded(context.seed):
        network = SoundClassifier(trunk, options)
    anatomy = Anatomy(
        depth=int(trunk.config.num_hidden_layers),
        block=re.compile(r".*encoder\.layers\.(\d+)\..*"),
        # Where blocks begin with their norm, one more follows the last; else that norm lies below the first.
        above=re.compile(r"trunk\.encoder\.layer_norm\..*") if trunk.config.do_stable_layer_norm else NOTHING,
        head=re.compile(r"(head|pool)\..*"),
        attention=re.compile(r".*encoder\.layers\.\d+\.attention\.(q_proj|v_proj)"),
        frozen=NOTHING if options.front_end else re.compile(r"trunk\.feature_extractor\..*"),
    )
    return Built(network.to(context.device), anatomy)


class SoundSource:
    """Feeds a network with waves from the cache, each of zero mean and unit variance over its whole clip.

    Args:
        store: of the waves.
        options: length of the training window.
    """

    def __init__(self, store: Store, options: SoundOptions) -> None:
        self._store, self._samples = store, round(options.seconds * RATE)
        self.draws = 1

    def read(self, clip: Clip, draw: Tensor | None) -> Tensor:
        """Read a wave, float32 (samples,), for training a window of equal length."""
        wave = normalise(torch.from_numpy(self._store.load(clip)))
        return wave if draw is None else cut_window(wave, self._samples, float(draw[0]))

    def join(self, held: Sequence[Tensor], draws: Tensor) -> Tensor:
        """Stack windows: (B, samples)."""
        return torch.stack(list(held))

    def views(self, held: Tensor) -> Tensor:
        """Return the one view of a clip: (1, samples)."""
        return held[None]


def normalise(wave: Tensor) -> Tensor:
    """Return a whole clip's wave zero mean and unit variance, which layer-norm models were trained on."""
    exact = wave.double()
    return ((exact - exact.mean()) / (exact.var(correction=0) + VARIANCE_FLOOR).sqrt()).float()


def cut_window(wave: Tensor, samples: int, draw: float) -> Tensor:
    """Cut a window of `samples` at a place drawn from 0 to 1; a shorter wave is repeated, beginning at that place."""
    if len(wave) < samples:
        start = min(int(draw * len(wave)), len(wave) - 1)
        return wave[(start + torch.arange(samples)) % len(wave)]
    start = min(int(draw * (len(wave) - samples + 1)), len(wave) - samples)
    return wave[start : start + samples]


def open_waves(context: Context) -> Store:
    """Open the store of decoded audio: float32 (samples,) at 16 kHz per clip, 0.4 MB for 6 s."""
    return context.cache.store("waves", version=WAVES_VERSION, audio=audio_key(), rate=RATE)


def prepare_waves(clips: Iterable[Clip], context: Context) -> None:
    """Decode the audio that is not in the cache.

    Raises:
        MediaError: a clip without audio, or with less of it than one frame; what came before it is kept.
    """
    store = open_waves(context)
    clips = list(clips)
    missing = store.missing(clips)

    def decode(clip: Clip) -> None:
        wave = read_audio(clip, RATE, context.cache)
        if len(wave) < SHORTEST:
            found = f"{len(wave) / RATE:.4f} s"
            raise MediaError(f"clip {clip.id}: expected audio for one frame of 25 ms, found {found}", clip.id)
        store.save(clip, wave)

    if missing:
        with context.progress("audio: decoding", len(missing)) as bar:
            work_side_by_side(decode, missing, GROUP, bar.advance)
    warn_of_silence(clips, context)
