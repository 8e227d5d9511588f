"""Runs in this process and in workers, compared file by file, with encoders that use and break what there is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blemore_harness.data.blinded import BlindedDataset, blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.pipeline import evaluate
from blemore_harness.running.isolation import Isolation
from blemore_harness.running.run import open_run
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.systems.submission import from_plugins
from builders import rows_of, write_download
from installed_plugins import make_site
from second_distributions import MAIN, offered
from toys import Silent

TALKER = """
import gc
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
import numpy as np
from blemore_harness.errors import BlemoreError, MediaError
from blemore_harness.hookspecs import Card
from blemore_harness.predictions import Embeddings, Probabilities

HOLD = Path(__file__).parents[1] / "hold"

class Model:
    def __init__(self, prior):
        self.prior = prior

    def predict(self, clips, context):
        rows = [np.random.default_rng([context.seed, int(c.content[:8], 16)]).dirichlet(np.ones(6)) for c in clips]
        rows = np.array(rows).reshape(-1, 6) * self.prior
        return Probabilities(clips.ids, rows / rows.sum(axis=1, keepdims=True))

class Talker(Encoder):
    name = "talker"
    summary = "uses everything that a context offers"
    modality = "audio"

    def prepare(self, clips, options, context):
        context.note("clips", len(clips))
        with context.progress("counting", len(clips)) as bar:
            for clip in clips:
                bar.advance()

    def embed(self, clips, options, context):
        return Embeddings(clips.ids, np.array([[int(c.content[:6], 16) / 2**24, 1] for c in clips], dtype=np.float32))

    def fit(self, fold, options, context):
        model = Model(fold.train.targets.mean(axis=0) + 0.1)
        context.log(f"first clip {fold.train.ids[0]}")
        context.warn(f"fold {fold.index}")
        context.note("first", fold.train.ids[0])
        context.workspace.joinpath("checkpoint").write_text("half")
        if fold.index is not None:
            answers = []
            threads = [
                threading.Thread(target=lambda: answers.append(context.score(model.predict(fold.held_out, context))))
                for _ in range(3)
            ]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            context.note("scores", [answer.score for answer in answers])
        try:
            context.score(model.predict(fold.train, context))
        except BlemoreError as error:
            context.note("refused", str(error)[:20])
        return model

class Together(Talker):
    name = "together"

    def fit_folds(self, folds, options, contexts):
        return [self.fit(fold, options, context) for fold, context in zip(folds, contexts)]

class Nosy(Talker):
    name = "nosy"

    def fit(self, fold, options, context):
        found, seen = list(gc.get_objects()), set()
        texts, arrays = set(), []
        while found:
            thing = found.pop()
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            # By its type: asking an object what it is runs code of its own, and some of torch's warn.
            if issubclass(type(thing), (str, Path)):
                texts.add(str(thing))
            elif issubclass(type(thing), np.ndarray):
                arrays.append(thing.shape)
            found += gc.get_referents(thing)
        context.note("names", sorted(text for text in texts if re.fullmatch(r".*A[1-9]_\\w+_ver1(\\.mov)?", text))[:3])
        context.note("labels", sorted(shape[0] for shape in arrays if len(shape) == 2 and shape[1] == 6))
        return super().fit(fold, options, context)

class Fixable(Talker):
    name = "fixable"

    def fit(self, fold, options, context):
        clip = fold.train.items[0]
        raise MediaError(f"clip {clip.id} has no audio", clip.id)

class Own(BlemoreError):
    def __init__(self, one, two):
        super().__init__(f"{one}{two}")

class Odd(Talker):
    name = "odd"

    def fit(self, fold, options, context):
        raise Own("an error of ", "its own")

class Careless(Talker):
    name = "careless"

    def fit(self, fold, options, context):
        context.reporter.note("one argument too few")

class Unreadable:
    def __reduce__(self):
        return int, ("no number",)

class Garbling(Talker):
    name = "garbling"

    def fit(self, fold, options, context):
        context.note("what", Unreadable())

class Lacking(Talker):
    name = "lacking"

    def fit(self, fold, options, context):
        import surely_not_installed

class Full(Talker):
    name = "full"

    def fit(self, fold, options, context):
        with open("/dev/full", "w") as file:
            file.write("x")

class Waiting(Talker):
    name = "waiting"

    def fit(self, fold, options, context):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        os.setpgid(0, 0)  # leaves the group that is ended with the harness
        Path("pids").write_text(f"{os.getpid()} {os.getppid()} {child.pid}\\n")
        while True:
            time.sleep(1)

class Pids(Talker):
    name = "pids"

    def prepare(self, clips, options, context):
        context.note("pid", os.getpid())

    def fit(self, fold, options, context):
        context.note("pid", os.getpid())
        return super().fit(fold, options, context)

class OtherPids(Pids):
    name = "other-pids"

class Wandering(Talker):
    name = "wandering"

    def fit(self, fold, options, context):
        context.note("folder", os.getcwd())
        os.chdir(tempfile.mkdtemp())
        os.rmdir(os.getcwd())
        return Model(fold.train.targets.mean(axis=0) + 0.1)

class WanderingToo(Wandering):
    name = "wandering-too"

