"""How long ranking submissions takes, as a ratio to reading and scoring them alone.

    python benchmarks/ranking.py [--submissions 100] [--actors 11]

Labels of 594 clips are made up, and submissions of several skills written as zip files. "alone" reads and scores every
file and computes its interval; "ranked" also tests all pairs and forms groups of ties, all within one process.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path

import numpy as np

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.files.leaderboard import write_submission
from blemore_harness.files.scoring import read_reference
from blemore_harness.protocol.rules import BLENDS, SINGLE, official_test_ids
from blemore_harness.scoring.ranking import find_sent, rank_files, score_file


def draw_labels(rng: np.random.Generator, clips: int) -> LabelArray:
    """Draw labels: about as many blends as single emotions."""
    labels = np.zeros((clips, len(EMOTIONS)), dtype=np.int8)
    for row in labels:
        if rng.random() < 0.46:
            row[rng.integers(len(EMOTIONS))] = SINGLE
        else:
            row[rng.choice(len(EMOTIONS) - 1, 2, replace=False)] = BLENDS[rng.integers(len(BLENDS))]
    return labels


def write_material(folder: Path, submissions: int, actors: int) -> Path:
    """Write a reference, and submissions that are right with probabilities from .1 to .5."""
    rng, ids = np.random.default_rng(0), official_test_ids()
    truth = draw_labels(rng, len(ids))
    with (folder / "test_metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ("filename", "video_id", "mix", "emotion_1", "emotion_2", "emotion_1_salience", "emotion_2_salience")
        )
        for k, (name, row) in enumerate(zip(ids, truth, strict=True)):
            one, *rest = np.flatnonzero(row).tolist()
            blend = (EMOTIONS[rest[0]], row[one], row[rest[0]]) if rest else ("", "", "")
            writer.writerow((name, f"T{k % actors}", len(rest), EMOTIONS[one], *blend))
    (folder / "sent").mkdir()
    for k in range(submissions):
        right = rng.random(len(ids)) < 0.1 + 0.4 * k / submissions
        write_submission(
            folder / "sent" / f"team{k:03d}.zip", ids, np.where(right[:, None], truth, draw_labels(rng, len(ids)))
        )
    return folder / "test_metadata.csv"


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=100)
    parser.add_argument("--actors", type=int, default=11)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = write_material(Path(name), given.submissions, given.actors)
        reference, sent = read_reference(path), find_sent([Path(name) / "sent"], path)
        score_file(sent[0].path, reference)  # imports what intervals need
        times = []
        for work in (lambda: [score_file(each.path, reference) for each in sent], lambda: rank_files(sent, reference)):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
    alone, ranked = times
    print(f"{given.submissions} submissions of 594 clips, {given.actors} actors (CPU time)")
    print(f"alone   {alone:6.2f} s")
    print(f"ranked  {ranked:6.2f} s   ratio {ranked / alone:.2f}")


if __name__ == "__main__":
    main()
