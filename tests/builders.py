"""Writes small BLEMORE-shaped folders without real media, as a download lies on disk."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

EMOTIONS = ("ang", "disg", "fea", "hap", "sad", "neu")
COLUMNS = (
    "filename", "video_id", "gender", "mix", "emotion_1", "version", "intensity_level", "situation", "emotion_2",
    "emotion_1_salience", "emotion_2_salience", "fold",
)  # fmt: skip

Row = dict[str, str]


def single(actor: str, emotion: str, number: int = 1, **changed: str) -> Row:
    """A row of one emotion, as the released metadata writes it."""
    neutral = emotion == "neu"
    name = f"{actor}_{emotion}_{'sit' if neutral else 'int'}{number}_ver1"
    row = dict.fromkeys(COLUMNS, "")
    row |= {"filename": name, "video_id": actor, "mix": "0", "emotion_1": emotion, "version": "1"}
    row["situation" if neutral else "intensity_level"] = str(number)
    return row | changed


def blend(actor: str, one: str, two: str, shares: tuple[int, int] = (50, 50), **changed: str) -> Row:
    """A row of two emotions, `one` before `two` in the alphabet."""
    row = dict.fromkeys(COLUMNS, "")
    row |= {"filename": f"{actor}_mix_{one}_{two}_{shares[0]}_{shares[1]}_ver1", "video_id": actor, "mix": "1"}
    row |= {"emotion_1": one, "emotion_2": two, "version": "1"}
    row |= {"emotion_1_salience": str(shares[0]), "emotion_2_salience": str(shares[1])}
    return row | changed


def rows_of(actors: int = 6, folds: int = 2) -> list[Row]:
    """Ten clips of each actor, six single emotions and four blends; actor number a is in fold a modulo `folds`."""
    rows = []
    for a in range(actors):
        actor = f"A{a + 1}"
        mine = [single(actor, emotion) for emotion in EMOTIONS]
        mine += [blend(actor, "ang", "fea", shares) for shares in ((50, 50), (70, 30), (30, 70))]
        mine.append(blend(actor, "disg", "sad"))
        rows += [row | {"fold": str(a % folds)} for row in mine]
    return rows


def label_of(row: Mapping[str, str]) -> list[int]:
    """The six percentages that a row says."""
    label = [0] * 6
    label[EMOTIONS.index(row["emotion_1"])] = int(row["emotion_1_salience"] or 100)
    if row["emotion_2"]:
        label[EMOTIONS.index(row["emotion_2"])] = int(row["emotion_2_salience"])
    return label


def write_metadata(folder: Path, rows: Sequence[Mapping[str, str]], columns: Iterable[str] = COLUMNS) -> Path:
    """Write `train_metadata.csv`; columns that are not named are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "train_metadata.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def put(path: Path, content: str | bytes = b"") -> Path:
    """Write a file and the folders above it; without content, its own name stands for a clip's bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content or path.name.encode())
    return path


def write_download(folder: Path, rows: Sequence[Mapping[str, str]] | None = None, tests: int = 3) -> Path:
    """Write metadata, a stand-in video per clip in `part_01` and `part_02`, test videos and one store of features."""
    rows = rows_of() if rows is None else rows
    write_metadata(folder, rows)
    for i, row in enumerate(rows):
        # The content tells clips apart, as that of real files does.
        put(folder / f"part_{i % 2 + 1:02d}" / f"{row['filename']}.mov", f"video {i}")
        put(folder / "pre_extracted_train_data" / "WavLM_large_train" / f"{row['filename']}.npy", f"features {i}")
    for k in range(1, tests + 1):
        put(folder / "test" / f"test_{k:04d}.mov", f"test video {k}")
        put(folder / "pre_extracted_test_data" / "WavLM_large_test" / f"test_{k:04d}.npy", f"test features {k}")
    return folder


def write_probabilities_csv(path: Path, rows: Mapping[str, Sequence[float | str]]) -> Path:
    """Write a file of probabilities by clip."""
    lines = [",".join([name, *map(str, values)]) for name, values in rows.items()]
    return put(path, "\n".join([f"filename,{','.join(EMOTIONS)}", *lines]) + "\n")
