"""A run in Python: its results, and what its models say about new clips."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from blemore_harness.api.functions import call_function
from blemore_harness.api.opening import runs_folder
from blemore_harness.api.reporting import keep_stdout, open_reporter
from blemore_harness.api.rows import Rows, html_table, make_frame
from blemore_harness.clips import EMOTIONS
from blemore_harness.context import Reporter
from blemore_harness.files.runs import RECORD_FILE, Runs, copy_submission, read_record
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.record.types import FinishedSystem, Record
from blemore_harness.running.kept_models import open_models, open_scratch
from blemore_harness.running.new_clips import KeptModels, list_clips
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.systems.unregistered import add_unregistered

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A run, as `run` returns it and `load_run` finds it.

    Attributes:
        folder: where it is kept.
        record: every number of it.
        systems: encoders and fusions that no installed package offers, which its models need.

    >>> run = bh.run(plugins=["trivial-single", "trivial-blend"], fusion="mean", data="data", device="cpu")
    >>> run.record.data.clips
    60
    >>> run.folds("mean")["fold"].tolist()
    [0, 1, 2]
    >>> bh.load_run("trivial-single").name == run.name
    True
    """

    folder: Path
    record: Record
    systems: tuple[Encoder | Fusion, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The name of its folder, by which every function and command finds it."""
        return self.folder.name

    def table(self) -> pd.DataFrame:
        """Return the results: a row per system, by cross-fitted Score, those without results last.

        Returns:
            A frame with the columns of `blemore-harness table --format csv`: `system`, `kind`, `status`; means and
            deviations over folds, `official_*` (in-sample, as in papers) and `cross_fitted_*` (out-of-sample, which
            predict the leaderboard) with 95 % intervals over actors (`*_low`, `*_high`); `clips`, `actors`, `caveat`.
        """
        from blemore_harness.drawing.result_text import format_results

        rows = list(csv.DictReader(io.StringIO(format_results(self.record, "csv"))))
        words = ("system", "kind", "status", "caveat")
        return make_frame([{k: v or None if k in words else _number(v) for k, v in row.items()} for row in rows])

    def predictions(self, system: str | None = None, data: str | Path | None = None) -> pd.DataFrame:
        """Return a system's answers clip by clip: training clips out of fold, then the test clips.

        Args:
            system: its name; None takes the last one.
            data: the dataset; None takes the folder that the record names.

        Returns:
            A frame: `clip`, `part` (`train` or `test`), `actor`, `fold`, `truth`, `answer`, `thresholds` (the strategy
            behind the answer), a probability per emotion, `right_presence`, `right_salience`.
        """
        return make_frame(call_function("predictions", self.folder, system=system, data=data))

    def folds(self, system: str | None = None) -> pd.DataFrame:
        """Return results fold by fold.

        Args:
            system: its name; None takes all.

        Returns:
            A frame: `system`, `fold`, `clips`, `seconds`, and for both ways (`official_*`, `cross_fitted_*`) alpha,
            beta, acc_presence, acc_salience and score.
        """
        chosen = self.record.finished if system is None else (self._finished(system),)
        rows = []
        for each in chosen:
            for fold in each.folds:
                row = {"system": each.name, "fold": fold.fold, "clips": fold.clips, "seconds": fold.seconds}
                for way, found in (("official", fold.official), ("cross_fitted", fold.cross_fitted)):
                    row |= {f"{way}_{name}": value for name, value in vars(found).items()}
                rows.append(row)
        return make_frame(rows)

    def predict(
        self,
        clips: str | Path | Sequence[str | Path],
        *,
        system: str | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
    ) -> pd.DataFrame:
        """Label new clips with the models of the run.

        Args:
            clips: video files, or folders of them.
            system: who answers; None takes the one of the run's test clips.
            device: where to compute.

        Returns:
            A frame with a row per clip: `clip`, `answer` (as `ang` or `ang+fea 70/30`; None where nothing could
            answer), a probability per emotion, `BASE:EMOTION` for each base model of a fusion, `remarks`.

        Raises:
            RunError: no models were kept. Others as of the command `predict`.
        """
        return predict(self.folder, clips, system=system, device=device, systems=self.systems)

    def report(
        self, path: str | Path | None = None, *, data: str | Path | None = None, thumbnails: bool = False
    ) -> Path:
        """Write a page that shows the run, in one file that opens in any browser.

        Args:
            path: where to; None takes `report.html` in the run's folder.
            data: the dataset; None takes the folder that the record names.
            thumbnails: show a frame of each clip.
        """
        written: Path = call_function("report", self.folder, output=path, data=data, thumbnails=thumbnails)
        return written

    def submit(self, path: str | Path | None = None) -> Path:
        """Return the leaderboard file for Codabench, copied to `path` if given; what speaks against it is warned of.

        Raises:
            RunError: the run has no labels of test clips.
        """
        from blemore_harness.files.leaderboard import check_submission
        from blemore_harness.protocol.rules import official_test_ids

        written = copy_submission(self.folder, self.record, None if path is None else Path(path))
        reporter = open_reporter()
        if self.record.data.demo:
            reporter.warn(f"{written}: do not upload this file to Codabench ({self.record.caveat})")
            return written
        for problem in check_submission(written, official_test_ids()):
            reporter.warn(f"{written}: Codabench would reject this file: {problem}")
        if self.record.caveat:
            reporter.warn(f"{written}: report this caveat with the result: {self.record.caveat}")
        return written

    def bundle(self, path: str | Path, *, system: str | None = None) -> Path:
        """Write the models of the run into one file, which `predict` takes on another machine."""
        from blemore_harness.files.bundles import write_bundle

        with keep_stdout(), opened_models(self.folder, "cpu", system, systems=self.systems) as (models, record):
            folders = [models.folders[each.name] for each in models.run.systems]
            write_bundle(models.folder, record, models.name, folders, Path(path))
        return Path(path)

    def analyse(self, system: str | None = None, data: str | Path | None = None) -> dict[str, Any]:
        """Analyse a system's errors, calibration and thresholds; arguments as of `predictions`.

        Returns:
            JSON types, as of `scoring.analysis.analyse_system`.
        """
        from blemore_harness.scoring.analysis import analyse_system
        from blemore_harness.scoring.reading import load_system

        return analyse_system(
            load_system(self.folder.parent, str(self.folder), system, None if data is None else Path(data))
        )

    def check_published(self) -> Rows:
        """Compare the official numbers with the published ones of the submission: a row per number."""
        from blemore_harness.scoring.published import compare_with_published

        return Rows(compare_with_published(self.record))

    def _finished(self, name: str) -> FinishedSystem:
        from blemore_harness.errors import UnknownName

        known = {each.name: each for each in self.record.finished}
        if name not in known:
            raise UnknownName.among(f"system of {self.name}", name, known)
        return known[name]

    def __repr__(self) -> str:
        best = _rank(self.record)[:1]
        ranked = f"{'an' * (not self.record.data.blends) or 'a'} {self.record.data.ranked_by}"
        score = f", best {best[0].name} with {ranked} of {best[0].cross_fitted.ranked.mean:.3f}" if best else ""
        caveat = f", {self.record.caveat}" if self.record.caveat else ""
        return f"<Run {self.name}: {self.record.status}, {len(self.record.systems)} systems{score}{caveat}>"

    def _repr_html_(self) -> str:
        from blemore_harness.drawing.tables import WHICH
        from blemore_harness.scoring.intervals import short

        record, rows = self.record, []
        for each in _rank(record):
            ends = "" if each.intervals is None else " [{}, {}]".format(*map(short, each.intervals.ranked))
            official = [short(mean.mean if mean else None) for mean in each.official.by_measure().values()]
            rows.append([each.name, short(each.cross_fitted.ranked.mean) + ends, *official, each.caveat or ""])
        others = [each for each in record.systems if not isinstance(each, FinishedSystem)]
        rows += [[each.name, each.status, "", "", "", _reason(each)] for each in others]
        data = record.data
        title = f"{self.name}: {data.clips} clips, {data.actors} actors, {data.folds} folds ({record.status})"
        heads = [
            "system",
            f"cross-fitted {data.ranked_by} [95 % CI]",
            "official ACC_P",
            "official ACC_S",
            "official Score",
            "",
        ]
        caveat = f"<p><strong>{html.escape(record.caveat)}</strong></p>" if record.caveat else ""
        return f"<p>{html.escape(title)}</p>{caveat}{html_table(heads, rows)}<p><small>{html.escape(WHICH)}</small></p>"


class StoredRuns(Sequence[Run]):
    """The runs of a folder, the newest first; those that cannot be read stand in `rows()` alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        stored = Runs(folder).stored()
        self._runs = [Run(each.folder, each.record) for each in stored if each.record is not None]

    def rows(self) -> Rows:
        """Return a row per run: name, start, systems, the best with its cross-fitted Score, bytes, state, problem."""
        from blemore_harness.drawing.run_list import list_rows

        return Rows(list_rows(self.folder))

    def table(self) -> pd.DataFrame:
        """Return `rows()` as a pandas frame."""
        return self.rows().frame()

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> list[Run]: ...
    def __getitem__(self, index: int | slice) -> Run | list[Run]:
        return self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return "\n".join([f"{len(self)} runs in {self.folder}", *map(repr, self._runs)])

    def _repr_html_(self) -> str:
        from blemore_harness.drawing.run_list import show_size
        from blemore_harness.scoring.intervals import short

        heads = ["run", "started (UTC)", "best", "Score", "size", "state", ""]
        rows = [
            [row["run"], str(row["started"] or "")[:16].replace("T", " "), row["best"],
             None if row["score"] is None else short(row["score"]) + " demo" * bool(row["demo"]),
             show_size(row["bytes"]), row["state"], row["problem"]]
            for row in self.rows()
        ]  # fmt: skip
        return f"<p>{html.escape(f'{len(rows)} runs in {self.folder}')}</p>{html_table(heads, rows)}"


def runs(folder: str | Path | None = None) -> StoredRuns:
    """Return the runs of a folder, the newest first.

    Args:
        folder: None takes `BLEMORE_RUNS`, else `blemore-runs`.
    """
    return StoredRuns(runs_folder(folder))


def load_run(name: str | Path, *, runs: str | Path | None = None, systems: Iterable[Encoder | Fusion] = ()) -> Run:
    """Return a stored run.

    Args:
        name: its folder, its name with or without the digest, or a unique beginning of that.
        runs: where runs are kept; None takes `BLEMORE_RUNS`, else `blemore-runs`.
        systems: encoders and fusions of the run that no installed package offers.

    Raises:
        RunError: no run or several match, or the record cannot be read.
    """
    folder = Runs(runs_folder(runs)).find(str(name))
    return Run(folder, read_record(folder), tuple(systems))


def predict(
    run: str | Path,
    clips: str | Path | Sequence[str | Path],
    *,
    system: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    runs: str | Path | None = None,
    systems: Iterable[Encoder | Fusion] = (),
) -> pd.DataFrame:
    """Label new clips with the models of a run, or of a bundle; as `Run.predict`.

    Args:
        run: as of `load_run`, or a file that `Run.bundle` wrote.
        runs, systems: as of `load_run`.
        clips, and the others: as of `Run.predict`.
    """
    paths = [clips] if isinstance(clips, str | Path) else list(clips)
    with keep_stdout(), opened_models(run, device, system, runs=runs, systems=systems) as (models, _):
        for text in (models.caveat, *models.remarks):
            if text:
                models.run.reporter.warn(text)
        answers = list(models.predict(list_clips([Path(path) for path in paths])))
        return make_frame([_describe_answer(answer, models.base_models) for answer in answers])


@contextmanager
def opened_models(
    run: str | Path,
    device: str = "cpu",
    system: str | None = None,
    *,
    runs: str | Path | None = None,
    systems: Iterable[Encoder | Fusion] = (),
    reporter: Reporter | None = None,
) -> Iterator[tuple[KeptModels, Record]]:
    """Open the kept models of a run or of a bundle, with its record; what is written meanwhile is deleted.

    Args:
        run, and the others: as of `predict`.
        reporter: shows messages and progress; None logs them.

    Raises:
        BlemoreError: as of `load_run`, `files.bundles.open_bundle` and `running.kept_models.open_models`.
    """
    from blemore_harness.disk import cache_root
    from blemore_harness.files.bundles import open_bundle

    plugins = load_plugins()
    add_unregistered(plugins, systems)
    with open_scratch() as scratch:
        if is_bundle(run):
            folder, default = open_bundle(Path(run), scratch / "bundle")
        else:
            folder, default = Runs(runs_folder(runs)).find(str(run)), None
        record, arrays = read_record(folder), cache_root() / "arrays"
        told = open_reporter() if reporter is None else reporter
        yield open_models(folder, record, plugins, scratch, arrays, device, told, system or default), record


def is_bundle(run: str | Path) -> bool:
    """Return whether an argument names a bundle, and not a run."""
    file = Path(run)
    return file.suffix == ".zip" or (file.name != RECORD_FILE and file.is_file())


def _describe_answer(answer: Any, bases: Sequence[str]) -> dict[str, Any]:
    from blemore_harness.protocol.rules import label_text

    row: dict[str, Any] = {"clip": answer.clip, "answer": None if answer.label is None else label_text(answer.label)}
    told = {"": answer.probabilities, **{f"{base}:": answer.base_models.get(base) for base in bases}}
    for before, values in told.items():
        row |= {f"{before}{name}": None if values is None else float(values[k]) for k, name in enumerate(EMOTIONS)}
    return row | {"remarks": "; ".join(answer.remarks)}


def _number(text: str) -> float | int | None:
    return None if not text else int(text) if text.isdigit() else float(text)


def _rank(record: Record) -> list[FinishedSystem]:
    from blemore_harness.drawing.system_table import rank_systems

    return rank_systems(record)


def _reason(system: Any) -> str:
    return str(system.error.message if system.status == "failed" else system.reason)
