"""Measure the demo dataset: does MTCNN find the drawn faces, and how well do simple classifiers read the labels?

    python benchmarks/demo_faces.py [DIR] [--every 10] [--skip-detection] [--skip-learning]

DIR holds a finished demo dataset; without it, one is made in a temporary folder. The classifiers are a yardstick of
difficulty and no part of the harness: per-clip statistics of grey face crops, and of log-mel spectra, a small MLP,
five actor-disjoint folds, the presence threshold for a fold chosen on the other folds.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import EMOTIONS
from blemore_harness.demo import write_demo

ALPHAS = np.linspace(0.05, 0.95, 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--every", type=int, default=10, help="look at every n-th frame")
    parser.add_argument("--skip-detection", action="store_true")
    parser.add_argument("--skip-learning", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary) / "demo"
        started = time.perf_counter()
        write_demo(directory)
        print(f"dataset ready after {time.perf_counter() - started:.1f} s")
        if not options.skip_detection:
            measure_detection(directory, options.every)
        if not options.skip_learning:
            measure_learning(directory)


def measure_detection(directory: Path, every: int) -> None:
    """Print the share of sampled frames in which MTCNN finds exactly one face, or any, and where it misses most."""
    import av
    from facenet_pytorch import MTCNN

    detector = MTCNN(keep_all=True, post_process=False)
    found: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    several = 0
    for path in sorted(directory.rglob("*.mov")):
        with av.open(str(path)) as container:
            pictures = [
                frame.to_image() for i, frame in enumerate(container.decode(video=0)) if i % every == every // 2
            ]
        actor = path.name.split("_")[0] if path.parent.name != "test" else "test"
        for boxes in detector.detect(pictures)[0]:
            seen[actor] += 1
            found[actor] += boxes is not None
            several += boxes is not None and len(boxes) > 1
    total = sum(seen.values())
    print(f"MTCNN: a face in {sum(found.values())} of {total} frames ({sum(found.values()) / total:.2%}),", end=" ")
    print(f"more than one in {several}; worst:", min((found[a] / seen[a], a) for a in seen))


def measure_learning(directory: Path) -> None:
    """Print presence accuracy over actor-disjoint folds from face alone and from audio alone."""
    with (directory / "train_metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    paths = {path.stem: path for path in directory.rglob("*.mov")}
    truth = np.zeros((len(rows), len(EMOTIONS)))
    for line, row in zip(truth, rows, strict=True):
        line[EMOTIONS.index(row["emotion_1"])] = float(row["emotion_1_salience"] or 100) / 100
        if row["emotion_2"]:
            line[EMOTIONS.index(row["emotion_2"])] = float(row["emotion_2_salience"]) / 100
    folds = np.array([int(row["fold"]) for row in rows])
    features = [describe(paths[row["filename"]]) for row in rows]
    views = {
        "face": np.stack([face for face, _ in features]),
        "sound": np.stack([sound for _, sound in features]),
    }
    for name, values in views.items():
        outputs = np.mean([cross_predict(values, truth, folds, seed) for seed in range(3)], axis=0)
        correct = presence(outputs, truth, folds)
        blends = (truth > 0).sum(axis=1) == 2
        single_top = outputs.argmax(axis=1) == truth.argmax(axis=1)
        print(
            f"{name}: presence {correct.mean():.3f} (singles {correct[~blends].mean():.3f}, "
            f"blends {correct[blends].mean():.3f}; top-1 of singles {single_top[~blends].mean():.3f})"
        )


def describe(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return simple features of a clip's picture and of its audio."""
    import av

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", 16000)
        blocks = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        sound = np.concatenate([block.to_ndarray().ravel() for block in blocks])
    crops = np.stack([frame[40:160, 36:156] for frame in frames[::3]]).astype(np.float32)
    small = crops.reshape(len(crops), 40, 3, 40, 3).mean(axis=(2, 4))
    small = (small - small.mean(axis=(1, 2), keepdims=True)) / small.std(axis=(1, 2), keepdims=True)
    face = np.concatenate([small.mean(axis=0).ravel(), small.std(axis=0).ravel()])
    mels = log_mels(sound)
    quantiles = np.percentile(mels, (10, 25, 50, 75, 90), axis=0)
    moving = np.abs(np.diff(mels, axis=0)).mean(axis=0)
    return face.astype(np.float32), np.concatenate([mels.mean(0), mels.std(0), moving, *quantiles]).astype(np.float32)


