"""The head of a report: what was run on what, every caveat, and the results with what can be told from noise."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from blemore_harness.record.types import FailedSystem, FinishedSystem, Record
from blemore_harness.scoring.analysis import compare_all_systems
from blemore_harness.scoring.caveats import describe_data, describe_help, describe_system
from blemore_harness.scoring.intervals import LEVEL, say_minimum, short, show_p
from blemore_harness.scoring.measures import show_mean
from blemore_harness.systems.submission import list_submissions
from blemore_pages.contents import Contents
from blemore_pages.report.entries import Entry


@dataclass(frozen=True)
class ResultRow:
    """A system in the table of results.

    Attributes:
        name, anchor: of the entry; no anchor for a system without results.
        cells: numbers as texts: official ACC_P, ACC_S, Score, then the cross-fitted ones with intervals.
        best: per cell, whether no other system has a larger number.
        group: number of its group of ties.
        remarks: what must stand beside its numbers.
    """

    name: str
    anchor: str
    cells: tuple[str, ...]
    best: tuple[bool, ...]
    group: str
    remarks: tuple[str, ...]


def list_facts(run: Contents) -> list[tuple[str, str]]:
    """Return what was run on what: pairs of a term and a text."""
    record, data, execution = run.record, run.record.data, run.record.execution
    made = {"official": "the official ones", "metadata": "of the metadata", "made": "made here from a seed"}
    kind = "the generated demo dataset" if data.demo else data.corpus or "BLEMORE"
    external = ", ".join(f"{each.corpus} ({each.clips:,} clips of {each.actors} actors)" for each in data.extra)
    fusion = f", fused by {record.submission.fusion}" if record.submission.fusion else ""
    return [
        ("Run", run.folder.name),
        ("Submission", ": ".join(filter(None, (record.submission.name, record.submission.summary)))),
        ("Systems", ", ".join(record.submission.encoders) + fusion),
        ("Dataset", f"{kind}: {data.clips:,} clips of {data.actors} actors, {data.blends:,} of them blends; "
                    f"{data.test_clips} test clips; digest {data.digest}"),
        *([("External data", f"every fold is trained on {external} too")] if external else []),
        ("Folds", f"{data.folds}, {made[data.fold_source]}"),
        ("Test labels", _describe_test(record)),
        ("Protocol", f"version {record.protocol}; base seed {record.submission.seed}"),
        ("Carried out", _describe_execution(record)),
        ("Command", shlex.join(execution.command)),
    ]  # fmt: skip


def _describe_test(record: Record) -> str:
    test = record.test
    if test is None:
        return "none"
    return f"{test.clips} by {test.system}, decoded by {test.strategy} ({test.why})"


def _describe_execution(record: Record) -> str:
    execution = record.execution
    where = f"{execution.gpu or execution.device or 'unknown device'}, Python {execution.python}"
    versions = ", ".join(f"{name} {version}" for name, version in execution.versions.items())
    took = "" if execution.seconds is None else f", {_duration(execution.seconds)}"
    return f"{execution.started[:16].replace('T', ' ')} UTC{took}, on {where}" + (f"; {versions}" if versions else "")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def list_caveats(runs: Sequence[Contents]) -> list[str]:
    """Return why the numbers are not comparable or not of real systems, and what was chosen on scored clips.

    What does not hold for all of several runs begins with the run's name.
    """
    caveats = {run.folder.name: list(_caveats_of(run)) for run in runs}
    found: dict[str, None] = {}
    for name, texts in caveats.items():
        for text in texts:
            found[text if all(text in others for others in caveats.values()) else f"{name}: {text}"] = None
    return list(found)


def _caveats_of(run: Contents) -> Iterator[str]:
    record = run.record
    yield from describe_data(record.data)
    if record.caveat and not record.data.demo:
        yield record.caveat
    if record.status != "finished":
        yield f"the run is {record.status}: {record.error.message if record.error else 'it did not come to its end'}"
    if record.test is not None and record.test.transductive:
        yield f"transductive: the test labels by {record.test.strategy} look at other test clips of an actor"
    systems: dict[str, list[str]] = {}
    for system in record.finished:
        for words in _remarks(system, record):
            systems.setdefault(words, []).append(system.name)
    yield from (f"{words}: {', '.join(names)}" for words, names in systems.items())
    yield from run.warnings


def _remarks(system: FinishedSystem, record: Record) -> tuple[str, ...]:
    """Return what must stand beside a system's numbers."""
    return (*describe_system(system, record), *describe_help(system, record))


def list_warnings(runs: Sequence[Contents]) -> list[str]:
    """Return what was warned of during the runs, each text once."""
    found: dict[str, None] = {}
    for run in runs:
        found |= dict.fromkeys(run.record.warnings)
        for system in run.record.finished:
            texts = [*system.warnings, *(text for fold in system.folds for text in fold.warnings)]
            found |= dict.fromkeys(f"{system.name}: {text}" for text in texts)
    return list(found)


