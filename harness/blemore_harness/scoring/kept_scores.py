"""Scores kept beside the folds of a system, so that the same predictions are scored once."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.disk import digest_of, digest_sources, write_atomically
from blemore_harness.errors import RunError
from blemore_harness.record.encoding import decode, to_json
from blemore_harness.scoring.results import ScoredSystem, SystemPredictions, count_answers, sample_of, score_system


def score_once(rows: SystemPredictions, blinded: BlindedDataset, file: Path, code: str) -> ScoredSystem:
    """Return what `score_system` gives, from a file where that was kept there for the same data by the same code.

    Args:
        rows, blinded: as of `score_system`.
        code: as of `digest_all_code`.
        file: read where it belongs to these predictions, labels and folds, to all code of the harness and to the
            versions of numpy and scipy; otherwise written anew, as where it is damaged.
    """
    key = _key(rows, blinded, code)
    found = _read(file, key)
    if found is not None:
        return ScoredSystem(**found, counts=count_answers(sample_of(rows.out_of_fold, blinded))[1])
    scored = score_system(rows, blinded)
    held = {name: to_json(getattr(scored, name)) for name in _kinds()}
    write_atomically(file, json.dumps({"key": key, "digest": digest_of(held), "scores": held}) + "\n")
    return scored


def digest_all_code() -> str:
    """Digest all code of the harness; to be called before a run, as what is edited meanwhile is not what scores it."""
    return digest_sources(Path(__file__).parents[1] / "__init__.py")


def _kinds() -> dict[str, Any]:
    """Return the type of everything that is kept; counts are quickly made."""
    kinds = get_type_hints(ScoredSystem)
    return {field.name: kinds[field.name] for field in dataclasses.fields(ScoredSystem) if field.name != "counts"}


def _read(file: Path, key: str) -> dict[str, Any] | None:
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        if held["key"] != key or held["digest"] != digest_of(held["scores"]):
            return None
        return {name: decode(kind, held["scores"][name], name) for name, kind in _kinds().items()}
    except (OSError, ValueError, KeyError, TypeError, RunError):
        return None


def _key(rows: SystemPredictions, blinded: BlindedDataset, code: str) -> str:
    train = blinded.train
    given = [rows.out_of_fold] + ([] if rows.refitted is None else [rows.refitted])
    arrays = [*(each.values for each in given), train.labels, blinded.folds]
    contents = [hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() for array in arrays]
    versions = [importlib.metadata.version(name) for name in ("numpy", "scipy")]
    return digest_of([contents, [each.ids for each in given], train.actors, code, versions], 64)
