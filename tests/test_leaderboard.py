"""The leaderboard file: what is written, and what is said about files that would be rejected or mis-scored."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.errors import ConfigError, InvalidPredictions
from blemore_harness.files import leaderboard
from blemore_harness.files.leaderboard import INNER_NAME, check_submission, write_submission
from blemore_harness.files.prediction_files import read_predictions
from blemore_harness.protocol.rules import official_test_ids
from label_cases import BAD_LABELS, entry
from real_material import REAL, needs_real

IDS = ("test_0001", "test_0002", "test_0003")
LABELS = np.array([[0, 0, 0, 0, 100, 0], [70, 30, 0, 0, 0, 0], [0, 50, 0, 50, 0, 0]], dtype=np.int8)
GOOD = {f"{name}.mov": entry(("sad", 100.0)) for name in IDS}


def put_json(folder: Path, predictions: Any, name: str = "labels.json") -> Path:
    path = folder / name
    path.write_text(json.dumps({"predictions": predictions}))
    return path


def put_zip(folder: Path, base_models: Iterable[tuple[str, str | bytes]], name: str = "submission.zip") -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for base_model, data in base_models:
            archive.writestr(base_model, data)
    return path


def text_of(predictions: Any) -> str:
    return json.dumps({"predictions": predictions})


def problems_of(path: Path, ids: Iterable[str] = IDS) -> list[leaderboard.Problem]:
    """What is wrong with a zip, or with labels in a bare file besides its being one."""
    problems = check_submission(path, ids)
    assert all(problem.message and "\n" not in str(problem) for problem in problems)
    if path.suffix == ".json" and path.stat().st_size <= leaderboard.MAX_BYTES and not zipfile.is_zipfile(path):
        assert problems.pop(0).kind == "bare"
    return problems


def kinds(path: Path, ids: Iterable[str] = IDS) -> list[str]:
    return [problem.kind for problem in problems_of(path, ids)]


# ------------------------------------------------------------------------------------------------------------- writing


def test_the_zip_holds_exactly_the_template(tmp_path: Path) -> None:
    write_submission(tmp_path / "out.zip", IDS, LABELS)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.namelist() == [INNER_NAME] == ["submission_template.json"]
        text = archive.read(INNER_NAME).decode()
    assert json.loads(text) == {
        "predictions": {
            "test_0001.mov": [{"emotion": "sad", "salience": 100.0}],
            "test_0002.mov": [{"emotion": "ang", "salience": 70}, {"emotion": "disg", "salience": 30}],
            "test_0003.mov": [{"emotion": "disg", "salience": 50}, {"emotion": "hap", "salience": 50}],
        }
    }
    assert '"salience": 100.0\n' in text
    assert '"salience": 70\n' in text
    assert check_submission(tmp_path / "out.zip", IDS) == []


def test_what_is_written_is_the_same_bytes_and_reads_back(tmp_path: Path) -> None:
    write_submission(tmp_path / "one.zip", IDS, LABELS)
    write_submission(tmp_path / "two.zip", [f"{name}.mov" for name in IDS], LABELS)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.zip", "two.zip"]
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        (tmp_path / "labels.json").write_bytes(archive.read(INNER_NAME))
    ids, labels = read_predictions(tmp_path / "labels.json")
    assert ids == IDS
    assert (labels == LABELS).all()


@pytest.mark.parametrize(
    "row",
    [
        [0] * 6,
        [65, 35, 0, 0, 0, 0],
        [50, 0, 0, 0, 0, 50],
        [70, 0, 0, 0, 0, 0],
        [100, 100, 0, 0, 0, 0],
        [-30, 70, 30, 30, 0, 0],
    ],
)
def test_writing_refuses_labels_that_the_protocol_does_not_know(tmp_path: Path, row: list[int]) -> None:
    labels = LABELS.copy()
    labels[1] = row
    with pytest.raises(InvalidPredictions, match=r"1 .*\(first: 'test_0002'\)"):
        write_submission(tmp_path / "out.zip", IDS, labels)
    assert not any(tmp_path.iterdir())


def test_writing_refuses_other_clips_and_names(tmp_path: Path) -> None:
    with pytest.raises(InvalidPredictions, match=r"\(2, 6\).*\(3, 6\)"):
        write_submission(tmp_path / "out.zip", IDS[:2], LABELS)
    with pytest.raises(InvalidPredictions, match="one clip"):
        write_submission(tmp_path / "out.zip", (), LABELS[:0])
    with pytest.raises(InvalidPredictions, match=r"1 .*\(first: 'test_0001'\)"):
        write_submission(tmp_path / "out.zip", ("test_0001", "test_0001.mov", "test_0003"), LABELS)
    with pytest.raises(ConfigError, match=r"out\.json.*out\.zip"):
        write_submission(tmp_path / "out.json", IDS, LABELS)


def test_the_official_ids() -> None:
    ids = official_test_ids()
    assert (len(ids), len(set(ids)), ids[0], ids[-1]) == (594, 594, "test_0001", "test_0594")


@needs_real
def test_the_organisers_template_passes_alone_and_zipped(tmp_path: Path) -> None:
    template = REAL / "submission_template.json"
    assert problems_of(template, official_test_ids()) == []
    zipped = put_zip(tmp_path, [(INNER_NAME, template.read_bytes())])
    assert check_submission(zipped, official_test_ids()) == []


@needs_real
def test_the_template_written_again_says_the_same(tmp_path: Path) -> None:
    template = REAL / "submission_template.json"
    write_submission(tmp_path / "out.zip", *read_predictions(template))
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        written = json.loads(archive.read(INNER_NAME))["predictions"]
    theirs = json.loads(template.read_text())["predictions"]
    assert list(written) == list(theirs)
    for name, label in theirs.items():
        by_emotion = sorted(label, key=lambda e: e["emotion"])
        ours = sorted(written[name], key=lambda e: e["emotion"])
        assert json.dumps(ours) == json.dumps(by_emotion)


# ------------------------------------------------------------------------------------------------- checking: the file


def test_good_files_have_no_problems(tmp_path: Path) -> None:
    assert kinds(put_json(tmp_path, GOOD)) == []
    assert kinds(put_json(tmp_path, dict(reversed(GOOD.items())))) == []
    assert kinds(put_zip(tmp_path, [(INNER_NAME, text_of(GOOD))])) == []
    assert kinds(put_json(tmp_path, GOOD), [f"{name}.mov" for name in IDS]) == []


@pytest.mark.parametrize(
    ("base_models", "expected"),
    [
        pytest.param([(f"out/{INNER_NAME}", GOOD)], ["nesting"], id="in a folder"),
        pytest.param([("out/", ""), (f"out/{INNER_NAME}", GOOD)], ["nesting"], id="in a folder that is listed"),
        pytest.param([("predictions.json", GOOD)], ["name"], id="another name"),
        pytest.param([(INNER_NAME, GOOD), ("readme.txt", "hello")], ["files"], id="two files"),
        pytest.param([("readme.txt", "hello"), (INNER_NAME, GOOD)], ["files"], id="two files, the right one last"),
        pytest.param([(INNER_NAME, GOOD), (f"__MACOSX/._{INNER_NAME}", "x")], ["litter"], id="macOS"),
        pytest.param([(INNER_NAME, GOOD), (".DS_Store", "x")], ["litter"], id="DS_Store"),
        pytest.param([(f"../{INNER_NAME}", GOOD)], ["climbing", "files"], id="climbing"),
        pytest.param([(f"/{INNER_NAME}", GOOD)], ["climbing", "files"], id="absolute"),
        pytest.param([], ["files"], id="empty"),
        pytest.param([("submission.zip", b"PK\x03\x04")], ["name", "format"], id="a zip in a zip"),
        pytest.param([(INNER_NAME, "{")], ["format"], id="not JSON"),
        pytest.param([(INNER_NAME, b"\xef\xbb\xbf{}")], ["format"], id="byte order mark"),
        pytest.param([(INNER_NAME, '{"labels": {}}')], ["format"], id="no predictions"),
        pytest.param(
            [(f"out/{INNER_NAME}", {"test_0001.mov": entry(("joy", 100))}), ("__MACOSX/x", "")],
            ["litter", "nesting", "missing", "emotion"],
            id="everything at once",
        ),
    ],
)
def test_zips(tmp_path: Path, base_models: list[tuple[str, Any]], expected: list[str]) -> None:
    written = [(name, text_of(data) if isinstance(data, dict) else data) for name, data in base_models]
    before = {path.name for path in tmp_path.parent.iterdir()}
    path = put_zip(tmp_path, written)
    assert kinds(path) == expected
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert {path.name for path in tmp_path.parent.iterdir()} == before


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_member_twice(tmp_path: Path) -> None:
    assert kinds(put_zip(tmp_path, [(INNER_NAME, text_of(GOOD)), (INNER_NAME, text_of(GOOD))])) == ["files"]


def test_a_bare_file_of_good_labels_is_not_what_codabench_takes(tmp_path: Path) -> None:
    for name in ("labels.json", "submission_template.json", "labels"):
        (problem,) = check_submission(put_json(tmp_path, GOOD, name), IDS)
        assert problem.kind == "bare"
        assert str(problem).startswith(f"{name} is not a zip file")
        assert INNER_NAME in str(problem)


def test_huge_members_are_not_read(tmp_path: Path) -> None:
    bomb = put_zip(tmp_path, [(INNER_NAME, bytes(leaderboard.MAX_BYTES + 1))])
    assert bomb.stat().st_size < 100_000
    assert kinds(bomb) == ["size"]
    # The same again, with a declared size that is a lie.
    data = bomb.read_bytes()
    true_size = (leaderboard.MAX_BYTES + 1).to_bytes(4, "little")
    liar = tmp_path / "liar.zip"
    liar.write_bytes(data.replace(true_size, (100).to_bytes(4, "little")))
    assert kinds(liar)[-1:] in (["zip"], ["format"], ["size"])
    large = tmp_path / "large.json"
    large.write_bytes(bytes(leaderboard.MAX_BYTES + 1))
    assert kinds(large) == ["size"]


def test_files_that_are_something_else(tmp_path: Path) -> None:
    assert kinds(tmp_path / "none.zip") == ["unreadable"]
    assert kinds(tmp_path) == ["unreadable"]
    assert kinds(put_json(tmp_path, GOOD, "labels.zip")) == ["zip"]
    assert kinds(put_zip(tmp_path, [(INNER_NAME, text_of(GOOD))], "labels.json")) == ["ending"]
    empty = tmp_path / "empty.zip"
    empty.write_bytes(b"")
    assert kinds(empty) == ["zip", "format"]


def test_damaged_and_locked_zips(tmp_path: Path) -> None:
    whole = put_zip(tmp_path, [(INNER_NAME, text_of(GOOD))]).read_bytes()
    broken = tmp_path / "broken.zip"
    start = whole.index(INNER_NAME.encode()) + len(INNER_NAME) + 8
    broken.write_bytes(whole[:start] + bytes(12) + whole[start + 12 :])
    assert kinds(broken) == ["zip"]
    locked = tmp_path / "locked.zip"
    data = bytearray(whole)
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + flags] |= 1
    locked.write_bytes(data)
    assert kinds(locked) == ["zip"]
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[:40])
    assert kinds(cut) == ["zip", "format"]


# ---------------------------------------------------------------------------------------------- checking: the contents


def without(name: str) -> dict[str, Any]:
    return {key: label for key, label in GOOD.items() if key != name}


@pytest.mark.parametrize(
    ("predictions", "expected", "message"),
    [
        pytest.param({}, ["missing"], "3 missing clips (first: 'test_0001'): the file holds 0 of 3", id="none"),
        pytest.param(without("test_0002.mov"), ["missing"], "1 missing clip (first: 'test_0002')", id="one missing"),
        pytest.param(
            {**GOOD, "test_0009.mov": entry(("sad", 100))}, ["unknown"], "did you mean 'test_000", id="unknown"
        ),
        pytest.param(
            {name.removesuffix(".mov"): label for name, label in GOOD.items()},
            ["ending"],
            "3 wrong keys (first: 'test_0001')",
            id="no .mov",
        ),
        pytest.param(
            {**without("test_0003.mov"), "test_0003.MOV": entry(("sad", 100))},
            ["ending"],
            "test_0003.MOV",
            id="upper case",
        ),
        pytest.param({**GOOD, "test_0001": entry(("sad", 100))}, ["ending", "duplicate"], "1 wrong key", id="twice"),
        pytest.param(
            {**without("test_0001.mov"), "Test_0001.mov": entry(("sad", 100))},
            ["missing", "unknown"],
            "1 missing clip",
            id="case",
        ),
    ],
)
def test_keys(tmp_path: Path, predictions: dict[str, Any], expected: list[str], message: str) -> None:
    path = put_json(tmp_path, predictions)
    assert kinds(path) == expected
    assert message in str(problems_of(path)[0])


def test_repeated_keys(tmp_path: Path) -> None:
    text = text_of(GOOD)
    path = tmp_path / "labels.json"
    path.write_text(text[:-2] + ', "test_0002.mov": [{"emotion": "ang", "salience": 100.0}]}}')
    assert len(json.loads(path.read_text())["predictions"]) == 3
    assert kinds(path) == ["duplicate"]
    assert "1 repeated clip (first: 'test_0002')" in str(problems_of(path)[0])


@pytest.mark.parametrize(("label", "message"), BAD_LABELS)
def test_wrong_labels(tmp_path: Path, label: Any, message: str) -> None:
    path = put_json(tmp_path, {**GOOD, "test_0002.mov": label, "test_0003.mov": label})
    problems = check_submission(path, IDS)
    assert [str(problem) for problem in problems if "2 labels (first: 'test_0002.mov') with" in str(problem)]
    with pytest.raises(InvalidPredictions, match=message):
        read_predictions(path)


def test_every_reason_is_given(tmp_path: Path) -> None:
    predictions = {
        "test_0001.mov": entry(("joy", 0.7), ("neu", 0.3)),
        "test_0002.mov": entry(("ang", 65), ("fea", 35)),
        "test_0004.mov": [],
    }
    assert kinds(put_json(tmp_path, predictions)) == ["missing", "unknown", "emotion", "neutral", "salience", "length"]


def test_numbers_in_quotes_pass_the_scoring_but_not_the_check(tmp_path: Path) -> None:
    path = put_json(tmp_path, {**GOOD, "test_0002.mov": entry(("ang", "70"), ("fea", "30"))})
    (problem,) = problems_of(path)
    assert problem.kind == "number"
    assert "write a number without quotes" in str(problem)


def test_rounded_saliences_pass(tmp_path: Path) -> None:
    assert kinds(put_json(tmp_path, {**GOOD, "test_0002.mov": entry(("ang", 69.5), ("fea", 30.5))})) == []


def test_a_zip_is_never_extracted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put_zip(tmp_path, [(f"out/{INNER_NAME}", text_of(GOOD))])

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("extracted")

    monkeypatch.setattr(zipfile.ZipFile, "extract", refuse)
    monkeypatch.setattr(zipfile.ZipFile, "extractall", refuse)
    assert kinds(path) == ["nesting"]