def compare_entries(entries: Sequence[Entry]) -> dict[str, Any]:
    """Compare all pairs of systems, as `scoring.analysis.compare_all_systems` does."""
    return compare_all_systems({entry.name: entry.system.loaded for entry in entries})


def list_results(
    runs: Sequence[Contents], entries: Sequence[Entry], groups: Sequence[Sequence[str]]
) -> list[ResultRow]:
    """Return the rows of the table of results, those without results last.

    Args:
        groups: names of systems that cannot be told apart, the best group first.
    """
    group_of = {name: str(k) for k, names in enumerate(groups, 1) for name in names}
    values = [_values(entry.system.record) for entry in entries]
    best = [max((value for value in column if value is not None), default=None) for column in zip(*values, strict=True)]
    rows = [
        ResultRow(
            entry.name, entry.anchor, _cells(entry.system.record),
            tuple(
                value is not None and top is not None and value >= top - 1e-12 and len(entries) > 1
                for value, top in zip(mine, best, strict=True)
            ),
            group_of[entry.name], _remarks(entry.system.record, entry.system.loaded.record),
        )
        for entry, mine in zip(entries, values, strict=True)
    ]  # fmt: skip
    for run in runs:
        for system in run.record.systems:
            if not isinstance(system, FinishedSystem):
                reason = system.error.message if isinstance(system, FailedSystem) else system.reason
                remark = f"{system.status}: {reason}"
                rows.append(ResultRow(system.name, "", ("–",) * 6, (False,) * 6, "–", (remark,)))
    return rows


def _values(system: FinishedSystem) -> tuple[float | None, ...]:
    both = (*system.official.by_measure().values(), *system.cross_fitted.by_measure().values())
    return tuple(each.mean if each else None for each in both)


def _cells(system: FinishedSystem) -> tuple[str, ...]:
    official = [show_mean(each) for each in system.official.by_measure().values()]
    intervals = {} if system.intervals is None else asdict(system.intervals)
    cross_fitted = [
        short(each.mean if each else None)
        + (f" [{', '.join(map(short, ends))}]" if (ends := intervals.get(measure)) else "")
        for measure, each in system.cross_fitted.by_measure().items()
    ]
    return (*official, *cross_fitted)


def _with_sd(mean: float, sd: float | None) -> str:
    return short(mean) + ("" if sd is None else f" ± {short(sd)}")


def list_published(runs: Sequence[Contents]) -> tuple[list[ResultRow], list[ResultRow]]:
    """Return the published numbers of the runs' own submissions, and those of all others that ship with the harness."""
    own = {run.record.submission.name: run.record.submission.expect for run in runs}
    mine = [_published(name, expect) for name, expect in own.items() if "score" in expect]
    if any(run.record.data.corpus for run in runs):
        return [], []
    shipped = [each for each in list_submissions() if each.name not in own and "score" in each.expect]
    shipped.sort(key=lambda each: -_number(each.expect["score"]))
    return mine, [_published(each.name, each.expect) for each in shipped]


def _published(name: str, expect: Mapping[str, Any]) -> ResultRow:
    cells = [
        _with_sd(_number(expect[key]), expect.get(f"{key}_sd")) if key in expect else "–"
        for key in ("acc_presence", "acc_salience", "score", "test_acc_presence", "test_acc_salience", "test_score")
    ]
    source = str(expect.get("source", "no source given"))
    return ResultRow(name, "", tuple(cells), (False,) * 6, "", (source,))


def _number(value: Any) -> float:
    return float(value)


def list_pairs(compared: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return all pairs as texts: two names, difference, interval, p and corrected p."""
    return [
        (
            *pair["systems"], short(pair["difference"]),
            "–" if pair["interval"] is None else " to ".join(map(short, pair["interval"])),
            show_p(pair["p"]), show_p(pair["adjusted"]),
        )
        for pair in compared["pairs"]
    ]  # fmt: skip


def describe_resolution(compared: Mapping[str, Any], entries: Sequence[Entry]) -> str:
    """Report which differences these data can show; an empty text where nothing is to be said."""
    actors = entries[0].system.loaded.record.data.actors
    pairs = compared["pairs"]
    if pairs:
        least = [pair["minimum"] for pair in pairs if pair["minimum"] is not None]
        sentences = say_minimum(median(least) if least else None, actors)
        if len(least) > 1:
            sentences.append(f"This is the median over {len(least)} pairs of systems.")
        return " ".join(sentences)
    intervals = entries[0].system.record.intervals
    if intervals is None:
        return f"With {actors} actors, nothing can be said about others."
    low, high = intervals.ranked
    ranked = entries[0].system.loaded.record.data.ranked_by
    return (
        f"With {actors} actors, this {ranked} is known to about ± {short((high - low) / 2)} ({LEVEL} % interval over "
        "actors). Two systems on the same clips can be told apart at smaller differences: give a second run for that."
    )