def log_mels(sound: NDArray[Any], bands: int = 40) -> NDArray[np.float64]:
    """Log energies in mel bands, (frames, bands), 25 ms windows every 10 ms; the overall level is taken out."""
    size, hop = 512, 160
    starts = np.arange(0, len(sound) - size, hop)
    power = np.abs(np.fft.rfft(sound[starts[:, None] + np.arange(size)] * np.hanning(size), axis=1)) ** 2
    top = 2595 * np.log10(1 + 8000 / 700)
    centres = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(size, 1 / 16000)
    rise = (frequencies[None] - centres[:-2, None]) / np.diff(centres)[:-1, None]
    fall = (centres[2:, None] - frequencies[None]) / np.diff(centres)[1:, None]
    mels: NDArray[np.float64] = np.log(power @ np.minimum(rise, fall).clip(0).T + 1e-5)
    return mels - mels.mean()


def cross_predict(
    values: NDArray[np.float32], truth: NDArray[np.float64], folds: NDArray[np.int_], seed: int
) -> NDArray[np.float64]:
    """Predict every fold with a small MLP trained on the others."""
    import torch

    outputs = np.zeros_like(truth)
    for fold in np.unique(folds):
        train = folds != fold
        mean, spread = values[train].mean(axis=0), values[train].std(axis=0) + 1e-6
        scaled = (values - mean) / spread
        _, _, axes = np.linalg.svd(scaled[train], full_matrices=False)
        reduced = scaled @ axes[:60].T
        reduced /= reduced[train].std(axis=0)
        inputs, targets = torch.tensor(reduced, dtype=torch.float32), torch.tensor(truth, dtype=torch.float32)
        torch.manual_seed(seed)
        model = torch.nn.Sequential(
            torch.nn.Dropout(0.2), torch.nn.Linear(reduced.shape[1], 64), torch.nn.ReLU(), torch.nn.Dropout(0.3)
        ).append(torch.nn.Linear(64, len(EMOTIONS)))
        optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
        chosen = torch.tensor(np.flatnonzero(train))
        for _ in range(300):
            optimiser.zero_grad()
            logits = model(inputs[chosen])
            loss = torch.nn.functional.cross_entropy(logits, targets[chosen])
            loss.backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            outputs[~train] = torch.softmax(model(inputs), dim=1).numpy()[~train]
    return outputs


def presence(outputs: NDArray[np.float64], truth: NDArray[np.float64], folds: NDArray[np.int_]) -> NDArray[np.bool_]:
    """Report which clips get exactly their emotions, each fold with the threshold that suits the other folds best."""
    correct = np.stack([right_sets(outputs, truth, alpha) for alpha in ALPHAS])
    result = np.zeros(len(truth), bool)
    for fold in np.unique(folds):
        best = correct[:, folds != fold].mean(axis=1).argmax()
        result[folds == fold] = correct[best, folds == fold]
    return result


def right_sets(outputs: NDArray[np.float64], truth: NDArray[np.float64], alpha: float) -> NDArray[np.bool_]:
    """Report which rows decode to exactly the emotions that are true, at one presence threshold."""
    order = np.argsort(-outputs, axis=1, kind="stable")[:, :2]
    result = np.zeros(len(truth), bool)
    for i, (first, second) in enumerate(order):
        blend = outputs[i, second] >= alpha and EMOTIONS.index("neu") not in (first, second)
        expected = {first, second} if blend else {first}
        result[i] = set(np.flatnonzero(truth[i])) == expected
    return result


if __name__ == "__main__":
    main()
