"""How much processor time small commands take, interpreter start included, and how it grows with the number of clips.

    python benchmarks/startup.py [--rounds 3]

Everything is made up in a temporary folder: metadata and probabilities of 2,456 and 99,000 clips, and a finished run of
the trivial systems. Each figure is the least of several rounds in a new process, user and system time together. The
last two lines are the compiled search of `late` in a first process, which compiles it, and in a second, which loads it.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from figures import add_json, write_figures

from blemore_harness.clips import EMOTIONS

CLIPS = (2_456, 99_000)
CLIPS_PER_ACTOR = 60
MAIN = "from blemore_harness.cli import main; main()"
METADATA = "import sys, blemore_harness.data.metadata as m; m.read_metadata(m.Path(sys.argv[1]))"
SEARCH = """
import sys
import numpy as np
from pathlib import Path
from blemore_harness.cache import Cache
from blemore_plugins.late.scorers import CompiledScorer
from blemore_plugins.late.space import bounded_grid
rng = np.random.default_rng(0)
truth = np.eye(6, dtype=np.int8)[rng.integers(0, 6, 300)] * np.int8(100)
scorer = CompiledScorer(rng.dirichlet(np.ones(6), (3, 300)), truth, 1, Cache(Path(sys.argv[1])))
scorer.best_of(bounded_grid(3, 20), int), scorer.scores(np.full((1, 3), 1 / 3))
"""


def write_clips(folder: Path, count: int) -> None:
    """Write metadata and probabilities of made-up clips, half of them blends, actors in five folds."""
    folder.mkdir(parents=True)
    rows = np.random.default_rng(0).dirichlet(np.ones(len(EMOTIONS)), count)
    with (folder / "train_metadata.csv").open("w", newline="") as labels, (folder / "rows.csv").open("w") as given:
        writer, other = csv.writer(labels), csv.writer(given)
        columns = ("filename", "video_id", "mix", "emotion_1", "emotion_2", "emotion_1_salience", "emotion_2_salience")
        writer.writerow([*columns, "fold"])
        other.writerow(["filename", *EMOTIONS])
        for number in range(count):
            actor, take = divmod(number, CLIPS_PER_ACTOR)
            label = ("ang", "", "", "") if take % 2 else ("ang", "sad", "70", "30")
            name = f"A{actor}_ang_int1_ver{take}" if take % 2 else f"A{actor}_mix_ang_sad_70_30_ver{take}"
            writer.writerow([name, f"A{actor}", 1 - take % 2, *label, actor % 5])
            other.writerow([name, *rows[number]])


def seconds_of(home: Path, code: str, *words: str) -> float:
    """Return the processor time, in seconds, of Python code in a process of its own."""
    environment = {**os.environ, "BLEMORE_CACHE": str(home / "cache")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code, *words], cwd=home, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Make everything up, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser)
    given = parser.parse_args()
    figures: dict[str, float] = {}

    def tell(name: str, seconds: float) -> None:
        print(f"{name:44} {seconds:6.2f} s", flush=True)
        figures[f"{name.split(' (')[0]}, s of CPU"] = seconds

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for count in CLIPS:
            write_clips(home / str(count), count)
        run = ("run", "--plugin", "trivial-single,trivial-blend", "--fusion", "median", "--data", str(CLIPS[0]))
        first = seconds_of(home, MAIN, *run)
        for name, code, words in [
            ("interpreter and numpy", "import numpy", ()),
            *((f"metadata of {n:,} clips", METADATA, (f"{n}/train_metadata.csv",)) for n in CLIPS),
            *((f"score of {n:,} clips", MAIN, ("score", f"{n}/rows.csv", "--data", str(n))) for n in CLIPS),
            ("plugins", MAIN, ("plugins",)),
            (f"a finished run again (first: {first:.2f} s)", MAIN, run),
        ]:
            tell(name, min(seconds_of(home, code, *words) for _ in range(given.rounds)))
        tell("compiled search, first process", seconds_of(home, SEARCH, "kept"))
        tell("compiled search, second process", seconds_of(home, SEARCH, "kept"))
    write_figures(given.json, figures)


if __name__ == "__main__":
    main()
