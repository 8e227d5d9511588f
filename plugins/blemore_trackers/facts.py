"""What trackers are told of a run, in words that fit all of them: parameters, caveats, metrics, files."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blemore_harness.hookspecs import RunStarted
from blemore_harness.record.types import FinishedSystem, Record

FILES = ("record.json", "table.txt", "scores.csv", "submission.zip")
"""Files of a run's folder that trackers keep."""

PAGE = "report.html"


def list_parameters(started: RunStarted) -> dict[str, str | int | float | bool]:
    """Return what was asked for, flat: `seed`, `data.clips`, `s4d.epochs`; other types than these as JSON."""
    record = started.record
    asked, data = record.submission, record.data
    found: dict[str, Any] = {
        "submission": asked.name,
        "encoders": ", ".join(asked.encoders),
        "fusion": asked.fusion or "none",
        "thresholds": asked.thresholds or "chosen",
        "seed": asked.seed,
        "data.digest": data.digest,
        "data.demo": data.demo,
        "data.clips": data.clips,
        "data.actors": data.actors,
        "data.folds": data.folds,
        "data.test_clips": data.test_clips,
        "data.left_out": len(data.left_out),
    }
    for system in started.systems:
        found.update({f"{system.name}.{option}": value for option, value in system.options.items()})
    return {key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in found.items()}


def list_tags(started: RunStarted) -> dict[str, str]:
    """Return what identifies a run: its folder, configuration hashes, the protocol and versions."""
    record = started.record
    tags = {"folder": started.folder.name, "identity": record.identity, "protocol": record.protocol}
    tags.update({f"identity.{system.name}": system.digest for system in started.systems})
    tags.update({f"version.{name}": version for name, version in record.execution.versions.items()})
    return tags


def list_caveats(started: RunStarted) -> dict[str, str]:
    """Return why the numbers are not those of real systems or cannot be compared, of the run and by system."""
    found = {"caveat": started.record.caveat or ""}
    found.update({f"caveat.{system.name}": system.caveat or "" for system in started.systems})
    return {key: text for key, text in found.items() if text}


def fold_metrics(record: Record) -> Iterator[tuple[int, dict[str, float]]]:
    """Give the scores of every fold, as `s4d/fold/score` (out-of-sample) and `s4d/fold/official_score`."""
    for system in record.finished:
        for fold in system.folds:
            scores = {
                f"{system.name}/fold/{kind}{measure}": getattr(choice, measure)
                for kind, choice in (("", fold.cross_fitted), ("official_", fold.official))
                for measure in ("acc_presence", "acc_salience", "score")
                if getattr(choice, measure) is not None
            }
            yield fold.fold, scores


def final_metrics(record: Record) -> dict[str, float]:
    """Return the means over folds, by system: `s4d/score` (out-of-sample) with its interval, `s4d/official_score`."""
    found: dict[str, float] = {}
    for system in record.finished:
        found.update({f"{system.name}/{name}": value for name, value in _means(system).items()})
    return found


def _means(system: FinishedSystem) -> dict[str, float]:
    found = {name: mean.mean for name, mean in system.cross_fitted.by_measure().items() if mean}
    found.update({f"official_{name}": mean.mean for name, mean in system.official.by_measure().items() if mean})
    if system.intervals is not None and system.intervals.score is not None:
        found.update(score_low=system.intervals.score[0], score_high=system.intervals.score[1])
    return {**found, "seconds": system.seconds, "times_asked": float(system.times_asked)}


def read_table(folder: Path) -> str:
    """Return the results as people read them; empty where a run has none."""
    path = folder / "table.txt"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def collect_files(folder: Path, record: Record, place: Path) -> list[Path]:
    """Return the files that a tracker keeps: those of the run's folder, and the report page.

    Args:
        folder: the run's folder.
        record: of the run; a page is made where it has results.
        place: folder for the page, which is made without frames of clips.
    """
    found = [folder / name for name in FILES if (folder / name).exists()]
    if record.finished and all(importlib.util.find_spec(name) for name in ("altair", "jinja2", "vl_convert")):
        found.append(place / PAGE)
        found[-1].write_text(_make_page(folder), encoding="utf-8")
    return found


def _make_page(folder: Path) -> str:
    from blemore_pages.charts.every import run_charts, system_charts
    from blemore_pages.contents import read_contents
    from blemore_pages.report.entries import list_entries
    from blemore_pages.report.page import render_page

    contents = [read_contents(folder.parent, str(folder))]
    entries = list_entries(contents)
    charts = [system_charts(entry.system) for entry in entries]
    return render_page(contents, entries, run_charts(contents), charts)


def is_number(value: object) -> bool:
    """Return whether a value is a number that can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def numbers_of(notes: Mapping[str, Any]) -> dict[str, float]:
    """Return the plain numbers among what a plugin noted."""
    return {name: float(value) for name, value in notes.items() if is_number(value)}
