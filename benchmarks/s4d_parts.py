"""Print the parameter counts of every part of S4D-ViTMoE against the documented ones, and what a step costs.

    python benchmarks/s4d_parts.py [--device cuda] [--batch 16] [--repeats 5]

Times are those of the full-size network on random clips: prediction, and training steps of the three ways to train.
"""

from __future__ import annotations

import argparse
import time

import torch

from blemore_harness.training.epochs import autocast, soft_label_loss
from blemore_plugins.s4d.model import set_mode, trained_parts
from blemore_plugins.s4d.network import S4DViTMoE, build_network, count_parameters, count_parts
from blemore_plugins.s4d.options import S4DOptions
from blemore_plugins.s4d.shape import Shape

DOCUMENTED = {
    "patch embedding": 1_180_416,
    "lower blocks": 42_522_624,
    "upper blocks without experts": 42_522_624,
    "experts": 14_201_856,
    "routers": 73_824,
    "fc_norm": 1_536,
    "head.video": 4_614,
    "head.image": 5_383,
    "total": 100_512_877,
}


def print_counts() -> None:
    with torch.device("meta"):
        network = S4DViTMoE(Shape())
    print(f"{'part':30} {'parameters':>12} {'documented':>12}")
    for name, count in count_parts(network).items():
        print(f"{name:30} {count:12,} {DOCUMENTED[name]:12,} {'same' if count == DOCUMENTED[name] else 'DIFFERENT'}")
    for which in ("adapters", "upper", "all"):
        trained = count_parameters(trained_parts(network, which))
        print(f"train={which:24} {trained:12,} trained, {count_parameters([network]) - trained:,} frozen")
    print('the challenge paper says "~12M" trained and "~38M" frozen, which fits none of them')


def measure(device: str, batch: int, repeats: int) -> None:
    network = build_network(Shape(), seed=0).to(device)
    clips = torch.randn(batch, 3, 16, 160, 160, device=device)
    targets = torch.full((batch, 6), 1 / 6, device=device)
    options = S4DOptions()

    def predict() -> None:
        set_mode(network, options, training=False)
        with torch.inference_mode(), autocast(device):
            network(clips)

    def step(which: str) -> None:
        set_mode(network, options, training=True)
        network.requires_grad_(False)
        for part in trained_parts(network, which):
            part.requires_grad_(True)
        with autocast(device):
            with torch.set_grad_enabled(which == "all"):
                tokens = network.lower(clips)
            logits = network.head["video"](network.upper(tokens))
        soft_label_loss(logits, targets).backward()
        network.zero_grad()

    print(f"\n{batch} clips of 16 x 160 x 160 on {torch.cuda.get_device_name() if device == 'cuda' else device}")
    for name, work in [
        ("predict", predict),
        *((f"train={w}", lambda w=w: step(w)) for w in ("adapters", "upper", "all")),
    ]:
        work()
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = (time.perf_counter() - start) / repeats
        memory = f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if device == "cuda" else ""
        print(f"{name:16} {1000 * seconds:9.1f} ms, {batch / seconds:7.1f} clips/s{memory}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print_counts()
    measure(arguments.device, arguments.batch, arguments.repeats)
