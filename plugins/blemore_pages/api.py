"""What the commands do, as functions for Python, such as `bh.report` and `bh.leaderboard`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from blemore_harness.api.opening import data_folder, runs_folder
from blemore_harness.api.reporting import open_reporter
from blemore_harness.context import Reporter
from blemore_harness.disk import write_atomically
from blemore_harness.errors import ConfigError, DataError
from blemore_harness.files.runs import Runs, read_record
from blemore_harness.files.scoring import read_reference
from blemore_harness.scoring.ranking import find_sent, rank_files
from blemore_harness.systems.datasets import read_data
from blemore_harness.systems.submission import list_submissions
from blemore_pages.codabench.bundle import Competition, write_bundle
from blemore_pages.contents import Contents, read_contents, read_system
from blemore_pages.exports.every_eval_ever import describe_system, path_of
from blemore_pages.exports.facts import find_systems
from blemore_pages.exports.hf_eval_results import check_dataset, render_results
from blemore_pages.leaderboard.boards import Board, By, make_boards
from blemore_pages.predictions.columns import Columns, list_predictions

DURATION = timedelta(days=90)
"""Of a competition without an end."""

PathLike = str | Path

Target = Literal["every-eval-ever", "hf-eval-results"]
"""Formats of others."""


def report(
    run: PathLike | Sequence[PathLike],
    *,
    output: PathLike | None = None,
    figures: PathLike | None = None,
    thumbnails: bool = False,
    data: PathLike | None = None,
    runs: PathLike | None = None,
) -> Path:
    """Write a page that shows finished runs, in one file that opens in any browser.

    Args:
        run: a run, or several on the same clips.
        output: where to; None takes `report.html` in the folder of the first run.
        figures: folder that every chart is also written to, as PNG, SVG and PDF.
        thumbnails: show a frame of each clip; the page then shows people.
        data: the dataset; None takes the folder that the record names.
        runs: where runs are kept; None takes `BLEMORE_RUNS`, else `blemore-runs`.

    Raises:
        ExtraMissing: the extra `report` is not installed.
        BlemoreError: no such run, or one whose predictions cannot be read back.
    """
    names = [run] if isinstance(run, str | Path) else list(run)
    contents = read_runs(names, runs_folder(runs), None if data is None else Path(data))
    return write_report(
        contents, None if output is None else Path(output), None if figures is None else Path(figures), thumbnails,
        None if data is None else Path(data), open_reporter(),
    )  # fmt: skip


def read_runs(names: Sequence[PathLike], runs: Path, data: Path | None) -> list[Contents]:
    """Read finished runs, each once; errors as of `contents.read_contents`."""
    found = [read_contents(runs, str(name), data) for name in names]
    return list({run.folder.resolve(): run for run in found}.values())


def write_report(
    contents: Sequence[Contents],
    output: Path | None,
    figures: Path | None,
    thumbnails: bool,
    data: Path | None,
    reporter: Reporter,
) -> Path:
    """Write the page of runs that were read; arguments as of `report`."""
    from blemore_pages.charts.every import run_charts, system_charts
    from blemore_pages.figures import write_figures
    from blemore_pages.report.clips import interesting_first
    from blemore_pages.report.entries import list_entries
    from blemore_pages.report.page import LIMIT, render_page, size_of
    from blemore_pages.report.thumbnails import make_thumbnails

    entries = list_entries(contents)
    overview, charts = run_charts(contents), [system_charts(entry.system) for entry in entries]

    def add_thumbnails(budget: int) -> dict[str, str]:
        dataset = read_data(data or Path(contents[0].record.data.root))
        ids = entries[0].system.ids
        return make_thumbnails(dataset, [ids[k] for k in interesting_first(entries)], budget, reporter)

    page = render_page(contents, entries, overview, charts, add_thumbnails if thumbnails else None)
    for path in write_figures([*overview, *(c for each in charts for c in each)], figures) if figures else ():
        reporter.log(f"wrote {path}")
    target = output or contents[0].folder / "report.html"
    write_atomically(target, page)
    if size_of(page) > LIMIT:
        reporter.warn(f"{target} has {size_of(page) / 1e6:.1f} MB: give fewer runs to stay below {LIMIT / 1e6:.0f} MB")
    return target


def predictions(
    run: PathLike, *, system: str | None = None, data: PathLike | None = None, runs: PathLike | None = None
) -> Columns:
    """Return a system's answers clip by clip, as columns; as of `predictions.columns.list_predictions`.

    Args:
        system: its name; None takes the last system of the run.
        run, and the others: as of `report`.
    """
    folder = None if data is None else Path(data)
    return list_predictions(read_system(runs_folder(runs), str(run), system, folder))


def leaderboard(
    runs: PathLike | Sequence[PathLike] | None = None,
    *,
    by: Literal["out-of-sample", "official"] = "out-of-sample",
    data: PathLike | None = None,
) -> dict[str, Any]:
    """Rank the systems of all stored runs beside published results.

    Args:
        runs: a folder of runs, or several.
        by: which Score ranks.
        data: the dataset; None takes `BLEMORE_DATA`, else the folders that the records name.

    Returns:
        `by`; `boards`, one for each dataset and version of the protocol, with `rows`, the best first; `without_row`,
        runs that have none, with the reason.
    """
    roots = [runs_folder(runs)] if runs is None or isinstance(runs, str | Path) else list(map(Path, runs))
    boards, remarks = rank_runs(roots, by, data_folder(data), open_reporter())
    return {"by": by, "boards": [asdict(board) for board in boards], "without_row": list(remarks)}


def rank_runs(roots: Sequence[Path], by: By, data: Path | None, reporter: Reporter) -> tuple[list[Board], list[str]]:
    """Rank the systems of all runs below some folders, as `leaderboard.boards.make_boards`."""
    return make_boards(roots, list_submissions(), by, data, reporter.log)


def rank(
    sent: PathLike | Sequence[PathLike],
    *,
    reference: PathLike,
    alpha: float | None = None,
    beta: float | None = None,
    html: PathLike | None = None,
) -> dict[str, Any]:
    """Rank submissions by labels that you have.

    Args:
        sent: files (.zip, .json, .csv, .npz), and folders of them.
        reference: true labels, in the format of `train_metadata.csv`.
        alpha, beta: thresholds for probabilities; None for both takes the best on these clips.
        html: write the ranking as a page as well.

    Returns:
        As of `scoring.ranking.rank_files`.

    Raises:
        DataError: nothing to rank.
    """
    from blemore_pages.ranking.page import render_ranking

    if (alpha is None) != (beta is None):
        raise ConfigError("expected both alpha and beta, or neither to choose them for each file")
    paths = [Path(sent)] if isinstance(sent, str | Path) else list(map(Path, sent))
    labels = read_reference(Path(reference))
    files = find_sent(paths, Path(reference))
    if not files:
        raise DataError(f"no submissions in {paths[0]}: expected .zip, .json, .csv or .npz files")
    found = rank_files(files, labels, alpha, beta)
    if html is not None:
        write_atomically(Path(html), render_ranking(found))
    return found


def export(
    run: PathLike,
    to: Target,
    *,
    output: PathLike = ".",
    system: str | None = None,
    organization: str = "unknown",
    dataset: str | None = None,
    runs: PathLike | None = None,
) -> list[Path]:
    """Write a run's results in a format of others; return the files.

    Args:
        to: the format.
        output: folder to write to.
        system: its name; None takes all, for `hf-eval-results` the last one.
        organization: who publishes it, for `every-eval-ever`.
        dataset: the benchmark's dataset on the Hub, for `hf-eval-results`.
        run, runs: as of `report`.
    """
    folder = Runs(runs_folder(runs)).find(str(run))
    record = read_record(folder)
    systems = find_systems(record, folder.name, system)
    if to == "hf-eval-results":
        files = render_results(record, systems[-1], check_dataset(dataset))
    elif to == "every-eval-ever":
        contents = {path_of(record, each): describe_system(record, each, organization, time.time()) for each in systems}
        files = {path: json.dumps(content, indent=2) + "\n" for path, content in contents.items()}
    else:
        raise ConfigError(f"expected the format every-eval-ever or hf-eval-results, found '{to}'")
    for path, text in files.items():
        write_atomically(Path(output) / path, text)
    return [Path(output) / path for path in files]


def codabench(
    folder: PathLike,
    *,
    reference: PathLike,
    title: str = "BLEMORE challenge",
    start: date | None = None,
    final: date | None = None,
    end: date | None = None,
    refused: Literal["fail", "zero"] = "fail",
) -> Path:
    """Write a competition bundle for Codabench, as a folder and as a zip file; return the zip file.

    Args:
        folder: where to.
        reference: true labels, in the format of `train_metadata.csv`; they lie in the bundle, so keep it to yourself.
        title: of the competition.
        start: first day of the development phase, UTC; None takes today.
        final: first day of the final phase; None takes a week before the end.
        end: last day; None takes 90 days after the start.
        refused: what a submission gets that cannot be scored: it fails, or a Score of 0.
    """
    first = start or datetime.now(UTC).date()
    last = end or first + DURATION
    middle = final or max(first + timedelta(days=(last - first).days // 2), last - timedelta(days=7))
    competition = Competition(title, first, middle, last, refused == "zero")
    return write_bundle(Path(folder), read_reference(Path(reference)), competition)
