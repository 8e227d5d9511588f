"""What a change of the head gains on the demo: the same encoder with its demo options, and with another option.

    python benchmarks/attentive.py [--encoders prosody,wav2vec2] [--seeds 3] [--change head=attentive] [--always]

For each encoder, with and without the change, the mean and standard deviation over base seeds of ACC_P, ACC_S and Score
with thresholds chosen on the scored fold (official) and on the other folds (cross-fitted), of the cross-entropy of the
held-out labels, and of the CPU seconds of training and predicting five folds; and what the change adds to the Score,
with a 95 % interval over actors of all seeds together, which holds models and thresholds fixed. Both have the same
seeds. `attention used` counts the folds whose head uses attention; with `--always` all do. Only heads are trained:
features are kept in the harness's cache.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.api.opening import load_dataset
from blemore_harness.cache import Cache
from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.data.opening import open_blinded
from blemore_harness.disk import cache_root
from blemore_harness.heads import models
from blemore_harness.options import build_options
from blemore_harness.predictions import FloatArray
from blemore_harness.protocol.grid import count_grids
from blemore_harness.protocol.thresholds import cross_fitted, official
from blemore_harness.scoring.intervals import ActorCounts, count_chosen, find_differences
from blemore_harness.systems.plugins import load_plugins

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fakes import RecordingReporter, make_context

LEAST = 1e-6
"""A probability below counts as that much in the cross-entropy."""

CHOOSE = {"official": official, "cross-fitted": cross_fitted}


@dataclass(frozen=True)
class Trained:
    """What heads of five folds predict for their held-out clips, folds with attention, and CPU seconds."""

    rows: FloatArray
    used: int
    seconds: float


def train(name: str, changes: Mapping[str, object], seed: int, blinded: BlindedDataset) -> Trained:
    """Train the heads of an encoder for one base seed."""
    system = load_plugins({}).encoder(name).system
    options = build_options(name, system.Options, {**system.demo_options, **changes})
    options = system.resolve_options(options, blinded.feature_sets)
    rows, used = np.zeros(blinded.train.labels.shape), 0
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(cache_root() / "arrays")
        system.prepare(blinded.train.unlabelled(), options, replace(make_context(Path(folder)), cache=cache))
        started = time.process_time()
        for number in sorted(set(blinded.folds.tolist())):
            fold, reporter = blinded.fold(number), RecordingReporter()
            context = replace(make_context(Path(folder), seed=100 * seed + number, reporter=reporter), cache=cache)
            rows[blinded.folds == number] = system.fit(fold, options, context).predict(fold.held_out, context).values
            attention: Any = reporter.notes.get("attention", {"used": False})
            used += attention["used"]
    return Trained(rows, used, time.process_time() - started)


def score(rows: FloatArray, blinded: BlindedDataset) -> list[float]:
    """Return official and cross-fitted ACC_P, ACC_S and Score, and the cross-entropy."""
    truth, found = blinded.train.labels, []
    for choose in CHOOSE.values():
        scores = [choice.scores for choice in choose(rows, truth, blinded.folds).values()]
        found += [float(np.mean([getattr(s, part) for s in scores])) for part in ("presence", "salience", "score")]
    return [*found, float(-(truth / 100 * np.log(np.maximum(rows, LEAST))).sum(axis=1).mean())]


def count(trained: list[Trained], kind: str, blinded: BlindedDataset) -> ActorCounts:
    """Return each actor's right answers, added up over the seeds."""
    truth, folds = blinded.train.labels, blinded.folds
    grids = [count_grids(each.rows, truth, folds, blinded.train.actors or ()) for each in trained]
    counts = [
        count_chosen(grid, CHOOSE[kind](each.rows, truth, folds)) for grid, each in zip(grids, trained, strict=True)
    ]
    sums = {part: sum(getattr(each, part) for each in counts) for part in ("clips", "blends", "presence", "salience")}
    return replace(counts[0], **sums)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", default="prosody,wav2vec2")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--change", default="head=attentive", metavar="OPTION=VALUE")
    parser.add_argument("--always", action="store_true")
    given = parser.parse_args()
    if given.always:
        models.measure_gain = lambda *_: (1.0, 0.0)
    blinded = open_blinded(load_dataset(), RecordingReporter())
    option, value = given.change.split("=", 1)
    print("encoder  options  seeds  official ACC_P ACC_S Score  cross-fitted ACC_P ACC_S Score  cross-entropy  CPU s")
    for name in given.encoders.split(","):
        trained: dict[str, list[Trained]] = {"": [], given.change: []}
        for changed, found in trained.items():
            for seed in range(given.seeds):
                found.append(train(name, {option: value} if changed else {}, seed, blinded))
                values = [[*score(each.rows, blinded), each.seconds] for each in found]
                means, spread = np.mean(values, axis=0), np.std(values, axis=0)
                cells = "  ".join(f"{mean:.3f} ± {off:.3f}" for mean, off in zip(means, spread, strict=True))
                used = f"attention used: {sum(each.used for each in found)} of {5 * (seed + 1)}"
                print(f"{name}  {changed or 'demo'}  {seed + 1}  {cells}  {used}", flush=True)
        for kind in CHOOSE:
            gain = find_differences(*(count(each, kind, blinded) for each in (trained[given.change], trained[""])))
            print(
                f"{name}  {kind}: {gain['score']['difference']:+.4f}, interval {gain['score']['interval']}", flush=True
            )


if __name__ == "__main__":
    main()
