"""Files of probabilities (`.csv`, `.npz`) and of decoded labels (`.json` in the submission format).

Clips are named by their ids; a `.mov` or `.mp4` after an id is dropped. Everything is joined on these names later,
never on the order of rows.
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
"""Columns that a `.csv` must have, in any order; others are left alone."""

ARRAYS = ("filenames", "probabilities")
"""Arrays that an `.npz` must have: names (N,) and probabilities (N, 6) in the order of `EMOTIONS`."""


_ARCHIVE_ERRORS = (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


def read_probabilities(path: Path) -> Probabilities:
    """Read a `.csv` of filename,ang,disg,fea,hap,sad,neu, or an `.npz` of `filenames` and `probabilities`.

    Raises:
        InvalidProbabilities: unreadable, of another shape, or rows that are not probabilities; names the first clip.
    """
    ending = path.suffix.lower()
    if ending not in (".csv", ".npz"):
        raise InvalidProbabilities(f"expected a .csv or .npz file of probabilities, found {path.name}")
    try:
        check_file(path, LARGEST_TABLE)
        names, values = _read_csv(path) if ending == ".csv" else _read_npz(path)
        return Probabilities(tuple(strip_ending(name) for name in names), values)
    except InvalidProbabilities as error:
        raise InvalidProbabilities(f"{path.name}: {error}") from error
    except OSError as error:
        raise InvalidProbabilities(f"cannot read {path}: {error.strerror or error}") from error


def write_probabilities(path: Path, probabilities: Probabilities) -> None:
    """Write a `.csv` or `.npz` that reads back to the same bits; the file appears whole or not at all."""
    ending = path.suffix.lower()
    if ending == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        # `repr` of a float is the shortest text that reads back to the same float.
        writer.writerows(
            [name, *map(repr, row)] for name, row in zip(probabilities.ids, probabilities.values.tolist(), strict=True)
        )
        write_atomically(path, text.getvalue())
    elif ending == ".npz":
        with atomic_file(path) as file:
            np.savez(file, filenames=np.array(probabilities.ids, dtype=str), probabilities=probabilities.values)
    else:
        raise InvalidProbabilities(f"expected to write a .csv or .npz file of probabilities, not {path.name}")


def read_predictions(path: Path) -> tuple[tuple[str, ...], LabelArray]:
    """Read decoded labels in the submission format.

    Saliences are rounded as the official scoring rounds them: 69.5 and 30.5 are 70 and 30; .7 and .3 are not. What that
    scoring would silently count as wrong (other saliences, neutral in a blend, one emotion twice) is refused.

    Returns:
        Clip ids in file order, and int8 (N, 6) percentages.

    Raises:
        InvalidPredictions: naming the first clip and how many there are.
    """
    try:
        check_file(path, LARGEST_TABLE)
        entries = parse_submission(path.read_bytes())
    except OSError as error:
        raise InvalidPredictions(f"cannot read {path}: {error.strerror or error}") from error
    except InvalidPredictions as error:
        raise InvalidPredictions(f"{path.name}: {error}") from error
    ids = [strip_ending(name) for name, _ in entries]
    twice = repeated(ids)
    if twice:
        raise InvalidPredictions(
            f"{path.name}: expected every clip once, found {first_and_count(twice, 'repeated clip')}"
        )
    wrong = {name: found for name, (_, label) in zip(ids, entries, strict=True) if (found := label_complaints(label))}
    if wrong:
        _, what = next(iter(wrong.values()))[0]
        raise InvalidPredictions(
            f"{path.name}: expected one emotion at 100, or two other than neutral at 50/50, 70/30 or 30/70; "
            f"{first_and_count(wrong, 'wrong label')}, found there: {what}"
        )
    labels = np.array([label_row(label) for _, label in entries], dtype=np.int8).reshape(-1, len(EMOTIONS))
    return tuple(ids), labels


def _read_csv(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    try:
        # "utf-8-sig" also reads files without the byte order mark that spreadsheets like to write.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            filled = ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))
            lines = list(islice(filled, MOST_ROWS + 2))  # the header, and one row more than allowed
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidProbabilities(f"not a comma-separated table in UTF-8: {error}") from error
    if len(lines) > MOST_ROWS + 1:
        raise InvalidProbabilities(f"more than {MOST_ROWS} rows: expected one per clip")
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    rows = lines[1:]
    _check_header(header)
    where = [header.index(name) for name in COLUMNS]
    uneven = [str(number) for number, row in rows if len(row) != len(header)]
    if uneven:
        raise InvalidProbabilities(
            f"expected {len(header)} cells in every line, found others in {first_and_count(uneven, 'line')}"
        )
    names = [row[where[0]].strip() for _, row in rows]
    return _named(names), _to_numbers(names, [[row[k] for k in where[1:]] for _, row in rows])


def _check_header(header: list[str]) -> None:
    twice = [name for name in repeated(header) if name in COLUMNS]
    missing = [name for name in COLUMNS if name not in header]
    if missing or twice:
        hint = suggest(missing[0], header) if missing else ""
        semicolons = "; separate by commas instead of semicolons" if len(header) == 1 and ";" in header[0] else ""
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
            raise InvalidProbabilities("not an .npz: expected what numpy.savez writes")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(base_model.file_size for base_model in archive.infolist())
        if unpacked > LARGEST_TABLE:
            raise InvalidProbabilities(
                f"unpacks to {unpacked / 1e6:.0f} MB: at most {LARGEST_TABLE / 1e6:.0f} are read"
            )
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ARRAYS if name not in file.files]
            if missing:
                raise InvalidProbabilities(f"expected the arrays {' and '.join(ARRAYS)}, found {', '.join(file.files)}")
            names, values = (np.asarray(file[name]) for name in ARRAYS)
        texts = np.char.decode(names, "utf-8") if names.dtype.kind == "S" else names
        listed = texts.tolist()
    # What damaged and hostile archives make numpy and zipfile raise; a header may claim any size, and any character.
    except (*_ARCHIVE_ERRORS, MemoryError, SystemError) as error:
        raise InvalidProbabilities(f"not an .npz of plain arrays (names as text, not as objects): {error}") from error
    if texts.ndim != 1 or texts.dtype.kind != "U" or values.dtype.kind not in "fiu":
        raise InvalidProbabilities(
            f"expected filenames as text (N,) and probabilities as numbers (N, {len(EMOTIONS)}), found {names.dtype} "
            f"{names.shape} and {values.dtype} {values.shape}"
        )
    return _named(listed), values


def _named(names: list[str]) -> list[str]:
    """Refuse rows without a name, and files without rows."""
    empty = [str(number) for number, name in enumerate(names, 1) if not name]
    if empty or not names:
        raise InvalidProbabilities(
            f"expected a clip's name in every row, {first_and_count(empty, 'row')} of {len(names)} without"
        )
    return names
