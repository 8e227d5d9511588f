"""What the page's script needs of every clip: its label, and what every system answered."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.protocol.rules import label_text
from blemore_harness.scoring.breakdown import find_kinds
from blemore_pages.report.entries import Entry


def collect_clips(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the training clips with the out-of-fold answers of all systems.

    Args:
        entries: systems on the same clips.

    Returns:
        JSON types: `emotions`, `labels` (texts) and `kinds` (of answers) that others give by their place; per clip
        `ids`, `actors`, `folds`, `truths`; `systems`, each with its `name` and per clip `answer`, `kind` (0 is right)
        and six `values` (probabilities in thousandths).
    """
    first = entries[0].system
    texts = [list(map(label_text, labels)) for labels in (first.truth, *(entry.system.labels for entry in entries))]
    places = {text: k for k, text in enumerate(dict.fromkeys(text for each in texts for text in each))}
    truths, *answers = [[places[text] for text in each] for each in texts]
    return {
        "emotions": EMOTIONS,
        "labels": list(places),
        "kinds": list(find_kinds(first.answers)),
        "ids": first.ids,
        "actors": first.actors,
        "folds": first.folds.tolist(),
        "truths": truths,
        "systems": [_collect(entry, mine) for entry, mine in zip(entries, answers, strict=True)],
    }


def _collect(entry: Entry, answers: Sequence[int]) -> dict[str, Any]:
    system = entry.system
    kinds = np.stack(list(find_kinds(system.answers).values()))
    values = np.rint(system.probabilities * 1000).astype(int)
    return {
        "name": entry.name,
        "answer": answers,
        "kind": kinds.argmax(axis=0).tolist(),
        "values": values.ravel().tolist(),
    }


def interesting_first(entries: Sequence[Entry]) -> list[int]:
    """Return the places of all clips: first those that every system gets wrong, then those on which systems differ."""
    right = np.stack([_right(entry.system.truth, entry.system.labels) for entry in entries]).sum(axis=0)
    rank = np.where(right == 0, 0, np.where(right < len(entries), 1, 2))
    order: list[int] = np.argsort(rank, kind="stable").tolist()
    return order


def _right(truth: LabelArray, labels: LabelArray) -> Any:
    return (truth == labels).all(axis=1)


def pack(value: object) -> str:
    """Return JSON types as text that needs no escape in a page: JSON, compressed, in base64."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
