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
from blemore_harness.running.run import open_run
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.systems.submission import from_plugins
from installed_plugins import make_site
from isolated_runs import TALKER, Bench


class Case(Bench):
    """A small dataset and the encoders `stepping` (which can be held), `quick` and `ending`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.hold = root / "hold"
        self.hold.mkdir()

    def evaluate(
        self, names: str, where: str, executor: str = "local", options: Mapping[str, str] | None = None
    ) -> tuple[dict[str, Any], Path]:
        """Evaluate encoders and their fusion; in this process where no executor is named."""
        submission = from_plugins([names], "median").with_options({}, None)
        opened = open_run(
            submission, load_plugins(), self.dataset, self.blinded, self.root / where, self.root / f"cache-{where}",
            self.reporter,
        )  # fmt: skip
        ended = evaluate_run(
            opened, jobs=1 if executor == "local" else "auto", executor=executor, executor_options=options
        )
        return ended.record.to_json(), ended.folder

    def command(self, *words: str) -> subprocess.Popen[str]:
        """Start the harness beside this process, in the folder of the case."""
        paths = os.pathsep.join(path for path in sys.path if path)
        own = {"PYTHONPATH": paths, "BLEMORE_CACHE": str(self.root / "cache"), "BLEMORE_JOBS": "auto"}
        return subprocess.Popen(
            [sys.executable, "-m", "blemore_harness", *words, "--data", "data"], cwd=self.root, text=True,
            env={**os.environ, **own}, stdout=subprocess.PIPE,
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
        site.install("talker", TALKER)
        yield Case(root)


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen."""
    while not holds():
        time.sleep(0.05)
