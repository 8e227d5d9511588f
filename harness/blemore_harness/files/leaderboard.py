"""The Codabench leaderboard file: writing it, and reporting why a file would be rejected or scored wrongly."""

from __future__ import annotations

import io
import json
import stat
import sys
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.disk import check_file, write_atomically
from blemore_harness.errors import ConfigError, InvalidPredictions, first_and_count, suggest
from blemore_harness.files.prediction_files import ARCHIVE_ERRORS, parse_predictions
from blemore_harness.files.submission_format import MAX_BYTES, label_complaints, label_row, parse_submission, repeated
from blemore_harness.protocol.rules import BLENDS, NEUTRAL, SINGLE, strip_ending

INNER_NAME = "submission_template.json"
"""The only file in the zip's root (Codabench page of the challenge)."""

PROGRAM_NAMES = ("metadata", "metadata.yaml")
"""Files at the root by which Codabench tells submitted programs from submitted predictions."""

KEY_ENDING = ".mov"
"""Suffix of every clip id as a key of the file (organisers' template)."""

ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""A fixed timestamp, so that the same labels give the same bytes."""


@dataclass(frozen=True)
class Problem:
    """One kind of error in a leaderboard file.

    Attributes:
        kind: a short name of the kind, such as `missing`.
        message: what was found, the first offender, how many there are, what to do.
    """

    kind: str
    message: str

    def __str__(self) -> str:
        return self.message


def write_submission(path: Path, ids: Sequence[str], labels: LabelArray) -> None:
    """Write the zip file for Codabench atomically; the same labels give the same bytes.

    Args:
        path: ends in `.zip`.
        ids: test clips, with or without `.mov`.
        labels: int8 (N, 6) percentages in the order of `EMOTIONS`.

    Raises:
        InvalidPredictions: labels that the protocol does not know, repeated clips, or none.
        ConfigError: a path that does not end in `.zip`.
    """
    if path.suffix.lower() != ".zip":
        raise ConfigError(f"expected a .zip file for Codabench, found {path.name}: name it {path.stem}.zip")
    text = json.dumps({"predictions": _entries([strip_ending(name) for name in ids], labels)}, indent=4)
    entry = zipfile.ZipInfo(INNER_NAME, ZIP_TIME)
    entry.create_system = 3  # Unix, on every platform
    entry.external_attr = 0o644 << 16
    archive = io.BytesIO()
    # Stored, because the output of deflate differs between builds of zlib.
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr(entry, text)
    write_atomically(path, archive.getvalue())


def read_submission(path: Path) -> dict[str, tuple[int, ...]]:
    """Read a leaderboard file that the harness wrote: six percentages in the order of `EMOTIONS` by clip id.

    Raises:
        InvalidPredictions: a file that is missing, damaged or not as the harness writes it.
    """
    problems: list[Problem] = []
    data = _read(path, problems)
    if data is None or problems:
        raise InvalidPredictions(f"{problems[0]}; run the same command again to write it")
    return {strip_ending(name): tuple(label_row(label)) for name, label in parse_submission(data)}


def check_submission(path: Path, expected_ids: Iterable[str]) -> list[Problem]:
    """Return all problems because of which Codabench would reject a file or score it wrongly.

    Nothing is extracted to disk, and at most 10 MB are read.

    Args:
        path: the `.zip`; for a bare `.json` the labels are checked as well.
        expected_ids: the test clips, such as `protocol.official_test_ids()`.

    Returns:
        The problems; empty for a valid file.
    """
    problems: list[Problem] = []
    data = _read(path, problems)
    if data is None:
        return problems
    try:
        entries = parse_submission(data)
    except InvalidPredictions as error:
        return [*problems, Problem("format", str(error))]
    expected = [strip_ending(name) for name in expected_ids]
    return problems + _check_keys([name for name, _ in entries], expected) + _check_labels(entries)


def read_upload(path: Path) -> tuple[tuple[str, ...], LabelArray]:
    """Read decoded labels from a zip file as teams send it: JSON at any depth; metadata files of macOS are ignored.

    Nothing is extracted to disk, and at most 10 MB are read.

    Returns:
        Clip ids in file order, and int8 (N, 6) percentages.

    Raises:
        InvalidPredictions: an unreadable zip file, paths that lead out of it, not one JSON file, or invalid labels.
    """
    try:
        check_file(path, MAX_BYTES)
        with zipfile.ZipFile(path) as archive:
            member = _choose_member(archive, path.name)
            with archive.open(member) as file:
                data = file.read(MAX_BYTES + 1)  # one byte more than allowed: the declared size may be wrong
    except OSError as error:
        raise InvalidPredictions(f"cannot read {path}: {error.strerror or error}") from error
    except ARCHIVE_ERRORS as error:
        raise InvalidPredictions(f"{path.name} is a damaged or unsupported zip file: create it again") from error
    if len(data) > MAX_BYTES:
        raise InvalidPredictions(
            f"{path.name}: '{member.filename}' unpacks to more than {MAX_BYTES} bytes, expected fewer"
        )
    return parse_predictions(data, path.name)


def _choose_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Return the member with the labels: the only JSON file, or the only one with the name that Codabench expects."""
    members = [m for m in archive.infolist() if not m.is_dir() and not is_litter(m.filename)]
    if outside := [m.filename for m in members if climbs(m.filename)]:
        raise InvalidPredictions(f"{name} holds {first_and_count(outside, 'path')} outside the zip file")
    if links := [m.filename for m in members if stat.S_ISLNK(m.external_attr >> 16)]:
        raise InvalidPredictions(f"{name} holds {first_and_count(links, 'symbolic link')}: expected files")
    found = [m for m in members if m.filename.lower().endswith(".json")]
    named = [m for m in found if PurePosixPath(m.filename).name == INNER_NAME]
    best = named if len(found) > 1 and named else found
    if len(best) != 1:
        listed = first_and_count([m.filename for m in (best or members)], "JSON file" if best else "other file")
        raise InvalidPredictions(f"{name}: expected one JSON file ({INNER_NAME}) in the zip file, found {listed}")
    return best[0]


