"""Estimates the time and the disk space of a planned run from about a minute of the same work on a few clips."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.clips import EMOTIONS
from blemore_harness.context import Silent
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import leave_out
from blemore_harness.disk import cache_root
from blemore_harness.doctor.surroundings import Finding, bytes_below, size_of
from blemore_harness.files.runs import Runs
from blemore_harness.hookspecs import Fusion
from blemore_harness.predictions import Probabilities
from blemore_harness.running.calls import open_call
from blemore_harness.running.keeping import part_name, parts_of, takes_embeddings
from blemore_harness.running.progress import show_duration
from blemore_harness.running.requests import Fitting, Preparing, Request, plan_fusing
from blemore_harness.running.run import Run
from blemore_harness.systems.resolved import ResolvedSystem

BUDGET = 60.0
"""Seconds that a measurement takes, about."""

Clock = Callable[[], float]
Point = tuple[int, float]
"""A number of clips, and how many seconds they took."""


@dataclass(frozen=True)
class Span:
    """An estimate, from `low` to `high` seconds."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        """Return the estimate of both, one after the other."""
        return Span(self.low + other.low, self.high + other.high)

    def times(self, count: int) -> Span:
        """Return the estimate of `count` repetitions."""
        return Span(self.low * count, self.high * count)

    def __str__(self) -> str:
        low, high = show_duration(self.low), show_duration(self.high)
        return f"about {low}" if low == high else f"{low} to {high}"


def extrapolate(points: Sequence[Point], count: int) -> Span:
    """Return how long `count` clips take, from the last two measurements of different numbers of clips.

    High: all that was measured grows with the clips. Low: only what two numbers of clips differ by does, and the rest,
    such as loading a network, comes once.

    >>> extrapolate([(10, 7.0), (20, 12.0)], 100)
    Span(low=52.0, high=60.0)
    """
    clips, seconds = points[-1]
    each = seconds / clips
    if len(points) == 1:
        return Span(each * count, each * count)
    fewer, earlier = points[-2]
    more = min(max(0.0, (seconds - earlier) / (clips - fewer)), each)
    ends = (seconds + more * (count - clips), each * count)
    return Span(min(ends), max(ends))


class Enough(BaseException):
    """The time of a measurement is over; no `Exception`, so that no plugin takes it for a failure of its own."""


class Stopwatch(Silent):
    """A reporter that ends a call whose time is over at a step of its progress bar, from which the rest follows.

    Args:
        clock: gives seconds.
        budget: seconds that the call may take.
    """

    def __init__(self, clock: Clock, budget: float) -> None:
        self._clock, self._budget = clock, budget
        self.started = clock()
        self.seconds = 0.0

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Silent]:
        """Watch a bar."""
        yield _WatchedBar(self, self._clock(), total)

    def look(self, opened: float, done: int, total: int) -> None:
        """End the call if its time is over, with the seconds that all of the bar would take."""
        now = self._clock()
        if now - self.started > self._budget and 0 < done < total:
            self.seconds = opened - self.started + (now - opened) / done * total
            raise Enough

    def time(self, work: Callable[[], object]) -> float:
        """Return how many seconds a call takes, or would take."""
        try:
            work()
        except Enough:
            return self.seconds
        return self._clock() - self.started


class _WatchedBar(Silent):
    def __init__(self, watch: Stopwatch, opened: float, total: int) -> None:
        self._watch, self._opened, self._total, self._done = watch, opened, total, 0

    def advance(self, count: int = 1) -> None:
        """Count, and look at the clock."""
        self._done += count
        self._watch.look(self._opened, self._done, self._total)


def measure(run: Run, clock: Clock = time.perf_counter, budget: float = BUDGET) -> list[Finding]:
    """Return an estimate for every system of a run from scratch, and one for all.

    An encoder prepares a few training clips, of all folds and of different actors, twice as many, and so on, then one
    fold of these is fitted. A fusion is fitted on random probabilities of all clips. Nothing that is measured is kept.

    Args:
        run: as it is planned.
        clock: gives seconds.
        budget: seconds for all of it, about; what has progress bars is cut short.
    """
    cache_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_root(), prefix="measuring-") as place:
        home = Path(place)
        run = replace(run, runs=Runs(home / "runs"), cache=Cache(home / "arrays"), isolation=None)
        findings: list[Finding] = []
        total, disk, left_out = Span(0, 0), 0.0, []
        for resolved in run.systems:
            run.reporter.log(f"measuring {resolved.name}")
            try:
                if resolved.trouble is not None:
                    raise resolved.trouble
                if isinstance(resolved.system, Fusion):
                    seconds, size, text = _measure_fusion(run, resolved, clock, budget)
                else:
                    seconds, size, text = _measure_encoder(run, resolved, clock, budget / len(run.encoders))
            except Exception as error:
                left_out.append(resolved.name)
                said = " ".join(str(error).split())
                findings.append(Finding(f"time {resolved.name}", "warning", f"cannot be measured: {said}"[:300]))
            else:
                total, disk = total + seconds, disk + size
                findings.append(Finding(f"time {resolved.name}", "ok", text))
    without = f"; without {', '.join(left_out)}" if left_out else ""
    found = f"{total}, {size_of(disk)} in the cache, from scratch and without downloads{without}"
    return [*findings, Finding("time in all", "warning" if left_out else "ok", found)]


def _measure_encoder(run: Run, resolved: ResolvedSystem, clock: Clock, budget: float) -> tuple[Span, float, str]:
    """Return seconds, bytes in the cache, and both in words."""
    order, folds = _order_clips(run), len(run.dataset.fold_numbers)
    before, spent, prepared, sizes = bytes_below(run.cache.root), 0.0, list[Point](), [0]
    some = run
    while sizes[-1] < len(order) and (len(prepared) < 3 or spent < budget / 3):
        sizes.append(min(len(order), max(folds, 2 * sizes[-1])))
        some = _with_clips(run, order[: sizes[-1]])
        seconds = _time(some, resolved.name, Preparing(some.blinded.everything()), clock, budget)
        prepared.append((sizes[-1] - sizes[-2], seconds))
        spent += seconds
    clips = len(run.dataset.ids) + len(run.dataset.test_ids)
    size = (bytes_below(run.cache.root) - before) / sizes[-1] * clips
    # The first clips pay for imports and compiling, as does the first fit.
    preparing = extrapolate(prepared[1:] or prepared, clips)

    fitted: list[Point] = []
    counts = [each for each in sizes[-2:] if each >= 2 * folds] or sizes[-1:]
    for count in (counts[0], *counts):
        some = _with_clips(run, order[:count])
        fold = some.blinded.fold(some.dataset.fold_numbers[0])
        fitted.append((len(fold.train), _time(some, resolved.name, Fitting(fold), clock, budget / 6)))
    training = Span(0, 0)
    for index in parts_of(run, resolved):
        training += extrapolate(fitted[1:], len(run.blinded.fold(index).train))
    text = (
        f"prepare {preparing}, train {training}, {size_of(size)} in the cache ({sizes[-1]} of {clips} clips measured)"
    )
    return preparing + training, size, text


def _measure_fusion(run: Run, resolved: ResolvedSystem, clock: Clock, budget: float) -> tuple[Span, float, str]:
    """As `_measure_encoder`; random probabilities stand in for those of its base models."""
    assert isinstance(resolved.system, Fusion)
    if takes_embeddings(resolved):
        raise ValueError("a fusion of embeddings needs those of its base models")
    random = np.random.default_rng(0)
    ids = run.blinded.train.ids
    given = {
        base.name: Probabilities(ids, random.dirichlet(np.ones(len(EMOTIONS)), size=len(ids)))
        for base in resolved.base_models
    }
    index = run.dataset.fold_numbers[0]
    request = plan_fusing(resolved.system, run.blinded.fold(index), given, given)
    seconds = _time(run, resolved.name, request, clock, budget)
    count = len(parts_of(run, resolved))
    training = Span(seconds, seconds).times(count)
    return training, 0.0, f"train {training} (from 1 of {count} fits, on random probabilities)"


def _time(run: Run, name: str, request: Request, clock: Clock, budget: float) -> float:
    """Return how many seconds a request takes, or would take."""
    resolved = next(each for each in run.systems if each.name == name)
    index = None if isinstance(request, Preparing) else run.dataset.fold_numbers[0]
    watch = Stopwatch(clock, budget)
    part = "prepare" if index is None else part_name(index)
    with open_call(replace(run, reporter=watch), resolved, part, index) as (context, _):
        return watch.time(lambda: request.do(resolved.system, resolved.options, context))


def _order_clips(run: Run) -> list[str]:
    """Return the training clips such that the first ones are of all folds, and in each of different actors."""
    dataset = run.dataset
    by_fold: list[list[str]] = []
    for fold in dataset.fold_numbers:
        by_actor: dict[str, list[str]] = {}
        for name, actor, number in zip(dataset.ids, dataset.actors, dataset.folds, strict=True):
            if number == fold:
                by_actor.setdefault(actor, []).append(name)
        by_fold.append(_take_turns(list(by_actor.values())))
    return _take_turns(by_fold)


def _take_turns(groups: Sequence[Sequence[str]]) -> list[str]:
    return [name for name in chain.from_iterable(zip_longest(*groups)) if name is not None]


def _with_clips(run: Run, names: Sequence[str]) -> Run:
    """Return a run on some of the training clips, without test clips."""
    wanted = set(names)
    others = [name for name in (*run.dataset.ids, *run.dataset.test_ids) if name not in wanted]
    dataset = leave_out(run.dataset, dict.fromkeys(others, "not measured")) if others else run.dataset
    return run.on(dataset, blind_dataset(dataset, run.cache.root.parent / "blinded"))
