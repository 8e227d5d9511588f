"""How each step of an evaluation grows with clips, base models, stored systems and submissions: CPU time, memory, disk.

    python benchmarks/scaling.py [--steps metadata,blinding,...] [--clips 3000,10000,30000,100000]
                                 [--base-models 12,50] [--systems 100,300,1000] [--json FILE]

Every row of the table is a process of its own: it makes up its material and then measures the step, in CPU seconds
and as the peak of the process's resident memory, material included. "Growth" is the exponent between a row and the row
before it of the same step: 1 is linear, 2 quadratic. Clips are 65 of each actor, as in the challenge, so that actors
grow with clips. Nothing is extrapolated here.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from meters import peak_resident, reset_resident

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

EACH = 65
"""Clips of an actor."""

CLIPS_OF_THE_CHALLENGE = 3055

WIDTH = 7168
"""Numbers of an embedding: seven statistics of 1,024."""

FUSED_WIDTH = 768
"""Numbers of an embedding of each base model of `rank-aware`."""

FUSIONS = ("late", "best-of", "structured", "stack", "weighted-logit-mean", "rank-aware")

HEAD_EPOCHS = 2

Prepared = tuple[Callable[[], Any], Callable[[Any], dict[str, Any]]]
"""The work that is measured, and what is to be told of its result."""


def nothing(_result: Any) -> dict[str, Any]:
    """Tell nothing of a result."""
    return {}


def rows_of(clips: int) -> list[dict[str, str]]:
    """Return rows of metadata."""
    from report_runs import challenge_rows

    return challenge_rows(math.ceil(clips / EACH), EACH)[:clips]


def make_sample(clips: int, skill: float = 0.3, seed: int = 0) -> Any:
    """Return made-up probabilities of a system with labels, folds and actors."""
    from blemore_harness.decoding.strategies import make_sample as sample_of
    from builders import label_of
    from report_runs import answer

    rows = rows_of(clips)
    truth = np.array([label_of(row) for row in rows], dtype=np.int8)
    actors = np.unique([row["video_id"] for row in rows], return_inverse=True)[1].astype(np.int64)
    return sample_of(answer(rows, skill, seed), truth, np.array([int(row["fold"]) for row in rows]), actors)


def metadata(clips: int, folder: Path) -> Prepared:
    """Read metadata and find the files of a download."""
    from blemore_harness.data.download import read_dataset
    from builders import write_download

    write_download(folder / "data", rows_of(clips), tests=0)
    return lambda: read_dataset(folder / "data"), nothing


def blinding(clips: int, folder: Path) -> Prepared:
    """Make neutral files and digests of (tiny) videos for the first time."""
    from blemore_harness.data.blinded import blind_dataset
    from blemore_harness.data.download import read_dataset
    from builders import write_download

    dataset = read_dataset(write_download(folder / "data", rows_of(clips), tests=0))
    return lambda: blind_dataset(dataset, folder / "views"), nothing


def head(clips: int, folder: Path) -> Prepared:
    """Train the reference head on a fold's training clips for two epochs, judged on the held-out clips."""
    from head_folds import Task

    from blemore_harness.heads.fitting import fit_head
    from blemore_harness.heads.options import HeadOptions

    task = Task(clips, WIDTH, "cpu")
    options = HeadOptions(epochs=HEAD_EPOCHS, patience=HEAD_EPOCHS, selection="held-out")
    context = task.make_context(folder, 0)
    return lambda: fit_head(lambda asked: task.embed(asked, context), task.folds[0], options, context), nothing


def strategies(clips: int, _folder: Path) -> Prepared:
    """Decode all folds by every threshold strategy."""
    from blemore_harness.decoding.strategies import STRATEGIES, decode_folds

    sample = make_sample(clips)
    spent: dict[str, float] = {}

    def work() -> None:
        for name, strategy in STRATEGIES.items():
            started = time.process_time()
            decode_folds(strategy, sample)
            spent[name] = time.process_time() - started

    return work, lambda _: {"slowest": max(spent, key=lambda name: spent[name]), "slowest_cpu": max(spent.values())}


