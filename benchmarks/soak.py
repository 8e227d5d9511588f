"""Kills runs at random moments, resumes them, and compares every file with that of a run that nobody killed.

    python benchmarks/soak.py --kills 100 [--heads] [--isolate] [--few] [--seed 0] [--json]

A run evaluates two or three cheap encoders and a fusion of them on a small made-up download. It happens in a forked
process with runs and cache of its own, which gets SIGKILL after a random share of the time that the whole run takes,
is started again, perhaps killed again, and at last left in peace. Files are compared byte by byte but for times and
peak memory; what killed writers leave behind counts as a difference.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from blemore_harness.systems.plugins import load_plugins
from builders import rows_of, write_download
from installed_plugins import make_site
from second_distributions import offered

NOISE = """
import numpy as np
from blemore_harness.predictions import Probabilities

class Model:
    def __init__(self, prior):
        self.prior = prior

    def predict(self, clips, context):
        random = np.random.default_rng(context.seed)
        rows = random.dirichlet(np.ones(6), size=len(clips)) * self.prior
        return Probabilities(clips.ids, rows / rows.sum(axis=1, keepdims=True))

class Noise(Toy):
    name = "noise"

    def fit(self, fold, options, context):
        for step in range(20):
            (context.workspace / f"checkpoint-{step}").write_bytes(bytes(5000))
        context.note("first", fold.train.ids[0])
        return Model(fold.train.targets.mean(axis=0) + 0.1)

@hookimpl
def blemore_encoders():
    return [Noise()]
"""

HEADS = """
import numpy as np
from dataclasses import dataclass
from blemore_harness.predictions import Embeddings
from blemore_harness.heads.options import HeadOptions

@dataclass(frozen=True)
class SmallHead(HeadOptions):
    head: str = "mlp-256"
    hidden: str = "16"
    epochs: int = 4
    batch_norm: bool = True

class Heads(Toy):
    name = "heads"
    Options = SmallHead

    def prepare(self, clips, options, context):
        store = context.cache.store("soak-heads", version=1)
        for clip in store.missing(clips):
            random = np.random.default_rng(int(clip.content[:8], 16))
            store.save(clip, random.normal(size=40000).astype(np.float32))

    def embed(self, clips, options, context):
        store = context.cache.store("soak-heads", version=1)
        return Embeddings(clips.ids, np.stack([store.load(clip)[:32] for clip in clips]))

@hookimpl
def blemore_encoders():
    return [Heads()]
"""

CHANGING = {"seconds", "started", "finished", "peak_memory_bytes"}
"""Keys of what the harness writes that time changes."""

RESULTS = "blemore-runs/systems/*/[fp]*.*"
"""Files of finished folds and preparations."""

AGAIN = 0.4
"""How often a resumed run is killed once more."""


@dataclass
class Tally:
    """What came out."""

    kills: int = 0
    runs: int = 0
    compared: int = 0
    whole_run_seconds: float = 0.0
    folds_finished_when_killed: Counter[int] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


def start(home: Path, words: list[str]) -> int:
    """Run the command line in a forked process; returns its id."""
    home.mkdir(exist_ok=True)
    process = os.fork()
    if process:
        return process
    try:
        os.chdir(home)
        os.environ["BLEMORE_CACHE"] = str(home / "cache")
        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = words
        from blemore_harness.cli import main

        main()
    except SystemExit as end:
        os._exit(int(end.code or 0))
    finally:
        os._exit(99)


def wait(process: int) -> int:
    """Return how a process ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def contents(home: Path) -> dict[str, Any]:
    """Read every file of a run and of its cache, without what time changes."""
    found: dict[str, Any] = {}
    for root in ("blemore-runs", "cache"):
        for path in sorted((home / root).rglob("*")):
            if path.is_symlink():
                found[str(path.relative_to(home))] = str(path.readlink())
            elif path.is_file() and path.name not in (".lock", "log.txt"):
                data = path.read_bytes()
                if root == "cache" and path.suffix == ".tmp" and not data:
                    continue  # swept by whatever runs a minute later
                is_json = path.suffix == ".json" and root == "blemore-runs"
                found[str(path.relative_to(home))] = timeless(json.loads(data)) if is_json else data
    # Remembers files by their time of change.
    return {name: data for name, data in found.items() if not name.startswith("cache/file-digests/")}


