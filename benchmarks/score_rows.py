"""How long `score` takes, and how much memory, as the number of clips grows: both should grow no faster than it.

    python benchmarks/score_rows.py [--clips 100000 1000000]

Metadata and probabilities are made up in a temporary folder. Each command runs in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import add_json, write_figures
from startup import write_clips

CODE = """
import resource, sys
from blemore_harness.cli import main
try:
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6, file=sys.stderr)
"""


def main() -> None:
    """Make everything up, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[100_000, 1_000_000])
    add_json(parser)
    given = parser.parse_args()
    figures = {}
    for clips in given.clips:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            write_clips(home / "data", clips)
            words = [sys.executable, "-c", CODE, "score", "data/rows.csv", "--data", "data"]
            done = subprocess.run(words, cwd=home, check=True, capture_output=True, text=True)
        seconds, memory = map(float, done.stderr.split()[-2:])
        each = 1e6 * seconds / clips
        print(f"{clips:,} clips: {seconds:.1f} s of CPU, {each:.0f} us a clip, {memory:.2f} GB at most")
        figures |= {f"{clips:,} clips, s of CPU": seconds, f"{clips:,} clips, GB of memory": memory}
    write_figures(given.json, figures)


if __name__ == "__main__":
    main()