def grids(clips: int, _folder: Path) -> Prepared:
    """Count right answers per actor at all 400 pairs of thresholds."""
    from blemore_harness.protocol.grid import count_grids

    sample = make_sample(clips)
    return lambda: count_grids(sample.values, sample.truth, sample.folds, sample.groups), nothing


def intervals(clips: int, _folder: Path) -> Prepared:
    """Compute the bootstrap interval over actors of a system's Scores."""
    from blemore_harness.scoring.intervals import find_intervals
    from blemore_harness.scoring.results import count_answers

    _, counts = count_answers(make_sample(clips))
    return lambda: find_intervals(counts), nothing


def pair(clips: int, _folder: Path) -> Prepared:
    """Test two systems against each other by swaps of rows, thresholds chosen anew."""
    from blemore_harness.scoring.paired_tests import compare_counts
    from blemore_harness.scoring.results import count_answers

    (_, one), (_, two) = (count_answers(make_sample(clips, skill, seed)) for skill, seed in ((0.3, 0), (0.32, 1)))
    return lambda: compare_counts(one, two), nothing


def fusion(name: str, base_models: int) -> Callable[[int, Path], Prepared]:
    """Return the step that fits a fusion of so many base models once, on all clips."""

    def prepare(clips: int, folder: Path) -> Prepared:
        from blemore_harness.clips import Clip, Clips, Fold
        from blemore_harness.systems.plugins import load_plugins
        from builders import label_of
        from fakes import make_context

        plugin = load_plugins().fusion(name).system
        rows = rows_of(clips)
        train = Clips(
            tuple(Clip(f"c{number}") for number in range(clips)), tuple(row["video_id"] for row in rows),
            np.array([label_of(row) for row in rows], dtype=np.int8),
        )  # fmt: skip
        fold = Fold(None, train, Clips((Clip("test"),)))
        outputs = embeddings_of if plugin.takes == "embeddings" else probabilities_of
        models = outputs(base_models, fold)
        context, warm = make_context(folder), make_context(folder / "warm")
        for each in (context, warm):
            each.workspace.mkdir(parents=True)
        if name == "late":  # which compiles
            few = Clips(train.items[:130], train.actors[:130], train.labels[:130])
            given = {key: models[key].pick(few.ids) for key in ("m00", "m01")}
            plugin.fit(Fold(None, few, fold.held_out), given, plugin.Options(), warm)
        return lambda: plugin.fit(fold, models, plugin.Options(), context), nothing

    return prepare


def probabilities_of(count: int, fold: Any) -> dict[str, Any]:
    """Return probabilities of so many base models, each a little better than the one before."""
    from blemore_harness.predictions import Probabilities

    found = {}
    for m in range(count):
        noise = np.random.default_rng(m).dirichlet(np.full(6, 0.7), len(fold.train))
        skill = 0.1 + 0.004 * m
        found[f"m{m:02}"] = Probabilities(fold.train.ids, skill * fold.train.labels / 100 + (1 - skill) * noise)
    return found


def embeddings_of(count: int, fold: Any) -> dict[str, Any]:
    """Return embeddings of so many base models, in which the emotions can half be told."""
    from blemore_harness.predictions import Embeddings

    truth = np.concatenate([fold.train.labels / 100, np.zeros((1, 6))]).astype(np.float32)
    found = {}
    for m in range(count):
        random = np.random.default_rng(m)
        vectors = random.normal(size=(len(truth), FUSED_WIDTH)).astype(np.float32)
        vectors[:, :6] += truth * 2
        found[f"m{m:02}"] = Embeddings((*fold.train.ids, *fold.held_out.ids), vectors)
    return found


def page(clips: int, folder: Path) -> Prepared:
    """Write the report page of twelve systems, and the record of the run."""
    from report_page import write_page

    def work() -> Path:
        return write_page(folder, 12, rows_of(clips))

    return work, lambda path: {"disk": path.stat().st_size}


