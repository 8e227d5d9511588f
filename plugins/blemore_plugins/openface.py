"""OpenFace 3: the released action units, gaze and emotion index per frame, with a classification head."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.errors import MediaError, printable
from blemore_harness.hookspecs import Encoder, hookimpl
from blemore_plugins.features.encoder import FeatureEncoder
from blemore_plugins.features.options import FeatureOptions
from blemore_plugins.features.reading import read_released

UNITS = 8
"""Action units per frame."""

COLUMNS: Mapping[str, int] = {"emotion_index": 1, "gaze_yaw": 1, "gaze_pitch": 1, "action_units": UNITS}
"""The columns, in the order of their dimensions, with the number of values in each (docs/reference/protocol.md). The
emotion index is a category, but is used as a number as in the organisers' code."""

WIDTH = sum(COLUMNS.values())

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
ABSENT = re.compile(
    r"[+-]?nan(\(\w*\))?|[+-]?1\.#(QNAN|SNAN|IND|QO|SO)0*|#?n/?a|<na>|null|none", re.IGNORECASE | re.ASCII
)
"""Pattern of a missing value: nan as printed by Python and C libraries, such as Microsoft's `-nan(ind)` and, before
2015, `-1.#IND` and `1.#QNAN` (with three decimals rounded to `1.#QO`), or as accepted by pandas. An empty cell is
missing as well."""

READER_VERSION = 1
"""Version of the reader, increased whenever the values read from the same file change."""


@dataclass(frozen=True)
class OpenFaceOptions(FeatureOptions):
    """Options of `openface`.

    Attributes:
        nan: treatment of frames with missing values (`nan`), such as those without a face: `stop` is an error that
            names the first one and their number; `skip` leaves them out with a warning.
    """

    nan: Literal["stop", "skip"] = "stop"


class OpenFace(FeatureEncoder):
    """The organisers' OpenFace 3 baseline: seven statistics of 11 dimensions per clip with a classification head."""

    name = "openface"
    summary = "released OpenFace 3 features (action units, gaze, emotion index), MLP head"
    modality = "video"
    Options: ClassVar[type[Any]] = OpenFaceOptions
    store = "OpenFace_3"
    statistics_store = "openface_static_features"
    width = WIDTH

    def prepare(self, clips: Clips, options: OpenFaceOptions, context: Context) -> None:
        """Read every clip's frames once, and report how many are left out."""
        super().prepare(clips, options, context)
        if options.source != "released" or options.nan != "skip":
            return
        counts = [self._count(clip, context) for clip in clips]
        absent, total = sum(count[0] for count in counts), sum(count[1] for count in counts)
        context.note("frames left out", {"absent": absent, "of": total, "clips": sum(bool(c[0]) for c in counts)})
        if absent:
            context.warn(f"{self.name}: {absent} of {total} frames contain nan and are left out (nan=skip)")

    def read(self, clip: Clip, options: OpenFaceOptions) -> NDArray[np.float32]:
        """Read the frames of a clip, float32 (T, 11)."""
        lines, frames = read_frames(clip, self.store)
        absent = np.isnan(frames)
        bad = absent.any(axis=1)
        if options.nan == "stop" and bad.any():
            first = int(bad.argmax())
            raise MediaError(
                f"clip {clip.id}: nan in '{self.store}', line {lines[first]}, column "
                f"{_column_of(int(absent[first].argmax()))}; {int(bad.sum())} of {len(frames)} frames contain nan: "
                f"use --set {self.name}.nan=skip to leave such frames out",
                clip.id,
            )
        if bad.all():
            raise MediaError(
                f"clip {clip.id}: all {len(frames)} frames in '{self.store}' contain nan; leave the clip out", clip.id
            )
        return frames[~bad]

    def reading(self, options: OpenFaceOptions) -> Mapping[str, object]:
        """Add the treatment of `nan`."""
        return {**super().reading(options), "reader": READER_VERSION, "nan": options.nan}

    def _count(self, clip: Clip, context: Context) -> tuple[int, int]:
        """Return the number of frames with `nan` and of all frames of a clip, from the cache if known."""
        counts = context.cache.store("openface-frames", version=READER_VERSION)
        part = context.cache.digest_file(clip.features(self.store))[:32]
        if not counts.has(clip, part):
            _, frames = read_frames(clip, self.store)
            counts.save(clip, np.array([np.isnan(frames).any(axis=1).sum(), len(frames)]), part)
        absent, total = counts.load(clip, part).tolist()
        return absent, total


