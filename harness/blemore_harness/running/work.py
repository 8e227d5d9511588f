"""Carries out a plan: in order in this process, or with several workers at a time; either way with the same results."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

from blemore_harness.errors import PluginFailed
from blemore_harness.executors import Needs
from blemore_harness.files.runs import FoldResult
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.networks import usable_cpus
from blemore_harness.predictions import Embeddings
from blemore_harness.running.calls import name_trouble
from blemore_harness.running.isolation import Isolation
from blemore_harness.running.keeping import Prepared, is_finished, parts_of
from blemore_harness.running.local import LocalStarter
from blemore_harness.running.needs import count_room, estimate_needs, free_memory, list_gpus, list_imports
from blemore_harness.running.plan import Node
from blemore_harness.running.pool import Pool
from blemore_harness.running.remote import RemoteStarter
from blemore_harness.running.run import Run
from blemore_harness.running.steps import clips_to_prepare, embed, fit, prepare, prepare_block
from blemore_harness.scoring.results import SystemPredictions
from blemore_harness.systems.resolved import ResolvedSystem
from blemore_harness.systems.unregistered import SESSION

LEAST_BLOCK = 64
"""Clips that are worth a worker of their own."""

SKIPPED = "a base model failed, and a fusion of the others would be another system"


@dataclass(frozen=True)
class Event:
    """Something that happened to a piece of work, in the order in which it is to be told.

    Attributes:
        kind: it began, or ended; a fold is on disk; its system failed, or cannot be tried.
        fold, result: of a fold.
        error: of a failure.
    """

    kind: Literal["began", "fold", "ended", "failed", "skipped"]
    node: Node
    resolved: ResolvedSystem
    fold: int | None = None
    result: FoldResult | None = None
    error: PluginFailed | None = None


def is_spread(run: Run) -> bool:
    """Return whether the pieces of a run's plan are carried out at the same time."""
    isolation = run.isolation
    return isinstance(isolation, Isolation) and (isolation.jobs > 1 or isolation.executor is not None)


def count_jobs(run: Run) -> int:
    """Return how many pieces of a run's plan are carried out at the same time."""
    return getattr(run.isolation, "jobs", 1) if is_spread(run) else 1


def choose_jobs(run: Run, again: bool = False) -> int:
    """Return how many workers are worth starting here: as this machine has room for, and no more than there is to do.

    Args:
        again: whether what is finished is prepared again, and nothing else.
    """
    preparations = sum(_most_blocks(run, each) for each in _list_unprepared(run, again))
    largest = max((len(parts_of(run, each)) for each in run.systems if not is_finished(run, each)), default=0)
    work = preparations if again else max(preparations, largest)
    return min(count_room(run.device.resolve()), work) if work > 1 else 1


