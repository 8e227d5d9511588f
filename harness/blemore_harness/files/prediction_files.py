"""Files of probabilities (`.csv`, `.npz`) and of decoded labels (`.json` in the submission format).

Clips are identified by their ids; a `.mov` or `.mp4` after an id is removed. Predictions are joined by id, never by the
order of rows.
"""

from __future__ import annotations

import csv
import io
import lzma
import zipfile
import zlib
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import EMOTIONS, LabelArray
from blemore_harness.disk import LARGEST_TABLE, MOST_ROWS, atomic_file, check_file, read_number, write_atomically
from blemore_harness.errors import InvalidPredictions, InvalidProbabilities, first_and_count, suggest
from blemore_harness.files.submission_format import label_complaints, label_row, parse_submission, repeated
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.rules import strip_ending

NAMES_COLUMN = "filename"

COLUMNS = (NAMES_COLUMN, *EMOTIONS)
"""Required columns of a `.csv`, in any order; others are ignored."""

ARRAYS = ("filenames", "probabilities")
"""Required arrays of an `.npz`: names (N,) and probabilities (N, 6) in the order of `EMOTIONS`."""

LARGEST_LABELS = 50_000_000
"""Bytes of decoded labels that are read: nested JSON takes ten times its size in memory. 100,000 clips take 25 MB."""

