"""What attentive pooling gains on the demo: the same encoder under a head on statistics and under an attentive one.

    python benchmarks/attentive.py [--encoders prosody,wav2vec2] [--seeds 3] [--layers weighted]

For each encoder and head the mean over base seeds of ACC_P, ACC_S and Score, with thresholds chosen on the scored fold
(official) and on the other folds (cross-fitted), and of the cross entropy of the held-out labels. Both heads have the
seeds and settings of the demo. `--layers` sets that option, for encoders that have it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from blemore_harness.api.opening import load_dataset
from blemore_harness.cache import Cache
from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.data.opening import open_blinded
from blemore_harness.disk import cache_root
from blemore_harness.options import build_options
from blemore_harness.protocol.thresholds import cross_fitted, official
from blemore_harness.systems.plugins import load_plugins

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fakes import RecordingReporter, make_context

LEAST = 1e-6
"""A probability below counts as that much in the cross entropy."""


def measure(name: str, changes: dict[str, object], seed: int, blinded: BlindedDataset) -> list[float]:
    """Official and cross-fitted ACC_P, ACC_S and Score, and the cross entropy, of one encoder and base seed."""
    system = load_plugins({}).encoder(name).system
    options = build_options(name, system.Options, {**system.demo_options, **changes})
    options = system.resolve_options(options, blinded.feature_sets)
    truth = blinded.train.labels
    rows = np.zeros(truth.shape)
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(cache_root() / "arrays")
        context = replace(make_context(Path(folder)), cache=cache)
        system.prepare(blinded.train.unlabelled(), options, context)
        for number in sorted(set(blinded.folds.tolist())):
            fold = blinded.fold(number)
            context = replace(make_context(Path(folder), seed=100 * seed + number), cache=cache)
            rows[blinded.folds == number] = system.fit(fold, options, context).predict(fold.held_out, context).values
    found = []
    for choose in (official, cross_fitted):
        scores = [choice.scores for choice in choose(rows, truth, blinded.folds).values()]
        found += [float(np.mean([getattr(s, part) for s in scores])) for part in ("presence", "salience", "score")]
    return [*found, float(-(truth / 100 * np.log(np.maximum(rows, LEAST))).sum(axis=1).mean())]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", default="prosody,wav2vec2")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--layers", default="")
    given = parser.parse_args()
    blinded = open_blinded(load_dataset(), RecordingReporter())
    layers = {"layers": given.layers} if given.layers else {}
    print("encoder  head  seeds  official ACC_P ACC_S Score  cross-fitted ACC_P ACC_S Score  cross entropy")
    for name in given.encoders.split(","):
        for head in ("mlp-1024-512", "attentive"):
            values = []
            for seed in range(given.seeds):
                values.append(measure(name, {**layers, "head": head}, seed, blinded))
                means, spread = np.mean(values, axis=0), np.std(values, axis=0)
                cells = "  ".join(f"{mean:.3f} ± {off:.3f}" for mean, off in zip(means, spread, strict=True))
                print(f"{name}  {head}  {seed + 1}  {cells}", flush=True)


if __name__ == "__main__":
    main()
