"""Measure what normalised actors and ordered ratios gain on unseen actors, in simulated worlds.

    python benchmarks/personal_expression.py [--worlds identity,embeddings,styles] [--replicates 8] [--seed 0]
        [--keep FILE]

SIMULATION, on the real labels where the BLEMORE material lies beside this checkout (../shared/blemore), else on those
of the demo. In each replicate three encoders are drawn, heads are trained on them with and without `normalise_actors`,
and everything is scored on 33 unseen actors, with thresholds of the training actors. Compared are pairs: the same
encoders and clips. About 20 s of processor time for each world and replicate; `--keep` keeps finished ones.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from blemore_harness.api.opening import open_dataset
from blemore_harness.cache import Cache
from blemore_harness.context import Context, Silent
from blemore_harness.protocol.grid import GridCounter
from blemore_harness.protocol.rules import Scores, decode, score
from blemore_lab.calibration import Calibrated
from blemore_lab.encoders import Skill
from blemore_lab.intervals import mean_interval
from blemore_lab.labels import LabelTable, demo_table, table_of
from blemore_lab.methods import Material
from blemore_lab.replicates import NewActors, draw_replicate
from blemore_lab.training import make_head_options
from blemore_lab.worlds import WORLDS
from blemore_plugins.means import LogitMean, LogitMeanOptions
from blemore_plugins.structured import Structured, StructuredOptions

REAL = Path(__file__).parents[2] / "shared" / "blemore"

SKILLS = {"s4d": 0.9, "videomae": 0.75, "wav2vec2": 0.8}
"""Sizes of expression that come to about the published ACC_P in the world `embeddings`."""

FACTORS = {"identity": 1.6, "styles": 1.25}
"""Where it takes more to come to it."""

FUSIONS = {
    "logit-mean": (LogitMean(), LogitMeanOptions()),
    "structured": (Structured(), StructuredOptions()),
    "structured, ratio=ordinal": (Structured(), StructuredOptions(ratio="ordinal")),
}

Results = dict[str, tuple[float, float]]
"""ACC_P and ACC_S by method."""


def compare(world: str, number: int, seed: int, table: LabelTable) -> Results:
    """Return ACC_P and ACC_S on unseen actors of everything that is compared, in one replicate."""
    setting: Any = WORLDS[world].setting
    encoders = [
        Calibrated(name, Skill(FACTORS.get(world, 1.0) * size, setting.blends), Scores(0.0, 0.0), 1.0)
        for name, size in SKILLS.items()
    ]
    found: Results = {}
    for suffix, given in (("", {}), (", normalised", {"normalise_actors": "true"})):
        heads = make_head_options(given)
        material, new = draw_replicate(encoders, table, setting, 33, (seed, number), heads)
        singles = [
            measure(material.train_rows[name], material.unseen_rows[name], table, new) for name in material.train_rows
        ]
        found["one encoder" + suffix] = tuple(np.mean(singles, axis=0).tolist())
        found |= {name + suffix: pair for name, pair in fuse(material, table, new).items()}
    return found


def fuse(material: Material, table: LabelTable, new: NewActors) -> Results:
    """Return the accuracies of fusions."""
    found: Results = {}
    with tempfile.TemporaryDirectory() as folder:
        context = Context("cpu", 0, Path(folder), Cache(Path(folder) / "cache"), Silent())
        everyone = np.ones(len(table.truth), dtype=bool)
        for name, (system, options) in FUSIONS.items():
            model = material.fit(system, options, context, None, everyone)
            # Its rows stand for labels already (structured), or it is not fitted (logit-mean).
            train = material.fuse_train(system, model, everyone, context)
            found[name] = measure(train, material.fuse_unseen(system, model, context), table, new)
    return found


def measure(train: Any, unseen: Any, table: LabelTable, new: NewActors) -> tuple[float, float]:
    """Return ACC_P and ACC_S of unseen clips with the thresholds that are best on the training clips."""
    best = GridCounter(table.truth).count(train).choose().thresholds
    scores = score(new.truth, decode(unseen, best.alpha, best.beta))
    return scores.presence, scores.salience


def write_table(world: str, results: list[Results]) -> None:
    """Print the mean Scores of a world, and the paired differences that the two options make."""
    mean = {name: float(np.mean([sum(each[name]) / 2 for each in results])) for name in results[0]}
    print(f"\n{world}, {len(results)} replicates (SIMULATION)")
    pairs = [(name, f"{name}, normalised") for name in mean if f"{name}, normalised" in mean]
    pairs.append(("structured", "structured, ratio=ordinal"))
    for before, after in pairs:
        gains = mean_interval([(sum(each[after]) - sum(each[before])) / 2 for each in results])
        salience = mean_interval([each[after][1] - each[before][1] for each in results])
        print(
            f"{before:26} {mean[before]:.3f}  {after:38} {mean[after]:.3f}  Score {gains.mean:+.4f} ± "
            f"{gains.half or np.nan:.4f}  ACC_S {salience.mean:+.4f} ± {salience.half or np.nan:.4f}"
        )


def main() -> None:
    """Run the replicates that are not kept, and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--worlds", default="identity,embeddings,styles")
    parser.add_argument("--replicates", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    table = table_of(open_dataset(REAL, Silent())) if REAL.is_dir() else demo_table()
    kept: dict[str, Results] = json.loads(asked.keep.read_text()) if asked.keep and asked.keep.exists() else {}
    worlds = asked.worlds.split(",")
    for number in range(asked.replicates):
        for world in worlds:
            key = f"{world} {asked.seed} {number}"
            if key not in kept:
                kept[key] = compare(world, number, asked.seed, table)
                print(key, file=sys.stderr, flush=True)
                if asked.keep:
                    asked.keep.write_text(json.dumps(kept))
    for world in worlds:
        write_table(world, [kept[f"{world} {asked.seed} {number}"] for number in range(asked.replicates)])


if __name__ == "__main__":
    main()