def record(systems: int, folder: Path) -> Prepared:
    """Write and read the record of a run with so many systems of five folds."""
    from blemore_harness.files.runs import read_record
    from report_runs import answer, finished_run

    rows = rows_of(390)
    contents = finished_run(folder / "run", {"s": answer(rows, 0.3, 0)}, rows)
    from dataclasses import replace

    one = contents.systems[0].record
    many = tuple(replace(one, name=f"s{k}", digest=f"{k:016x}") for k in range(systems))
    file = folder / "record.json"

    def work() -> None:
        file.write_text(json.dumps(replace(contents.record, systems=many).to_json(), indent=2))
        read_record(folder)

    return work, lambda _: {"disk": file.stat().st_size}


def rank(submissions: int, folder: Path) -> Prepared:
    """Score and rank so many submissions of 594 clips of 11 actors."""
    from ranking import write_material

    from blemore_harness.files.scoring import read_reference
    from blemore_harness.scoring.ranking import find_sent, rank_files

    path = write_material(folder, submissions, 11)
    reference, sent = read_reference(path), find_sent([folder / "sent"], path)
    return lambda: rank_files(sent, reference), nothing


def ties(systems: int, _folder: Path) -> Prepared:
    """Test so many systems against each other and group them, as the leaderboard does, on 3,055 clips."""
    from blemore_harness.scoring.analysis import compare_all_systems
    from blemore_harness.scoring.reading import LoadedSystem
    from sample_records import sample_record

    rows = rows_of(CLIPS_OF_THE_CHALLENGE)
    ids, actors = tuple(row["filename"] for row in rows), tuple(row["video_id"] for row in rows)
    facts = sample_record()
    samples = {f"s{k}": make_sample(len(rows), 0.1 + 0.4 * k / systems, k) for k in range(systems)}
    loaded = {
        name: LoadedSystem("run", name, ids, sample, None, actors, ("",) * len(ids), facts)
        for name, sample in samples.items()
    }
    return lambda: compare_all_systems(loaded, "other-folds"), lambda found: {"groups": len(found["groups"])}


def stored(systems: int, folder: Path) -> Prepared:
    """Rank so many stored systems, twenty in each run, of sixty clips of six actors, whose tests are quick."""
    from blemore_harness.systems.submission import from_plugins
    from blemore_pages.leaderboard.boards import make_boards
    from toys import Noisy, offer, open_bench

    bench = open_bench(folder, 6, 0)
    names = [f"toy{k}" for k in range(systems)]
    plugins, _ = offer(*(Noisy(name, 0.2 + k / systems) for k, name in enumerate(names)))
    for start in range(0, systems, 20):
        bench.run(plugins, from_plugins([",".join(names[start : start + 20])], None))
    return lambda: make_boards([folder / "runs"], [], "out-of-sample"), lambda found: {"rows": len(found[0][0].rows)}


