"""Files at the edge of what is read: sizes to the byte, numbers to the bit, and scores worked out by hand."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.data.download import read_dataset
from blemore_harness.drawing.score_tables import render_score
from blemore_harness.errors import ConfigError, InvalidPredictions, InvalidProbabilities
from blemore_harness.files import leaderboard, prediction_files
from blemore_harness.files.leaderboard import INNER_NAME, check_submission, write_submission
from blemore_harness.files.prediction_files import read_predictions, read_probabilities
from blemore_harness.files.scoring import take_reference
from blemore_harness.protocol.rules import official_test_ids
from blemore_harness.scoring.ranking import score_file
from builders import EMOTIONS, blend, single, write_download, write_probabilities_csv

LABEL = [{"emotion": "sad", "salience": 100.0}]


def zipped(path: Path, base_models: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in base_models.items():
            archive.writestr(name, data)
    return path


def kinds(path: Path, ids: list[str]) -> list[str]:
    return [problem.kind for problem in check_submission(path, ids)]


def test_a_member_of_exactly_the_largest_size_is_read_and_one_byte_more_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps({"predictions": {"a.mov": LABEL}}).encode()
    for spaces, expected in ((0, []), (1, ["size"])):
        # Compressed, so that the file around it stays below the limit.
        path = tmp_path / f"{spaces}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(INNER_NAME, text + b" " * (2000 + spaces))
        monkeypatch.setattr(leaderboard, "MAX_BYTES", len(text) + 2000)
        assert path.stat().st_size < 2000
        assert kinds(path, ["a"]) == expected


def test_a_size_that_the_zip_declares_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.dumps({"predictions": {"a.mov": LABEL}}).encode()
    path = zipped(tmp_path / "a.zip", {INNER_NAME: data})
    read: list[int] = []
    real = zipfile.ZipExtFile.read

    def longer(self: zipfile.ZipExtFile, size: int = -1) -> bytes:
        read.append(size)
        return (real(self, size) + b" " * 500)[:size]

    monkeypatch.setattr(zipfile.ZipExtFile, "read", longer)
    monkeypatch.setattr(leaderboard, "MAX_BYTES", 300)
    assert kinds(path, ["a"]) == ["size"]
    assert read == [301]


def test_a_file_of_exactly_the_largest_size_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"predictions": {"a.mov": LABEL}}))
    monkeypatch.setattr(leaderboard, "MAX_BYTES", path.stat().st_size)
    assert kinds(path, ["a"]) == ["bare"]  # and what it holds is read
    monkeypatch.setattr(leaderboard, "MAX_BYTES", path.stat().st_size - 1)
    assert kinds(path, ["a"]) == ["size"]


@pytest.mark.parametrize(
    ("base_model", "expected"),
    [
        ("../x.json", ["climbing", "files"]), ("/x.json", ["climbing", "files"]), ("C:x.json", ["climbing", "files"]),
        ("a\\..\\x.json", ["climbing", "files"]), ("\\x.json", ["climbing", "files"]),
        ("__MACOSX/x.json", ["litter", "files"]), (".DS_Store", ["litter", "files"]), ("._x.json", ["litter", "files"]),
        ("a.b/x.json", ["nesting", "name"]), ("x..json", ["name"]), ("x.json", ["name"]),
    ],
)  # fmt: skip
def test_names_in_a_zip(tmp_path: Path, base_model: str, expected: list[str]) -> None:
    data = json.dumps({"predictions": {"a.mov": LABEL}}).encode()
    assert kinds(zipped(tmp_path / "a.zip", {base_model: data}), ["a"]) == expected
    beside = kinds(zipped(tmp_path / "b.zip", {base_model: b"{}", INNER_NAME: data}), ["a"])
    assert beside == [kind for kind in expected if kind not in ("files", "name")] + ["files"] * ("name" in expected)


def test_every_label_is_written_as_the_template_has_it(tmp_path: Path) -> None:
    labels = np.array([[0, 0, 0, 0, 0, 100], [30, 0, 0, 0, 70, 0], [0, 50, 50, 0, 0, 0]], dtype=np.int8)
    write_submission(tmp_path / "a.zip", ["x", "y.mov", "z"], labels)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        (base_model,) = archive.infolist()
        text = archive.read(base_model).decode()
    assert (base_model.filename, base_model.date_time) == (INNER_NAME, (1980, 1, 1, 0, 0, 0))
    assert (base_model.create_system, base_model.external_attr >> 16, base_model.compress_type) == (
        3,
        0o644,
        zipfile.ZIP_STORED,
    )
    assert json.loads(text)["predictions"] == {
        "x.mov": [{"emotion": "neu", "salience": 100}],
        "y.mov": [{"emotion": "ang", "salience": 30}, {"emotion": "sad", "salience": 70}],
        "z.mov": [{"emotion": "disg", "salience": 50}, {"emotion": "fea", "salience": 50}],
    }
    assert '"salience": 100.0' in text
    assert '"salience": 30\n' in text
    assert (official_test_ids()[0], official_test_ids()[-1], len(official_test_ids())) == (
        "test_0001",
        "test_0594",
        594,
    )


# ------------------------------------------------------------------------------------------ probabilities and labels


def rows_for(names: list[str]) -> dict[str, list[float]]:
    random = np.random.default_rng(0)
    return {name: random.dirichlet(np.ones(6)).tolist() for name in names}


def test_tables_are_read_by_column_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "note, neu,sad,hap,fea,disg,ang,filename\n\n"
        "x, 0.5,0.1,0.1,0.1,0.1,0.1, a.mov\n"
        ",0,0,0,0.25,0,0.75,b\n"
    )  # fmt: skip
    found = read_probabilities(path)
    assert found.ids == ("a", "b")
    assert found.values.tolist() == [[0.1, 0.1, 0.1, 0.1, 0.1, 0.5], [0.75, 0.0, 0.25, 0.0, 0.0, 0.0]]
    monkeypatch.setattr(prediction_files, "MOST_ROWS", 3)
    for names in (("a", "b"), ("a", "b", "c")):
        assert read_probabilities(write_probabilities_csv(tmp_path / "b.csv", rows_for([*names]))).ids == names
    with pytest.raises(InvalidProbabilities, match=" 3 rows"):
        read_probabilities(write_probabilities_csv(tmp_path / "b.csv", rows_for(["a", "b", "c", "d"])))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("filename,ang,disg,fea,hap,sad,neu\na,1,0,0,0,0,0\nb,1,0,0,0,0\n", r"expected 7 cells .* 1 line \(first: '?3"),
        ("filename,ang,disg,fea,hap,sad,neu\na,1,0,0,0,0,0\n,1,0,0,0,0,0\n", r"2 rows, 1 row \(first: '?2'?\)"),
        ("filename,ang,disg,fea,hap,sad,neu\n", "0 rows"),
        (
            "filename,ang,disg,fea,hap,sad,ang\na,1,0,0,0,0,0\n",
            r"1 column \(first: 'neu'\) missing, 1 column \(first: 'ang'",
        ),
        ("filename;ang;disg;fea;hap;sad;neu\na;1;0;0;0;0;0\n", "semicolons"),
        (
            "filename,ang,disg,fea,hap,sad,neu\na,1,0,0,0,0,0\nb,1,0,x,0,y,0\nc,z,0,0,0,0,0\n",
            r"'x' .* 2 clips \(first: 'b'",
        ),
        (f"filename,ang,disg,fea,hap,sad,neu\na,{'w' * 40},0,0,0,0,0\n", f"'{'w' * 40}' is not"),
        (f"filename,ang,disg,fea,hap,sad,neu\na,{'w' * 41},0,0,0,0,0\n", rf"'{'w' * 37}\.\.\.' is not"),
    ],
)
def test_the_first_offender_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(InvalidProbabilities, match=message):
        read_probabilities(path)


def test_archives_are_read_up_to_their_limit_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, values = tmp_path / "a.npz", np.array(list(rows_for(["a", "b"]).values()))
    np.savez(path, filenames=np.array(["a.mp4", "b"]).astype("S"), probabilities=values)
    found = read_probabilities(path)
    assert found.ids == ("a", "b")
    assert (found.values == values).all()
    packed = tmp_path / "b.npz"
    np.savez_compressed(packed, filenames=np.array(["a"] * 3000), probabilities=np.full((3000, 6), 1 / 6))
    with zipfile.ZipFile(packed) as archive:
        unpacked = sum(base_model.file_size for base_model in archive.infolist())
    monkeypatch.setattr(prediction_files, "LARGEST_TABLE", unpacked - 1)
    with pytest.raises(InvalidProbabilities, match=" 0 MB"):
        read_probabilities(packed)
    monkeypatch.setattr(prediction_files, "LARGEST_TABLE", unpacked)
    with pytest.raises(InvalidProbabilities, match="once"):
        read_probabilities(packed)


@pytest.mark.parametrize("arrays", [
    {"filenames": np.array([["a"]]), "probabilities": np.full((1, 6), 1 / 6)},
    {"filenames": np.array([1]), "probabilities": np.full((1, 6), 1 / 6)},
    {"filenames": np.array(["a"]), "probabilities": np.array([["x"] * 6])},
    {"filenames": np.array(["a"])},
    {"filenames": np.array([""]), "probabilities": np.full((1, 6), 1 / 6)},
])  # fmt: skip
def test_archives_of_something_else(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InvalidProbabilities):
        read_probabilities(tmp_path / "a.npz")


def test_labels_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    uneven = [{"emotion": "sad", "salience": 30.4}, {"emotion": "ang", "salience": "69.6"}]
    path.write_text(json.dumps({"predictions": {"b.mov": LABEL, "a": uneven}}))
    ids, labels = read_predictions(path)
    assert (ids, labels.tolist()) == (("b", "a"), [[0, 0, 0, 0, 100, 0], [70, 0, 0, 0, 30, 0]])
    path.write_text(json.dumps({"predictions": {"b": LABEL, "b.mov": LABEL}}))
    with pytest.raises(InvalidPredictions, match="1 repeated clip"):
        read_predictions(path)
    path.write_text('{"predictions": {}}')
    assert read_predictions(path)[1].shape == (0, 6)


# ------------------------------------------------------------------------------------------ scoring


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four clips of two folds: anger alone, neutral, an even and an uneven blend."""
    rows = [single("A1", "ang", fold="0"), single("A1", "neu", fold="0"), blend("A2", "ang", "fea", fold="1"),
            blend("A2", "disg", "sad", (70, 30), fold="1")]  # fmt: skip
    return write_download(tmp_path / "data", rows, tests=0)


