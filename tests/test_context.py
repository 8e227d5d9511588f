"""What a plugin holds leads neither to held-out labels nor to real clip names, whatever it does with it."""

from __future__ import annotations

import gc
import os
import pickle
import re
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from blemore_harness.cache import Cache
from blemore_harness.cli.terminal import TerminalReporter
from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.context import Context, ScoringService
from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.data.neutral_features import StoreDigests
from blemore_harness.errors import BlemoreError, InvalidProbabilities
from blemore_harness.files.runs import Runs
from blemore_harness.networks import Device
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.rules import Scores
from blemore_harness.protocol.thresholds import search_official
from blemore_harness.running.calls import open_call
from blemore_harness.running.run import Run
from fakes import RecordingReporter, make_context

NAME = re.compile(r"A\d+_(ang|mix|neu|fea)_\w+|\d{4}_DFA_\w+")


@pytest.fixture(params=[False, True], ids=["alone", "extra"])
def blinded(request: pytest.FixtureRequest) -> BlindedDataset:
    """Twelve clips of four actors in two folds, with names that spell the label out; with or without another corpus."""
    # Every clip another label, so that a held-out one can be told from everything else that is reachable.
    blends = [(one, two, share) for one in range(4) for two in range(one + 1, 5) for share in (30, 50, 70)]
    truth = np.zeros((12, 6), dtype=np.int8)
    for row, (one, two, share) in zip(truth, np.random.default_rng(0).permutation(blends), strict=False):
        row[one], row[two] = share, 100 - share
    items = tuple(Clip(f"c{i:016x}", Path(f"/links/c{i:016x}.mov"), content=f"{i:032x}") for i in range(12))
    train = Clips(items, tuple(f"A{i % 4}" for i in range(12)), truth)
    test = Clips((Clip("c" + "f" * 16, content="f" * 32),))
    real = {clip.id: f"A{i % 4}_mix_ang_fea_{i:02d}_ver1" for i, clip in enumerate(items)}
    more = tuple(
        Clip(f"ce{i:015x}", Path(f"/links/ce{i:015x}.flv"), content=f"e{i:031x}") for i in range(request.param * 6)
    )
    real |= {clip.id: f"crema-d:100{i}_DFA_ANG_XX" for i, clip in enumerate(more)}
    single = np.eye(6, dtype=np.int8)[: len(more)] * np.int8(100)
    return BlindedDataset(
        train,
        test,
        np.arange(12) % 4 // 2,
        real | {test.ids[0]: "test_0001"},
        "digest",
        "tests",
        frozenset(),
        lambda store: StoreDigests(store, store),
        Clips(more, tuple(f"crema-d:100{i}" for i in range(len(more))), single),
    )


@contextmanager
def opened(
    blinded: BlindedDataset, folder: Path, part: str = "fold-0", index: int | None = 0, terminal: bool = False
) -> Iterator[tuple[Context, Any]]:
    """A context as `open_call` opens it for a plugin."""
    reporter = TerminalReporter(Console(stderr=True, force_terminal=terminal))
    resolved: Any = SimpleNamespace(name="toy", fold_seed=lambda fold: 7, identity={}, digest="abc")
    unused: Any = None
    where = (Runs(folder), Cache(folder / "cache"), Device("cpu"), reporter)
    run = Run(unused, unused, (), unused, blinded, *where)
    with open_call(run, resolved, part, index) as (context, log):
        yield context, log


def reachable(*roots: object) -> list[object]:
    """Everything that can be reached from `roots`, short of modules, classes, globals and the running call stack."""
    running = set()
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        running.add(id(frame))
        frame = frame.f_back
    skipped = {id(vars(module)) for module in list(sys.modules.values()) if hasattr(module, "__dict__")}
    seen: dict[int, object] = {}
    waiting = list(roots)
    while waiting:
        item = waiting.pop()
        if id(item) in seen or id(item) in running or id(item) in skipped or isinstance(item, types.ModuleType | type):
            continue
        seen[id(item)] = item
        waiting.extend(gc.get_referents(item))
        if isinstance(item, types.TracebackType):  # its frames are as good as held
            waiting.append(item.tb_frame)
        if isinstance(item, types.FrameType) and id(item) not in running:
            waiting.extend(item.f_locals.values())
        if isinstance(item, BaseException):
            waiting += [item.__cause__, item.__context__, item.__traceback__]
        if isinstance(item, np.ndarray):
            waiting.append(item.base)
    return list(seen.values())


