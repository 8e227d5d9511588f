"""What cutting wav2vec2 after the last layer used saves, and that it changes nothing: time and bit-equality.

    python benchmarks/wav2vec2_truncation.py [--seconds 5] [--repeats 3] [--device cpu]

Random weights in the shapes of wav2vec2-large (group norm) and of its layer-norm sister (-lv60, -robust, xlsr).
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time

import numpy as np
import torch
import transformers

from blemore_plugins.hub import quiet_transformers
from blemore_plugins.speech.network import Frozen, build_network
from blemore_plugins.speech.options import Wav2Vec2Options
from blemore_plugins.speech.recipe import settle_recipe

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
LAYOUTS = {
    "wav2vec2-large": {"feat_extract_norm": "group"},
    "wav2vec2-large-lv60": {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
}


def measure(network: Frozen, wave: np.ndarray, repeats: int) -> float:
    """Median seconds of a pass; the first one warms up."""
    took = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        network.run(wave)
        took.append(time.perf_counter() - start)
    return statistics.median(took[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    wave = np.random.default_rng(0).standard_normal((1, round(args.seconds * 16_000))).astype(np.float32)
    print(f"{args.seconds:g} s of audio, layers {Wav2Vec2Options().layers}, {args.device}, float32")
    for name, layout in LAYOUTS.items():
        with tempfile.TemporaryDirectory() as folder, quiet_transformers():
            torch.manual_seed(0)
            transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**LARGE, **layout)).save_pretrained(folder)
            whole = transformers.Wav2Vec2Model.from_pretrained(folder, local_files_only=True).eval().to(args.device)
            recipe = settle_recipe("wav2vec2", "wav2vec2", Wav2Vec2Options(model=folder), always_normalise=True)
            cut = build_network(recipe, args.device)
        whole = dataclasses.replace(cut, trunk=whole)
        equal = np.array_equal(whole.run(wave)[0], cut.run(wave)[0])
        for kind, network in (("whole", whole), ("cut", cut)):
            millions = sum(p.numel() for p in network.trunk.parameters()) / 1e6
            seconds = measure(network, wave, args.repeats)
            print(f"{name:20} {kind:6} {millions:6.1f} M parameters  {seconds:6.2f} s")
        print(f"{name:20} bit-equal: {equal}")


if __name__ == "__main__":
    main()