def test_scores_by_hand(data: Path, tmp_path: Path) -> None:
    labels = take_reference(read_dataset(data))
    one, two, even, uneven = (
        "A1_ang_int1_ver1",
        "A1_neu_sit1_ver1",
        "A2_mix_ang_fea_50_50_ver1",
        "A2_mix_disg_sad_70_30_ver1",
    )
    rows = {uneven: [0, 0.6, 0, 0, 0.4, 0], even: [0.55, 0, 0.45, 0, 0, 0], two: [0.3, 0, 0, 0.2, 0, 0.5],
            one: [0.7, 0.3, 0, 0, 0, 0]}  # fmt: skip
    path = write_probabilities_csv(tmp_path / "a.csv", rows)
    # alpha .2 blends all but neutral: the first wrong; beta .15 makes .1 even and .2 uneven.
    found = score_file(path, labels, alpha=0.2, beta=0.15)
    assert (found["clips"], found["blends"], found["alpha"], found["beta"]) == (4, 2, 0.2, 0.15)
    assert (found["acc_presence"], found["acc_salience"], found["score"]) == (0.75, 1.0, 0.875)
    assert (found["best_presence"], found["best_salience"]) == (1.0, 1.0)
    # beta .3 makes both even.
    assert score_file(path, labels, alpha=0.2, beta=0.3)["acc_salience"] == 0.5
    chosen = score_file(path, labels)
    # The smallest alpha of the grid above .3 and up to .4; the smallest beta above .1.
    assert chosen["alpha"] == pytest.approx(0.05 + 6 * 0.9 / 19)
    assert chosen["beta"] == pytest.approx(0.05 + 2 * 0.9 / 19)
    assert chosen["score"] == 1.0
    part = write_probabilities_csv(tmp_path / "b.csv", {name: rows[name] for name in (even, uneven)})
    assert score_file(part, take_reference(read_dataset(data), 1), alpha=0.5, beta=0.1)["score"] == 0.0
    with pytest.raises(InvalidProbabilities, match=" 2 clips of fold 1"):
        score_file(part, labels)
    for given in ({"alpha": 0.1}, {"beta": 0.1}):
        with pytest.raises(ConfigError):
            score_file(path, labels, **given)
    with pytest.raises(ConfigError, match="fold 2"):
        take_reference(read_dataset(data), 2)
    shown = render_score(found)
    assert all(text in shown for text in ("4 (2 blends)", "0.7500", "best ACC_P on the grid: 1.0000", "as given"))
    assert "optimistic" in render_score(chosen)