def secrets(blinded: BlindedDataset, index: int, roots: tuple[object, ...]) -> list[str]:
    """What of the held-out labels and of the real names can be reached."""
    labels = {tuple(row) for row in blinded.train.labels[blinded.folds == index].tolist()}
    found = []
    for item in reachable(*roots):
        if isinstance(item, str) and NAME.search(item):
            found.append(f"the name {item!r}")
        if isinstance(item, np.ndarray) and item.ndim == 2 and item.shape[1] == 6:
            found += [f"the label {row}" for row in np.asarray(item).tolist() if tuple(row) in labels]
        if isinstance(item, BlindedDataset | Run | ScoringService):
            found.append(f"a {type(item).__name__}")
    return found


def rows_for(ids: tuple[str, ...], seed: int = 1) -> Probabilities:
    return Probabilities(ids, np.random.default_rng(seed).dirichlet(np.ones(6), size=len(ids)))


def test_the_walk_sees_what_it_should(blinded: BlindedDataset) -> None:
    """The checks below would find a leak: through closures, partials, frames and base arrays."""
    hidden = blinded.train.labels[blinded.folds == 0]

    def leak() -> object:
        return hidden

    def fail() -> None:
        inner = blinded.real
        raise ValueError(len(inner))

    try:
        fail()
    except ValueError as error:
        caught = error
    for root in (leak, [{"a": (hidden,)}], hidden[:1], blinded.train.labels[:0], Fold(0, blinded.train, Clips(()))):
        assert any("label" in text for text in secrets(blinded, 0, (root,)))
    assert any("name" in text for text in secrets(blinded, 0, (caught,)))
    assert secrets(blinded, 0, ("text", blinded.train.take(blinded.folds == 1))) == []


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("terminal", [False, True])
def test_no_held_out_label_and_no_real_name_can_be_reached(
    blinded: BlindedDataset, tmp_path: Path, index: int, terminal: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    fold = blinded.fold(index)
    with opened(blinded, tmp_path, f"fold-{index}", index, terminal) as (context, log):
        assert secrets(blinded, index, (fold, context)) == []
        scores = context.score(rows_for(fold.held_out.ids))
        context.log(f"see {fold.held_out.ids[0]}")
        context.warn(f"beware of {fold.train.ids[0]}")
        context.note("count", {fold.held_out.ids[0]: 1})
        with context.progress("looking", 2) as bar:
            bar.advance()
            context.log(f"see {fold.held_out.ids[1]}")
            assert secrets(blinded, index, (fold, context, scores, bar)) == []
        assert log.asked == 1
    assert secrets(blinded, index, (fold, context, scores)) == []
    assert f"see {blinded.real[fold.held_out.ids[0]]}" in capsys.readouterr().err
    assert log.warnings == [f"beware of {blinded.real[fold.train.ids[0]]}"]
    assert log.notes == {"count": {blinded.real[fold.held_out.ids[0]]: 1}}


def test_scores_are_the_official_ones_of_the_held_out_clips_in_any_order(
    blinded: BlindedDataset, tmp_path: Path
) -> None:
    fold = blinded.fold(0)
    rows = rows_for(fold.held_out.ids)
    expected = search_official(rows.values, blinded.train.labels[blinded.folds == 0]).scores
    with opened(blinded, tmp_path) as (context, _):
        assert context.score(rows) == expected
        assert context.score(rows.aligned(tuple(reversed(rows.ids)))) == expected
        assert type(context.score(rows)) is Scores


WRONG_QUESTIONS: dict[str, Callable[[Fold], Any]] = {
    "training clips": lambda fold: rows_for(fold.train.ids),
    "some held-out clips": lambda fold: rows_for(fold.held_out.ids[:-1]),
    "no rows": lambda fold: Probabilities((), np.zeros((0, 6))),
    "no probabilities at all": lambda fold: "what are the labels?",
    "a bare array": lambda fold: np.zeros((6, 6)),
}


@pytest.mark.parametrize("what", WRONG_QUESTIONS)
def test_nothing_leaks_through_an_error_of_score(blinded: BlindedDataset, tmp_path: Path, what: str) -> None:
    fold = blinded.fold(0)
    with opened(blinded, tmp_path) as (context, _):
        with pytest.raises(BlemoreError) as caught:
            context.score(WRONG_QUESTIONS[what](fold))
        error = caught.value
        assert error.__cause__ is None
        assert error.__context__ is None
        names = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
        assert "answer" not in names, "the traceback goes into the harness's thread"
        assert secrets(blinded, 0, (fold, context, error)) == []
    assert secrets(blinded, 0, (fold, context, error)) == []


def test_error_inside_a_service_that_is_no_harness_error_loses_its_frames() -> None:
    hidden = "A1_ang_int1_ver1"

    def broken(text: str) -> None:
        inner = hidden
        raise KeyError(len(inner))

    with ScoringService({"ask": broken}).open() as ask:
        with pytest.raises(BlemoreError, match=r"ask failed: KeyError\(16\)") as caught:
            ask("ask", "x")
        assert not any(isinstance(item, str) and NAME.search(item) for item in reachable(ask, caught.value))
        with pytest.raises(BlemoreError, match="nothing failed: KeyError"):
            ask("nothing")


def test_question_after_the_end_is_an_error(blinded: BlindedDataset, tmp_path: Path) -> None:
    with opened(blinded, tmp_path) as (context, _):
        pass
    for late in (lambda: context.log("x"), lambda: context.score(rows_for(blinded.fold(0).held_out.ids))):
        with pytest.raises(BlemoreError, match="was asked for after the call that it belonged to had ended"):
            late()


@pytest.mark.parametrize("part", ["prepare", "final"])
def test_nobody_can_be_asked_where_nothing_is_held_out(blinded: BlindedDataset, tmp_path: Path, part: str) -> None:
    with opened(blinded, tmp_path, part, None) as (context, log):
        assert context.final == (part == "final")
        with pytest.raises(BlemoreError, match="nothing is held out here, use an inner split"):
            context.score(rows_for(blinded.train.ids))
    assert log.asked == 0


def test_threads_of_a_plugin_may_ask_at_once(blinded: BlindedDataset, tmp_path: Path) -> None:
    fold = blinded.fold(0)
    asked = {seed: rows_for(fold.held_out.ids, seed) for seed in range(40)}
    truth = blinded.train.labels[blinded.folds == 0]
    found: dict[int, Scores] = {}
    with opened(blinded, tmp_path) as (context, log):

        def ask(seed: int) -> None:
            found[seed] = context.score(asked[seed])
            context.log(f"asked {seed}")

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
    assert found == {seed: search_official(rows.values, truth).scores for seed, rows in asked.items()}
    assert log.asked == 40


def test_threads_that_ask_while_the_service_ends_get_an_answer_or_an_error() -> None:
    for _ in range(50):
        outcomes: list[str] = []
        with ScoringService({"add": lambda a, b: a + b}).open() as ask:

            def work(ask: Callable[..., Any] = ask, outcomes: list[str] = outcomes) -> None:
                try:
                    while True:
                        assert ask("add", 1, 2) == 3
                except BlemoreError:
                    outcomes.append("refused")

            threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join(300)
        assert outcomes == ["refused"] * 3


def test_the_service_ends_with_an_error_of_the_plugin_and_leaves_no_thread() -> None:
    def crash() -> None:
        with ScoringService({}).open():
            raise ZeroDivisionError

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        crash()
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_process_gets_an_error_and_does_not_wait(blinded: BlindedDataset, tmp_path: Path) -> None:
    with opened(blinded, tmp_path) as (context, _):
        child = os.fork()
        if child == 0:
            try:
                context.log("from a worker")
            except BlemoreError:
                os._exit(42)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


def test_context_does_not_travel_to_other_processes(blinded: BlindedDataset, tmp_path: Path) -> None:
    with opened(blinded, tmp_path) as (context, _), pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(context)


def test_fold_refuses_labels_in_its_held_out_part(blinded: BlindedDataset) -> None:
    with pytest.raises(BlemoreError, match="labels"):
        Fold(0, blinded.train.take([0]), blinded.train.take([1]))


def test_wrong_rows_keep_their_kind_of_error(blinded: BlindedDataset, tmp_path: Path) -> None:
    with opened(blinded, tmp_path) as (context, _), pytest.raises(InvalidProbabilities, match="6 clips missing"):
        context.score(rows_for(blinded.fold(0).train.ids))


def test_a_curve_is_kept_in_at_most_a_hundred_points_with_its_ends(tmp_path: Path) -> None:
    book = RecordingReporter()
    context = make_context(tmp_path, reporter=book)
    context.note_curve("loss", range(1, 1001), [1 / k for k in range(1, 1001)])
    context.note_curve("short", [1, 2, 3, 4], [0.123456789, float("inf"), float("nan"), 2])
    kept = book.notes["loss"]["curve"]
    assert len(kept["epochs"]) == len(kept["values"]) == 100
    assert kept["epochs"][:2] == [1, 11]
    assert (kept["epochs"][-1], kept["values"][-1]) == (1000, 0.001)
    assert all(value == pytest.approx(1 / epoch, rel=1e-5) for epoch, value in zip(*kept.values(), strict=True))
    assert book.notes["short"] == {"curve": {"epochs": [1, 4], "values": [0.123457, 2]}}
    with pytest.raises(ValueError, match="shorter"):
        context.note_curve("uneven", [1, 2, 3], [1, 2])
