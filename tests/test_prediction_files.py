"""Files of probabilities and of decoded labels: what is read, what is refused, and how it is said."""

from __future__ import annotations

import csv
import doctest
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemore_harness.errors import InvalidPredictions, InvalidProbabilities
from blemore_harness.files import submission_format
from blemore_harness.files.prediction_files import read_predictions, read_probabilities, write_probabilities
from blemore_harness.predictions import Probabilities
from label_cases import BAD_LABELS, entry
from real_material import EMOTIONS, REAL, needs_real

HEADER = "filename,ang,disg,fea,hap,sad,neu"
GOOD = "a,.5,.5,0,0,0,0"


def put(folder: Path, text: str | bytes, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def put_labels(folder: Path, predictions: Any) -> Path:
    return put(folder, json.dumps({"predictions": predictions}), "labels.json")


# ----------------------------------------------------------------------------------------------- probabilities, .csv


def test_csv_in_any_column_order_with_extra_columns_and_endings(tmp_path: Path) -> None:
    found = read_probabilities(
        put(tmp_path, "actor,neu,ang,disg,fea,hap,sad,filename\nA1,.1,.9,0,0,0,0,x.mov\nA2,0,0,1,0,0,0,y.MP4\n")
    )
    assert found.ids == ("x", "y")
    assert found.values.tolist() == [[0.9, 0, 0, 0, 0, 0.1], [0, 1, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff{HEADER}\n{GOOD}\n",
        f"{HEADER}\r\n{GOOD}\r\n",
        f"{HEADER}\n\n{GOOD}\n,,,,,,\n",
        " filename , ang,disg,fea,hap,sad, neu\n a , .5,.5,0,0,0,0\n",
        '"filename","ang","disg","fea","hap","sad","neu"\n"a",".5",".5","0","0","0","0"',
    ],
    ids=["byte order mark", "Windows line ends", "empty lines", "spaces", "quotes"],
)
def test_csv_as_spreadsheets_write_it(tmp_path: Path, text: str) -> None:
    found = read_probabilities(put(tmp_path, text))
    assert found.ids == ("a",)
    assert found.values.tolist() == [[0.5, 0.5, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", r"7 columns \(first: 'filename'\) missing", id="empty"),
        pytest.param(HEADER, "0 rows", id="header only"),
        pytest.param(
            "filename,ang,disgust,fea,hap,sad,neu\n", r"1 column \(first: 'disg'\) missing.*did you mean", id="name"
        ),
        pytest.param(f"{HEADER},ang\n", r"1 column \(first: 'ang'\) repeated", id="repeated column"),
        pytest.param(HEADER.replace(",", ";"), "semicolons", id="semicolons"),
        pytest.param(f"{HEADER}\n\n{GOOD}\nb,1,0\n", r"7 cells .* 1 line \(first: '4'\)", id="cells"),
        pytest.param(f"{HEADER}\n{GOOD}\nb,1,x,0,0,0,0\nc,y,0,0,0,0,0", r"'x' .* 2 clips \(first: 'b'\)", id="x"),
        pytest.param(f"{HEADER}\nb,1,,0,0,0,0", r"'' .* 1 clip \(first: 'b'\)", id="empty cell"),
        pytest.param(f"{HEADER}\n,1,0,0,0,0,0", r"1 row \(first: '1'\)", id="no name"),
        pytest.param(f"{HEADER}\nb,nan,0,0,0,0,0", r"NaN .* 1 clip \(first: 'b'\)", id="NaN"),
        pytest.param(f"{HEADER}\nb,2.5,-1,0,0,0,0", r"negative .* 1 clip \(first: 'b'\).*softmax", id="logits"),
        pytest.param(f"{HEADER}\nb,.5,.4,0,0,0,0", r"0\.9 in 1 clip", id="sum"),
        pytest.param(
            f"{HEADER}\n{GOOD}\n{GOOD.replace('a', 'a.mov', 1)}", r"1 duplicated clip \(first: 'a'\)", id="twice"
        ),
        pytest.param(b"filename,ang\n\xff\xfe", "UTF-8", id="bytes"),
    ],
)
def test_csv_that_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InvalidProbabilities, match=message) as caught:
        read_probabilities(put(tmp_path, text))
    assert str(caught.value).startswith("rows.csv: ")