def test_scores_of_labels_by_hand(data: Path, tmp_path: Path) -> None:
    truth = take_reference(read_dataset(data))
    said = {"A1_neu_sit1_ver1": {"neu": 100}, "A2_mix_disg_sad_70_30_ver1": {"disg": 30, "sad": 70},
            "A2_mix_ang_fea_50_50_ver1": {"ang": 50, "fea": 50}, "A1_ang_int1_ver1": {"sad": 100}}  # fmt: skip
    labels = {name: [{"emotion": e, "salience": s} for e, s in label.items()] for name, label in said.items()}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"predictions": labels}))
    found = score_file(path, truth)
    assert (found["acc_presence"], found["acc_salience"], found["score"]) == (0.75, 0.5, 0.625)
    assert (found["best_presence"], found["best_salience"], found["alpha"]) == (0.75, 0.5, None)
    with pytest.raises(ConfigError):
        score_file(path, truth, alpha=0.1, beta=0.1)
    assert EMOTIONS[5] == "neu"


def test_of_two_files_of_the_right_name_the_first_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = json.dumps({"predictions": {"a.mov": LABEL}}).encode()
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(INNER_NAME, data)
        archive.writestr(f"deeper/{INNER_NAME}", b" " * 2000)
    monkeypatch.setattr(leaderboard, "MAX_BYTES", 1000)
    assert kinds(path, ["a"]) == ["nesting", "files"]
