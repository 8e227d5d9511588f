"""Preparation of encoders: before a run trains the first one, or ahead of it, with features for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clips
from blemore_harness.data.released import ORIGIN_FILE
from blemore_harness.disk import atomic_file, read_json, sweep_leftovers, write_json
from blemore_harness.errors import ConfigError, PluginFailed, RunError
from blemore_harness.hookspecs import Encoder
from blemore_harness.running.keeping import is_finished
from blemore_harness.running.plan import plan_preparation
from blemore_harness.running.progress import PreparationProgress
from blemore_harness.running.run import Run
from blemore_harness.running.steps import frame_features
from blemore_harness.running.work import Work, count_blocks
from blemore_harness.systems.resolved import ResolvedSystem


def prepare_encoders(run: Run, again: bool = False) -> Iterator[tuple[ResolvedSystem, PluginFailed | None]]:
    """Prepare every encoder of a run that has folds left to fit; gives each with its failure, or None.

    Args:
        again: prepare those that are finished, too.
    """
    sweep_cache(run, again)
    failures: dict[str, PluginFailed] = {}
    work = Work(run, plan_preparation(run, lambda system: count_blocks(run, system, again)), again)
    progress = PreparationProgress([each.name for each in run.encoders], run.show)
    try:
        with closing(work.carry_out()) as events:
            for event in events:
                progress.tell(event.kind, event.node.system)
                if event.error is not None:
                    failures[event.node.system] = event.error
    finally:
        progress.end()
    for resolved in run.encoders:
        yield resolved, failures.get(resolved.name)


def sweep_cache(run: Run, again: bool = False) -> None:
    """Remove what killed processes left in the cache, where something is about to be computed."""
    if again or not all(is_finished(run, each) for each in run.encoders if each.trouble is None):
        sweep_leftovers(run.cache.root, alone=False)


def warn_of_missing_videos(run: Run) -> None:
    """Warn where clips have no video, and an encoder reads no released features."""
    dataset = run.dataset
    names = (*dataset.ids, *dataset.test_ids)
    without = [name for name in names if name not in dataset.videos]
    if without and not all(encoder.identity["feature_sets"] for encoder in run.encoders):
        run.reporter.warn(
            f"{len(without)} of {len(names)} clips have no video below {dataset.root} "
            f"(first: '{without[0]}'): encoders that need it will stop there"
        )


def prepare_ahead(run: Run, export: Path | None = None) -> list[dict[str, str]]:
    """Prepare every encoder of a submission, as a run does before it trains the first.

    Args:
        export: where to write frame-level features as well, as `pre_extracted_train_data/<store>_train/<clip id>.npy`
            and `pre_extracted_test_data/<store>_test/<clip id>.npy`, float32 (T, D).

    Returns:
        a row per encoder: name, status (`ready` or `failed`), seconds, features (where they were written), remark.

    Raises:
        BlemoreError: the harness found something that the user can fix; what was extracted is kept.
        ConfigError: an export of encoders none of which has a folder in the released layout.
    """
    singles = [single for encoder in run.encoders for single in (encoder.parts or (encoder,))]
    if export is not None and not any(_store(single) for single in singles):
        names = ", ".join(single.name for single in singles)
        raise ConfigError(
            f"nothing to export: {names} has no folder in the released layout; "
            "docs/reference/encoders.md lists encoders that do"
        )
    rows = []
    for resolved, error in prepare_encoders(run, again=True):
        row = {"name": resolved.name, "status": "ready", "seconds": "", "features": "", "remark": resolved.caveat or ""}
        try:
            if error is not None:
                raise error
            row["seconds"] = f"{(run.folder_of(resolved).prepared() or {})['seconds']:.1f}"
            if export is not None:
                with run.holding(run.folder_of(resolved).path):
                    written = [_export(run, resolved, part, export) for part in (resolved.parts or (resolved,))]
                row["features"] = ", ".join(filter(None, written))
        except PluginFailed as failure:
            row.update(status="failed", remark=str(failure))
        rows.append(row)
    return rows


def _store(resolved: ResolvedSystem) -> str:
    return resolved.system.store if isinstance(resolved.system, Encoder) else ""


def _export(run: Run, resolved: ResolvedSystem, part: ResolvedSystem, target: Path) -> str:
    """Write the frame-level features of an encoder, or of a part of it; returns where, empty where it has none."""
    store, blinded = _store(part), run.blinded
    if not store:
        return ""
    train = target / "pre_extracted_train_data" / f"{store}_train"
    test = target / "pre_extracted_test_data" / f"{store}_test"
    for home in (train, test) if len(blinded.test) else (train,):
        _claim(home, part)
    tests = set(blinded.test.ids)
    extra = set(blinded.extra.ids)
    clips = Clips(tuple(clip for clip in blinded.everything() if clip.id not in extra))
    with run.reporter.progress(f"{part.name}: writing features", len(clips)) as bar:
        for clip, found in frame_features(run, resolved, part, clips):
            _write((test if clip.id in tests else train) / f"{blinded.real[clip.id]}.npy", found)
            bar.advance()
    return str(train)


def _claim(home: Path, resolved: ResolvedSystem) -> None:
    """Refuse to mix features of several systems in one folder."""
    origin = home / ORIGIN_FILE
    described = resolved.describe()
    facts = {
        "system": resolved.name,
        "caveat": resolved.caveat,
        "digest": resolved.digest,
        "options": described["options"],
    }
    if origin.exists():
        if read_json(origin).get("digest") != resolved.digest:
            raise RunError(
                f"{home} holds features that were made in another way ({origin.name}): choose another folder"
            )
    elif home.exists() and any(home.iterdir()):
        raise RunError(f"{home} holds features of unknown origin: choose another folder for --export")
    else:
        write_json(origin, facts)


def _write(path: Path, found: NDArray[np.float32]) -> None:
    with atomic_file(path) as file:
        np.save(file, np.asarray(found, dtype=np.float32), allow_pickle=False)