def test_files_that_are_not_there_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(InvalidProbabilities, match=r"none\.csv: No such file"):
        read_probabilities(tmp_path / "none.csv")
    with pytest.raises(InvalidProbabilities, match=r"none\.npz: No such file"):
        read_probabilities(tmp_path / "none.npz")
    with pytest.raises(InvalidProbabilities, match=r"rows\.txt.*\.csv or \.npz"):
        read_probabilities(put(tmp_path, HEADER, "rows.txt"))
    with pytest.raises(InvalidPredictions, match=r"none\.json: No such file"):
        read_predictions(tmp_path / "none.json")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InvalidProbabilities, match=r"folder\.csv"):
        read_probabilities(tmp_path / "folder.csv")


# ----------------------------------------------------------------------------------------------- probabilities, .npz


def test_npz(tmp_path: Path) -> None:
    values = np.array([[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]], dtype=np.float32)
    for names in (np.array(["a.mov", "b"]), np.array([b"a.mov", b"b"])):
        np.savez_compressed(tmp_path / "rows.npz", filenames=names, probabilities=values, extra=np.zeros(3))
        found = read_probabilities(tmp_path / "rows.npz")
        assert found.ids == ("a", "b")
        assert (found.values == values).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"filenames": np.array(["a"])}, "filenames and probabilities, found filenames"),
        ({"filenames": np.array(["a"], dtype=object), "probabilities": np.eye(6)[:1]}, "objects"),
        ({"filenames": np.array([1]), "probabilities": np.eye(6)[:1]}, "text .N,. in filenames"),
        ({"filenames": np.array(["a"]), "probabilities": np.array([["x"]])}, "numbers .N, 6. in probabilities"),
        ({"filenames": np.array(["a", "b"]), "probabilities": np.eye(6)[:1]}, r"\(2, 6\).*\(1, 6\)"),
        ({"filenames": np.array(["a"]), "probabilities": np.ones((1, 5)) / 5}, r"\(1, 6\).*\(1, 5\)"),
        ({"filenames": np.array([b"\xff"]), "probabilities": np.eye(6)[:1]}, "plain arrays"),
    ],
)
def test_npz_that_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "rows.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InvalidProbabilities, match=message):
        read_probabilities(tmp_path / "rows.npz")


def test_npz_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidProbabilities, match=r"numpy\.savez"):
        read_probabilities(put(tmp_path, b"\x93NUMPY", "rows.npz"))
    np.savez_compressed(tmp_path / "whole.npz", filenames=np.array(["a"]), probabilities=np.eye(6)[:1])
    data = bytearray((tmp_path / "whole.npz").read_bytes())
    data[60:70] = bytes(10)
    with pytest.raises(InvalidProbabilities, match=r"plain arrays"):
        read_probabilities(put(tmp_path, bytes(data), "rows.npz"))


# --------------------------------------------------------------------------------------------- writing probabilities


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.floats(1e-9, 1), min_size=6, max_size=6), min_size=1, max_size=5))
def test_what_is_written_reads_back_to_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, raw: list[list[float]]
) -> None:
    folder = tmp_path_factory.mktemp("written")
    values = np.array(raw) / np.array(raw).sum(axis=1, keepdims=True)
    rows = Probabilities(tuple(f"clip, {i}" for i in range(len(raw))), values)
    for name in ("rows.csv", "rows.npz"):
        write_probabilities(folder / name, rows)
        found = read_probabilities(folder / name)
        assert found.ids == rows.ids
        assert found.values.tobytes() == rows.values.tobytes()
        first = (folder / name).read_bytes()
        write_probabilities(folder / name, rows)
        assert (folder / name).read_bytes() == first
    assert sorted(path.name for path in folder.iterdir()) == ["rows.csv", "rows.npz"]


