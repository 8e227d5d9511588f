"""What one run needs, in one bundle: what is evaluated, on what, and where."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from blemore_harness.cache import Cache
from blemore_harness.context import Reporter
from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.data.download import Dataset
from blemore_harness.disk import hold
from blemore_harness.files.runs import Runs, SystemFolder
from blemore_harness.hookspecs import Encoder
from blemore_harness.networks import Device
from blemore_harness.record.types import Record
from blemore_harness.running.isolation import Workers
from blemore_harness.running.progress import Show, ignore_standing
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.resolved import FoundSystem, ResolvedSystem, find_systems, resolve_systems
from blemore_harness.systems.submission import Submission


@dataclass(frozen=True)
class Run:
    """What one run needs; nothing from `runs` on changes a number.

    Attributes:
        submission: what is evaluated.
        plugins: who offers its systems, and hears of the run.
        systems: those of the submission, resolved for the dataset: the encoders and, last, the fusion if there is one.
        dataset: as read from disk.
        blinded: the same as plugins may see it.
        runs: root of all runs.
        cache: root of the shared arrays.
        device: where to compute.
        reporter: where messages and progress go.
        command: the command line, for the record.
        isolation: how worker processes are run; None calls plugins in this process.
        draw: writes a record as text for people, which is kept beside it; None keeps the record only.
        stop_at_bad_clips: raise `MediaError` for the first clip that an encoder cannot use (so that it can be left
            out), in place of reporting the encoder as failed.
        keep_models: whose models are kept: of final fits, also where no test clips call for one; of all fits; of none.
            None keeps those of the final fits that there are anyway.
        seeds: base seeds of the group of runs that it belongs to; empty for a run by itself.
        show: told how far the run is.
        held: folders that are held already.
    """

    submission: Submission
    plugins: Plugins
    systems: tuple[ResolvedSystem, ...]
    dataset: Dataset
    blinded: BlindedDataset
    runs: Runs
    cache: Cache
    device: Device
    reporter: Reporter
    command: tuple[str, ...] = ()
    isolation: Workers | None = None
    draw: Callable[[Record], str] | None = None
    stop_at_bad_clips: bool = False
    keep_models: Literal["final", "all", "none"] | None = None
    seeds: tuple[int, ...] = ()
    show: Show = ignore_standing
    held: frozenset[Path] = frozenset()

    @property
    def encoders(self) -> tuple[ResolvedSystem, ...]:
        """The encoders of the submission."""
        return tuple(each for each in self.systems if isinstance(each.system, Encoder))

    @property
    def fusion(self) -> ResolvedSystem | None:
        """The fusion of the submission; None where it has one encoder only."""
        return self.systems[-1] if self.systems[-1].base_models else None

    @property
    def folder(self) -> Path:
        """The run's folder, made if need be."""
        return self.runs.run(self.submission.name, self.systems[-1].digest)

    def folder_of(self, resolved: ResolvedSystem) -> SystemFolder:
        """Return the folder of a system, made if need be."""
        return self.runs.system(resolved.name, resolved.identity, resolved.digest)

    @contextmanager
    def holding(self, folder: Path) -> Iterator[Run]:
        """Hold a folder against other runs; returns a run whose workers keep it locked until they are gone."""
        if folder in self.held:
            yield self
            return
        with hold(folder, self.reporter.log) as lock:
            isolation = None if self.isolation is None else self.isolation.holding(lock)
            yield replace(self, isolation=isolation, held=self.held | {folder})

    def on(self, dataset: Dataset, blinded: BlindedDataset) -> Run:
        """Return the same run on another dataset, its systems resolved for that."""
        found = find_systems(self.submission, self.plugins, dataset.demo)
        return replace(self, dataset=dataset, blinded=blinded, systems=resolve_systems(found, blinded))

    def of(self, submission: Submission) -> Run:
        """Return a run of another submission on the same dataset."""
        return replace(self, submission=submission).on(self.dataset, self.blinded)

    def group(self) -> dict[str, str]:
        """Return the configuration hash of every run of its group, by base seed."""
        return {str(seed): self.of(replace(self.submission, seed=seed)).systems[-1].digest for seed in self.seeds}


def open_run(
    submission: Submission,
    plugins: Plugins,
    dataset: Dataset,
    blinded: BlindedDataset,
    runs: Path,
    cache: Path,
    reporter: Reporter,
    device: str = "cpu",
    found: Sequence[FoundSystem] | None = None,
    **more: Any,
) -> Run:
    """Resolve the systems of a submission for a dataset, and bundle what evaluates them.

    Args:
        runs, cache: root folders.
        device: `auto`, `cpu` or `cuda`.
        found: the systems, where they were looked up already.
        more, and the others: as of `Run`.

    Raises:
        ConfigError, DataError: as of `find_systems` and `resolve_systems`.
    """
    if found is None:
        found = find_systems(submission, plugins, dataset.demo)
    systems = resolve_systems(found, blinded)
    where = (Runs(runs), Cache(cache), Device(device), reporter)
    return Run(submission, plugins, systems, dataset, blinded, *where, **more)
