"""Files of predictions scored by known labels, with intervals over actors, and ranked with ties."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.errors import BlemoreError, DataError
from blemore_harness.files.leaderboard import INNER_NAME, is_litter
from blemore_harness.files.scoring import PROBABILITIES, Decoded, Reference, decode_file
from blemore_harness.scoring.intervals import FEWEST, LEVEL, ActorCounts, count_actors, find_differences, find_intervals
from blemore_harness.scoring.measures import keep_defined
from blemore_harness.scoring.paired_tests import compare_answers, tie_groups


@dataclass(frozen=True)
class Sent:
    """A file that somebody sent in.

    Attributes:
        name: by which it is shown; unique.
        path: where it lies.
        refused: why it is not read; empty if it is.
    """

    name: str
    path: Path
    refused: str = ""


def score_file(
    path: Path, reference: Reference, alpha: float | None = None, beta: float | None = None
) -> dict[str, Any]:
    """Score a file by the official protocol, on all clips of the reference together.

    Args:
        path, reference, alpha, beta: as of `files.scoring.decode_file`.

    Returns:
        clips, blends, actors (0 if they are not known), alpha, beta, chosen, acc_presence, acc_salience and score (None
        without blends),
        best_presence and best_salience (as of `Decoded`), `intervals` by measure (as of `find_intervals`; None where
        too few actors are known) and `caveat`, text or None.

    Raises:
        BlemoreError: as of `decode_file`.
    """
    return _describe(decode_file(path, reference, alpha, beta), reference)


def rank_files(
    sent: Sequence[Sent], reference: Reference, alpha: float | None = None, beta: float | None = None
) -> dict[str, Any]:
    """Score files and rank them by Score, with ties.

    Args:
        sent: the files.
        reference: the true labels.
        alpha, beta: thresholds for files of probabilities; if both are None, the best ones on these clips.

    Returns:
        `reference`, `clips`, `blends`, `actors`, `level`; `ranked`, a row per file, the best first (of equals by name):
        name, file, `group` (number of the group of ties, from 1), `p_first` (adjusted p of the difference from the
        first row) and what `score_file` returns; both are None where too few actors are known. `refused`, a row per
        file that cannot be scored: name, file, reason. `minimum`, the difference of the first two that would be found
        (as of `find_differences`), or None.
    """
    rows: dict[str, dict[str, Any]] = {}
    counts: dict[str, ActorCounts] = {}
    refused = []
    for each in sorted(sent, key=lambda each: each.name):
        thresholds = (alpha, beta) if each.path.suffix.lower() in PROBABILITIES else (None, None)
        try:
            if each.refused:
                raise DataError(each.refused)
            decoded = decode_file(each.path, reference, *thresholds)
        except BlemoreError as error:
            refused.append({"name": each.name, "file": str(each.path), "reason": str(error)})
            continue
        counts[each.name] = _count(decoded, reference)
        rows[each.name] = {
            "name": each.name, "file": str(each.path), "group": None, "p_first": None, **_describe(decoded, reference),
        }  # fmt: skip
    by = "score" if reference.blends else "acc_presence"
    ranked = sorted(rows, key=lambda name: -rows[name][by])  # the official number, exact to the last bit
    minimum = None
    if len(set(reference.actors)) >= FEWEST:
        _add_ties(rows, ranked, counts)
        minimum = find_differences(counts[ranked[0]], counts[ranked[1]])[by]["minimum"] if ranked[1:] else None
    return {
        "reference": reference.where,
        "clips": len(reference.ids),
        "blends": reference.blends,
        "actors": len(set(reference.actors)),
        "level": LEVEL,
        "ranked": [rows[name] for name in ranked],
        "refused": refused,
        "minimum": minimum,
    }


def find_sent(paths: Iterable[Path], leave_out: Path) -> list[Sent]:
    """Return the files to rank: those that are named, and all files in folders that are named, at any depth.

    Hidden files, metadata files of macOS and the reference are left out; symbolic links in folders are refused.

    Args:
        paths: files and folders.
        leave_out: the reference.

    Returns:
        the files with unique names: the path in the folder without its ending, or its folder for a file with the name
        that Codabench expects.
    """
    found: list[tuple[Path, Path, bool]] = []  # path, what it is called, whether it was found in a folder
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - a name that is too long is no folder
            found += ((file, file.relative_to(path), True) for file in _walk(path) if not _is_same(file, leave_out))
        else:
            found.append((path, Path(path.name), False))
    names = [_name_of(called) for _, called, _ in found]
    sent: dict[str, Sent] = {}
    for (path, called, in_folder), name in zip(found, names, strict=True):
        unique = next(text for text in (name, str(called), str(path), f"{path} ({len(sent) + 1})")
                      if text not in sent and (text != name or names.count(name) == 1))  # fmt: skip
        why = ""
        if in_folder and path.is_symlink():
            why = "a symbolic link, which may lead out of the folder: expected a file"
        elif not os.path.exists(path):  # noqa: PTH110 - as above
            why = "no such file or folder"
        sent[unique] = Sent(unique, path, why)
    return list(sent.values())


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not is_litter(name))
        linked = [name for name in folders if (Path(root) / name).is_symlink()]
        yield from (Path(root) / n for n in sorted([*names, *linked]) if not n.startswith(".") and not is_litter(n))


def _is_same(one: Path, two: Path) -> bool:
    return os.path.exists(two) and one.exists() and one.samefile(two)  # noqa: PTH110 - as above


def _name_of(called: Path) -> str:
    inside = called.name == INNER_NAME and len(called.parts) > 1
    return str(called.parent if inside else called.with_suffix(""))


def _count(decoded: Decoded, reference: Reference) -> ActorCounts:
    """Count right answers per actor; all clips as those of one actor where actors are not known."""
    actors = reference.actors or ("",) * len(reference.ids)
    return count_actors(reference.truth, decoded.labels, np.zeros(len(actors), dtype=np.int64), actors)


def _describe(decoded: Decoded, reference: Reference) -> dict[str, Any]:
    counts = _count(decoded, reference)
    ends = find_intervals(counts)
    return {
        "clips": len(reference.ids),
        "blends": reference.blends,
        "actors": len(set(reference.actors)),
        "alpha": decoded.alpha,
        "beta": decoded.beta,
        "chosen": decoded.chosen,
        "acc_presence": decoded.scores.presence,
        "acc_salience": decoded.scores.salience if reference.blends else None,
        "score": decoded.scores.score if reference.blends else None,
        "best_presence": decoded.best_presence,
        "best_salience": decoded.best_salience,
        "intervals": ends and keep_defined(ends, counts),
        "caveat": reference.caveat or None,
    }


def _add_ties(rows: Mapping[str, dict[str, Any]], ranked: Sequence[str], counts: Mapping[str, ActorCounts]) -> None:
    pairs = compare_answers({name: counts[name] for name in ranked})
    for number, group in enumerate(tie_groups(ranked, pairs), 1):
        for name in group:
            rows[name]["group"] = number
    for name in ranked[1:]:
        rows[name]["p_first"] = pairs[ranked[0], name]["adjusted"]
