"""How far a run is: what is said of it, from measured folds, in a terminal and elsewhere, with and without workers."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest

from blemore_harness.cli.terminal import QUIET_SECONDS, TerminalReporter
from blemore_harness.drawing.console import PlainConsole
from blemore_harness.errors import PluginFailed
from blemore_harness.pipeline import evaluate
from blemore_harness.running.preparation import prepare_ahead
from blemore_harness.running.progress import FoldProgress, Standing, show_duration, show_speed
from blemore_harness.running.run import open_run
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.submission import Submission, from_plugins
from toys import Bench, Noisy, offer, open_bench


def evaluate_showing(bench: Bench, plugins: Plugins, submission: Submission) -> list[Standing | None]:
    shown: list[Standing | None] = []
    where = (bench.root / "runs", bench.root / "cache", bench.reporter)
    evaluate(open_run(submission, plugins, bench.dataset, bench.blinded, *where, show=shown.append))
    return shown


def texts(shown: list[Standing | None]) -> list[str | None]:
    """The texts, without times, which are those of this machine."""
    return [None if standing is None else standing.text.partition(",")[0] for standing in shown]


def test_the_time_left_is_that_of_folds_of_the_same_system() -> None:
    shown: list[Standing | None] = []
    progress = FoldProgress({"a": 3, "b": 3, "late": 2}, shown.append)
    progress.begin("a")
    for seconds in (100.0, 140.0, 120.0):
        progress.finish("a", seconds)
    progress.begin("b")
    progress.finish("b", 30.0)
    progress.finish("b", 34.0)
    progress.finish("b", 2.0)
    progress.begin("late")
    progress.finish("late", 0.5)
    progress.finish("late", 0.5)
    assert [standing and standing.text for standing in shown] == [
        "fold 1 of 8 (a 1 of 3)",
        "fold 2 of 8 (a 2 of 3), 2 min each, about 3 min left for a, then b, late",
        "fold 3 of 8 (a 3 of 3), 2 min each, about 2 min left for a, then b, late",
        "3 of 8 folds done (a)",
        "fold 4 of 8 (b 1 of 3)",
        "fold 5 of 8 (b 2 of 3), 30 s each, about 1 min left for b, then late",
        "fold 6 of 8 (b 3 of 3), 32 s each, about 32 s left for b, then late",
        "6 of 8 folds done (b)",
        "fold 7 of 8 (late 1 of 2)",
        "fold 8 of 8 (late 2 of 2), 0.5 s each, about 0.5 s left",
        "8 of 8 folds done (late)",
    ]
    assert [(standing.done, standing.total) for standing in shown if standing][-1] == (8, 8)


def test_a_fold_that_ends_after_its_system_failed_is_counted() -> None:
    shown: list[Standing | None] = []
    progress = FoldProgress({"a": 3, "b": 1}, shown.append, jobs=2)
    progress.drop("a")
    progress.finish("a", 2.0)
    progress.finish("b", 2.0)
    assert [standing and standing.text for standing in shown] == ["1 of 2 folds done (a)", "2 of 2 folds done (b)"]


def test_folds_of_a_system_that_failed_are_not_waited_for() -> None:
    shown: list[Standing | None] = []
    progress = FoldProgress({"a": 6, "b": 2}, shown.append)
    progress.begin("a")
    progress.finish("a", 9.0)
    progress.drop("a")
    progress.begin("b")
    assert shown[-1] == Standing("fold 2 of 3 (b 1 of 2)", 1, 3)


def test_times_and_speeds_are_those_of_people() -> None:
    assert [show_duration(s) for s in (0, 1.24, 59.4, 59.6, 3569, 3571, 86400)] == [
        "0.0 s", "1.2 s", "59 s", "1 min", "59 min", "1 h 0 min", "24 h 0 min",
    ]  # fmt: skip
    assert [show_speed(*facts) for facts in ((10, 10.0), (9, 10.0), (0, 30.0), (5, 0.0))] == [
        "1.0/s", "1.1 s each", "30 s each", "0.0 s each",
    ]  # fmt: skip


def test_a_run_shows_its_preparations_and_folds_and_then_nothing_more(tmp_path: Path) -> None:
    bench = open_bench(tmp_path, actors=6, tests=0)
    broken = Noisy("broken")
    broken.trouble[1] = RuntimeError("no fold 1")
    plugins, _ = offer(Noisy("one"), broken, Noisy("two"))
    shown = evaluate_showing(bench, plugins, from_plugins(("one", "broken", "two"), "late"))
    assert texts(shown) == [
        "preparing one (1 of 3)", "preparing broken (2 of 3)", "preparing two (3 of 3)", None,
        # Three systems of three folds, and the fusion with a final fit.
        "fold 1 of 13 (one 1 of 3)", "fold 2 of 13 (one 2 of 3)", "fold 3 of 13 (one 3 of 3)",
        "3 of 13 folds done (one)",
        "fold 4 of 13 (broken 1 of 3)", "fold 5 of 13 (broken 2 of 3)",
        # The two folds of the broken system that are missing will not come.
        "fold 5 of 11 (two 1 of 3)", "fold 6 of 11 (two 2 of 3)", "fold 7 of 11 (two 3 of 3)",
        "7 of 11 folds done (two)", None,
    ]  # fmt: skip
    again = evaluate_showing(bench, plugins, from_plugins(("one", "two"), "late"))
    assert texts(again)[0] is None, "nothing is prepared again"
    assert texts(again)[-2:] == ["10 of 10 folds done (late)", None]
    [log] = (tmp_path / "runs").glob("one,two-*/log.txt")
    assert "fold 8 of 10 (late 2 of 4)" in log.read_text()


def test_preparing_ahead_ends_what_it_shows_whatever_happens(tmp_path: Path) -> None:
    bench = open_bench(tmp_path, actors=6, tests=0)
    shown: list[Standing | None] = []
    broken = Noisy("one")
    broken.trouble["prepare"] = KeyboardInterrupt()
    plugins, _ = offer(broken)
    where = (bench.root / "runs", bench.root / "cache", bench.reporter)
    run = open_run(from_plugins(("one",), "late"), plugins, bench.dataset, bench.blinded, *where, show=shown.append)
    with pytest.raises((KeyboardInterrupt, PluginFailed)):
        prepare_ahead(run)
    assert texts(shown) == ["preparing one (1 of 1)", None]


def screen(**settings: Any) -> PlainConsole:
    return PlainConsole(file=io.StringIO(), width=200, color_system=None, **settings)


def shown_on(console: PlainConsole) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_elsewhere_the_standing_is_a_line_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    console, quiet = screen(), screen()
    reporters = TerminalReporter(console), TerminalReporter(quiet, verbose=False)
    for k in range(10):
        for reporter in reporters:
            reporter.show(Standing(f"fold {k}", k, 10))
        now += QUIET_SECONDS / 4 + 0.01
    for reporter in reporters:
        reporter.show(None)
    assert shown_on(console).splitlines() == ["fold 4", "fold 8"]
    assert shown_on(quiet) == ""


def test_on_a_terminal_the_standing_is_a_bar_above_the_others() -> None:
    console = screen(force_terminal=True)
    reporter = TerminalReporter(console)
    reporter.show(Standing("fold 3 of 4 (one 3 of 4), 1 min each, about 2 min left", 2, 4))
    with reporter.progress("one: epochs (fold-2)", 7) as bar:
        bar.advance(2)
        live = reporter._live
        assert live is not None
        live.refresh()
        drawn = shown_on(console)
        assert drawn.index("fold 3 of 4 (one 3 of 4), 1 min each, about 2 min left") < drawn.index("one: epochs")
        assert [(task.completed, task.total) for task in live.tasks] == [(2, 4), (2, 7)]
    assert reporter._live is live, "the bar of the run stays"
    reporter.show(Standing("fold 4 of 4 (one 4 of 4)", 3, 4))
    assert [(task.completed, task.total) for task in live.tasks] == [(3, 4)]
    reporter.show(None)
    assert reporter._live is None
    reporter.show(None)
