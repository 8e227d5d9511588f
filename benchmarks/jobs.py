"""How much faster a run of the demo is on several workers than in one process, and that its files are the same.

    python benchmarks/jobs.py [--jobs 2] [--plugin s4d,wav2vec2,gemini,prosody] [--data DIR] [--json FILE]

Each run begins with an empty cache and an empty folder of runs, one after the other, in one process of this script. CPU
seconds are those of all processes of a run. Wall times say something on an idle machine only.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import add_json, write_figures

MAIN = "from blemore_harness.cli import main; main()"
VARYING = ("seconds", "computed_on", "embeddings made")
"""Facts and notes that differ from run to run: times and places."""


@dataclass(frozen=True)
class Measured:
    """One run: seconds on the clock and on all CPUs, and its files by name."""

    wall: float
    cpu: float
    files: dict[str, Any]


def main() -> int:
    """Run, print a line for each number of jobs, and the ratio; 1 where files differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--plugin", default="s4d,wav2vec2,gemini,prosody")
    parser.add_argument("--data", type=Path, help="generated demo dataset; made anew without it")
    add_json(parser)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        data = asked.data or home / "data"
        if asked.data is None:
            subprocess.run([sys.executable, "-c", MAIN, "data", "demo", str(data)], check=True, capture_output=True)
        found = {jobs: run(home / f"jobs-{jobs}", data, asked.plugin, jobs) for jobs in (1, asked.jobs)}
    for jobs, measured in found.items():
        print(f"--jobs {jobs}: {measured.wall:.0f} s, {measured.cpu:.0f} s of CPU", flush=True)
    one, many = found[1], found[asked.jobs]
    different = sorted(name for name in {*one.files, *many.files} if one.files.get(name) != many.files.get(name))
    print(f"wall time: {many.wall / one.wall:.2f} of one job, CPU: {many.cpu / one.cpu:.2f}")
    print(f"{len(one.files)} files, {len(different)} differ{': ' + different[0] if different else ''}")
    if different or not one.files:
        return 1
    figures = {f"--jobs {jobs}, s": measured.wall for jobs, measured in found.items()}
    figures |= {f"--jobs {jobs}, s of CPU": measured.cpu for jobs, measured in found.items()}
    write_figures(asked.json, figures | {f"--jobs {asked.jobs}, of the time of one job": many.wall / one.wall})
    return 0


def run(home: Path, data: Path, plugins: str, jobs: int) -> Measured:
    """Run the demo in an empty folder."""
    home.mkdir()
    words = ["run", "--plugin", plugins, "--data", str(data), "--device", "cpu", "--jobs", str(jobs)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", MAIN, *words], cwd=home, check=True, capture_output=True,
        env={**os.environ, "BLEMORE_CACHE": str(home / "cache")},
    )  # fmt: skip
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(wall, cpu, read_files(home / "blemore-runs"))


def read_files(runs: Path) -> dict[str, Any]:
    """Read what a run keeps of its systems, without times and places, and its leaderboard file."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in runs.rglob("*") if path.is_file()):
        name = str(path.relative_to(runs))
        if path.parent.parent.name == "systems" and path.suffix == ".json":
            facts = json.loads(path.read_text(encoding="utf-8"))
            facts["notes"] = {key: value for key, value in facts.get("notes", {}).items() if key not in VARYING}
            found[name] = {key: value for key, value in facts.items() if key not in VARYING}
        elif path.suffix in (".csv", ".zip", ".safetensors"):
            found[name] = path.read_bytes()
    return found


if __name__ == "__main__":
    sys.exit(main())
