"""Print the parameter counts of HiCMAE against the documented ones, and what a chunk of a clip costs.

    python benchmarks/hicmae_parts.py [--device cuda] [--chunks 4] [--repeats 3]

Times are those of the full-size network on random chunks (16 pictures of 160 x 160 and their audio), and of a spectrum.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from blemore_harness.networks import seeded
from blemore_plugins.hicmae.inputs import log_mel
from blemore_plugins.hicmae.network import HiCMAE
from blemore_plugins.hicmae.running import Chunks, embed_chunks
from blemore_plugins.hicmae.shape import CHUNK, MEL_BANDS, SOUND_FRAMES, Shape
from blemore_plugins.s4d.network import count_parameters

DOCUMENTED = {"parameters with six classes": 80_792_602, "tensors": 370}


def print_counts() -> None:
    with torch.device("meta"):
        network = HiCMAE(Shape(classes=6))
    found = {"parameters with six classes": count_parameters([network]), "tensors": len(network.state_dict())}
    for name, count in found.items():
        print(f"{name:30} {count:12,} {'as documented' if count == DOCUMENTED[name] else 'DIFFERENT'}")
    for name in ("encoder", "encoder_audio", "encoder_fusion"):
        print(f"{name:30} {count_parameters([getattr(network, name)]):12,}")


def measure(device: str, chunks: int, repeats: int) -> None:
    with seeded(0):
        network = HiCMAE(Shape()).eval().requires_grad_(False).to(device)
    draw = np.random.default_rng(0)
    pictures = draw.integers(0, 256, (chunks, CHUNK, 160, 160, 3), dtype=np.uint8)
    sound = draw.standard_normal((chunks, SOUND_FRAMES, MEL_BANDS)).astype(np.float32)
    shown = Chunks(pictures, (CHUNK,) * chunks, sound)
    wave = draw.standard_normal(40_960).astype(np.float32)
    work: dict[str, Callable[[], object]] = {
        "float32": lambda: embed_chunks(network, shown),
        "bfloat16": lambda: embed_chunks(network, shown, "bfloat16"),
        "spectra (CPU)": lambda: [log_mel(wave) for _ in range(chunks)],
    }
    print(f"\n{chunks} chunks on {torch.cuda.get_device_name() if device == 'cuda' else device}")
    for name, call in work.items():
        call()
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        seconds = (time.perf_counter() - start) / repeats
        print(f"{name:16} {1000 * seconds:9.1f} ms, {chunks / seconds:7.1f} chunks/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print_counts()
    measure(arguments.device, arguments.chunks, arguments.repeats)
