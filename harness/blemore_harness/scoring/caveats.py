"""Why numbers are not comparable or not of a real system, in the words that every table and record carries."""

from __future__ import annotations

from collections.abc import Sequence

from blemore_harness.decoding.strategies import STRATEGIES
from blemore_harness.errors import first_and_count
from blemore_harness.record.types import DataFacts, FinishedSystem, Record, SystemFacts
from blemore_harness.scoring.measures import NO_BLENDS
from blemore_harness.systems.resolved import ResolvedSystem


def describe_data(data: DataFacts) -> list[str]:
    """Report why no number on a dataset is comparable: generated clips, another corpus, clips that were left out, other
    folds.
    """
    found = ["demo: generated clips, whose numbers say nothing about BLEMORE"] if data.demo else []
    found += [describe_corpus(data.corpus)] if data.corpus else []
    if data.left_out:
        reason = next(iter(data.left_out.values()))
        found.append(f"incomparable: left out {first_and_count(data.left_out, 'clip')}: {reason}")
    found += [] if data.blends else [NO_BLENDS]
    folds = describe_folds(data)
    return [*found, *([folds] if folds else [])]


def describe_folds(data: DataFacts) -> str | None:
    """Report that a record's folds are not the official ones; None where they are, and for the demo dataset's own."""
    if data.corpus:
        return None
    if data.fold_source == "made":
        return "folds: made here from a seed, the metadata has none; not comparable with published folds."
    if data.fold_source == "metadata" and not data.demo:
        return "folds: those of the metadata, which are not the official ones; not comparable with published folds."
    return None


def describe_system(system: FinishedSystem, record: Record) -> list[str]:
    """Report what must stand beside a system's numbers: its caveat, those of its base models, what was chosen how."""
    caveats = (each.caveat for each in (system, *_base_models(system, record)) if each.caveat)
    external = [describe_extra([each.corpus for each in record.data.extra])] if record.data.extra else []
    tuned = [describe_tuning(record.submission.tuned)] if record.submission.tuned else []
    return [*external, *dict.fromkeys(caveats), *describe_selection(system, record.finished), *tuned]


def describe_help(system: FinishedSystem, record: Record) -> list[str]:
    """Report what helped a system besides the clips, by its card and those of its base models: data and services."""
    cards = [each.card for each in (system, *_base_models(system, record))]
    found = []
    if any(card.acted == "yes" for card in cards):
        corpora = dict.fromkeys(name for card in cards for name in card.acted_corpora)
        found.append("pretrained on acted emotions" + (f": {', '.join(corpora)}" if corpora else ""))
    if any(card.paid for card in cards):
        found.append("a paid service takes part")
    return found


def _base_models(system: FinishedSystem, record: Record) -> list[SystemFacts]:
    return [each for each in record.systems if each.name in system.base_models]


def describe_selection(system: FinishedSystem, systems: Sequence[FinishedSystem]) -> list[str]:
    """Report what was chosen on the held-out folds: a system's own epochs, those of its base models.

    Args:
        system: one of them.
        systems: all that the run scored.
    """
    asked = {other.name for other in systems if other.times_asked}
    found = []
    if system.times_asked:
        found.append(f"chosen on the held-out folds (asked {system.times_asked} times)")
    if asked & set(system.base_models):
        found.append("base models chosen on the held-out folds")
    return found


def describe_corpus(corpus: str) -> str:
    """Report that the clips are those of another corpus, whose numbers stand beside none of BLEMORE."""
    return f"corpus {corpus}: not BLEMORE, no number is comparable with one on BLEMORE"


def describe_extra(corpora: Sequence[str]) -> str:
    """Report that systems were trained on other corpora too."""
    return f"external data: trained on {' and '.join(corpora)} too"


def describe_tuning(trials: int) -> str:
    """Report that options were chosen among several by their scores on the clips of the run."""
    return f"tuned: {trials} trial{'s' * (trials != 1)} on these clips (optimistic)"


def run_caveat(
    resolved_systems: Sequence[ResolvedSystem],
    demo: bool,
    thresholds: str | None = None,
    left_out: int = 0,
    tuned: int | None = None,
    corpus: str = "",
    extra: Sequence[str] = (),
) -> str | None:
    """Report what makes these results no real system's on real clips, or not comparable, or None.

    Every table and record of the run carries the words.
    """
    caveats = list(dict.fromkeys(resolved.caveat for resolved in resolved_systems if resolved.caveat))
    if thresholds is not None and STRATEGIES[thresholds].transductive:
        caveats.append(f"transductive test labels ({thresholds})")
    if tuned:
        caveats.append(describe_tuning(tuned))
    if extra:
        caveats.insert(0, describe_extra(extra))
    if corpus:
        caveats.insert(0, describe_corpus(corpus))
    if left_out:
        caveats.insert(0, f"incomparable: {left_out} clip{'s' * (left_out > 1)} left out")
    if demo:
        return "demo: " + ", ".join(caveats or ["generated clips"])
    return ", ".join(caveats) or None
