"""Reading `train_metadata.csv`: what is refused and in which words, what is fine, and the real one."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blemore_harness.data.folds import OFFICIAL_FOLDS
from blemore_harness.data.metadata import read_metadata
from blemore_harness.errors import MetadataError
from builders import COLUMNS, Row, blend, label_of, put, rows_of, single, write_metadata
from real_material import REAL, needs_real, real_labels


def refusal(path: Path) -> str:
    """The one line that a file is refused with."""
    with pytest.raises(MetadataError) as caught:
        read_metadata(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    return message


def says(text: str, parts: str) -> bool:
    """Whether all parts, separated by ` ... `, are in a message: its offender and numbers, not its prose."""
    return all(part in text for part in parts.split(" ... "))


def change(index: int, **cells: str) -> Callable[[list[Row]], None]:
    return lambda rows: rows[index].update(cells)


def change_two(first: Callable[[list[Row]], None], second: Callable[[list[Row]], None]) -> Callable[[list[Row]], None]:
    def both(rows: list[Row]) -> None:
        first(rows)
        second(rows)

    return both


# Rows 0 to 9 are A1: ang disg fea hap sad neu, ang+fea 50/50 70/30 30/70, disg+sad; row 10 begins A2 in fold 1.
BAD_ROWS = {
    "unknown emotion": (
        change_two(change(2, emotion_1="fear"), change(3, emotion_1="joy")),
        "'fear' ... 'fea' ... 2 clips (first: 'A1_fea_int1_ver1') ... ang disg",
    ),
    "unknown second emotion": (change(7, emotion_2="angry"), "'angry' ... 'ang' ... 1 clip"),
    "empty emotion": (change(0, emotion_1=""), "'' ... 1 clip (first: 'A1_ang_int1_ver1')"),
    "formula as emotion": (change(0, emotion_1="=1+1"), "'=1+1' ... 1 clip"),
    "saliences sum to 110": (
        change_two(change(7, emotion_2_salience="40"), change(8, emotion_1_salience="")),
        "sum to 100 ... 2 clips (first: 'A1_mix_ang_fea_70_30_ver1') ... 50/50, 70/30",
    ),
    "shares of 1": (change(6, emotion_1_salience=".5", emotion_2_salience=".5"), "sum to 100 ... 1 clip"),
    "infinite salience": (change(6, emotion_1_salience="inf"), "emotion_1_salience ... 'inf' ... 1 clip"),
    "huge salience": (change(6, emotion_1_salience="1e300"), "sum to 100 ... 1 clip"),
    "salience in digits of another script": (
        change(6, emotion_1_salience="５０"),
        "emotion_1_salience ... '５０' ... 1 clip",
    ),
    "salience with a separator": (change(6, emotion_1_salience="5_0"), "emotion_1_salience ... '5_0'"),
    "salience with a decimal comma": (change(6, emotion_1_salience='"50,0"'), "emotion_1_salience ... 50,0"),
    "salience in per cent": (change(6, emotion_1_salience="50%"), "emotion_1_salience ... '50%'"),
    "negative saliences": (
        change(6, emotion_1_salience="-30", emotion_2_salience="130"),
        "50/50, 70/30 and 30/70 ... 1 clip",
    ),
    "salience that is not a number": (change(6, emotion_1_salience="NaN"), "emotion_1_salience ... 'NaN'"),
    "file name that climbs": (
        change(0, filename="../../A1_ang.mov"),
        "filename ... path ... 1 clip (first: '../../A1_ang')",
    ),
    "file name with a folder": (change(0, filename="train/A1_ang_int1_ver1.mov"), "filename ... path ... 1 clip"),
    "file name of Windows": (change(0, filename="C:\\clips\\a.mov"), "filename ... path ... 1 clip"),
    "file name that is a folder": (change(0, filename=".."), "filename ... path ... 1 clip (first: '..')"),
    "saliences 60/40": (
        change(7, emotion_1_salience="60", emotion_2_salience="40"),
        "50/50, 70/30 and 30/70 ... 1 clip (first: 'A1_mix_ang_fea_70_30_ver1')",
    ),
    "salience as text": (change(6, emotion_2_salience="half"), "emotion_2_salience ... 'half' ... 1 clip"),
    "salience of a single": (change(1, emotion_1_salience="70"), "single ... 1 clip"),
    "blend with neutral": (
        change(9, emotion_2="neu"),
        "neutral ... 1 clip (first: 'A1_mix_disg_sad_50_50_ver1')",
    ),
    "blend with itself": (change(9, emotion_2="disg"), "itself ... 1 clip"),
    "mix against emotion_2": (change(6, mix="0"), "mix ... emotion_2 ... 1 clip (first: 'A1_mix_ang_fea_50"),
    "mix without emotion_2": (change(0, mix="1"), "mix ... emotion_2 ... 1 clip (first: 'A1_ang_int1_ver1"),
    "label against name": (
        change_two(change(0, emotion_1="sad"), change(4, emotion_1="ang")),
        "'sad' ... file name ... 2 clips (first: 'A1_ang_int1_ver1')",
    ),
    "saliences against name": (
        change(7, emotion_1_salience="30", emotion_2_salience="70"),
        "'ang+fea 30/70' ... file name ... 1 clip (first: 'A1_mix_ang_fea_70_30_ver1')",
    ),
    "actor against name": (
        change(10, video_id="A4"),
        "video_id ... file name ... 1 clip (first: 'A2_ang_int1_ver1')",
    ),
    "empty actor": (change(3, video_id=""), "video_id ... 1 clip (first: 'A1_hap_int1_ver1')"),
    "duplicate id": (
        lambda rows: rows.append(rows[0]),
        "filename ... 1 clip (first: 'A1_ang_int1_ver1')",
    ),
    "duplicate id with ending": (
        lambda rows: rows.extend([rows[0] | {"filename": "A1_ang_int1_ver1.mov"}, rows[5]]),
        "filename ... 2 clips (first: 'A1_ang_int1_ver1')",
    ),
    "actor in two folds": (
        change_two(change(3, fold="1"), change(4, fold="1")),
        "actor A1 ... two folds ... 2 clips (first: 'A1_hap_int1_ver1')",
    ),
    "fold of some clips": (change(3, fold=""), "fold is empty ... 1 clip (first: 'A1_hap_int1_ver1')"),
    "fold as text": (change(3, fold="zero"), "fold ... 'zero' ... 1 clip (first: 'A1_hap_int1_ver1')"),
    "fold below 0": (change(3, fold="-1"), "fold ... whole number ... 1 clip"),
    "half a fold": (change(3, fold="0.5"), "fold ... whole number ... 1 clip"),
    "huge fold": (change(3, fold="1e300"), "fold ... whole number ... 1 clip"),
    "fold nan": (change(3, fold="nan"), "fold ... 'nan' ... 1 clip"),
    "no filename": (change(3, filename=""), "train_metadata.csv ... no filename ... 1 row (first: 'line 5')"),
    "line break in a name": (
        change(3, filename="A1\nx"),
        "control characters ... 1 row",
    ),
    "terminal codes": (
        change(3, emotion_1="\x1b[31m"),
        "control characters ... 1 row",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_rows_that_are_refused(tmp_path: Path, case: str) -> None:
    spoil, message = BAD_ROWS[case]
    rows = rows_of()
    spoil(rows)
    assert says(refusal(write_metadata(tmp_path, rows)), message)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ({"0": "0", "1": "2"}, "fold 1 ... folds 0, 2,"),
        ({"0": "1", "1": "2"}, "fold 0 ... folds 1, 2,"),
        ({"0": "0", "1": "0"}, "fold 1 ... folds 0,"),
        ({"0": "0", "1": "2000000000"}, "fold 1 ... folds 0, 2000000000,"),
    ],
)
def test_missing_folds(tmp_path: Path, folds: dict[str, str], message: str) -> None:
    rows = [row | {"fold": folds[row["fold"]]} for row in rows_of()]
    assert says(refusal(write_metadata(tmp_path, rows)), message)


@pytest.mark.parametrize("column", [name for name in COLUMNS if name.startswith(("file", "video", "mix", "emotion"))])
def test_missing_columns(tmp_path: Path, column: str) -> None:
    path = write_metadata(tmp_path, rows_of(), [name for name in COLUMNS if name != column])
    assert says(refusal(path), f"train_metadata.csv ... 1 column (first: '{column}')")


def test_a_misspelt_column_is_suggested(tmp_path: Path) -> None:
    path = write_metadata(tmp_path, rows_of())
    path.write_text(path.read_text().replace("video_id", "videoid", 1))
    assert says(refusal(path), "1 column (first: 'video_id') ... 'videoid' ... filename, videoid")


HEADER = ",".join(COLUMNS)
GOOD_LINE = "A1_ang_int1_ver1,A1,,0,ang,1,1,,,,,0"
BAD_FILES: dict[str, tuple[str | bytes, str]] = {
    "empty": (b"", "empty ... filename, video_id"),
    "blank": ("\n \n,,\n", "empty ... header"),
    "header only": (f"{HEADER}\n", "no clips"),
    "semicolons": (f"{HEADER}\n{GOOD_LINE}\n".replace(",", ";"), "semicolons"),
    "tabs": (f"{HEADER}\n{GOOD_LINE}\n".replace(",", "\t"), "7 columns (first: 'filename')"),
    "no header": (f"{GOOD_LINE}\n", "7 columns (first: 'filename') ... A1_ang_int1_ver1, A1"),
    "not UTF-8": (f"{HEADER}\n{GOOD_LINE}é\n".encode("latin-1"), "UTF-8"),
    "UTF-16": (f"{HEADER}\n{GOOD_LINE}\n".encode("utf-16"), "UTF-8"),
    "binary": (bytes(range(256)) * 40, "UTF-8"),
    "binary that is UTF-8": (b"\x00\x01\x02\x1b[2J" * 900, "7 columns (first: 'filename')"),
    "a huge cell": (f"{HEADER}\n{'x' * 200_000},A1\n", "UTF-8"),
    "cut off": (f"{HEADER}\n{GOOD_LINE}\nA1_dis", "12 cells ... 1 row"),
    "a comma too many in every row": (
        f"{HEADER}\n{GOOD_LINE},\nA1_disg_int1_ver1,A1,,0,disg,1,1,,,,,0,\n",
        "12 cells ... 2 rows (first: 'line 2')",
    ),
    "a column twice": (f"{HEADER},mix\n{GOOD_LINE},0\n", "1 repeated column (first: 'mix')"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_are_refused(tmp_path: Path, case: str) -> None:
    content, message = BAD_FILES[case]
    path = tmp_path / "train_metadata.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert says(refusal(path), message)


def test_what_is_not_a_readable_file(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"cannot read {tmp_path}: Is a directory"
    assert refusal(tmp_path / "none.csv") == f"cannot read {tmp_path / 'none.csv'}: No such file or directory"


def test_what_spreadsheets_do_is_fine(tmp_path: Path) -> None:
    plain = read_metadata(write_metadata(tmp_path / "plain", rows_of()))
    text = (tmp_path / "plain" / "train_metadata.csv").read_text()
    lines = text.splitlines()
    variants = {
        "bom": b"\xef\xbb\xbf" + text.encode(),
        "crlf": text.replace("\n", "\r\n").encode(),
        "old mac": text.replace("\n", "\r").encode(),
        "no last line end": text.rstrip("\n").encode(),
        "blank lines": ("\n\n" + text.replace("\n", "\n\n") + ",,,,,,,,,,,\n").encode(),
        "spaces": text.replace(",", " , ").encode(),
        "quotes": "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in lines).encode(),
        "endings": "\n".join(line.replace("_ver1,", "_ver1.mov,", 1) for line in lines).encode(),
        "upper case endings": "\n".join(line.replace("_ver1,", "_ver1.MP4,", 1) for line in lines).encode(),
        "decimals": text.replace(",50,50,", ",50.0,5e1,").encode(),
        "truth values": text.replace(",,0,", ",,False,").replace(",,1,", ",,TRUE,").encode(),
        "other order and extra columns": _turn(lines),
    }
    for name, content in variants.items():
        found = read_metadata(put(tmp_path / name / "train_metadata.csv", content))
        assert found.ids == plain.ids, name
        assert found.actors == plain.actors, name
        assert (found.truth == plain.truth).all(), name
        assert found.folds is not None
        assert plain.folds is not None
        assert (found.folds == plain.folds).all(), name


def _turn(lines: list[str]) -> bytes:
    """The columns from last to first, with two that nobody knows, one of them full of formulas."""
    cells = [line.split(",")[::-1] for line in lines]
    tails = [["note", "é"], *[["=cmd|' /C calc'!A0", "+1"] for _ in lines[1:]]]
    return "\n".join(",".join(row + tail) for row, tail in zip(cells, tails, strict=True)).encode()


def test_labels_and_genders(tmp_path: Path) -> None:
    rows = rows_of()
    rows[0]["gender"] = "F"
    found = read_metadata(write_metadata(tmp_path, rows))
    assert found.truth.dtype == np.int8
    assert found.truth.tolist() == [label_of(row) for row in rows]
    assert not found.truth.flags.writeable
    assert found.genders == ("F", *[""] * (len(rows) - 1))
    assert found.ids == tuple(row["filename"] for row in rows)


def test_a_single_may_say_that_it_is_at_100(tmp_path: Path) -> None:
    rows = rows_of()
    rows[0] |= {"emotion_1_salience": "100", "emotion_2_salience": "0"}
    assert read_metadata(write_metadata(tmp_path, rows)).truth[0].tolist() == [100, 0, 0, 0, 0, 0]


def test_names_other_than_the_released_ones_cannot_disagree(tmp_path: Path) -> None:
    rows = [single("A1", "sad", filename="clip one"), blend("Bob", "hap", "sad", filename="=A1", video_id="Bob")]
    rows = [row | {"fold": str(k)} for k, row in enumerate(rows)]
    found = read_metadata(write_metadata(tmp_path, rows))
    assert found.ids == ("clip one", "=A1")
    assert found.actors == ("A1", "Bob")


@pytest.mark.parametrize("how", ["no column", "empty column"])
def test_no_folds(tmp_path: Path, how: str) -> None:
    rows = [row | {"fold": ""} for row in rows_of()]
    columns = COLUMNS if how == "empty column" else COLUMNS[:-1]
    assert read_metadata(write_metadata(tmp_path, rows, columns)).folds is None


@needs_real
def test_the_real_metadata() -> None:
    found = read_metadata(REAL / "train_metadata.csv")
    labels = real_labels()
    assert found.ids == tuple(labels)
    assert found.truth.tolist() == list(labels.values())
    assert set(found.genders) == {""}
    assert len(set(found.actors)) == 47
    assert found.folds is not None
    with (REAL / "train_metadata.csv").open(newline="") as file:
        assert found.folds.tolist() == [int(row["fold"]) for row in csv.DictReader(file)]
    blends = (found.truth > 0).sum(axis=1) == 2
    assert [int((found.folds == k).sum()) for k in range(5)] == [522, 486, 468, 472, 508]
    assert [int((blends & (found.folds == k)).sum()) for k in range(5)] == [280, 270, 240, 240, 296]
    actors = {k: {a for a, f in zip(found.actors, found.folds, strict=True) if f == k} for k in range(5)}
    assert actors == {k: set(names) for k, names in OFFICIAL_FOLDS.items()}
    singles = Counter(tuple(row) for row in found.truth[~blends].tolist())
    assert max(singles.values()) == 192