def test_writing_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidProbabilities, match=r"rows\.json"):
        write_probabilities(tmp_path / "rows.json", Probabilities(("a",), np.eye(6)[:1]))


# ---------------------------------------------------------------------------------------------------- decoded labels


@pytest.mark.parametrize(
    ("label", "row"),
    [
        (entry(("sad", 100.0)), [0, 0, 0, 0, 100, 0]),
        (entry(("neu", 100)), [0, 0, 0, 0, 0, 100]),
        (entry(("disg", 30), ("ang", 70)), [70, 30, 0, 0, 0, 0]),
        (entry(("ang", 69.5), ("fea", 30.5)), [70, 0, 30, 0, 0, 0]),
        (entry(("ang", 49.5), ("fea", 50.5)), [50, 0, 50, 0, 0, 0]),
        (entry(("ang", "70"), ("fea", "30")), [70, 0, 30, 0, 0, 0]),
        ([{"emotion": "hap", "salience": 100, "note": "sure"}], [0, 0, 0, 100, 0, 0]),
    ],
)
def test_labels_that_the_official_scoring_takes(tmp_path: Path, label: Any, row: list[int]) -> None:
    ids, labels = read_predictions(put_labels(tmp_path, {"A1_x.mov": label, "A2_y": label}))
    assert ids == ("A1_x", "A2_y")
    assert labels.dtype == np.int8
    assert labels.tolist() == [row, row]


@pytest.mark.parametrize(("label", "message"), BAD_LABELS)
def test_labels_that_are_refused(tmp_path: Path, label: Any, message: str) -> None:
    good = entry(("sad", 100))
    path = put_labels(tmp_path, {"good.mov": good, "bad.mov": label, "worse.mov": label})
    with pytest.raises(InvalidPredictions, match=message) as caught:
        read_predictions(path)
    assert "2 wrong labels (first: 'bad')" in str(caught.value)
    assert str(caught.value).startswith("labels.json: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ('\ufeff{"predictions": {}}', "byte order mark"),
        (b"\xff\xfe{", "JSON"),
        ("[" * 100_000, "nested|JSON"),
        ("[]", "found no object"),
        ("3", "found no object"),
        ("{}", "found the keys"),
        ('{"labels": {}}', "found the keys labels"),
        ('{"predictions": []}', "found the keys predictions"),
        ('{"predictions": {}, "predictions": {}}', "found the keys predictions, predictions"),
        (
            '{"predictions": {"a": [{"emotion": "ang", "emotion": "fea", "salience": 100}]}}',
            "entry with a repeated key",
        ),
        (
            '{"predictions": {"a": [], "a.mov": []}}',
            r"1 repeated clip \(first: 'a'\)",
        ),
        (
            '{"predictions": {"a.mov": [], "a.mov": []}}',
            r"1 repeated clip \(first: 'a'\)",
        ),
    ],
)
def test_files_that_are_no_labels(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InvalidPredictions, match=message):
        read_predictions(put(tmp_path, text, "labels.json"))


# --------------------------------------------------------------------------------------------------------- real files


@needs_real
def test_the_real_probabilities() -> None:
    path = REAL / "hicmae_fold0_probabilities.csv"
    found = read_probabilities(path)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert found.ids == tuple(row[0] for row in rows)
    assert found.values.tolist() == [[float(cell) for cell in row[1:]] for row in rows]


@needs_real
def test_the_real_template() -> None:
    path = REAL / "submission_template.json"
    ids, labels = read_predictions(path)
    assert ids == tuple(f"test_{k:04d}" for k in range(1, 595))
    theirs = json.loads(path.read_text())["predictions"]
    for name, row in zip(ids, labels.tolist(), strict=True):
        found = {emotion: share for emotion, share in zip(EMOTIONS, row, strict=True) if share}
        assert found == {part["emotion"]: part["salience"] for part in theirs[f"{name}.mov"]}


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(submission_format).failed == 0