def disk(seconds: int, folder: Path) -> Prepared:
    """Keep the frames of two clips of 960 x 540 of so many seconds in the cache; tells bytes of a clip."""
    from videos import Format, make_context, write_videos

    from blemore_harness.media.frame_cache import open_frames

    clips = write_videos(folder, 2, Format(float(seconds)))
    context = make_context(folder, "cpu")

    def size(_result: Any) -> dict[str, Any]:
        files = [path for path in (folder / "cache").rglob("*") if path.is_file()]
        return {"disk": sum(path.stat().st_size for path in files) // len(clips)}

    return lambda: open_frames(context.cache).prepare(clips, context), size


def make_steps(given: Any) -> dict[str, tuple[Callable[[int, Path], Prepared], list[int], str]]:
    """Return by name of a step: its function, its sizes, and what they count."""
    steps: dict[str, tuple[Callable[[int, Path], Prepared], list[int], str]] = {
        step.__name__: (step, given.clips, "clips")
        for step in (metadata, blinding, head, grids, strategies, intervals, pair, page)
    }
    for name in FUSIONS:
        for count in given.base_models:
            steps[f"{name}-{count}"] = (fusion(name, count), given.clips, f"clips, {count} base models")
    steps["record"] = (record, given.systems, "systems")
    steps["ties"] = (ties, [12, 24, *given.systems], "systems, tests of all pairs")
    steps["stored"] = (stored, given.systems, "stored systems")
    steps["rank"] = (rank, given.systems, "submissions")
    steps["disk"] = (disk, [1, 5], "seconds of a clip, frames in the cache")
    return steps


def measure_step(step: Callable[[int, Path], Prepared], size: int) -> dict[str, Any]:
    """Prepare a step, measure it in this process, and return its figures."""
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        work, tell = step(size, Path(folder))
        known = reset_resident()
        before = _cpu()
        result = work()
        cpu = _cpu() - before
        return {"cpu": cpu, "peak": peak_resident() if known else None, **tell(result)}


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def ask(name: str, size: int, limit: float) -> dict[str, Any]:
    """Measure a step in a process of its own; a failure and a time limit are figures as well."""
    words = [sys.executable, __file__, "--one", name, "--size", str(size), *sys.argv[1:]]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"failure": f"not finished after {limit:g} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"failure": lines[-1][:200]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def growth(before: dict[str, Any] | None, row: dict[str, Any]) -> float | None:
    """Return the exponent of the CPU time between two rows; None where one is missing or too short to say."""
    if before is None or min(before.get("cpu", 0), row.get("cpu", 0)) < 0.05:
        return None
    return math.log(row["cpu"] / before["cpu"]) / math.log(row["size"] / before["size"])


def draw(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    told = f"{row['step']:16} {row['size']:>8,} {row['what']:26}"
    if "failure" in row:
        return f"{told} {row['failure']}"
    peak = "" if row["peak"] is None else f"{row['peak'] / 2**20:,.0f} MiB"
    line = f"{told} {row['cpu']:>9.2f} s {peak:>11} {'' if row['growth'] is None else format(row['growth'], '.1f'):>6}"
    if "disk" in row:
        line += f"  {row['disk'] / 1e6:.2f} MB on disk"
    return line + (f"  {row['slowest']}: {row['slowest_cpu']:.1f} s" if "slowest" in row else "")


def numbers(text: str) -> list[int]:
    """Read a list of whole numbers."""
    return sorted(int(part) for part in text.split(","))


def main() -> None:
    """Measure all steps at all sizes, print a table, and write a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", help="names, joined by commas [default: all]")
    parser.add_argument("--clips", type=numbers, default=[3000, 10000, 30000, 100000])
    parser.add_argument("--base-models", type=numbers, default=[12, 50])
    parser.add_argument("--systems", type=numbers, default=[100, 300, 1000], help="stored systems, and submissions")
    parser.add_argument("--limit", type=float, default=600, help="seconds for a row, material included [default: 600]")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    given: Any = parser.parse_args(namespace=SimpleNamespace())
    steps = make_steps(given)
    if given.one:
        print(json.dumps(measure_step(steps[given.one][0], given.size)))
        return
    chosen = given.steps.split(",") if given.steps else list(steps)
    unknown = [name for name in chosen if name not in steps]
    if unknown:
        parser.error(f"no such step: {unknown[0]}; there are {', '.join(steps)}")
    print(f"{'step':16} {'size':>8} {'of':26} {'CPU':>11} {'peak':>11} {'growth':>6}   {os.cpu_count()} cores")
    rows = []
    for name in chosen:
        before = None
        for size in steps[name][1]:
            row = {"step": name, "size": size, "what": steps[name][2], **ask(name, size, given.limit)}
            row["growth"] = growth(before, row)
            rows.append(row)
            print(draw(row), flush=True)
            if given.json:
                given.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=2) + "\n")
            if "failure" in row:
                break  # larger ones would fail as well
            before = row


if __name__ == "__main__":
    main()
