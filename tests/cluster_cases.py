"""A run for tests of executors: an encoder that waits in the middle of its training until it was disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blemore_harness.api.evaluation import evaluate_run
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.running.run import open_run
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.systems.submission import from_plugins
from builders import rows_of, write_download
from installed_plugins import make_site
from toys import Silent

PLUGIN = """
import os
import socket
import time
from pathlib import Path
import numpy as np
from blemore_harness.predictions import Embeddings, Probabilities

HOLD = Path({hold!r})

class Model:
    def __init__(self, prior):
        self.prior = prior

    def predict(self, clips, context):
        rows = [np.random.default_rng([context.seed, int(c.content[:8], 16)]).dirichlet(np.ones(6)) for c in clips]
        rows = np.array(rows).reshape(-1, 6) * self.prior
        return Probabilities(clips.ids, rows / rows.sum(axis=1, keepdims=True))

class Stepping(Encoder):
    name = "stepping"
    summary = "trains four epochs, and resumes"
    modality = "audio"

    def card(self, options):
        return Card(weights_licence="none", parameters=0)

    def prepare(self, clips, options, context):
        context.note("clips", len(clips))

    def fit(self, fold, options, context):
        part = "final" if fold.index is None else str(fold.index)
        file = context.workspace / "epochs"
        for epoch in range(int(file.read_text()) if file.exists() else 0, 4):
            with (HOLD / "epochs").open("a") as log:
                log.write(f"{{part}} {{epoch}}\\n")
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
    if (HOLD / "hold").exists() and not (HOLD / f"release-{{part}}").exists():
        (HOLD / "new").write_text(f"{{os.getpid()}}")
        (HOLD / "new").rename(HOLD / f"arrived-{{part}}")
        while not (HOLD / f"release-{{part}}").exists():
            time.sleep(0.02)

@hookimpl
def blemore_encoders():
    return [Stepping(), Quick(), Ending()]
"""


class Case:
    """A small dataset and the encoders `stepping` (which can be held), `quick` and `ending`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hold = root / "hold"
        self.hold.mkdir()
        self.dataset = read_dataset(write_download(root / "data", rows_of(actors=4, folds=2), tests=2))
        self.blinded = blind_dataset(self.dataset, root / "views")
        self.reporter = Silent()

    def run(
        self, names: str, where: str, executor: str = "local", options: Mapping[str, str] | None = None
    ) -> tuple[dict[str, Any], Path]:
        """Evaluate encoders and their fusion; in this process where no executor is named."""
        submission = from_plugins([names], "median").with_options({}, None)
        opened = open_run(
            submission, load_plugins(), self.dataset, self.blinded, self.root / where, self.root / f"cache-{where}",
            self.reporter,
        )  # fmt: skip
        ended = evaluate_run(
            opened, jobs=1 if executor == "local" else None, executor=executor, executor_options=options
        )
        return ended.record.to_json(), ended.folder

    def command(self, *words: str) -> subprocess.Popen[str]:
        """Start the harness beside this process, in the folder of the case."""
        paths = os.pathsep.join(path for path in sys.path if path)
        return subprocess.Popen(
            [sys.executable, "-m", "blemore_harness", *words, "--data", "data"], cwd=self.root, text=True,
            env={**os.environ, "PYTHONPATH": paths, "BLEMORE_CACHE": str(self.root / "cache")}, stdout=subprocess.PIPE,
            # Tests that run in the background of a shell are started with Ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    @contextmanager
    def disturbing(self, worst: Mapping[str, Callable[[int], None]]) -> Iterator[None]:
        """Hold the fit of every part that is named, do what is given with its process id, and let it go on."""
        for file in self.hold.iterdir():
            file.unlink()
        (self.hold / "hold").touch()
        ended, failed = threading.Event(), []

        def disturb(part: str, action: Callable[[int], None]) -> None:
            arrived = self.hold / f"arrived-{part}"
            while not arrived.exists():
                if ended.wait(0.05):
                    failed.append(f"{part} was never trained")
                    return
            try:
                action(int(arrived.read_text()))
            except Exception as error:
                failed.append(repr(error))
            finally:
                (self.hold / f"release-{part}").touch()

        for part in {"0", "1", "final"} - set(worst):
            (self.hold / f"release-{part}").touch()
        threads = [threading.Thread(target=disturb, args=each) for each in worst.items()]
        [thread.start() for thread in threads]
        try:
            yield
        finally:
            ended.set()
            [thread.join() for thread in threads]
        assert not failed

    def epochs(self) -> list[str]:
        """Return the epochs that were begun, in their order: `PART EPOCH`."""
        return (self.hold / "epochs").read_text().splitlines()


@contextmanager
def opened_case(root: Path) -> Iterator[Case]:
    with make_site(root / "site") as site:
        code = PLUGIN.format(hold=str(root / "hold"))
        site.install("stepping", "from blemore_harness.hookspecs import Card\n" + code)
        yield Case(root)


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen."""
    while not holds():
        time.sleep(0.05)
