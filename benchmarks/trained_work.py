"""What an encoder that is trained, or a head, has to do: predictions, and epochs of training as the plugins do them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from work import Order, Work, count_weights

from blemore_harness.clips import EMOTIONS, Clip, Clips
from blemore_harness.context import Context
from blemore_harness.heads.options import HEADS, HeadOptions
from blemore_harness.heads.training import Task, train_heads
from blemore_harness.media.frame_cache import open_frames
from blemore_harness.networks import build_mlp, fitting_threads, forward_rows, seeded
from blemore_harness.pooling import STATISTICS
from blemore_harness.training import fitting
from blemore_harness.training.batches import TrainingBatches
from blemore_harness.training.epochs import autocast
from blemore_plugins import finetuning, s4d
from blemore_plugins.finetuning import model as finetuning_model
from blemore_plugins.finetuning import sound, video
from blemore_plugins.s4d import model as s4d_model
from blemore_plugins.s4d.batches import CropSource
from blemore_plugins.s4d.faces import open_crops
from blemore_plugins.s4d.network import build_network
from blemore_plugins.speech.released import WavLMEncoder

HELD = 8
ROWS = 1024
"""Rows that a head is shown at a time, whatever number of clips is asked for; a clip is a row."""

SMALL_WIDTH = 64


def make_finetuned(order: Order) -> Work:
    """Return the work of an encoder that is trained whole; clips are read from the cache during an epoch."""
    [encoder] = [e for e in finetuning.blemore_encoders() if e.name == order.name]
    clips, context, batch = order.clips, order.context, order.batch
    changed = dict(encoder.demo_options) if order.small else {"model": "random"}
    options = encoder.Options(**(changed | {"epochs": 1, "batch_size": batch, "warmup": 0}))
    encoder.prepare(Clips(tuple(clips)), options, context)
    build, source = {
        "videomae": lambda: (video.build_videomae, video.open_video(options, video.IMAGENET, context)),
        "timesformer": lambda: (video.build_timesformer, video.open_video(options, video.TIMESFORMER, context)),
        "wav2vec2-finetuned": lambda: (sound.build_sound, sound.SoundSource(sound.open_waves(context), options)),
    }[order.name]()
    fresh = finetuning_model.prepare_network(build, options, context)
    network = fresh.network
    held = [source.read(clip, None) for clip in clips[:HELD]]
    last: list[TrainingBatches] = []

    def forward(count: int) -> int:
        network.eval()
        with torch.inference_mode(), autocast(context.device, options.precision), fitting_threads(network):
            for number in range(count):
                network(source.views(held[number % len(held)].to(context.device)))
        return count

    def backward(count: int) -> int:
        targets = np.full((count, len(EMOTIONS)), 1 / len(EMOTIONS), dtype=np.float32)
        last[:] = [TrainingBatches(clips[:count], targets, source, batch, context.device)]
        with fitting_threads(network):
            fitting.train(fitting.Course("timing", fresh, last[0], 1, None), options, context)
        return count

    return Work(count_weights(network), lambda: network, forward, backward, lambda: last[0].waited / last[0].seconds)


def make_s4d(order: Order) -> Work:
    """Return the work of S4D on random crops of faces, as many as a clip has, which lie in the cache."""
    [encoder] = s4d.blemore_encoders()
    clips, context = order.clips, order.context
    changed = dict(encoder.demo_options) if order.small else {}
    options = encoder.Options(**(changed | {"epochs": 1, "batch_size": order.batch, "warmup": 0}))
    network = build_network(options.shape(), seed=0).to(context.device)
    store = open_crops(options, context)
    _save_crops(clips, store, options, context)
    source = CropSource(store, options)
    held = [source.views(source.read(clip, None).to(context.device)) for clip in clips[:HELD]]
    last: list[TrainingBatches] = []

    def forward(count: int) -> int:
        s4d_model.set_mode(network, options, training=False)
        with torch.inference_mode(), autocast(context.device), fitting_threads(network):
            for number in range(count):
                network(held[number % len(held)])
        return count

    def backward(count: int) -> int:
        targets = np.full((count, len(EMOTIONS)), 1 / len(EMOTIONS), dtype=np.float32)
        last[:] = [TrainingBatches(clips[:count], targets, source, order.batch, context.device)]
        with fitting_threads(network):
            s4d_model.train(network, last[0], options, context, None)
        return count

    return Work(count_weights(network), lambda: network, forward, backward, lambda: last[0].waited / last[0].seconds)


def _save_crops(clips: Sequence[Clip], store: Any, options: Any, context: Context) -> None:
    frames = open_frames(context.cache)
    frames.prepare(clips, context)
    draw = np.random.default_rng(0)
    shape = (-(-frames.count(clips[0]) // options.step), options.size, options.size, 3)
    for clip in store.missing(clips):
        store.save(clip, draw.integers(0, 256, shape, dtype=np.uint8))


def make_head(order: Order) -> Work:
    """Return the work of a head with the batches of its own recipe; a clip counts as one row of random numbers."""
    options, context = replace(HeadOptions(head=order.name), epochs=1, patience=1), order.context
    width = SMALL_WIDTH if order.small else WavLMEncoder.width or 0
    # Each embedding is a row where heads learn from these, else the seven statistics of a clip.
    width *= 1 if "subsampled" in order.name else STATISTICS
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(ROWS, width, generator=generator).to(context.device)
    targets = torch.full((ROWS, len(EMOTIONS)), 1 / len(EMOTIONS), device=context.device)
    with seeded(0):
        network = build_mlp(width, options.widths, options.batch_norm, options.dropout).to(context.device).eval()
    trained = [network]

    def forward(_count: int) -> int:
        with fitting_threads(network):
            forward_rows(network, inputs)
        return ROWS

    def backward(_count: int) -> int:
        [model] = train_heads([Task(inputs, targets, options, context, None)])
        trained[:] = [model.network]
        return ROWS

    return Work(count_weights(network), lambda: trained[0], forward, backward)


MAKERS: dict[str, Callable[[Order], Work]] = {
    **{encoder.name: make_finetuned for encoder in finetuning.blemore_encoders()},
    **{encoder.name: make_s4d for encoder in s4d.blemore_encoders()},
    **dict.fromkeys(HEADS, make_head),
}
"""How the work of each encoder that is trained, and of each head, is made."""
