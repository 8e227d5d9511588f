"""The work of a frozen encoder: forward as in an extraction, and backward as in fine-tuning end to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from released_networks import WRITERS
from work import Order, Work, count_weights

from blemore_harness.media.audio import read_audio
from blemore_harness.media.frame_cache import open_frames
from blemore_harness.networks import fitting_threads, seeded
from blemore_plugins import hicmae, speech, vision
from blemore_plugins.hicmae.inputs import cut_windows
from blemore_plugins.hicmae.network import HiCMAE
from blemore_plugins.hicmae.running import BATCH, Chunks, build_network, embed_chunks
from blemore_plugins.hicmae.shape import CHUNK, MEL_BANDS, SOUND_FRAMES, Shape
from blemore_plugins.speech.building import build as build_speech
from blemore_plugins.speech.extraction import BATCH_SECONDS
from blemore_plugins.speech.inputs import InputMaker
from blemore_plugins.speech.network import exact_products
from blemore_plugins.speech.recipe import Recipe, settle_recipe
from blemore_plugins.vision.running import computing, run_clip

HELD = 8
"""Clips whose frames or waves wait in memory; the network takes them in turns."""

FRAMES_BACK = 32
"""Frames (or one window) whose activations are kept for the backward pass: enough for the largest network on 80 GB."""


def make_vision(order: Order) -> Work:
    """Return the work of an encoder of frames or videos: one clip at a time, as in an extraction."""
    [encoder] = [e for e in vision.blemore_encoders() if e.name == order.name]
    options, context = _options(encoder, order), order.context
    extractor: Any = encoder.extractor
    network = extractor.build(options, extractor.weights(options))
    module = network.module.requires_grad_(False).to(context.device)
    stride = getattr(options, "stride", 1)
    frames = open_frames(context.cache)
    frames.prepare(order.clips, context)
    held = [frames.read(clip, lambda count: network.choose(count, stride)) for clip in order.clips[:HELD]]
    rule, precision = network.rule or extractor.rule_of(options), options.precision_on(context.device)
    windows = len(network.starts(len(held[0])))
    block = max(1, FRAMES_BACK // network.length)

    def forward(count: int) -> int:
        with computing(precision, context.device), fitting_threads(module):
            for number in range(count):
                run_clip(network, rule, False, held[number % len(held)], context.device)
        return count

    def backward(count: int) -> int:
        module.requires_grad_(True)
        shape = (min(block, windows), network.length, 3, network.side, network.side)
        shown = torch.randn(shape, device=context.device)
        with computing(precision, context.device), torch.inference_mode(False), fitting_threads(module):
            for _ in range(count):
                module.zero_grad(set_to_none=True)
                for start in range(0, windows, block):
                    _go_back(network.run(shown[: windows - start]))
        return count

    return Work(count_weights(module), lambda: module, forward, backward)


def make_speech(order: Order) -> Work:
    """Return the work of an encoder of audio: on a CPU a clip at a time, on a GPU many, as in an extraction."""
    [encoder] = [e for e in speech.blemore_encoders() if e.name == order.name]
    context = order.context
    recipe = _recipe(encoder, _options(encoder, order), context)
    frozen = build_speech(recipe, context.device)
    make_inputs = InputMaker(recipe, frozen)
    heard = [make_inputs(read_audio(clip, recipe.kind.rate)) for clip in order.clips[:HELD]]
    shape = heard[0].inputs.shape
    alike = [each.inputs for each in heard if each.inputs.shape == shape]
    limit = BATCH_SECONDS["cuda" if context.device.startswith("cuda") else "cpu"]
    size = max(1, int(limit / heard[0].seconds))

    def blocks(count: int) -> Iterator[np.ndarray]:
        """Return the inputs of so many clips, as many together as an extraction runs."""
        left = iter(range(count))
        while numbers := list(islice(left, size)):
            yield np.concatenate([alike[number % len(alike)] for number in numbers])

    def forward(count: int) -> int:
        for inputs in blocks(count):
            frozen.run(inputs, [None] * len(inputs))
        return count

    def backward(count: int) -> int:
        frozen.trunk.requires_grad_(True)
        with exact_products(), fitting_threads(frozen.trunk):
            for inputs in blocks(count):
                frozen.trunk.zero_grad(set_to_none=True)
                _go_back(frozen.trunk(torch.from_numpy(inputs).to(context.device)).last_hidden_state)
        return count

    return Work(count_weights(frozen.trunk), lambda: frozen.trunk, forward, backward)


def make_hicmae(order: Order) -> Work:
    """Return the work of HiCMAE on as many chunks as a clip has, with random images and audio."""
    [encoder] = hicmae.blemore_encoders()
    options, context = encoder.Options(**(dict(encoder.demo_options) if order.small else {})), order.context
    if order.small:
        network, _ = build_network(options, None, context.device)
    else:
        with seeded(0):
            network = HiCMAE(Shape(image=options.size)).eval().requires_grad_(False).to(context.device)
    frames = open_frames(context.cache)
    frames.prepare(order.clips, context)
    count = len(cut_windows(frames.count(order.clips[0]), options.stride, options.compat))
    draw = np.random.default_rng(0)
    pictures = draw.integers(0, 256, (count, CHUNK, options.size, options.size, 3), dtype=np.uint8)
    sound = draw.standard_normal((count, SOUND_FRAMES, MEL_BANDS)).astype(np.float32)
    chunks = Chunks(pictures, (CHUNK,) * count, sound)

    def forward(clips: int) -> int:
        for _ in range(clips):
            embed_chunks(network, chunks, options.precision)
        return clips

    def backward(clips: int) -> int:
        network.requires_grad_(True)
        shown = torch.randn(count, 3, CHUNK, options.size, options.size, device=context.device)
        heard = torch.from_numpy(sound).to(context.device)[:, None]
        with exact_products(), fitting_threads(network):
            for _ in range(clips):
                network.zero_grad(set_to_none=True)
                for start in range(0, count, BATCH):
                    part = slice(start, start + BATCH)
                    _go_back(network.embed(shown[part], heard[part]))
        return clips

    return Work(count_weights(network), lambda: network, forward, backward)


MAKERS: dict[str, Callable[[Order], Work]] = {
    **{encoder.name: make_vision for encoder in vision.blemore_encoders()},
    **{encoder.name: make_speech for encoder in speech.blemore_encoders()},
    **{encoder.name: make_hicmae for encoder in hicmae.blemore_encoders()},
}
"""Function that returns the work of each frozen encoder, by name."""


def _options(encoder: Any, order: Order) -> Any:
    """Return an encoder's options with a small random network, or with weights of the released size in a folder."""
    if order.small:
        return encoder.Options(**dict(encoder.demo_options))
    # Language models and regressors of speech encoders are not written: they are many gigabytes.
    alone = {"embedding": "statistics"} if hasattr(encoder.Options, "embedding") else {}
    options = replace(encoder.Options(), model=str(WRITERS[encoder.name](order.folder)), **alone)
    return replace(options, regressors=options.model) if encoder.name == "empathic-face" else options


def _recipe(encoder: Any, options: Any, context: Any) -> Recipe:
    extractor = getattr(encoder, "extractor", None)
    if extractor is not None:
        return extractor.settle(options, context)
    return settle_recipe(encoder.name, encoder.small, options, always_normalise=encoder.always_normalise)


def _go_back(features: torch.Tensor) -> None:
    """Compute the gradients of all parameters for a random linear loss of all outputs."""
    weights = torch.linspace(-1, 1, features.shape[-1], device=features.device)
    (features.float() * weights).square().mean().backward()