def _entries(ids: Sequence[str], labels: LabelArray) -> dict[str, list[dict[str, Any]]]:
    if labels.shape != (len(ids), len(EMOTIONS)) or not ids:
        raise InvalidPredictions(
            f"expected labels ({len(ids)}, {len(EMOTIONS)}) for at least one clip, found {labels.shape}"
        )
    if twice := repeated(ids):
        raise InvalidPredictions(f"expected each clip once, found {first_and_count(twice, 'repeated clip')}")
    entries = {name: _entry(row) for name, row in zip(ids, np.asarray(labels).tolist(), strict=True)}
    if wrong := [name for name, entry in entries.items() if not entry]:
        raise InvalidPredictions(
            f"expected one emotion at 100, or two other than neutral at 50/50, 70/30 or 30/70; "
            f"found {first_and_count(wrong, 'other label')}"
        )
    return {f"{name}{KEY_ENDING}": entry for name, entry in entries.items()}


def _entry(row: list[int]) -> list[dict[str, Any]]:
    """Return a clip's entry; empty for an invalid label."""
    present = [(name, share) for name, share in zip(EMOTIONS, row, strict=True) if share != 0]
    shares = tuple(share for _, share in present)
    if shares == (SINGLE,):
        # A float for singles and integers for blends, as in the organisers' template.
        return [{"emotion": present[0][0], "salience": float(SINGLE)}]
    if shares in BLENDS and row[NEUTRAL] == 0:
        return [{"emotion": name, "salience": share} for name, share in present]
    return []


def _read(path: Path, problems: list[Problem]) -> bytes | None:
    """Return the bytes of the JSON file, None if there is none, and append the problems of the zip file."""
    try:
        check_file(path, sys.maxsize)
        size = path.stat().st_size
        if size > MAX_BYTES:
            problems.append(Problem("size", f"{path.name} has {size} bytes, expected fewer than {MAX_BYTES}"))
            return None
        if zipfile.is_zipfile(path):
            if path.suffix.lower() != ".zip":
                problems.append(Problem("ending", f"{path.name} is a zip file: rename it to end in .zip"))
            with zipfile.ZipFile(path) as archive:
                return _read_member(archive, problems)
        wanted = f"Codabench expects a zip file with {INNER_NAME} at its root"
        data = path.read_bytes()
        if path.suffix.lower() == ".zip":
            problems.append(Problem("zip", f"{path.name} is not a zip file: {wanted}"))
        else:
            problems.append(Problem("bare", f"{path.name} is not a zip file: {wanted}; zip it under that name"))
        return data
    except OSError as error:
        problems.append(Problem("unreadable", f"cannot read {path}: {error.strerror or error}"))
    except ARCHIVE_ERRORS:
        problems.append(Problem("zip", f"{path.name} is a damaged or unsupported zip file: create it again"))
    return None


