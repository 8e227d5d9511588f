"""What the README's demo command costs, whole and part by part, and what it costs when everything is on disk.

    python benchmarks/demo_run.py [--plugin s4d,wav2vec2,gemini] [--rounds 3] [--json FILE]

The whole command comes first, in an empty cache: its wall time says something on an idle machine only. Each part is a
process of its own, in one new cache and one new folder of runs, so that it finds what the parts before it left: the
clips, what every encoder prepares, the fits of every encoder, the fusion and all scores, and then the whole command
again. Shares are of the processor time of all parts but the last (user and system time together, which hardly depends
on what else the machine does); the last is the least of several rounds, as a ratio of what it costs to start the
command and list the plugins.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import add_json, write_figures

MAIN = "from blemore_harness.cli import main; main()"
CLIPS = (
    "from blemore_harness.context import Silent\n"
    "from blemore_harness.demo.opening import demo_folder, make_demo\n"
    "make_demo(demo_folder(), Silent())\n"
)


def cost_of(home: Path, code: str, *words: str) -> tuple[float, float]:
    """Return the processor time and the wall time, in seconds, of Python code in a process of its own."""
    environment = {**os.environ, "BLEMORE_CACHE": str(home / "cache")}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code, *words], cwd=home, env=environment, check=True, capture_output=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def main() -> None:
    """Run the parts in order, then the whole again, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plugin", default="s4d,wav2vec2,gemini")
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser)
    given = parser.parse_args()
    encoders = given.plugin.split(",")
    whole = ("run", "--plugin", given.plugin)
    parts = [("clips", CLIPS, ())]
    parts += [(f"prepare {name}", MAIN, ("prepare", "--plugin", name)) for name in encoders]
    parts += [(f"fit {name}", MAIN, ("run", "--plugin", name)) for name in encoders]
    parts += [("fuse and score", MAIN, whole)]
    with tempfile.TemporaryDirectory() as folder:
        cpu, wall = cost_of(Path(folder), MAIN, *whole)
        figures = {"whole, s": wall, "whole, s of CPU": cpu}
        print(f"{'whole':24} {cpu:7.1f} s of CPU {wall:7.1f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        costs = {}
        for name, code, words in parts:
            costs[name] = cost_of(home, code, *words)
            print(f"{name:24} {costs[name][0]:7.1f} s of CPU {costs[name][1]:7.1f} s", flush=True)
        total = sum(cpu for cpu, _ in costs.values())
        print(f"{'all':24} {total:7.1f} s of CPU {sum(wall for _, wall in costs.values()):7.1f} s")
        print(", ".join(f"{name} {cpu / total:.0%}" for name, (cpu, _) in costs.items()))
        again = min(cost_of(home, MAIN, *whole)[0] for _ in range(given.rounds))
        listing = min(cost_of(home, MAIN, "plugins")[0] for _ in range(given.rounds))
        print(f"{'the same again':24} {again:7.2f} s of CPU, {again / listing:.1f} times `plugins`")
    figures |= {f"{name}, s of CPU": cpu for name, (cpu, _) in costs.items()}
    write_figures(given.json, figures | {"the same again, s of CPU": again})


if __name__ == "__main__":
    main()
