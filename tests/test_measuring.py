"""Estimates of time and disk space before a run: toys that cost known seconds of a clock that only they move."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from blemore_harness.cli import cli
from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.doctor.measuring import Span, Stopwatch, extrapolate, measure
from blemore_harness.doctor.surroundings import Finding, bytes_below
from blemore_harness.hookspecs import Fusion, FusionModel
from blemore_harness.running.run import Run, open_run
from blemore_harness.systems.submission import from_plugins
from builders import rows_of, write_download
from toys import Noisy, NoisyModel, offer, open_bench

ACTORS, TESTS = 12, 6


class Clock:
    """A clock that only toys move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Costly(Noisy):
    """Takes known seconds: to prepare a new clip, to begin with a preparation, to train on a clip for an epoch."""

    def __init__(self, name: str, clock: Clock, start: float, clip: float, epoch_clip: float, epochs: int) -> None:
        super().__init__(name)
        self.clock, self.start, self.clip, self.epoch_clip, self.epochs = clock, start, clip, epoch_clip, epochs
        self.fitted: list[tuple[int, int]] = []

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        super().prepare(clips, options, context)
        self.clock.now += self.start
        arrays = context.cache.store("toy", encoder=self.name)
        with context.progress("features", len(clips)) as bar:
            for clip in clips:
                if not arrays.has(clip):
                    self.clock.now += self.clip
                    arrays.save(clip, np.zeros(250, dtype=np.float32))
                bar.advance()

    def fit(self, fold: Fold, options: Any, context: Context) -> NoisyModel:
        self.fitted.append((len(fold.train), len(set(fold.train.actors or ()))))
        model = super().fit(fold, options, context)
        with context.progress("epochs", self.epochs) as bar:
            for _ in range(self.epochs):
                self.clock.now += self.epoch_clip * len(fold.train)
                bar.advance()
        context.score(model.predict(fold.held_out, context))
        return model


class SlowMean(Fusion):
    """A fusion whose fit takes 3 seconds."""

    name = "slow-mean"
    summary = "a toy"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def fit(self, fold: Fold, base_models: Any, options: Any, context: Context) -> FusionModel:
        self.clock.now += 3

        class Mean:
            def predict(self, clips: Clips, base_models: Any, context: Context) -> Any:
                return next(iter(base_models.values()))

        return Mean()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "own-cache"))
    return tmp_path / "own-cache"


def plan(tmp_path: Path, *encoders: Noisy, fusion: Fusion | None = None) -> Run:
    bench = open_bench(tmp_path / "bench", actors=ACTORS, tests=TESTS)
    plugins, _ = offer(*encoders, fusions=(fusion,) if fusion else ())
    names = tuple(each.name for each in encoders)
    where = (tmp_path / "runs", tmp_path / "cache", bench.reporter)
    return open_run(
        from_plugins(names, fusion.name if fusion else "late"), plugins, bench.dataset, bench.blinded, *where
    )


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_two_measurements_give_a_span_and_one_a_number() -> None:
    # 2 s to begin with, and 0.5 s a clip.
    points = [(10, 7.0), (20, 12.0)]
    assert extrapolate(points, 100) == Span(52.0, 60.0)
    assert extrapolate(points[:1], 100) == Span(70.0, 70.0)
    assert extrapolate(points, 20) == Span(12.0, 12.0)
    assert extrapolate([(10, 8.0), (20, 4.0)], 100) == Span(4.0, 20.0), "noise gives no negative time"
    assert extrapolate([(10, 1.0), (20, 4.0)], 100) == Span(20.0, 20.0), "nor more than all that was measured"
    assert str(Span(30, 30.2)) == "about 30 s"
    assert str(Span(52, 130) + Span(1, 2)) == "53 s to 2 min"


def test_an_estimate_holds_what_the_run_will_take(tmp_path: Path, own_cache: Path) -> None:
    clock = Clock()
    one = Costly("one", clock, start=1.0, clip=0.2, epoch_clip=0.001, epochs=20)
    run = plan(tmp_path, one)
    findings = by_name(measure(run, clock, budget=60.0))
    clips = len(run.dataset.ids) + TESTS
    assert findings["time one"].verdict == "ok"
    span, _ = findings["time one"].found.split(", train ")
    low, high = (float(word) for word in span.removeprefix("prepare ").replace(" s", "").split(" to "))
    assert low == pytest.approx(1.0 + 0.2 * clips, abs=0.6)
    assert low < high < 2 * low
    # Training is proportional to the clips: both ends are the truth.
    train = sum(len(run.blinded.fold(index).train) for index in (*run.dataset.fold_numbers, None))
    assert f"train about {0.02 * train:.0f} s" in findings["time one"].found
    assert list(own_cache.iterdir()) == [], "nothing is left behind"
    assert not (tmp_path / "runs").exists() or bytes_below(tmp_path / "runs") == 0
    assert all(actors >= 4 for _, actors in one.fitted)