def _read_member(archive: zipfile.ZipFile, problems: list[Problem]) -> bytes | None:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    litter = [name for name in names if is_litter(name)]
    climbing = [name for name in names if climbs(name)]
    nested = [name for name in names if "/" in name and name not in litter and name not in climbing]
    files = [e for e in entries if not e.is_dir() and e.filename not in litter and e.filename not in climbing]
    advice = f"the zip file must contain only {INNER_NAME}, at its root"
    program = [name for name in names if name in PROGRAM_NAMES]
    found = (
        ("program", program, "file at the root", f"Codabench takes the zip file for a program and runs it; {advice}"),
        ("litter", litter, "macOS metadata file", f"{advice}; create it with zip -X"),
        ("climbing", climbing, "path outside the zip file", advice),
        ("nesting", nested, "file in a folder", f"{advice}; zip the file itself, not its folder"),
    )
    problems += [Problem(kind, f"{first_and_count(which, what)}: {end}") for kind, which, what, end in found if which]
    if len(files) != 1:
        listed = first_and_count([entry.filename for entry in files], "file")
        problems.append(Problem("files", f"expected exactly one file in the zip file, found {listed}: {advice}"))
    best = [entry for entry in files if PurePosixPath(entry.filename).name == INNER_NAME] or files
    if not best:
        return None
    if PurePosixPath(best[0].filename).name != INNER_NAME:
        problems.append(
            Problem("name", f"the file in the zip file is named '{best[0].filename}': rename it {INNER_NAME}")
        )
    with archive.open(best[0]) as file:
        # Read one byte more than allowed, because the declared size may be wrong.
        data = file.read(MAX_BYTES + 1) if best[0].file_size <= MAX_BYTES else None
    if data is None or len(data) > MAX_BYTES:
        problems.append(Problem("size", f"'{best[0].filename}' unpacks to more than {MAX_BYTES} bytes, expected fewer"))
        return None
    return data


def is_litter(name: str) -> bool:
    """Return whether a path is one of those that macOS adds to zip files and folders.

    >>> is_litter("__MACOSX/._a.json"), is_litter(".DS_Store"), is_litter("a.json")
    (True, True, False)
    """
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or (bool(parts) and (parts[-1] == ".DS_Store" or parts[-1].startswith("._")))


def climbs(name: str) -> bool:
    """Return whether a path in an archive leads out of it, on any platform.

    >>> climbs("../a.json"), climbs("C:a.json"), climbs("b/a.json")
    (True, True, False)
    """
    return ".." in PurePosixPath(name.replace("\\", "/")).parts or name.startswith(("/", "\\")) or name[1:2] == ":"


def _check_keys(names: list[str], expected: list[str]) -> list[Problem]:
    wanted = set(expected)
    stems = [strip_ending(name) for name in names]
    misnamed = [n for n, stem in zip(names, stems, strict=True) if stem in wanted and n != f"{stem}{KEY_ENDING}"]
    unknown = [name for name, stem in zip(names, stems, strict=True) if stem not in wanted]
    present = set(stems)
    missing = [name for name in expected if name not in present]
    hint = suggest(unknown[0], [f"{name}{KEY_ENDING}" for name in expected]) if unknown else ""
    there = f"the file holds {len(expected) - len(missing)} of {len(expected)} clips"
    found = (
        ("missing", missing, "missing clip", f"{there}; Codabench rejects incomplete files"),
        ("unknown", unknown, "unknown clip", f"the file must contain only the {len(expected)} test clips{hint}"),
        ("ending", misnamed, "wrong key", f"each key must be the clip's name followed by {KEY_ENDING}"),
        (
            "duplicate",
            repeated(stems),
            "repeated clip",
            "each clip must occur once; JSON readers silently keep the last",
        ),
    )
    return [Problem(kind, f"{first_and_count(which, what)}: {end}") for kind, which, what, end in found if which]


def _check_labels(entries: list[tuple[str, Any]]) -> list[Problem]:
    """Return the problems of labels by kind, in the order in which the kinds first appear."""
    by_kind: dict[str, tuple[str, list[str]]] = {}
    for name, label in entries:
        for kind, found in label_complaints(label, text_is_number=False):
            by_kind.setdefault(kind, (found, []))[1].append(name)
    return [Problem(kind, f"{first_and_count(names, 'label')} with {text}") for kind, (text, names) in by_kind.items()]
