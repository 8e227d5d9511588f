"""How much faster the heads of five folds are trained together than one by one, and how little they differ.

    python benchmarks/head_folds.py [--device cuda] [--clips 2456] [--epochs 100] [--rounds 3]
    python benchmarks/head_folds.py --trainer [--epochs 3] [--rounds 3]

Both run in this process on the same made-up embeddings, every epoch is scored on the held-out fold, and each way is
timed as the best of several rounds. On a CPU the harness trains one by one; there the time together is for comparison
only. Training amplifies rounding: beside the difference between the two ways stands the one that embeddings make which
are off by a bit, both trained one by one.

With `--trainer` the organisers' head (`mlp-512`) is trained on a CPU as a run does it, with all cores, and as a plain
torch program does: `DataLoader`, `torch.optim.Adam` as it comes, and after every epoch the official grid by 400
decodings as arrays. That program has all cores as well. Wall times count on an idle machine, CPU times on a busy one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from figures import add_json, write_figures

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.heads.fitting import fit_head, fit_heads, fit_heads_together
from blemore_harness.heads.models import HeadModel
from blemore_harness.heads.options import HeadOptions
from blemore_harness.networks import build_mlp
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.protocol.grid import OFFICIAL_GRID, GridCounter
from blemore_harness.protocol.rules import decode, score

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fakes import LABELS, make_context

FOLDS = 5
CLIPS = 2456
HEADS = {
    "UZH head, 7168 inputs": (7168, {}),
    "mlp-512, 7168 inputs": (7168, {"head": "mlp-512"}),
    "two layers of 64, 176 inputs": (176, {"hidden": "64-64"}),
}


class Task:
    """Five folds of made-up embeddings in which the emotions can half be told.

    Args:
        clips: how many in all; folds differ a little in size, as the official ones do.
        width: numbers per vector.
        device: where heads are trained.
    """

    def __init__(self, clips: int, width: int, device: str) -> None:
        rng = np.random.default_rng(0)
        self.device = device
        self.labels = LABELS[rng.integers(len(LABELS), size=clips)].astype(np.int8)
        noise = rng.normal(size=(clips, width)).astype(np.float32)
        self.vectors = noise + (self.labels / 100 @ rng.normal(size=(6, width)) * 0.1).astype(np.float32)
        self.numbers = np.minimum(rng.integers(FOLDS * 20, size=clips) // 20, FOLDS - 1)
        self.folds = [self.make_fold(k) for k in range(FOLDS)]

    def make_fold(self, k: int) -> Fold:
        names = [f"{number:05d}" for number in range(len(self.labels))]
        inside, outside = np.flatnonzero(self.numbers == k), np.flatnonzero(self.numbers != k)
        train = Clips(
            tuple(Clip(names[i]) for i in outside), tuple(f"A{i % 40}" for i in outside), self.labels[outside]
        )
        return Fold(k, train, Clips(tuple(Clip(names[i]) for i in inside)))

    def embed(self, clips: Clips, context: Context) -> Embeddings:
        return Embeddings(clips.ids, self.vectors[[int(name) for name in clips.ids]])

    def contexts(self, folder: Path) -> list[Context]:
        return [self.make_context(folder, k) for k in range(FOLDS)]

    def make_context(self, folder: Path, k: int) -> Context:
        counter = GridCounter(self.labels[self.numbers == k])

        def score(rows: Probabilities):
            return counter.count(rows.values).choose().scores

        made = make_context(folder, seed=k, score=score)
        return Context(self.device, made.seed, made.workspace, made.cache, made.reporter, score)

    def rows(self, models: list[HeadModel]) -> np.ndarray:
        return np.concatenate([m.predict(f.held_out, None).values for m, f in zip(models, self.folds, strict=True)])


def best_of(rounds: int, work: Callable[[], list[HeadModel]]) -> tuple[float, list[HeadModel]]:
    """Return the shortest time of several rounds, in seconds, and the last models."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        models = work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times), models