def test_long_training_is_cut_short_at_its_progress_bar(tmp_path: Path) -> None:
    clock = Clock()
    one = Costly("one", clock, start=0.0, clip=0.01, epoch_clip=1.0, epochs=1000)
    run = plan(tmp_path, one)
    begun = clock.now
    findings = by_name(measure(run, clock, budget=60.0))
    train = sum(len(run.blinded.fold(index).train) for index in (*run.dataset.fold_numbers, None))
    assert f"train about {round(1000 * train / 60) // 60} h" in findings["time one"].found
    most = max(size for size, _ in one.fitted)
    assert clock.now - begun < 60 + 3 * most + 10, "a step of the bar more than the budget, for each of three fits"


def test_fusions_and_the_sum(tmp_path: Path) -> None:
    clock = Clock()
    one, two = (Costly(name, clock, start=0.0, clip=1.0, epoch_clip=0.0, epochs=1) for name in ("one", "two"))
    run = plan(tmp_path, one, two, fusion=SlowMean(clock))
    findings = by_name(measure(run, clock))
    clips = len(run.dataset.ids) + TESTS
    assert "train about 12 s" in findings["time slow-mean"].found, "three folds and the final fit"
    seconds = 2 * clips + 12
    expected = f"about {round(seconds / 60)} min, " if seconds >= 60 else f"about {seconds} s, "
    assert findings["time in all"].found.startswith(expected)
    assert findings["time in all"].verdict == "ok"


def test_disk_space_is_that_of_the_measured_clips(tmp_path: Path) -> None:
    clock = Clock()
    run = plan(tmp_path, Costly("one", clock, start=0.0, clip=1.0, epoch_clip=0.0, epochs=1))
    sizes: list[float] = []

    def keep(place: Path) -> int:
        sizes.append(real(place))
        return int(sizes[-1])

    from blemore_harness.doctor import measuring

    real = measuring.bytes_below
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "bytes_below", keep)
        measure(run, clock)
    assert sizes[0] == 0
    assert sizes[1] % 1000 < sizes[1] // 10, "a thousand bytes a clip and a header"
    assert sizes[1] >= 1000 * 2 * len(run.dataset.fold_numbers)


def test_what_cannot_be_measured_is_said_and_left_out_of_the_sum(tmp_path: Path) -> None:
    clock = Clock()
    broken = Noisy("broken")
    broken.trouble["prepare"] = RuntimeError("no\nweights")
    run = plan(tmp_path, broken, Costly("two", clock, start=0.0, clip=1.0, epoch_clip=0.0, epochs=1))
    findings = by_name(measure(run, clock))
    assert findings["time broken"].verdict == "warning"
    assert "no weights" in findings["time broken"].found
    assert findings["time in all"].found.endswith("without broken")
    assert findings["time in all"].verdict == "warning"


def test_a_stopwatch_ends_no_call_before_its_time_nor_at_its_last_step() -> None:
    clock = Clock()
    watch = Stopwatch(clock, 10.0)

    def work() -> None:
        clock.now += 4
        with watch.progress("epochs", 4) as bar:
            for _ in range(4):
                clock.now += 2
                bar.advance()

    assert watch.time(work) == 12.0
    late = Stopwatch(clock, 5.0)

    def long_work() -> None:
        clock.now += 4
        with late.progress("epochs", 10) as bar:
            for _ in range(10):
                clock.now += 2
                bar.advance()

    assert late.time(long_work) == 24.0


def test_doctor_measures_the_run_that_it_is_given(tmp_path: Path) -> None:
    data = write_download(tmp_path / "data", rows_of(actors=6, folds=3), tests=3)
    words = ["doctor", "--plugin", "trivial-single", "--data", str(data), "--runs", str(tmp_path / "runs")]
    refused = CliRunner().invoke(cli, ["doctor", "--measure"])
    assert refused.exit_code == 2
    assert "--measure" in refused.stderr
    done = CliRunner().invoke(cli, [*words, "--measure", "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["what"]: row for row in json.loads(done.stdout)}
    assert rows["time trivial-single"]["verdict"] == "ok"
    assert "time in all" in rows