def read_frames(clip: Clip, store: str) -> tuple[list[int], NDArray[np.float32]]:
    """Read a released file, or an array that `prepare --export` wrote.

    Returns:
        The line of each frame in the file, and float32 (T, 11): emotion index, gaze yaw, gaze pitch, action units; NaN
        for missing values.

    Raises:
        MediaError: not a table, a missing column, a line that is too short, or a value that is not a number.
    """
    path = clip.features(store)
    if path.suffix.lower() == ".npy":
        array = read_released(clip, store, WIDTH)
        return list(range(1, len(array) + 1)), array
    lines: list[int] = []
    frames: list[list[float]] = []
    try:
        rows = _read_rows(path)
        header = next(rows, (0, []))[1]
        places = _find_columns(header)
        for line, row in rows:
            lines.append(line)
            if len(row) != len(header):
                raise _Unreadable(f"line {line}: expected {len(header)} cells as in the header, found {len(row)}")
            frames.append(_read_frame(line, row, places))
    except _Unreadable as error:
        raise MediaError(f"clip {clip.id}: '{store}': {error}; download the file again", clip.id) from None
    if not frames:
        raise MediaError(f"clip {clip.id}: '{store}' has a header but no frames; download the file again", clip.id)
    with np.errstate(over="ignore"):  # values out of range of float32 are an error below
        values = np.array(frames, dtype=np.float32)
    wide = np.isinf(values).any(axis=1)
    if wide.any():
        raise MediaError(f"clip {clip.id}: '{store}', line {lines[int(wide.argmax())]}: a number out of range", clip.id)
    return lines, values


class _Unreadable(Exception):
    """A problem of a file, without the name of the clip."""


def _read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Return the lines that are not empty, with their numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, [cell.strip() for cell in row]
    except OSError as error:
        raise _Unreadable(f"cannot be read ({error.strerror})") from None
    except (csv.Error, UnicodeDecodeError):
        raise _Unreadable("expected a comma-separated table in UTF-8") from None


def _find_columns(header: Sequence[str]) -> list[int]:
    """Return the index of each of `COLUMNS`."""
    for name in COLUMNS:
        if header.count(name) != 1:
            found = printable(", ".join(header))[:200] or "nothing"
            what = "is missing" if name not in header else "occurs more than once"
            raise _Unreadable(f"column {name} {what} (expected {', '.join(COLUMNS)}, found {found})")
    return [header.index(name) for name in COLUMNS]


def _read_frame(line: int, row: Sequence[str], places: Sequence[int]) -> list[float]:
    frame: list[float] = []
    for (name, count), place in zip(COLUMNS.items(), places, strict=True):
        cell = row[place]
        cell = cell or "nan"
        numbers = [cell] * count if count == 1 or ABSENT.fullmatch(cell) else _split_list(cell)
        if len(numbers) != count:
            raise _Unreadable(f"line {line}, column {name}: expected a list of {count}, found '{printable(cell[:60])}'")
        for number in numbers:
            absent = ABSENT.fullmatch(number)
            if not absent and not NUMBER.fullmatch(number):
                raise _Unreadable(f"line {line}, column {name}: expected a number, found '{printable(number[:60])}'")
            frame.append(math.nan if absent else float(number))
    return frame


def _split_list(cell: str) -> list[str]:
    """Split `[0.1, nan, ...]`; text that is not a list has no parts."""
    return [part.strip() for part in cell[1:-1].split(",")] if cell[:1] == "[" and cell[-1:] == "]" else []


def _column_of(dimension: int) -> str:
    """Return the column of a dimension."""
    return [name for name, count in COLUMNS.items() for _ in range(count)][dimension]


@hookimpl
def blemore_encoders() -> list[Encoder]:
    """Return the encoder."""
    return [OpenFace()]
