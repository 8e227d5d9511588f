"""The record of a run: what was run on what, what came out, what produced it.

`record.json` in a run's folder holds the same keys, and the JSON schema beside this module is made from these types.
Scores are shares from 0 to 1, times are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from blemore_harness.errors import RunError
from blemore_harness.record.encoding import OPTIONAL, decode, to_json
from blemore_harness.record.folds import Curve, Place, find_curves
from blemore_harness.record.scores import Difference, FoldRecord, Intervals, Means, Sensitivity, StrategyScores

RECORD_SCHEMA: Final = 3
"""Version of the keys. 1: November 2026; 2: all keys always there; 3: `card` of systems, `minimum` of differences."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The record of a run.

    Attributes:
        schema: version of these keys.
        status: `started` while it runs, then `finished`, `interrupted` or `failed` (error, or no results of a system).
        caveat: why these numbers are not those of real systems or cannot be compared; null where they can.
        submission: what was asked for.
        identity: configuration hash of the last system; part of the name of the run's folder.
        protocol: version of the official rules as implemented here.
        data: the dataset.
        execution: where and when it ran.
        systems: encoders, then the fusion.
        difference: of the two best systems; null for fewer than two.
        test: labels for the test clips; null where none were predicted.
        warnings: what was warned of, about the dataset and the run.
        error: what ended the run; null where nothing did.
        seeds: configuration hash by base seed of runs that differ in nothing else; empty for a run by itself. Optional.
    """

    schema: Literal[3] = RECORD_SCHEMA
    status: Literal["started", "finished", "failed", "interrupted"] = "started"
    caveat: str | None
    submission: SubmissionFacts
    identity: str
    protocol: str
    data: DataFacts
    execution: Execution
    systems: tuple[SystemRecord, ...] = ()
    difference: Difference | None = None
    test: TestLabels | None = None
    warnings: tuple[str, ...] = ()
    error: Error | None = None
    seeds: Mapping[str, str] = field(default_factory=dict, metadata=OPTIONAL)

    @property
    def finished(self) -> tuple[FinishedSystem, ...]:
        """The systems that were scored, in their order."""
        return tuple(system for system in self.systems if isinstance(system, FinishedSystem))

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        found: dict[str, Any] = to_json(self)
        return found

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Record:
        """Read a record from JSON types.

        Raises:
            RunError: a record of another schema, or one that lacks a key or holds something else there.
        """
        if content.get("schema") != RECORD_SCHEMA:
            raise RunError(
                f"expected a record of schema {RECORD_SCHEMA}, found schema {content.get('schema')!r}: run the same "
                "command again, or read it with the version of blemore-harness that wrote it"
            )
        record: Record = decode(cls, content, "")
        return record


@dataclass(frozen=True)
class SubmissionFacts:
    """What was asked for.

    Attributes:
        name: of the submission, or the encoders of the command line.
        summary: what it is.
        encoders: in the order given.
        fusion: its name; null without one.
        seed: base seed.
        file: name of the submission's file; null for one from the command line.
        thresholds: strategy that was asked for; null chooses one by the cross-fitted Scores.
        expect: published numbers: `acc_presence`, `acc_salience`, `score`, each with `_sd`, with `test_`; `source`.
        tuned: how many settings were tried on these clips before this one was chosen; null for none. Optional.
    """

    name: str
    summary: str
    encoders: tuple[str, ...]
    fusion: str | None
    seed: int
    file: str | None
    thresholds: str | None
    expect: Mapping[str, Any]
    tuned: int | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class DataFacts:
    """The dataset.

    Attributes:
        root: its folder.
        digest: hash of its training clips, labels, actors and folds.
        demo: whether it is the generated one.
        clips: number of training clips.
        actors: number of their actors.
        blends: how many of the clips are blends.
        folds: number of folds.
        fold_source: whose folds they are: `official`, other ones of the `metadata`, or `made` here from a seed.
        test_clips: number of test clips.
        left_out: reasons by id of the clips that were left out (`--skip-bad-clips`).
        corpus: name of another corpus; empty for BLEMORE and its demo dataset. Optional.
        extra: external data: other corpora that every fold was trained on (`--extra-train`). Optional.
    """

    root: str
    digest: str
    demo: bool
    clips: int
    actors: int
    blends: int
    folds: int
    fold_source: Literal["official", "metadata", "made"]
    test_clips: int
    left_out: Mapping[str, str]
    corpus: str = field(default="", metadata=OPTIONAL)
    extra: tuple[ExtraFacts, ...] = field(default=(), metadata=OPTIONAL)

    @property
    def ranked_by(self) -> Literal["Score", "ACC_P"]:
        """Name of the measure that systems are ranked by: ACC_P where there are no blends, and no Score."""
        return "Score" if self.blends else "ACC_P"


@dataclass(frozen=True)
class ExtraFacts:
    """Another corpus that every fold was trained on; none of its clips is scored.

    Attributes:
        corpus: its name.
        root: its folder.
        digest: hash of its clips, labels and actors.
        clips: number of its clips.
        actors: number of their actors.
        left_out: reasons by id of its clips that were left out, such as copies of scored clips. Optional.
    """

    corpus: str
    root: str
    digest: str
    clips: int
    actors: int
    left_out: Mapping[str, str] = field(default_factory=dict, metadata=OPTIONAL)


@dataclass(frozen=True)
class Execution:
    """Where and when it ran; no number depends on it.

    Attributes:
        command: the command line.
        started: time (ISO 8601, UTC).
        python: its version.
        device: cpu or cuda, where the last fold was computed; null before the first.
        gpu: its name; null without one.
        versions: of installed packages that can change numbers.
        finished: time (ISO 8601, UTC); null while it runs.
        seconds: time of the run; null while it runs.
        peak_memory_bytes: largest memory of a process, in bytes; null while it runs.
    """

    command: tuple[str, ...]
    started: str
    python: str
    device: str | None = None
    gpu: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    finished: str | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class SystemFacts:
    """Which system it is.

    Attributes:
        name: as users type it.
        kind: encoder or fusion.
        modality: of an encoder: audio, video, or audio and video; empty for a fusion.
        plugin: where it comes from.
        digest: configuration hash; part of the folder's name below `systems/`.
        options: all options with their values.
        options_given: those that were set by the user or the submission.
        base_models: names of a fusion's base models.
        parts: of early fusion: the encoders whose embeddings are concatenated.
        caveat: why its numbers are not those of a real system; null where they are.
        card: what its author declares about it.
    """

    name: str
    kind: Literal["encoder", "fusion"]
    modality: str
    plugin: PluginFacts
    digest: str
    options: Mapping[str, Any]
    options_given: Mapping[str, Any]
    base_models: tuple[str, ...]
    parts: tuple[SystemFacts, ...]
    caveat: str | None
    card: CardFacts


@dataclass(frozen=True, kw_only=True)
class FinishedSystem(SystemFacts):
    """A system that was scored; facts as of `SystemFacts`.

    Attributes:
        status: finished.
        official: as in the papers: thresholds, and a fusion's weights, chosen on the folds that are scored (in-sample).
        cross_fitted: thresholds and weights chosen on the other folds (out-of-sample).
        intervals: of the cross-fitted numbers; null for fewer than three actors, or of those with blends.
        sensitivity: how much depends on alpha and beta.
        strategies: what each threshold strategy reaches, by its name.
        folds: fold by fold.
        times_asked: how often the system asked for scores of held-out clips, over all folds.
        seconds: time of training and prediction, over all folds and the final fit.
        notes: what the plugin noted: objects with `fold` (null for the final fit) and names of its own.
        warnings: what was warned of, each text once.
        prepared: what the preparation noted; null where there was none.
        places: where each fold, and the final fit, was computed.
    """

    status: Literal["finished"] = "finished"
    official: Means
    cross_fitted: Means
    intervals: Intervals | None
    sensitivity: Sensitivity
    strategies: Mapping[str, StrategyScores]
    folds: tuple[FoldRecord, ...]
    times_asked: int
    seconds: float
    notes: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]
    prepared: Prepared | None
    places: tuple[Place, ...] = field(default=(), metadata=OPTIONAL)

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The training curves among the notes (`Context.note_curve`), in their order."""
        return tuple(curve for note in self.notes for curve in find_curves(note["fold"], note))


