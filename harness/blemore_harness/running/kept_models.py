"""Opens the models that a run keeps, and says what differs here from the run."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blemore_harness.cache import Cache
from blemore_harness.context import Reporter
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.decoding.strategies import STRATEGIES, make_decoder
from blemore_harness.disk import LOCK_FILE, MINUTE, cache_root, read_json
from blemore_harness.errors import PluginFailed, RunError
from blemore_harness.files.runs import Runs, SystemFolder, folder_name, read_decoder
from blemore_harness.hookspecs import Encoder
from blemore_harness.networks import Device
from blemore_harness.options import describe_options
from blemore_harness.record.types import FinishedSystem, Record, SystemFacts
from blemore_harness.running.keeping import takes_embeddings
from blemore_harness.running.new_clips import FINAL, KeptModels, dataset_of
from blemore_harness.running.run import Run
from blemore_harness.systems.core_code import digest_core
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.resolved import ResolvedSystem, find_systems, resolve_systems
from blemore_harness.systems.submission import Submission

SCRATCH = "new-clips"
"""Folder of the cache for what a prediction needs while it goes on: on the file system of the other links to clips."""


@contextlib.contextmanager
def open_scratch() -> Iterator[Path]:
    """Make a folder that is deleted afterwards, and delete those whose process was killed."""
    home = cache_root() / SCRATCH
    home.mkdir(parents=True, exist_ok=True)
    for left in home.iterdir():
        with contextlib.suppress(OSError), (left / LOCK_FILE).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - left.stat().st_mtime > MINUTE:  # a young one may be about to be locked
                shutil.rmtree(left)
    folder = tempfile.TemporaryDirectory(dir=home, ignore_cleanup_errors=True)
    with folder as name, (Path(name) / LOCK_FILE).open("w") as file:
        with contextlib.suppress(OSError):  # a file system without locks: its leftovers stay
            fcntl.flock(file, fcntl.LOCK_EX)
        yield Path(name)


def open_models(
    folder: Path, record: Record, plugins: Plugins, scratch: Path, cache: Path, device: str, reporter: Reporter,
    system: str | None = None,
) -> KeptModels:  # fmt: skip
    """Open the kept models of a run.

    Args:
        folder: of the run; its systems lie beside it.
        record: of the run.
        plugins: installed here.
        scratch: an empty folder, such as `open_scratch` makes.
        cache: root of the shared arrays.
        device: as of `Device`.
        reporter: shows messages and progress.
        system: who answers; None takes the system that decoded the test clips, else the last one.

    Raises:
        RunError: an unfinished system, one whose model was not kept, or one that reads released features only.
        ConfigError: a plugin that is not installed here.
    """
    found = _find_system(record, folder.name, system)
    names = (*found.base_models, found.name)
    facts = {each.name: each for each in record.systems if each.name in names}
    submission = Submission(
        record.submission.name,
        found.base_models or (found.name,),
        found.name if found.base_models else None,
        options=_options_of(facts.values()),
        seed=record.submission.seed,
    )
    empty = dataset_of({})
    systems = resolve_systems(find_systems(submission, plugins, demo=False), None)
    folders = {name: SystemFolder(folder.parent / "systems" / folder_name(name, facts[name].digest)) for name in names}
    for name in names:
        # Of a fusion of embeddings no base model predicts.
        if name == found.name or not takes_embeddings(systems[-1]):
            folders[name].read_model(FINAL)
    blinded = blind_dataset(empty, scratch / "nothing")
    where = (Runs(scratch / "runs"), Cache(cache), Device(device), reporter)
    released = {each.name: reason for each in systems if (reason := _why_unusable(each))}
    if len(released) == len([each for each in systems if isinstance(each.system, Encoder)]):
        raise RunError(f"{', '.join(released)}: {next(iter(released.values()))}")
    described = read_decoder(folder, found.name)
    remarks = [text for each in systems for text in _other_options(each, facts[each.name])]
    if aged := [each.name for each in systems if _is_other_code(each, folders[each.name])]:
        remarks.append(f"{', '.join(aged)}: trained with another version of the code")
    wanted = record.submission.thresholds
    if wanted is not None and STRATEGIES[wanted].transductive:
        remarks.append(f"labels by '{described['strategy']}': '{wanted}' looks at other clips of the same actor")
    return KeptModels(
        Run(submission, plugins, systems, empty, blinded, *where), folder, folders, make_decoder(described), scratch,
        record.caveat, tuple(remarks), released,
    )  # fmt: skip


def _find_system(record: Record, run: str, name: str | None) -> FinishedSystem:
    wanted = name or (record.test.system if record.test is not None else None)
    finished = {system.name: system for system in record.finished}
    if wanted is None and finished:
        wanted = list(finished)[-1]
    if wanted not in finished:
        which = f" {wanted!r}" if wanted else ""
        raise RunError(f"{run} has no finished system{which} (finished: {', '.join(finished) or 'none'})")
    return finished[wanted]


def _options_of(systems: Any) -> dict[str, dict[str, object]]:
    """Return the options that systems and their parts were given, by name."""
    found: dict[str, dict[str, object]] = {}

    def add(facts: SystemFacts) -> None:
        found[facts.name] = dict(facts.options_given)
        for part in facts.parts:
            add(part)

    for facts in systems:
        add(facts)
    return found


def _other_options(resolved: ResolvedSystem, facts: SystemFacts) -> Iterator[str]:
    """Report an option that means something else here, such as features that were released for the dataset alone."""
    for part, part_facts in zip(resolved.parts, facts.parts, strict=True):
        yield from _other_options(part, part_facts)
    here = describe_options(resolved.options)
    changed = [name for name, value in facts.options.items() if here.get(name) != value]
    for name in changed if isinstance(resolved.system, Encoder) else ():
        yield f"{resolved.name} was trained with {name}={facts.options[name]}, and takes {name}={here.get(name)} here"


def _why_unusable(resolved: ResolvedSystem) -> str:
    """Return why an encoder can answer for no new clip; empty where it can."""
    system = resolved.system
    if resolved.trouble is not None:
        raise PluginFailed(f"{resolved.name}{resolved.trouble.what}", resolved.name, resolved.trouble.trace)
    read = system.feature_sets(resolved.options) if isinstance(system, Encoder) else ()
    return f"reads released features ({', '.join(read)}), which new clips do not have" if read else ""


def _is_other_code(resolved: ResolvedSystem, folder: SystemFolder) -> bool:
    """Return whether the plugin, or the harness, is not the one that trained the model."""
    identity = read_json(folder.path / "identity.json")
    own = resolved.distribution.facts()
    return identity.get("core") != digest_core() or any(identity.get(key) != value for key, value in own.items())