class Dying(Talker):
    name = "dying"

    def fit(self, fold, options, context):
        if fold.index == 1:
            with open("deaths", "a") as file:
                file.write("x")
            if len(open("deaths").read()) <= int(os.environ.get("DEATHS", "2")):
                print("dying was here", flush=True)
                os.kill(os.getpid(), 9)
        return super().fit(fold, options, context)

class Sharing(Talker):
    name = "sharing"
    prepares_each_clip = True

    def prepare(self, clips, options, context):
        store = context.cache.store("sharing", version=1)
        missing = store.missing(clips)
        with open("blocks", "a") as file:
            file.write(f"{len(clips)} {len(missing)}\\n")
        context.warn(f"warned of {len(clips)} clips")
        for clip in missing:
            if clip.content.startswith(os.environ.get("FAULTY", "nothing")):
                raise MediaError(f"clip {clip.id} is faulty", clip.id)
            store.save(clip, np.ones(1, dtype=np.float32))
        if missing:
            context.note("extracted", {"clips": len(missing)})
        context.note("version", 1)

class Stepping(Talker):
    name = "stepping"
    summary = "trains four epochs, and resumes"

    def card(self, options):
        return Card(weights_licence="none", parameters=0)

    def prepare(self, clips, options, context):
        context.note("clips", len(clips))

    def fit(self, fold, options, context):
        part = "final" if fold.index is None else str(fold.index)
        file = context.workspace / "epochs"
        for epoch in range(int(file.read_text()) if file.exists() else 0, 4):
            with (HOLD / "epochs").open("a") as log:
                log.write(f"{part} {epoch}\\n")
            if epoch == 2:
                wait(part)
            file.write_text(str(epoch + 1))
        context.note("asked", context.score(Model(np.ones(6)).predict(fold.held_out, context)).score
                     if fold.index is not None else 0)
        return Model(fold.train.targets.mean(axis=0) + 0.1)

class Quick(Stepping):
    name = "quick"

    def fit(self, fold, options, context):
        return Model(fold.train.targets.mean(axis=0) + 0.2)

class Ending(Stepping):
    name = "ending"

    def fit(self, fold, options, context):
        print("this is the last line", flush=True)
        os._exit(7)

def wait(part):
    if (HOLD / "hold").exists() and not (HOLD / f"release-{part}").exists():
        (HOLD / "new").write_text(f"{os.getpid()}")
        (HOLD / "new").rename(HOLD / f"arrived-{part}")
        while not (HOLD / f"release-{part}").exists():
            time.sleep(0.02)

@hookimpl
def blemore_encoders():
    return [Talker(), Together(), Nosy(), Fixable(), Odd(), Careless(), Garbling(), Lacking(), Full(), Waiting(),
            Pids(), OtherPids(), Dying(), Sharing(), Stepping(), Quick(), Ending(), Wandering(), WanderingToo()]
"""

COMMAND = [sys.executable, "-c", MAIN, "run", "--device", "cpu"]


class Bench:
    """A small dataset, run in this process or in workers."""

    def __init__(self, root: Path, tests: int = 2) -> None:
        self.root = root
        self.dataset = read_dataset(write_download(root / "data", rows_of(actors=4, folds=2), tests=tests))
        self.blinded: BlindedDataset = blind_dataset(self.dataset, root / "views")
        self.reporter = Silent()

    def run(self, names: str, where: str, isolation: Isolation | None, options: Any = (), **changes: Any) -> Any:
        submission = from_plugins([names], "median").with_options(dict(options), None)
        record, folder = evaluate(
            open_run(
                submission, load_plugins(), self.dataset, self.blinded, self.root / where,
                self.root / f"cache-{where}", self.reporter, isolation=isolation, **changes,
            )
        )  # fmt: skip
        return record.to_json(), folder


@contextmanager
def opened_bench(root: Path) -> Iterator[Bench]:
    """A bench in a folder, with the encoders of this module and those of two distributions of others."""
    with make_site(root / "site") as site, offered(root / "second", "example_plugin", "broken_plugin"):
        site.install("talker", TALKER)
        yield Bench(root)


def files_of(runs: Path) -> dict[str, bytes]:
    """The predictions of every fold of every system."""
    return {str(path.relative_to(runs)): path.read_bytes() for path in (runs / "systems").rglob("*.csv")}


def all_files(runs: Path) -> dict[str, Any]:
    """Every file of every system, without times and places."""
    found: dict[str, Any] = {}
    for path in sorted((runs / "systems").rglob("*")):
        if path.suffix == ".json":
            found[str(path.relative_to(runs))] = timeless(
                {key: value for key, value in json.loads(path.read_text()).items() if key != "computed_on"}
            )
        elif path.is_file() and path.suffix != ".lock" and path.name != ".lock":
            found[str(path.relative_to(runs))] = path.read_bytes()
    return found


def timeless(row: Any) -> Any:
    """A record without times and places."""
    if isinstance(row, dict):
        return {key: timeless(value) for key, value in row.items() if key not in ("seconds", "places")}
    return [timeless(value) for value in row] if isinstance(row, list) else row


def alive(pid: int) -> bool:
    """Whether a process does anything; one that ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
