"""Systems of stored runs, ranked where they are comparable: on one dataset, by one version of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from blemore_harness.drawing.plugin_details import UNDECLARED
from blemore_harness.errors import BlemoreError
from blemore_harness.files.runs import Runs, StoredRun
from blemore_harness.record.scores import Interval, Means
from blemore_harness.record.types import CardFacts, DataFacts, FinishedSystem, Record
from blemore_harness.scoring.analysis import compare_all_systems
from blemore_harness.scoring.caveats import describe_data, describe_system
from blemore_harness.scoring.reading import LoadedSystem, load_run
from blemore_harness.scoring.seeds import SeedScores, summarise_seeds
from blemore_harness.systems.submission import Submission

By = Literal["out-of-sample", "official"]

STRATEGY = {"out-of-sample": "other-folds", "official": "official"}
"""Threshold strategy by which systems are compared: that of the numbers that rank them."""

MANY = 20
"""Pairs of systems whose tests take long enough to say so: with 47 actors a pair takes about a third of a second."""


@dataclass(frozen=True)
class Numbers:
    """ACC_P, ACC_S and Score; None where one is not known."""

    acc_presence: float | None
    acc_salience: float | None
    score: float | None

    @property
    def ranked(self) -> float | None:
        """What systems are ranked by: the Score, or ACC_P where the Score is not defined."""
        return self.acc_presence if self.score is None else self.score


@dataclass(frozen=True)
class Row:
    """A system, or a published result.

    Attributes:
        name: of the system, or of the submission that holds the published result.
        base_models: of a fusion.
        group: number of the group of ties, 1 for the best; None where no test was made.
        out_of_sample: cross-fitted numbers; None for a published result.
        interval: 95 % interval of the cross-fitted Score (ACC_P without blends).
        official: numbers as in the papers (in-sample).
        test_score: Score on the test clips, as published.
        caveats: why the numbers are not comparable or not of a real system.
        acted: whether pretraining saw acted emotions, with the corpora; of a fusion with its base models.
        paid: whether a paid service takes part.
        weights: licences of all weights.
        run: name of the run, of the newest of several; empty for a published result.
        source: paper of a published result.
        seeds: base seeds of a group of runs, of which the numbers are means; empty for a single run.
        sd: of a group: sample standard deviation of the cross-fitted Score between seeds.
    """

    name: str
    base_models: tuple[str, ...]
    group: int | None
    out_of_sample: Numbers | None
    interval: Interval | None
    official: Numbers
    test_score: float | None
    caveats: tuple[str, ...]
    acted: str
    paid: str
    weights: str
    run: str
    source: str
    seeds: tuple[int, ...] = ()
    sd: float | None = None

    @property
    def published(self) -> bool:
        """Whether it is a published result."""
        return self.out_of_sample is None


@dataclass(frozen=True)
class Board:
    """Comparable systems, the best first.

    Attributes:
        title: dataset and protocol.
        protocol, dataset: version and digest; empty for published results alone.
        rows: ranked.
        caveats: of all rows.
        notes: what could not be tested, and why.
        ranked_by: the measure.
    """

    title: str
    protocol: str
    dataset: str
    rows: tuple[Row, ...]
    caveats: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ranked_by: Literal["Score", "ACC_P"] = "Score"


@dataclass(frozen=True)
class _Entry:
    """A system of a run, or of a group of runs that differ in the seed: the first of them, with what all score."""

    run: StoredRun
    record: Record
    system: FinishedSystem
    title: str
    group: SeedScores | None = None


def make_boards(
    roots: Sequence[Path],
    published: Iterable[Submission],
    by: By,
    data: Path | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> tuple[list[Board], list[str]]:
    """Rank all systems of all runs, one row for each configuration, and the published results.

    Args:
        roots: folders of runs.
        published: submissions with published numbers.
        by: which Score ranks.
        data: the dataset; None takes the folders that the records name.
        say: is told of tests that take long.

    Returns:
        boards, the largest dataset first, other corpora behind, generated ones last; and a line per run without a row.
    """
    stored = [run for root in roots for run in Runs(root).stored()]
    remarks = [f"{run.folder.name}: {run.problem or _why_none(run)}" for run in stored if not _systems(run)]
    tables: dict[tuple[str, str], dict[str, _Entry]] = {}
    for run in sorted(stored, key=lambda run: run.record.execution.started if run.record else "", reverse=True):
        for system in _systems(run):
            assert run.record is not None
            key = (run.record.data.digest, run.record.protocol)
            # The newest run of a configuration stands for all; folds are shared, so that they say the same.
            tables.setdefault(key, {}).setdefault(system.digest, _Entry(run, run.record, system, ""))
    printed = [_published_row(submission) for submission in published if "score" in submission.expect]
    ordered = sorted(
        (list(entries.values()) for entries in tables.values()),
        key=lambda entries: (
            entries[0].record.data.demo,
            bool(entries[0].record.data.corpus),
            -entries[0].record.data.clips,
        ),
    )
    ordered = [_fold_groups(entries, stored) for entries in ordered]
    boards = [_make_board(entries, printed, by, data, say) for entries in ordered]
    if printed and not any(row.published for board in boards for row in board.rows):
        rows = tuple(sorted(printed, key=_merit("official")))
        boards.append(Board("Published results on BLEMORE", "", "", rows, notes=(NO_PREDICTIONS,)))
    return boards, remarks


def _fold_groups(entries: list[_Entry], stored: Sequence[StoredRun]) -> list[_Entry]:
    """Put one entry in the place of the entries that are one system with several seeds."""
    runs = {(run.folder.parent, run.record.identity): run for run in stored if run.record}
    folded: dict[str, _Entry] = {}
    for run in sorted(runs.values(), key=lambda run: len(run.record.seeds) if run.record else 0):  # the largest wins
        asked = run.record.seeds if run.record else {}
        members = [runs.get((run.folder.parent, digest)) for digest in asked.values()]
        records = {each.record.submission.seed: each.record for each in members if each and each.record}
        for group in summarise_seeds(records):
            systems = [next(e for e in records[seed].finished if e.name == group.name) for seed in group.seeds]
            if len(systems) > 1:
                record = records[group.seeds[0]]
                first = _Entry(runs[run.folder.parent, record.identity], record, systems[0], "", group)
                folded.update({system.digest: first for system in systems})
    joined = {id(each): each for entry in entries for each in [folded.get(entry.system.digest, entry)]}
    return list(joined.values())


NO_PREDICTIONS = "Published results are official (in-sample) numbers; without predictions there is no test for them."


SEEDS = (
    "Of a group of seeds the numbers are means, ± is the standard deviation between seeds, the interval that of a run, "
    "and its first seed is tested against the others."
)


def _systems(run: StoredRun) -> tuple[FinishedSystem, ...]:
    return run.record.finished if run.record else ()


def _why_none(run: StoredRun) -> str:
    return f"no scored system (status: {run.record.status})" if run.record else ""


def _make_board(
    entries: list[_Entry], printed: list[Row], by: By, data: Path | None, say: Callable[[str], object]
) -> Board:
    entries = _title(entries)
    facts, protocol = entries[0].record.data, entries[0].record.protocol
    pairs = len(entries) * (len(entries) - 1) // 2
    if pairs > MANY:
        say(f"testing {pairs} pairs of {len(entries)} systems")
    groups, notes = _find_groups(entries, by, data)
    rows = [_make_row(entry, groups.get(entry.title)) for entry in entries]
    comparable = not facts.demo and not facts.corpus and facts.fold_source == "official" and not facts.left_out
    if comparable and printed:
        rows += printed
        notes.append(NO_PREDICTIONS)
    rows.sort(key=_merit(by))
    return Board(
        _describe(facts, protocol), protocol, facts.digest, tuple(rows), tuple(describe_data(facts)), tuple(notes),
        facts.ranked_by,
    )  # fmt: skip


def _merit(by: By) -> Callable[[Row], tuple[bool, float]]:
    """Return the key by which rows are sorted; results without the number stand last, by the other one."""

    def key(row: Row) -> tuple[bool, float]:
        own = row.out_of_sample if by == "out-of-sample" else row.official
        numbers = own or row.official
        return own is None, -(numbers.ranked or 0.0)

    return key


def _title(entries: Iterable[_Entry]) -> list[_Entry]:
    """Name systems by themselves, and by their run as well where several share a name."""
    entries = list(entries)
    names = [
        f"{entry.system.name}, {len(entry.group.seeds)} seeds" if entry.group else entry.system.name
        for entry in entries
    ]
    return [
        replace(entry, title=name if names.count(name) == 1 else f"{name} ({entry.run.folder.name})")
        for name, entry in zip(names, entries, strict=True)
    ]


def _find_groups(entries: Sequence[_Entry], by: By, data: Path | None) -> tuple[dict[str, int], list[str]]:
    """Return the group of ties by title, and what could not be tested."""
    loaded: dict[Path, tuple[LoadedSystem, ...]] = {}
    systems, notes = {}, []
    for entry in entries:
        folder = entry.run.folder
        try:
            if folder not in loaded:
                loaded[folder] = load_run(folder.parent, str(folder), data)
            systems[entry.title] = next(each for each in loaded[folder] if each.name == entry.system.name)
        except BlemoreError as error:
            notes.append(f"{entry.title}: not tested against the others: {error}")
    if any(entry.group for entry in entries):
        notes.append(SEEDS)
    if not systems:
        return {}, notes
    try:
        groups = compare_all_systems(systems, STRATEGY[by])["groups"]
    except BlemoreError as error:
        return {}, [*notes, f"no tests: {error}"]
    return {title: number for number, group in enumerate(groups, 1) for title in group}, notes


def _make_row(entry: _Entry, group: int | None) -> Row:
    system, record = entry.system, entry.record
    inside = [each for each in record.systems if each.name in system.base_models]
    cards = [system.card, *(each.card for each in inside)]
    seeds = entry.group
    scores = seeds or system
    return Row(
        name=entry.title,
        base_models=system.base_models,
        group=group,
        out_of_sample=_numbers(scores.cross_fitted),
        interval=scores.intervals.ranked if scores.intervals else None,
        official=_numbers(scores.official),
        test_score=None,
        caveats=tuple(describe_system(system, record)),
        acted=_say_acted(cards),
        paid=_say_paid(cards),
        weights="; ".join(dict.fromkeys(card.weights_licence or UNDECLARED for card in cards)),
        run=entry.run.folder.name,
        source="",
        seeds=seeds.seeds if seeds else (),
        sd=seeds.cross_fitted.ranked.sd if seeds else None,
    )


def _published_row(submission: Submission) -> Row:
    expect = submission.expect

    def number(key: str) -> float | None:
        value = expect.get(key)
        return float(value) if isinstance(value, int | float) else None

    official = Numbers(number("acc_presence"), number("acc_salience"), number("score"))
    source = str(expect.get("source", "no source given"))
    return Row(
        submission.name, (), None, None, None, official, number("test_score"), (), "", "", "", "", source
    )  # fmt: skip


def _numbers(means: Means) -> Numbers:
    return Numbers(*(mean.mean if mean else None for mean in means.by_measure().values()))


def _say_acted(cards: Sequence[CardFacts]) -> str:
    answers = [card.acted for card in cards]
    corpora = dict.fromkeys(name for card in cards for name in card.acted_corpora)
    if "yes" in answers:
        return f"yes: {', '.join(corpora)}" if corpora else "yes"
    return UNDECLARED if None in answers else "unknown" if "unknown" in answers else "no"


def _say_paid(cards: Sequence[CardFacts]) -> str:
    answers = [card.paid for card in cards]
    return "yes" if True in answers else UNDECLARED if None in answers else "no"


def _describe(facts: DataFacts, protocol: str) -> str:
    what = "Demo dataset" if facts.demo else facts.corpus or "Dataset"
    return (
        f"{what} {facts.digest[:8]}: {facts.clips} clips, {facts.actors} actors, {facts.folds} folds; protocol "
        f"{protocol}"
    )