def count_blocks(run: Run, resolved: ResolvedSystem, again: bool = False) -> int:
    """Return into how many blocks the clips of an encoder are divided: several where workers would have nothing to do.

    Args:
        again: as of `choose_jobs`.
    """
    if not is_spread(run) or (most := _most_blocks(run, resolved)) == 1:
        return 1
    places = count_jobs(run)
    if not _is_elsewhere(run) and (gpus := list_gpus(run.device.resolve())):
        places = len(gpus) if estimate_needs(resolved, True, "cuda", "prepare").gpus else places - len(gpus)
    return max(1, min(most, places // max(1, len(_list_unprepared(run, again)))))


def _most_blocks(run: Run, resolved: ResolvedSystem) -> int:
    system = resolved.system
    # Whoever leaves out bad clips needs the first one.
    divides = isinstance(system, Encoder) and system.prepares_each_clip and not run.stop_at_bad_clips
    return max(1, len(clips_to_prepare(run, resolved)) // LEAST_BLOCK) if divides and resolved.plugin != SESSION else 1


def _list_unprepared(run: Run, again: bool) -> list[ResolvedSystem]:
    return [each for each in run.encoders if again or not is_finished(run, each)]


def fits_together(run: Run, resolved: ResolvedSystem) -> bool:
    """Return whether a system fits its folds in one call, where that shares work: then it does so in this process."""
    if not is_spread(run):
        return True
    if getattr(run.isolation, "fresh", False):
        return False
    system = resolved.system
    if isinstance(system, Encoder):
        own = type(system).fit is Encoder.fit or type(system).fit_folds is not Encoder.fit_folds
        return own and not _is_elsewhere(run) and run.device.resolve() == "cuda"
    return type(system).fit_folds is not Fusion.fit_folds and system.folds_share_work


def _is_elsewhere(run: Run) -> bool:
    return isinstance(run.isolation, Isolation) and run.isolation.executor is not None


class Work:
    """A plan while it is carried out.

    Attributes:
        predictions: by system, once all its folds are there.
        embeddings: by encoder, where the plan asks for them.

    Args:
        nodes: in an order in which they can be carried out.
        again: prepare encoders whose folds are finished, too.
    """

    def __init__(self, run: Run, nodes: Sequence[Node], again: bool = False) -> None:
        self._run = run
        self._nodes = nodes
        self._again = again
        self._systems = {each.name: each for each in run.systems}
        self._results: dict[str, dict[int | None, FoldResult]] = {name: {} for name in self._systems}
        self._failed: set[str] = set()
        self._broken: set[str] = set()
        self._blocks: dict[str, dict[int, Prepared]] = {name: {} for name in self._systems}
        self._lock = threading.Lock()
        self.predictions: dict[str, SystemPredictions] = {}
        self.embeddings: dict[str, Embeddings] = {}

    def carry_out(self) -> Generator[Event]:
        """Carry the plan out; gives what happens, in this thread. Closing it ends what is going on.

        Raises:
            MediaError, RunError: as of `calls.guard`; what was finished stays finished.
        """
        if is_spread(self._run):
            assert isinstance(self._run.isolation, Isolation)
            yield from _Spread(self, self._run, self._nodes, self._run.isolation).carry_out()
        else:
            for node in self._nodes:
                yield from self.attempt(self._run, node)

    def attempt(self, run: Run, node: Node) -> Iterator[Event]:
        """Carry out one piece of work whose conditions are done or failed; one that cannot be tried is passed over."""
        resolved, owner = self._systems[node.system], self._systems[node.owner]
        trouble = owner.trouble is not None and node.owner not in self._failed
        if not trouble and (node.owner in self._failed or self._broken & set(node.after)):
            with self._lock:
                new = node.owner not in self._failed
                self._failed.add(node.owner)
                self._broken.add(node.address)
            if new:
                yield Event("skipped", node, owner)
            return
        try:
            if owner.trouble is not None:
                raise name_trouble(run, owner)
            if not self._is_needed(node):
                return
            yield Event("began", node, resolved)
            for index, result in self._do(run, node, resolved):
                self._keep(node, index, result)
                yield Event("fold", node, resolved, index, result)
            if node.block is None:
                yield Event("ended", node, resolved)
        except PluginFailed as error:
            with self._lock:
                new = node.owner not in self._failed
                self._failed.add(node.owner)
                self._broken.add(node.address)
            if new:
                yield Event("failed", node, owner, error=error)

    def _is_needed(self, node: Node) -> bool:
        if node.step == "prepare":
            return self._again or not is_finished(self._run, self._systems[node.system])
        return node.step == "fit" or node.owner == node.system or not is_finished(self._run, self._systems[node.owner])

    def _do(self, run: Run, node: Node, resolved: ResolvedSystem) -> Iterator[tuple[int | None, FoldResult]]:
        if node.block is not None:
            block = prepare_block(run, resolved, *node.block)
            with self._lock:
                self._blocks[node.system][node.block[0]] = block
        elif node.step == "prepare":
            with run.holding(run.folder_of(resolved).path) as held:
                if self._is_needed(node):  # whoever held it may have done everything
                    prepare(held, resolved, [each for _, each in sorted(self._blocks[node.system].items())])
        elif node.step == "embed":
            self.embeddings[node.system] = embed(run, resolved)
        else:
            found = {base.name: self.predictions[base.name] for base in resolved.base_models}
            train = {name: predicted.out_of_fold for name, predicted in found.items()}
            test = {name: predicted.test or predicted.out_of_fold.pick(()) for name, predicted in found.items()}
            yield from fit(run, resolved, train, test, only=node.folds, embeddings=self.embeddings)

    def _keep(self, node: Node, index: int | None, result: FoldResult) -> None:
        with self._lock:
            results = self._results[node.system]
            results[index] = result
            parts = parts_of(self._run, self._systems[node.system])
            if len(results) == len(parts) and node.system not in self._failed:
                gathered = SystemPredictions.gather({part: results[part] for part in parts}, self._run.blinded)
                self.predictions[node.system] = gathered


class _Spread:
    """Carries out the pieces of a plan at the same time: each in a thread of the harness that talks with a worker.

    Work that shares more than it gains by workers (`fits_together`), and systems that workers cannot look up, are
    carried out in this thread meanwhile. All preparations have begun before the first fit, so that what is missing
    shows early.
    """

    def __init__(self, work: Work, run: Run, nodes: Sequence[Node], isolation: Isolation) -> None:
        self._work, self._run, self._isolation = work, run, isolation
        self._systems = {each.name: each for each in run.systems}
        self._change = threading.Condition()
        self._waiting = list(nodes)
        self._running: list[Node] = []
        self._done: set[str] = set()
        self._stopped = False
        self._news: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()

    def carry_out(self) -> Iterator[Event]:
        """As `Work.carry_out`."""
        with ExitStack() as stack:
            held = self._hold(stack)
            run, pool, slots = self._open_pool(held)
            threads = [threading.Thread(target=self._work_off, args=(run, pool), daemon=True) for _ in range(slots)]
            stack.callback(self._stop, pool, threads)
            for thread in threads:
                thread.start()
            while (node := self._take(None)) is not None or not self._is_over():
                if node is not None:
                    yield from self._work.attempt(replace(held, isolation=None), node)
                    self._finish(node)
                elif isinstance(news := self._news.get(), BaseException):
                    raise news
                elif news is not None:
                    yield news
            while not self._news.empty():
                if isinstance(news := self._news.get(), BaseException):
                    raise news
                if news is not None:
                    yield news

    def _hold(self, stack: ExitStack) -> Run:
        """Hold the folders of all systems that are not finished, always in the same order: two runs cannot block."""
        held = self._run
        for folder in sorted(held.folder_of(each).path for each in self._list_unfinished()):
            held = stack.enter_context(held.holding(folder))
        return held

    def _list_unfinished(self) -> list[ResolvedSystem]:
        return [each for each in self._run.systems if each.trouble is None and not is_finished(self._run, each)]

    def _open_pool(self, held: Run) -> tuple[Run, Pool, int]:
        isolation = held.isolation
        assert isinstance(isolation, Isolation)
        executor = isolation.executor
        self._memory, self._gpus = 2**63, 2**31
        if executor is not None:
            pool = Pool(RemoteStarter(executor, isolation.jobs), executor.cpus, isolation)
            self._device = held.device.asked
            return replace(held, isolation=pool, device=held.device.elsewhere()), pool, isolation.jobs
        self._device = held.device.resolve()
        gpus = list_gpus(self._device)
        self._memory, self._gpus = free_memory(), len(gpus)
        cpus = max(1, usable_cpus() // isolation.jobs)
        # A process that may have looked at GPUs is not forked: CUDA does not survive it.
        modules = () if gpus else list_imports(self._list_unfinished())
        pool = Pool(LocalStarter(isolation.locks, cpus, gpus, self._memory, modules), cpus, isolation)
        return replace(held, isolation=pool), pool, isolation.jobs

    def _work_off(self, run: Run, pool: Pool) -> None:
        while (node := self._take(pool)) is not None:
            try:
                for event in self._work.attempt(run, node):
                    self._news.put(event)
            except BaseException as error:
                self._news.put(error)
                return
            self._finish(node)

    def _take(self, pool: Pool | None) -> Node | None:
        """Wait for a piece of work that workers can do; None when there will be none. Without a pool, do not wait."""
        with self._change:
            while not self._stopped and self._waiting:
                known = set() if pool is None else pool.known_labels()
                ready = [node for node in self._waiting if self._is_ready(node, here=pool is None)]
                if ready:
                    node = min(ready, key=lambda each: self._rank(each, known))
                    self._waiting.remove(node)
                    self._running.append(node)
                    return node
                if pool is None:
                    return None
                self._change.wait()
            return None

    def _is_ready(self, node: Node, here: bool) -> bool:
        if not self._done.issuperset(node.after) or here != self._is_for_here(node):
            return False
        if node.step == "fit" and any(map(self._may_be_prepared, self._waiting)):
            return False
        own, others = self._needs(node), [self._needs(each) for each in self._running if not self._is_for_here(each)]
        return here or not others or (
            own.memory + sum(each.memory for each in others) <= self._memory
            and own.gpus + sum(each.gpus for each in others) <= self._gpus
        )  # fmt: skip

    def _may_be_prepared(self, node: Node) -> bool:
        return node.step == "prepare" and self._done.issuperset(node.after)

    def _is_for_here(self, node: Node) -> bool:
        resolved = self._systems[node.system]
        unknown = any(each.plugin == SESSION for each in (resolved, *resolved.parts))
        return unknown or len(node.folds) > 1

    def _needs(self, node: Node) -> Needs:
        return estimate_needs(self._systems[node.system], node.step != "fit", self._device, node.step)

    def _rank(self, node: Node, known: set[object]) -> tuple[int, int]:
        """Preparations first; then fits that a worker may do that is there; then folds that no worker is busy with."""
        if node.step != "fit":
            return 0, 0
        if node.folds[0] in known:
            return 1, 0
        return 2, sum(each.folds == node.folds for each in self._running)

    def _finish(self, node: Node) -> None:
        with self._change:
            self._running.remove(node)
            self._done.add(node.address)
            self._change.notify_all()
        self._news.put(None)

    def _is_over(self) -> bool:
        with self._change:
            return not self._waiting and not self._running

    def _stop(self, pool: Pool, threads: Sequence[threading.Thread]) -> None:
        """End what is going on, and wait until it has ended."""
        with self._change:
            self._stopped = True
            self._change.notify_all()
        pool.close()
        for thread in threads:
            thread.join()