def measure(name: str, clips: int, epochs: int, device: str, rounds: int, folder: Path) -> dict[str, float]:
    """Time both ways, print a line, and return the ratio."""
    width, settings = HEADS[name]
    task = Task(clips, width, device)
    options = HeadOptions(**settings, epochs=epochs, patience=epochs, selection="held-out")

    def one_by_one(chosen: HeadOptions) -> list[HeadModel]:
        return [
            fit_head(lambda asked, c=c: task.embed(asked, c), f, chosen, c)
            for f, c in zip(task.folds, task.contexts(folder), strict=True)
        ]

    def together(chosen: HeadOptions) -> list[HeadModel]:
        return fit_heads_together(task.embed, task.folds, chosen, task.contexts(folder))

    one_epoch = HeadOptions(**{**vars(options), "epochs": 1})
    warmed = [task.rows(way(one_epoch)) for way in (one_by_one, together)]
    alone, models = best_of(rounds, lambda: one_by_one(options))
    joint, others = best_of(rounds, lambda: together(options))
    rows, joint_rows = task.rows(models), task.rows(others)
    same = sum(m.epochs == o.epochs for m, o in zip(models, others, strict=True))
    task.vectors = np.nextafter(task.vectors, np.float32(np.inf))
    off = [task.rows(one_by_one(chosen)) for chosen in (one_epoch, options)]
    print(f"{name:30} one by one {alone:8.2f} s   together {joint:8.2f} s   x {alone / joint:5.2f}")
    for when, ours, theirs, other in [
        ("after 1 epoch", *warmed, off[0]),
        (f"after {epochs} epochs", rows, joint_rows, off[1]),
    ]:
        print(
            f"  {when:28} largest difference {np.abs(ours - theirs).max():.1e}, "
            f"of embeddings that are off by a bit {np.abs(ours - other).max():.1e}"
        )
    print(f"  same epoch kept in {same} of {FOLDS} folds")
    return {f"{name}: together, times faster": alone / joint}


def train_plainly(task: Task, k: int, epochs: int) -> float:
    """Train one fold as a plain torch program does, and return the best Score of its epochs."""
    from torch.utils.data import DataLoader, TensorDataset

    fold, inside = task.folds[k], task.numbers == k
    vectors = torch.from_numpy(task.vectors)
    train, held = vectors[~inside], vectors[inside]
    mean, deviation = train.mean(dim=0), train.std(dim=0)
    targets = torch.from_numpy(fold.train.targets)
    loader = DataLoader(TensorDataset((train - mean) / deviation, targets), batch_size=32, shuffle=True)
    network = build_mlp(task.vectors.shape[1], (512,), False, 0.0)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-6, weight_decay=1e-3)
    loss = torch.nn.KLDivLoss(reduction="batchmean")
    best = 0.0
    for _ in range(epochs):
        network.train()
        for inputs, wanted in loader:
            optimiser.zero_grad()
            loss(network(inputs).softmax(dim=1).clamp(min=1e-8).log(), wanted).backward()
            optimiser.step()
        network.eval()
        with torch.no_grad():
            rows = network((held - mean) / deviation).softmax(dim=1).double().numpy()
        truth = task.labels[inside]
        best = max(best, *(score(truth, decode(rows, a, b)).score for a in OFFICIAL_GRID for b in OFFICIAL_GRID))
    return best


def compare_trainers(clips: int, epochs: int, rounds: int, folder: Path) -> dict[str, float]:
    """Time a run's heads of all folds against the plain program, in turns, and print and return the best of each."""
    task = Task(clips, 7168, "cpu")
    options = HeadOptions(head="mlp-512", epochs=epochs, selection="held-out")
    ways: dict[str, Callable[[], object]] = {
        "plain torch": lambda: [train_plainly(task, k, epochs) for k in range(FOLDS)],
        "as a run": lambda: list(fit_heads(task.embed, task.folds, options, task.contexts(folder))),
    }
    best = dict.fromkeys(ways, (np.inf, np.inf))
    for _ in range(rounds):
        for name, work in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            spent = time.perf_counter() - wall, time.process_time() - cpu
            best[name] = min(best[name][0], spent[0]), min(best[name][1], spent[1])
    for name, (wall, cpu) in best.items():
        print(f"{name:12} {wall:8.1f} s {cpu:8.1f} s of CPU")
    ratios = [plain / own for plain, own in zip(best["plain torch"], best["as a run"], strict=True)]
    print(f"a run is {ratios[0]:.1f} times as fast, with {ratios[1]:.1f} times less CPU")
    return {
        "mlp-512, five folds: times faster than plain torch": ratios[0],
        "mlp-512, five folds: times less CPU than plain torch": ratios[1],
        "mlp-512, five folds: s of CPU an epoch": best["as a run"][1] / epochs,
    }


def main() -> None:
    """Read the arguments and measure every head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trainer", action="store_true", help="against a plain torch program, on a CPU")
    add_json(parser)
    arguments = parser.parse_args()
    if arguments.trainer:
        with tempfile.TemporaryDirectory() as folder:
            found = compare_trainers(arguments.clips, arguments.epochs, arguments.rounds, Path(folder))
        write_figures(arguments.json, found)
        return
    where = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else arguments.device
    print(f"{FOLDS} folds of {arguments.clips} clips, {arguments.epochs} epochs on {where}")
    with tempfile.TemporaryDirectory() as folder:
        found = [
            measure(name, arguments.clips, arguments.epochs, arguments.device, arguments.rounds, Path(folder))
            for name in HEADS
        ]
    write_figures(arguments.json, {name: value for each in found for name, value in each.items()})


if __name__ == "__main__":
    main()
