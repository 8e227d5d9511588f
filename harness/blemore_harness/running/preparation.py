"""What can be done ahead of a run: fetch weights, extract from clips, write features down for other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.data.download import Dataset
from blemore_harness.data.released import ORIGIN_FILE
from blemore_harness.disk import atomic_file, read_json, write_json
from blemore_harness.errors import ConfigError, PluginFailed, RunError
from blemore_harness.files.runs import SystemFolder
from blemore_harness.hookspecs import Encoder
from blemore_harness.running.calls import name_failure
from blemore_harness.running.steps import Stage
from blemore_harness.running.workshop import Workshop
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.resolved import RESOLVING, ResolvedSystem, resolve_systems
from blemore_harness.systems.submission import Submission


def prepare_submission(
    submission: Submission,
    dataset: Dataset,
    blinded: BlindedDataset,
    plugins: Plugins,
    workshop: Workshop,
    export: Path | None = None,
) -> list[dict[str, str]]:
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
    encoders = [e for e in resolve_systems(submission, plugins, blinded, dataset.demo) if isinstance(e.system, Encoder)]
    singles = [single for encoder in encoders for single in (encoder.parts or (encoder,))]
    if export is not None and not any(_store(single) for single in singles):
        names = ", ".join(single.name for single in singles)
        raise ConfigError(
            f"nothing to export: {names} has no folder in the released layout; "
            "docs/reference/encoders.md lists encoders that do"
        )
    stage = workshop.stage(blinded)
    rows = []
    for resolved in encoders:
        folder = workshop.runs.system(resolved.name, resolved.identity, resolved.digest)
        row = {"name": resolved.name, "status": "ready", "seconds": "", "features": "", "remark": resolved.caveat or ""}
        try:
            if resolved.trouble is not None:
                raise name_failure(resolved.trouble, resolved, blinded, RESOLVING, folder)
            with stage.holding(folder.path) as held:
                held.prepare(resolved, folder)
                row["seconds"] = f"{(folder.prepared() or {})['seconds']:.1f}"
                if export is not None:
                    written = [_export(single, folder, stage, export) for single in (resolved.parts or (resolved,))]
                    row["features"] = ", ".join(filter(None, written))
        except PluginFailed as error:
            row.update(status="failed", remark=str(error))
        rows.append(row)
    return rows


def _store(resolved: ResolvedSystem) -> str:
    return resolved.system.store if isinstance(resolved.system, Encoder) else ""


def _export(resolved: ResolvedSystem, folder: SystemFolder, stage: Stage, target: Path) -> str:
    """Write an encoder's frame-level features; returns where, empty for an encoder without."""
    store = _store(resolved)
    if not store:
        return ""
    train = target / "pre_extracted_train_data" / f"{store}_train"
    test = target / "pre_extracted_test_data" / f"{store}_test"
    for home in (train, test) if len(stage.blinded.test) else (train,):
        _claim(home, resolved)
    tests = set(stage.blinded.test.ids)
    clips = stage.blinded.everything()
    with stage.reporter.progress(f"{resolved.name}: writing features", len(clips)) as bar:
        for clip, frame_features in stage.frame_features(resolved, folder, clips):
            home = test if clip.id in tests else train
            _write(home / f"{stage.blinded.real[clip.id]}.npy", frame_features)
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


def _write(path: Path, frame_features: NDArray[np.float32]) -> None:
    with atomic_file(path) as file:
        np.save(file, np.asarray(frame_features, dtype=np.float32), allow_pickle=False)
