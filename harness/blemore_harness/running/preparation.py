"""What can be done ahead of a run: fetch weights, extract from clips, write features down for other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.data.download import Dataset
from blemore_harness.data.released import ORIGIN_FILE
from blemore_harness.data.views import View
from blemore_harness.disk import atomic_file, read_json, write_json
from blemore_harness.errors import ConfigError, PluginFailed, RunError
from blemore_harness.files.runs import SystemFolder
from blemore_harness.hookspecs import Encoder
from blemore_harness.running.calls import name_failure
from blemore_harness.running.steps import Stage
from blemore_harness.running.workshop import Workshop
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.resolved import RESOLVING, Entrant, resolve_entrants
from blemore_harness.systems.submission import Submission


def prepare_submission(
    submission: Submission,
    dataset: Dataset,
    view: View,
    plugins: Plugins,
    workshop: Workshop,
    export: Path | None = None,
) -> list[dict[str, str]]:
    """Prepare every encoder of a submission, as a run does before it trains the first.

    Args:
        export: where to write features over time as well, as `pre_extracted_train_data/<store>_train/<clip id>.npy`
            and `pre_extracted_test_data/<store>_test/<clip id>.npy`, float32 (T, D).

    Returns:
        a row per encoder: name, status (`ready` or `failed`), seconds, features (where they were written), remark.

    Raises:
        BlemoreError: the harness found something that the user can fix; what was extracted is kept.
        ConfigError: an export of encoders none of which has a folder in the released layout.
    """
    encoders = [e for e in resolve_entrants(submission, plugins, view, dataset.demo) if isinstance(e.system, Encoder)]
    singles = [single for encoder in encoders for single in (encoder.parts or (encoder,))]
    if export is not None and not any(_store(single) for single in singles):
        names = ", ".join(single.name for single in singles)
        raise ConfigError(
            f"nothing to export: {names} has no folder in the released layout; "
            "docs/reference/encoders.md lists encoders that do"
        )
    stage = workshop.stage(view)
    rows = []
    for entrant in encoders:
        folder = workshop.runs.system(entrant.name, entrant.identity, entrant.digest)
        row = {"name": entrant.name, "status": "ready", "seconds": "", "features": "", "remark": entrant.mark or ""}
        try:
            if entrant.trouble is not None:
                raise name_failure(entrant.trouble, entrant, view, RESOLVING, folder)
            with stage.holding(folder.path) as held:
                held.prepare(entrant, folder)
                row["seconds"] = f"{(folder.prepared() or {})['seconds']:.1f}"
                if export is not None:
                    written = [_export(single, folder, stage, export) for single in (entrant.parts or (entrant,))]
                    row["features"] = ", ".join(filter(None, written))
        except PluginFailed as error:
            row.update(status="failed", remark=str(error))
        rows.append(row)
    return rows


def _store(entrant: Entrant) -> str:
    return entrant.system.store if isinstance(entrant.system, Encoder) else ""


def _export(entrant: Entrant, folder: SystemFolder, stage: Stage, target: Path) -> str:
    """Write an encoder's features over time; gives where, empty for an encoder without."""
    store = _store(entrant)
    if not store:
        return ""
    train = target / "pre_extracted_train_data" / f"{store}_train"
    test = target / "pre_extracted_test_data" / f"{store}_test"
    for home in (train, test) if len(stage.view.test) else (train,):
        _claim(home, entrant)
    tests = set(stage.view.test.ids)
    clips = stage.view.everything()
    with stage.reporter.progress(f"{entrant.name}: writing features", len(clips)) as bar:
        for clip, sequence in stage.sequences(entrant, folder, clips):
            home = test if clip.id in tests else train
            _write(home / f"{stage.view.real[clip.id]}.npy", sequence)
            bar.advance()
    return str(train)


def _claim(home: Path, entrant: Entrant) -> None:
    """Refuse to mix features of several systems in one folder."""
    origin = home / ORIGIN_FILE
    described = entrant.describe()
    facts = {"system": entrant.name, "mark": entrant.mark, "digest": entrant.digest, "options": described["options"]}
    if origin.exists():
        if read_json(origin).get("digest") != entrant.digest:
            raise RunError(
                f"{home} holds features that were made in another way ({origin.name}): choose another folder"
            )
    elif home.exists() and any(home.iterdir()):
        raise RunError(f"{home} holds features of unknown origin: choose another folder for --export")
    else:
        write_json(origin, facts)


def _write(path: Path, sequence: NDArray[np.float32]) -> None:
    with atomic_file(path) as file:
        np.save(file, np.asarray(sequence, dtype=np.float32), allow_pickle=False)