@dataclass(frozen=True, kw_only=True)
class FailedSystem(SystemFacts):
    """A system whose plugin failed; facts as of `SystemFacts`.

    Attributes:
        status: failed.
        error: what went wrong.
    """

    status: Literal["failed"] = "failed"
    error: Error


@dataclass(frozen=True, kw_only=True)
class SkippedSystem(SystemFacts):
    """A system that was not tried; facts as of `SystemFacts`.

    Attributes:
        status: skipped.
        reason: why.
    """

    status: Literal["skipped"] = "skipped"
    reason: str


SystemRecord = FinishedSystem | FailedSystem | SkippedSystem


@dataclass(frozen=True)
class PluginFacts:
    """Where a system comes from.

    Attributes:
        name: name of the entry point.
        distribution: name of the installed distribution.
        version: of the distribution.
        commit: of its checkout, if it is one.
    """

    name: str
    distribution: str
    version: str
    commit: str | None


@dataclass(frozen=True)
class CardFacts:
    """What the author of a system declares about it; null where nothing is declared.

    Attributes:
        code_licence: licence of its code.
        weights_licence: licence of the pretrained weights; `none` without weights, `unknown` where nobody says.
        pretraining: data that the weights were trained on; `none` without weights, `unknown` where nobody says.
        acted: whether that data holds corpora of acted emotions.
        acted_corpora: which, where it does.
        parameters: number of pretrained parameters; 0 without weights.
        paid: whether using it costs money.
        source: paper, or address of the model's page.
    """

    code_licence: str | None
    weights_licence: str | None
    pretraining: str | None
    acted: Literal["yes", "no", "unknown"] | None
    acted_corpora: tuple[str, ...]
    parameters: int | None
    paid: bool | None
    source: str | None


