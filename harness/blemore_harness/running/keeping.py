"""What a run keeps on disk of a system: which folds there are, which are finished, and what came out of each."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from blemore_harness.files.runs import FoldResult
from blemore_harness.hookspecs import Fusion
from blemore_harness.predictions import Probabilities
from blemore_harness.running.calls import CallLog
from blemore_harness.running.requests import MODEL
from blemore_harness.running.run import Run
from blemore_harness.systems.resolved import ResolvedSystem


def part_name(index: int | None) -> str:
    """Return the file stem of a fold: `fold-0`, or `final` for the final fit."""
    return "final" if index is None else f"fold-{index}"


def takes_embeddings(resolved: ResolvedSystem) -> bool:
    """Return whether a system is a fusion of embeddings."""
    return isinstance(resolved.system, Fusion) and resolved.system.takes == "embeddings"


def parts_of(run: Run, resolved: ResolvedSystem) -> tuple[int | None, ...]:
    """List a system's folds, and None for the final fit where something comes from it.

    That is the predictions for test clips, the official numbers of a fusion of probabilities, or a model that is asked
    for.
    """
    folds = run.dataset.fold_numbers
    refitted = isinstance(resolved.system, Fusion) and not takes_embeddings(resolved)
    return (*folds, None) if run.dataset.test_ids or refitted or run.keep_models in ("final", "all") else folds


def find_finished(run: Run, resolved: ResolvedSystem) -> dict[int | None, FoldResult]:
    """Return the results that are on disk, by fold; a final fit for other test clips is none."""
    folder = run.folder_of(resolved)
    found = {index: folder.finished(part_name(index)) for index in parts_of(run, resolved)}
    return {
        index: result
        for index, result in found.items()
        if result is not None
        and (index is not None or result.facts.get("covers") == resolved.covers)
        and ("model" in result.facts or not keeps_model(run, index))
    }


def keeps_model(run: Run, index: int | None) -> bool:
    """Return whether the model of a fold, or of the final fit, is kept with its predictions."""
    return run.keep_models == "all" or (run.keep_models != "none" and index is None)


def is_finished(run: Run, resolved: ResolvedSystem) -> bool:
    """Return whether every fold of a system is on disk."""
    return len(find_finished(run, resolved)) == len(parts_of(run, resolved))


def keep_fold(
    run: Run, resolved: ResolvedSystem, index: int | None, predicted: Probabilities, log: CallLog, seconds: float
) -> FoldResult:
    """Put a fold's predictions, and what was noted, on disk under real clip names."""
    facts: dict[str, object] = {
        "fold": index,
        "clips": len(predicted.ids),
        "covers": resolved.covers if index is None else None,
        "seconds": round(seconds, 3),
        "computed_on": {"host": platform.node(), "worker": None, **(log.where or run.device.describe())},
        "times_asked": log.asked,
        "notes": log.notes,
        "warnings": log.warnings,
    }
    if keeps_model(run, index):
        facts["model"] = run.folder_of(resolved).keep_model(part_name(index), MODEL)
    real = Probabilities(tuple(run.blinded.real[name] for name in predicted.ids), predicted.values)
    return run.folder_of(resolved).keep(part_name(index), real, facts)


@dataclass(frozen=True)
class Prepared:
    """What came of a preparation of all clips, or of some: notes and warnings for the record, and seconds."""

    notes: Mapping[str, object]
    warnings: Sequence[str]
    seconds: float


def keep_prepared(run: Run, resolved: ResolvedSystem, parts: Sequence[Prepared]) -> None:
    """Keep what a preparation noted.

    A repeated preparation finds its arrays in the cache: what was noted while they were made stays.

    Args:
        parts: of blocks of clips, and last that of all clips. What blocks noted under a name under which the last one
            noted nothing is kept as a list.
    """
    folder = run.folder_of(resolved)
    before = folder.prepared() or {"notes": {}, "seconds": 0.0}
    *blocks, whole = parts
    notes = dict(before["notes"])
    for name in dict.fromkeys(name for block in blocks for name in block.notes):
        notes[name] = [block.notes[name] for block in blocks if name in block.notes]
    seconds = before["seconds"] + sum(part.seconds for part in parts)
    facts = {"notes": notes | dict(whole.notes), "warnings": list(whole.warnings), "seconds": round(seconds, 3)}
    folder.keep_prepared(facts)