def timeless(value: Any) -> Any:
    """Leave out what time changes."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in CHANGING}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def compare(home: Path, expected: dict[str, Any]) -> list[str]:
    """Name every file that is not what it should be."""
    found = contents(home)
    wrong = [f"missing: {name}" for name in sorted(set(expected) - set(found))]
    wrong += [f"left over: {name}" for name in sorted(set(found) - set(expected))]
    return wrong + [f"differs: {name}" for name in sorted(set(found) & set(expected)) if found[name] != expected[name]]


def wait_for_a_moment(home: Path, results: int, seconds: float, chance: random.Random) -> None:
    """Wait for a random time, or until a random number of results is there and a little longer."""
    if chance.random() < 0.5:
        time.sleep(chance.uniform(0, seconds))
        return
    wanted, until = chance.randint(0, results), time.monotonic() + 2 * seconds
    while len(list(home.glob(RESULTS))) < wanted and time.monotonic() < until:
        time.sleep(0.0005)
    time.sleep(chance.uniform(0, 0.02))


def soak(root: Path, words: list[str], kills: int, seed: int) -> Tally:
    """Kill, resume and compare until so many kills have hit a run at work."""
    tally, chance = Tally(), random.Random(seed)
    started = time.perf_counter()
    code = wait(start(root / "reference", words))
    tally.whole_run_seconds = round(time.perf_counter() - started, 3)
    if code:
        raise RuntimeError((root / "reference" / "output.txt").read_text())
    expected = contents(root / "reference")
    results = len(list((root / "reference").glob(RESULTS)))
    while tally.kills < kills:
        home, tries = root / f"run-{tally.runs}", 0
        while True:
            process = start(home, words)
            if tries == 0 or (chance.random() < AGAIN and tally.kills < kills):
                wait_for_a_moment(home, results, tally.whole_run_seconds, chance)
                os.kill(process, signal.SIGKILL)
            code = wait(process)
            if code == 0:
                break
            if code != -signal.SIGKILL:
                tally.differences.append(f"exit code {code}: {(home / 'output.txt').read_text()[-500:]}")
                break
            tries += 1
            tally.kills += 1
            tally.folds_finished_when_killed[len(list(home.glob("blemore-runs/systems/*/f*.json")))] += 1
        tally.runs += 1
        tally.compared += len(expected)
        tally.differences += [f"run {tally.runs}: {text}" for text in compare(home, expected)]
        shutil.rmtree(home)
        if sys.stderr.isatty():
            print(f"\r{tally.kills} of {kills}", end="", file=sys.stderr)
    return tally


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments; machines differ all the same")
    parser.add_argument("--heads", action="store_true", help="add an encoder with a torch head")
    parser.add_argument("--isolate", action="store_true", help="with worker processes")
    parser.add_argument("--few", action="store_true", help="one encoder alone, for a quick look")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> int:
    """Soak and report; exit 1 where anything differed."""
    asked = parse()
    with tempfile.TemporaryDirectory() as folder, make_site(Path(folder) / "site") as site:
        root = Path(folder)
        site.install("heads", HEADS)
        data = write_download(root / "data", rows_of(actors=6, folds=3), tests=4)
        site.install("noise", NOISE)
        names = ["noise", "file-bytes", *(["heads"] if asked.heads else [])]
        names = [names[-1] if asked.heads else names[0]] if asked.few else names
        words = ["blemore-harness", "run", "--plugin", ",".join(names), "--data", str(data), "--device", "cpu"]
        words += [] if asked.few else ["--fusion", "median"]
        words += ["--isolate"] if asked.isolate else []
        with offered(root / "second", "example_plugin"):
            # Here, so that a forked process starts at once.
            for module in ("blemore_harness.pipeline", *(["torch", "torch._dynamo"] if asked.heads else [])):
                importlib.import_module(module)
            load_plugins()
            tally = soak(root, words, asked.kills, asked.seed)
    found = vars(tally) | {"folds_finished_when_killed": dict(sorted(tally.folds_finished_when_killed.items()))}
    if asked.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name}: {value}")
    return 1 if tally.differences else 0


if __name__ == "__main__":
    sys.exit(main())
