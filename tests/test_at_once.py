"""Several runs at once on one folder, in processes of their own: they wait for each other, tear nothing, and end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from builders import rows_of, write_download
from installed_plugins import make_site
from second_distributions import environment

pytestmark = pytest.mark.once

GATED = """
import time
from pathlib import Path
import numpy as np
from blemore_harness.predictions import Probabilities

class Model:
    def predict(self, clips, context):
        rows = [np.random.default_rng([context.seed, int(c.content[:8], 16)]).dirichlet(np.ones(6)) for c in clips]
        return Probabilities(clips.ids, np.array(rows).reshape(-1, 6))

class Gated(Toy):
    name = "gated"

    def fit(self, fold, options, context):
        while not Path("go").exists():
            time.sleep(0.05)
        return Model()

@hookimpl
def blemore_encoders():
    return [Gated()]
"""

COMMAND = [sys.executable, "-c", "from blemore_harness.cli import main; main()", "run", "--device", "cpu"]
SECONDS = 600
"""What no machine takes, however busy it is."""


class Crowd:
    """Starts runs on one folder, whose stories go to files."""

    def __init__(self, home: Path) -> None:
        self.home = home
        write_download(home / "data", rows_of(actors=4, folds=2), tests=2)
        with make_site(home / "site") as site:
            site.install("gated", GATED)
        self.environment = environment(home / "second", "example_plugin", BLEMORE_CACHE=str(home / "cache"))
        self.environment["PYTHONPATH"] = f"{home / 'site'}:{self.environment['PYTHONPATH']}"

    def start(self, number: int, plugins: str, runs: str = "runs") -> subprocess.Popen[str]:
        words = ["--plugin", plugins, "--fusion", "median", "--data", "data", "--runs", runs, "--json"]
        with (self.home / f"story-{number}").open("w") as story:
            return subprocess.Popen(
                [*COMMAND, *words], cwd=self.home, env=self.environment, stdout=subprocess.PIPE, stderr=story, text=True
            )

    def story(self, number: int) -> str:
        return (self.home / f"story-{number}").read_text()


def lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: lasting(v) for k, v in value.items() if k not in ("seconds", "execution")}
    return [lasting(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_runs_of_overlapping_systems_wait_and_end_with_one_truth(tmp_path: Path) -> None:
    crowd = Crowd(tmp_path)
    orders = ("gated,file-bytes", "file-bytes,gated", "gated,file-bytes", "gated")
    running = [crowd.start(number, plugins) for number, plugins in enumerate(orders)]
    until = time.monotonic() + SECONDS
    try:
        while sum("waiting for it" in crowd.story(number) for number in range(len(orders))) < len(orders) - 1:
            assert time.monotonic() < until, [crowd.story(number) for number in range(len(orders))]
            assert all(process.poll() is None for process in running), "one ended before its turn"
            time.sleep(0.05)
        assert any(f"is being worked on by process {process.pid}: waiting" in crowd.story(n)
                   for process in running for n in range(len(orders)))  # fmt: skip
        (tmp_path / "go").touch()
        answers = [json.loads(process.communicate(timeout=SECONDS)[0]) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0, 0, 0]
    assert lasting(answers[0]) == lasting(answers[2])
    alone, _ = crowd.start(9, "gated,file-bytes", "alone").communicate(timeout=SECONDS)
    assert lasting(json.loads(alone)["systems"]) == lasting(answers[0]["systems"])
    rows = {row["name"]: lasting(row) for row in answers[0]["systems"]}
    for answer in answers[1:]:
        for row in answer["systems"]:
            assert row["kind"] == "fusion" or lasting(row) == rows[row["name"]], "one system, two results"
    for path in (tmp_path / "alone").rglob("*.csv"):
        twin = tmp_path / "runs" / path.relative_to(tmp_path / "alone")
        assert twin.read_bytes() == path.read_bytes()
    assert not list((tmp_path / "runs").rglob("*.tmp"))
    for path in (tmp_path / "runs").rglob("*.json"):
        json.loads(path.read_text())
