"""Reads and validates `train_metadata.csv` and tables of its kind; a contradiction is an error with the first clip."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.disk import LARGEST_TABLE, MOST_ROWS, check_file, read_number
from blemore_harness.errors import MetadataError, first_and_count, suggest
from blemore_harness.protocol.rules import label_text, parse_clip_id, strip_ending

Table: TypeAlias = dict[str, list[str]]
"""Cells as text, by column."""

REQUIRED = ("filename", "video_id", "mix", "emotion_1", "emotion_2", "emotion_1_salience", "emotion_2_salience")
"""Required columns."""

OPTIONAL = ("gender", "fold")
"""Optional columns; all others are ignored."""


@dataclass(frozen=True)
class MetadataRows:
    """The validated rows, in file order (N).

    Attributes:
        ids, actors, genders: text per clip; gender may be empty. `actors` is empty where a reference names none.
        truth: int8 (N, 6) percentages in the order of `EMOTIONS`.
        folds: int64 (N,), or None if there is no fold column.
    """

    ids: tuple[str, ...]
    actors: tuple[str, ...]
    genders: tuple[str, ...]
    truth: LabelArray
    folds: NDArray[np.int64] | None


def read_metadata(path: Path, reference: bool = False) -> MetadataRows:
    """Read and validate the metadata.

    Args:
        path: of the table.
        reference: read labels to score by: no clip needs an actor if none has one, and folds are not read.

    Raises:
        MetadataError: unreadable or without the required columns; unknown emotions, saliences that do not sum to 100,
            blends with neutral, labels that disagree with the file name, duplicate ids, an actor in two folds, missing
            folds. The message names the first offending clip and how many there are.
    """
    table = _read_table(path, tuple(name for name in REQUIRED if not (reference and name == "video_id")))
    ids = tuple(strip_ending(name) for name in table["filename"])
    first: dict[str, int] = {}
    repeated = np.array([first.setdefault(name, i) != i for i, name in enumerate(ids)])
    _refuse(repeated, ids, "repeated filename", "keep one row per clip")
    paths = np.array(["/" in name or "\\" in name or name in (".", "..") for name in ids])
    _refuse(paths, ids, "filename is a path", "expected a file name without folder, files are found at any depth")
    actors = tuple(table.get("video_id", ()))
    if not reference or any(actors):
        _refuse(np.array([a == "" for a in actors]), ids, "video_id (the actor) is empty", "every clip needs an actor")
    else:
        actors = ()
    truth = _read_labels(table, ids)
    _refuse_renamed(ids, actors, truth)
    genders = tuple(table["gender"]) if "gender" in table else ("",) * len(ids)
    return MetadataRows(ids, actors, genders, truth, None if reference else _read_folds(table, ids, actors))


def _read_table(path: Path, required: Sequence[str]) -> Table:
    """Read all cells as text without surrounding spaces."""
    try:
        # "utf-8-sig" reads files with and without the byte order mark that spreadsheets write.
        check_file(path, LARGEST_TABLE)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            filled = ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))
            # The header and one row more than allowed.
            lines = [(line, [*map(str.strip, row)]) for line, row in islice(filled, MOST_ROWS + 2)]
    except OSError as error:
        raise MetadataError(f"cannot read {path}: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise MetadataError(f"{path.name} is not a comma-separated table in UTF-8: {error}") from error
    if len(lines) > MOST_ROWS + 1:
        raise MetadataError(f"{path.name} has more than {MOST_ROWS} rows: expected one per clip")
    if not lines:
        raise MetadataError(f"{path} is empty: expected a header with {', '.join(required)} and a row per clip")
    (_, header), *rows = lines
    _check_header(path, header, required)
    if not rows:
        raise MetadataError(f"{path} has a header but no clips")
    needed = [header.index(name) for name in (*REQUIRED, *OPTIONAL) if name in header]
    uneven = [line for line, row in rows if len(row) != len(header)]
    _refuse_lines(path, uneven, f"rows without the {len(header)} cells of the header")
    _refuse_lines(path, [line for line, row in rows if not row[needed[0]]], "no filename")
    cells_of = itemgetter(*needed)
    odd = [line for line, row in rows if not "".join(cells_of(row)).isprintable()]
    _refuse_lines(path, odd, "line breaks or control characters inside a cell")
    return {header[k]: [row[k] for _, row in rows] for k in needed}


def _check_header(path: Path, header: list[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in header]
    if missing:
        separator = " (is it separated by semicolons? commas are expected)" if ";" in header[0] else ""
        found = repr(", ".join(header))[1:-1]
        raise MetadataError(
            f"{path.name} lacks {first_and_count(missing, 'column')}{suggest(missing[0], header)}: "
            f"found {found if len(found) <= 160 else found[:157] + '...'}{separator}"
        )
    repeated = [name for name in (*REQUIRED, *OPTIONAL) if header.count(name) > 1]
    if repeated:
        raise MetadataError(f"{path.name} has {first_and_count(repeated, 'repeated column')}: keep one of each")


def _refuse_lines(path: Path, lines: list[int], found: str) -> None:
    if lines:
        raise MetadataError(f"{path.name} has {found}, in {first_and_count([f'line {k}' for k in lines], 'row')}")


def _read_labels(table: Table, ids: tuple[str, ...]) -> LabelArray:
    first, second = (np.array(table[f"emotion_{k}"], dtype=object) for k in (1, 2))
    unknown = np.array([a not in EMOTIONS or (b not in ("", *EMOTIONS)) for a, b in zip(first, second, strict=True)])
    if unknown.any():
        i = int(np.flatnonzero(unknown)[0])
        found = next(name for name in (first[i], second[i]) if name not in EMOTIONS)
        _refuse(unknown, ids, f"unknown emotion '{found}'{suggest(found, EMOTIONS)}", f"known: {' '.join(EMOTIONS)}")
    blend = second != ""
    mixed = np.array([text.lower() in ("1", "1.0", "true") for text in table["mix"]])
    _refuse(mixed != blend, ids, "mix contradicts emotion_2", "correct one of them")
    neutral = blend & ((first == "neu") | (second == "neu"))
    _refuse(neutral, ids, "a blend with neutral", "neutral is never part of a blend")
    _refuse(blend & (first == second), ids, "a blend of one emotion with itself", "correct emotion_2")
    shares = [_read_numbers(table[f"emotion_{k}_salience"], ids, f"emotion_{k}_salience") for k in (1, 2)]
    single = ~blend
    sums = np.where(single, 100, np.nan_to_num(shares[0]) + np.nan_to_num(shares[1]))
    _refuse(sums != 100, ids, "saliences that do not sum to 100", "expected 50/50, 70/30 or 30/70")
    odd = blend & ~np.isin(shares[0], (30, 50, 70))
    _refuse(odd, ids, "other saliences", "the protocol only knows 50/50, 70/30 and 30/70")
    stray = single & ~np.isin(np.nan_to_num(shares[0], nan=100), (0, 100)) | single & (np.nan_to_num(shares[1]) != 0)
    _refuse(stray, ids, "a single emotion with a salience of a blend", "leave the saliences of single emotions empty")
    truth = np.zeros((len(ids), len(EMOTIONS)), dtype=np.int8)
    rows = np.arange(len(ids))
    truth[rows, [EMOTIONS.index(name) for name in first]] = np.where(single, 100, np.nan_to_num(shares[0]))
    truth[rows[blend], [EMOTIONS.index(name) for name in second[blend]]] = shares[1][blend]
    truth.setflags(write=False)
    return truth


def _refuse_renamed(ids: tuple[str, ...], actors: tuple[str, ...], truth: LabelArray) -> None:
    """Raise for labels and actors that contradict the file name, if this has the released form."""
    wrong_label, wrong_actor = np.zeros(len(ids), dtype=bool), np.zeros(len(ids), dtype=bool)
    for i, (name, label) in enumerate(zip(ids, truth.tolist(), strict=True)):
        parsed = parse_clip_id(name)
        if parsed is not None:
            wrong_label[i] = parsed.percentages != tuple(label)
            wrong_actor[i] = bool(actors) and parsed.actor != actors[i]
    if wrong_label.any():
        found = label_text(truth[np.flatnonzero(wrong_label)[0]])
        _refuse(wrong_label, ids, f"the label '{found}' contradicts the file name", "correct the row or the name")
    _refuse(wrong_actor, ids, "video_id contradicts the file name", "correct the row or the name")


def _read_folds(table: Table, ids: tuple[str, ...], actors: tuple[str, ...]) -> NDArray[np.int64] | None:
    if not any(table.get("fold", ())):
        return None
    values = _read_numbers(table["fold"], ids, "fold")
    _refuse(np.isnan(values), ids, "fold is empty", "fill in the fold, or remove the column to have folds made")
    whole = (values >= 0) & (values % 1 == 0) & (values < 2**31)
    _refuse(~whole, ids, "fold is not a non-negative whole number", "expected 0, 1, 2, ...")
    folds = values.astype(np.int64)
    fold_of: dict[str, int] = {}
    split = np.array([fold_of.setdefault(actor, int(k)) != k for actor, k in zip(actors, folds, strict=True)])
    if split.any():
        actor = actors[int(np.flatnonzero(split)[0])]
        _refuse(split, ids, f"actor {actor} is in two folds", "folds must be actor-disjoint")
    present = np.unique(folds)
    # The first number that differs from its index follows a gap.
    gap = next((k for k, number in enumerate(present.tolist()) if k != number), len(present))
    if gap < len(present) or len(present) < 2:
        raise MetadataError(
            f"fold {gap} has no clips: found folds {', '.join(map(str, present.tolist()))}, expected 0 to K-1, K >= 2"
        )
    return folds


def _read_numbers(column: list[str], ids: tuple[str, ...], name: str) -> NDArray[np.float64]:
    """Return the column as float64, NaN for empty cells."""
    number = {text: _number(text) for text in set(column)}
    values = np.array([number[text] for text in column])
    bad = ~np.isfinite(values) & np.array([text != "" for text in column])
    if bad.any():
        found = column[int(np.flatnonzero(bad)[0])]
        _refuse(bad, ids, f"{name} is not a number: '{found}'", "expected a plain number")
    return values


def _number(text: str) -> float:
    try:
        return read_number(text)
    except ValueError:
        return math.nan


def _refuse(bad: NDArray[np.bool_], ids: tuple[str, ...], found: str, advice: str) -> None:
    if bad.any():
        offenders = [ids[i] for i in np.flatnonzero(bad)]
        raise MetadataError(f"{found} in {first_and_count(offenders, 'clip')}; {advice}")
