"""The submission format: a JSON object of labels by clip, read strictly and without loss.

{"predictions": {"test_0001.mov": [{"emotion": "sad", "salience": 100.0}],
                 "test_0002.mov": [{"emotion": "disg", "salience": 30}, {"emotion": "ang", "salience": 70}]}}
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from blemore_harness.clips import EMOTIONS
from blemore_harness.errors import InvalidPredictions, suggest
from blemore_harness.protocol.rules import BLENDS, NEUTRAL, SINGLE

MAX_BYTES = 10_000_000
"""Maximum file size in bytes; a valid file takes 0.1 MB."""

Complaint: TypeAlias = tuple[str, str]
"""A kind of error, for counting, and a description."""


def parse_submission(data: bytes) -> list[tuple[str, Any]]:
    """Return the (name, label) pairs of a submission's JSON in file order, including repeated names.

    Raises:
        InvalidPredictions: not UTF-8 JSON, or not an object with an object `predictions` inside.
    """
    try:
        # Lists of pairs instead of dicts, because a dict silently keeps only the last of repeated keys.
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_Pairs)
    except RecursionError:
        raise InvalidPredictions("expected a submission, found JSON that is nested too deeply") from None
    except ValueError as error:
        caveat = " (it starts with a byte order mark: save as UTF-8 without one)" if data[:3] == b"\xef\xbb\xbf" else ""
        raise InvalidPredictions(f"not JSON in UTF-8: {error}{caveat}") from error
    found = [value for name, value in document if name == "predictions"] if isinstance(document, _Pairs) else []
    if len(found) != 1 or not isinstance(found[0], _Pairs):
        keys = (
            f"the keys {', '.join(name for name, _ in document[:3])}" if isinstance(document, _Pairs) else "no object"
        )
        raise InvalidPredictions(
            f'expected {{"predictions": {{"<clip>.mov": [...]}}}} with one "predictions", found {keys}'
        )
    return list(found[0])


def label_complaints(label: Any, text_is_number: bool = True) -> list[Complaint]:
    """Return all errors in one clip's parsed label; empty if the official scoring can use it.

    Args:
        label: the parsed label, valid if it is a list of one or two `{"emotion": ..., "salience": ...}`.
        text_is_number: accept a salience that is text with a number, `"70"`, as the official scoring does.
    """
    if not isinstance(label, list) or isinstance(label, _Pairs):
        return [("label", "a value that is not a list of emotions")]
    if len(label) not in (1, 2):
        return [("length", "an empty list" if not label else f"{len(label)} emotions, expected one or two")]
    fields = [dict(entry) if isinstance(entry, _Pairs) else None for entry in label]
    entries = [entry for entry in fields if entry is not None and {"emotion", "salience"} <= entry.keys()]
    if len(entries) != len(label):
        return [("entry", 'an entry that is not {"emotion": ..., "salience": ...}')]
    if any(len(dict(entry)) != len(entry) for entry in label):
        return [("entry", "an entry with a repeated key")]
    names = [_flat(entry["emotion"]) for entry in entries]
    unknown = [name for name in names if name not in EMOTIONS]
    complaints = [
        ("emotion", f"unknown emotion {_shown(name)}{suggest(str(name)[:40], EMOTIONS)}") for name in unknown[:1]
    ]
    if len(names) == 2 and names[0] == names[1]:
        complaints.append(("repeated emotion", f"the emotion {_shown(names[0])} twice"))
    if len(names) == 2 and EMOTIONS[NEUTRAL] in names:
        complaints.append(("neutral", "neutral in a blend: neutral is never part of a blend"))
    saliences = [entry["salience"] for entry in entries]
    texts = [] if text_is_number else [salience for salience in saliences if isinstance(salience, str)]
    if texts:
        return [
            *complaints,
            ("number", f"the salience {_shown(texts[0])} as text: write a number without quotes"),
        ]
    return complaints + _salience_complaints(saliences)


def label_row(label: Any) -> list[int]:
    """Return the six percentages of a valid label."""
    shares = {entry["emotion"]: _rounded(entry["salience"]) for entry in map(dict, label)}
    return [shares.get(name) or 0 for name in EMOTIONS]


def repeated(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once, each once."""
    return [name for name, count in Counter(names).items() if count > 1]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, in file order."""


def _salience_complaints(saliences: Sequence[Any]) -> list[Complaint]:
    rounded = tuple(_rounded(salience) for salience in saliences)
    if None in rounded:
        return [("number", f"the salience {_shown(saliences[rounded.index(None)])}: expected a number")]
    if rounded in BLENDS or rounded == (SINGLE,):
        return []
    text = "/".join(_shown(salience) for salience in saliences)
    if 0 < max(float(salience) for salience in saliences) <= 1:
        return [("salience", f"the salience {text}: expected percentages, not fractions of 1")]
    if len(saliences) == 1:
        return [("salience", f"the salience {text} of a single emotion: expected {SINGLE}")]
    if sum(share or 0 for share in rounded) != SINGLE:
        return [("sum", f"the saliences {text}: expected a sum of {SINGLE}")]
    return [("salience", f"the saliences {text}: expected 50/50, 70/30 or 30/70")]


def _rounded(salience: Any) -> int | None:
    """Round as the official scoring does, half to even; None for values that cannot be rounded."""
    if isinstance(salience, bool) or not isinstance(salience, int | float | str):
        return None
    try:
        number = float(salience)
    except (ValueError, OverflowError):
        return None
    return round(number) if math.isfinite(number) else None


def _flat(value: Any) -> Any:
    """Return a value; an empty list of its kind for a nested one, so that the recursion ends."""
    return type(value)() if isinstance(value, list | dict) else value


def _shown(value: Any) -> str:
    """Return a value as in the file, shortened to fit a line; nested values may be too deep to be shown."""
    if isinstance(value, list):
        return "an object" if isinstance(value, _Pairs) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