ARCHIVE_ERRORS = (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What `zipfile` raises for damaged, encrypted or unsupported files."""


def read_probabilities(path: Path) -> Probabilities:
    """Read a `.csv` of filename,ang,disg,fea,hap,sad,neu, or an `.npz` of `filenames` and `probabilities`.

    Raises:
        InvalidProbabilities: an unreadable file, a wrong shape, or values that are not probabilities; names the first
            clip.
    """
    ending = path.suffix.lower()
    if ending not in (".csv", ".npz"):
        raise InvalidProbabilities(f"unsupported file type of {path.name}: expected probabilities as .csv or .npz")
    try:
        check_file(path, LARGEST_TABLE)
        names, values = _read_csv(path) if ending == ".csv" else _read_npz(path)
        return Probabilities(tuple(strip_ending(name) for name in names), values)
    except InvalidProbabilities as error:
        raise InvalidProbabilities(f"{path.name}: {error}") from error
    except OSError as error:
        raise InvalidProbabilities(f"cannot read {path}: {error.strerror or error}") from error


def write_probabilities(path: Path, probabilities: Probabilities) -> None:
    """Write a `.csv` or `.npz` atomically; reading it returns the same values bit for bit."""
    ending = path.suffix.lower()
    if ending == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        # `repr` of a float is the shortest text from which the same float is read.
        writer.writerows(
            [name, *map(repr, row)] for name, row in zip(probabilities.ids, probabilities.values.tolist(), strict=True)
        )
        write_atomically(path, text.getvalue())
    elif ending == ".npz":
        with atomic_file(path) as file:
            np.savez(file, filenames=np.array(probabilities.ids, dtype=str), probabilities=probabilities.values)
    else:
        raise InvalidProbabilities(f"unsupported file type of {path.name}: expected .csv or .npz")


def read_predictions(path: Path) -> tuple[tuple[str, ...], LabelArray]:
    """Read decoded labels in the submission format.

    Saliences are rounded as in the official scoring: 69.5 and 30.5 are 70 and 30; .7 and .3 are not. Labels that the
    official scoring silently counts as wrong (other saliences, neutral in a blend, one emotion twice) are an error.

    Returns:
        Clip ids in file order, and int8 (N, 6) percentages.

    Raises:
        InvalidPredictions: invalid labels; names the first clip and how many there are.
    """
    try:
        check_file(path, LARGEST_LABELS)
        data = path.read_bytes()
    except OSError as error:
        raise InvalidPredictions(f"cannot read {path}: {error.strerror or error}") from error
    return parse_predictions(data, path.name)


def parse_predictions(data: bytes, file: str) -> tuple[tuple[str, ...], LabelArray]:
    """As `read_predictions`, for the bytes of a file that messages name."""
    try:
        entries = parse_submission(data)
    except InvalidPredictions as error:
        raise InvalidPredictions(f"{file}: {error}") from error
    ids = [strip_ending(name) for name, _ in entries]
    twice = repeated(ids)
    if twice:
        raise InvalidPredictions(f"{file}: expected each clip once, found {first_and_count(twice, 'repeated clip')}")
    wrong = {name: found for name, (_, label) in zip(ids, entries, strict=True) if (found := label_complaints(label))}
    if wrong:
        _, what = next(iter(wrong.values()))[0]
        raise InvalidPredictions(
            f"{file}: expected one emotion at 100, or two other than neutral at 50/50, 70/30 or 30/70; "
            f"{first_and_count(wrong, 'wrong label')}, found there: {what}"
        )
    labels = np.array([label_row(label) for _, label in entries], dtype=np.int8).reshape(-1, len(EMOTIONS))
    return tuple(ids), labels


def _read_csv(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    try:
        # "utf-8-sig" reads files with and without the byte order mark that spreadsheets write.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            filled = ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))
            lines = list(islice(filled, MOST_ROWS + 2))  # the header, and one row more than allowed
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidProbabilities("expected a comma-separated table in UTF-8") from error
    if len(lines) > MOST_ROWS + 1:
        raise InvalidProbabilities(f"expected one row per clip, found more than {MOST_ROWS} rows")
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    rows = lines[1:]
    _check_header(header)
    where = [header.index(name) for name in COLUMNS]
    uneven = [str(number) for number, row in rows if len(row) != len(header)]
    if uneven:
        raise InvalidProbabilities(
            f"expected {len(header)} cells in every line, found other numbers in {first_and_count(uneven, 'line')}"
        )
    names = [row[where[0]].strip() for _, row in rows]
    return _named(names), _to_numbers(names, [[row[k] for k in where[1:]] for _, row in rows])


def _check_header(header: list[str]) -> None:
    twice = [name for name in repeated(header) if name in COLUMNS]
    missing = [name for name in COLUMNS if name not in header]
    if missing or twice:
        hint = suggest(missing[0], header) if missing else ""
        semicolons = "; use commas instead of semicolons" if len(header) == 1 and ";" in header[0] else ""
        raise InvalidProbabilities(
            f"expected the columns {','.join(COLUMNS)} once each, {first_and_count(missing, 'column')} missing, "
            f"{first_and_count(twice, 'column')} repeated{hint}{semicolons}"
        )


def _to_numbers(names: list[str], cells: list[list[str]]) -> NDArray[np.float64]:
    values = np.zeros((len(cells), len(EMOTIONS)))
    bad = []
    for i, row in enumerate(cells):
        try:
            values[i] = [read_number(cell) for cell in row]
        except ValueError:
            bad.append(i)
    if bad:
        cell = next(cell for cell in cells[bad[0]] if not _is_number(cell))
        found = cell if len(cell) <= 40 else f"{cell[:37]}..."
        offenders = first_and_count([names[i] for i in bad], "clip")
        raise InvalidProbabilities(f"'{found}' is not a number, in {offenders}")
    return values


def _is_number(text: str) -> bool:
    try:
        read_number(text)
    except ValueError:
        return False
    return True


def _read_npz(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    with path.open("rb") as opened:
        if not zipfile.is_zipfile(opened):
            raise InvalidProbabilities("expected an .npz file as written by numpy.savez")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(base_model.file_size for base_model in archive.infolist())
        if unpacked > LARGEST_TABLE:
            raise InvalidProbabilities(
                f"expected at most {LARGEST_TABLE / 1e6:.0f} MB of arrays, found {unpacked / 1e6:.0f} MB"
            )
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ARRAYS if name not in file.files]
            if missing:
                raise InvalidProbabilities(f"expected the arrays {' and '.join(ARRAYS)}, found {', '.join(file.files)}")
            names, values = (np.asarray(file[name]) for name in ARRAYS)
        texts = np.char.decode(names, "utf-8") if names.dtype.kind == "S" else names
        listed = texts.tolist()
    # Errors of numpy and zipfile for damaged and hostile archives, whose headers may declare any size and type.
    except (*ARCHIVE_ERRORS, MemoryError, SystemError) as error:
        raise InvalidProbabilities(
            "the .npz file is damaged or does not hold plain arrays (save the names as text, not as objects)"
        ) from error
    if texts.ndim != 1 or texts.dtype.kind != "U" or values.dtype.kind not in "fiu":
        raise InvalidProbabilities(
            f"expected text (N,) in filenames and numbers (N, {len(EMOTIONS)}) in probabilities, found {names.dtype} "
            f"{names.shape} and {values.dtype} {values.shape}"
        )
    return _named(listed), values


def _named(names: list[str]) -> list[str]:
    """Raise `InvalidProbabilities` for rows without a name and for files without rows."""
    empty = [str(number) for number, name in enumerate(names, 1) if not name]
    if empty or not names:
        raise InvalidProbabilities(
            f"expected a clip id in every row, found {len(names)} rows, {first_and_count(empty, 'row')} without one"
        )
    return names