@dataclass(frozen=True)
class Prepared:
    """What the preparation of a system noted.

    Attributes:
        notes: by name, JSON values.
        warnings: what was warned of.
        seconds: time of all preparations so far.
    """

    notes: Mapping[str, Any]
    warnings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class TestLabels:
    """Labels predicted for the test clips.

    Attributes:
        system: whose probabilities were decoded.
        clips: number of test clips.
        strategy: threshold strategy that decoded them.
        why: why this one.
        alpha: presence threshold; null for a strategy that is not a pair of thresholds alone.
        beta: salience threshold, likewise.
        transductive: whether the strategy looks at other test clips of an actor, whom it has to guess.
        groups: how many actors were guessed; null for a strategy that guesses none.
        rand_index: adjusted Rand index of such guesses on training clips: 1 is perfect, 0 chance; likewise.
        score_with_guessed_actors: out-of-sample Score where actors are guessed, likewise.
        file: name of the leaderboard file in the run's folder.
    """

    __test__ = False  # no test case, whatever pytest makes of its name

    system: str
    clips: int
    strategy: str
    why: str
    alpha: float | None
    beta: float | None
    transductive: bool
    groups: int | None
    rand_index: float | None
    score_with_guessed_actors: float | None
    file: str


@dataclass(frozen=True)
class Error:
    """What went wrong.

    Attributes:
        type: class of the exception.
        message: what happened and what to do.
        trace: traceback; empty for an error that needs none.
    """

    type: str
    message: str
    trace: str
