"""The commands `score`, `submit` and `data check` as a user meets them: output, exit codes, one line per error."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.cli import main
from blemore_harness.data.download import DEMO_MARKER, read_dataset
from blemore_harness.drawing.score_tables import render_score
from blemore_harness.files.scoring import take_reference
from blemore_harness.scoring.ranking import score_file
from builders import EMOTIONS, label_of, put, rows_of, write_download, write_metadata, write_probabilities_csv
from real_material import REAL, needs_real, real_labels
from sample_records import sample_record

KEYS = [
    "clips",
    "blends",
    "actors",
    "alpha",
    "beta",
    "chosen",
    "acc_presence",
    "acc_salience",
    "score",
    "best_presence",
    "best_salience",
    "intervals",
    "caveat",
]
"""What `score --json` prints, and nothing else (README: the names are part of the interface)."""

HICMAE = REAL / "hicmae_fold0_probabilities.csv"
TEMPLATE = REAL / "submission_template.json"


@dataclass(frozen=True)
class Answer:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The one line of an error that the user can fix, wrong usage included."""
        assert self.code in (1, 2), self
        assert self.out == ""
        assert self.err.startswith("error: ")
        assert self.err.endswith("\n")
        line = self.err.removeprefix("error: ").removesuffix("\n")
        assert line.isprintable()
        return line

    @property
    def json(self) -> Any:
        assert self.code == 0, self
        return json.loads(self.out)


Call = Callable[..., Answer]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Runs the command line in this process, as the installed script does."""
    for name in ("BLEMORE_DATA", "BLEMORE_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["blemore-harness", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Answer(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_download(tmp_path / "data")


ROWS = {row["filename"]: row for row in rows_of()}
TRUTH = {name: label_of(row) for name, row in ROWS.items()}
EVEN: list[float | str] = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]
FIRST = "A1_ang_int1_ver1"


def perfect() -> dict[str, list[float | str]]:
    """Probabilities that any thresholds up to .3 and .2 decode to the truth."""
    return {name: [share / 100 for share in label] for name, label in TRUTH.items()}


def submission(labels: dict[str, Sequence[int]], ending: str = ".mov") -> str:
    entries = {
        f"{name}{ending}": [{"emotion": e, "salience": s} for e, s in zip(EMOTIONS, label, strict=True) if s]
        for name, label in labels.items()
    }
    return json.dumps({"predictions": entries})


# ------------------------------------------------------------------------------------------------------- score: numbers


@needs_real
def test_the_real_probabilities_of_fold_0(call: Call) -> None:
    found = call("score", HICMAE, "--data", REAL, "--fold", 0, "--json").json
    low, high = found.pop("intervals")["score"]
    assert low < found["score"] < high
    assert found == {
        "clips": 522,
        "blends": 280,
        "actors": 10,
        "alpha": 0.28684210526315784,
        "beta": 0.05,
        "chosen": True,
        "acc_presence": 0.12260536398467432,
        "acc_salience": 0.0,
        "score": 0.5 * 0.12260536398467432,
        "best_presence": 0.12260536398467432,
        "best_salience": 0.03214285714285714,
        "caveat": None,
    }


@needs_real
def test_without_the_fold_it_says_which_one(call: Call) -> None:
    for words in ((), ("--fold", 3)):
        line = call("score", HICMAE, "--data", REAL, *words).refusal
        assert "522 clips of fold 0" in line
        assert "--fold 0" in line


@needs_real
def test_thresholds_may_be_given(call: Call) -> None:
    found = call("score", HICMAE, "--data", REAL, "--fold", 0, "--alpha", "0.05", "--beta", "0.05", "--json").json
    assert (found["alpha"], found["beta"]) == (0.05, 0.05)
    assert found["acc_presence"] <= found["best_presence"] == 0.12260536398467432
    same = call(
        "score", HICMAE, "--data", REAL, "--fold", 0, "--alpha", "0.28684210526315784", "--beta", ".05", "--json"
    )
    assert (same.json["acc_presence"], same.json["acc_salience"]) == (0.12260536398467432, 0.0)


@needs_real
def test_an_npz_in_another_order_scores_the_same(call: Call, tmp_path: Path) -> None:
    lines = [line.split(",") for line in HICMAE.read_text().splitlines()[1:]]
    names = np.array([line[0] for line in lines])
    values = np.array([[float(cell) for cell in line[1:]] for line in lines])
    order = np.random.default_rng(0).permutation(len(names))
    np.savez(tmp_path / "p.npz", filenames=names[order], probabilities=values[order])
    before = call("score", HICMAE, "--data", REAL, "--fold", 0, "--json").json
    assert call("score", tmp_path / "p.npz", "--data", REAL, "--fold", 0, "--json").json == before


@needs_real
@pytest.mark.parametrize(
    ("label", "presence", "salience"),
    [
        ([0, 0, 100, 0, 0, 0], 192 / 2456, 0.0),
        ([0, 0, 0, 100, 0, 0], 192 / 2456, 0.0),
        ([50, 0, 0, 50, 0, 0], 140 / 2456, 46 / 1326),
        ([70, 0, 0, 30, 0, 0], 140 / 2456, 47 / 1326),
        ([50, 0, 50, 0, 0, 0], 140 / 2456, 47 / 1326),
    ],
)
def test_always_the_same_answer(call: Call, tmp_path: Path, label: list[int], presence: float, salience: float) -> None:
    file = put(tmp_path / "labels.json", submission(dict.fromkeys(real_labels(), label)))
    found = call("score", file, "--data", REAL, "--json").json
    assert (found["clips"], found["blends"]) == (2456, 1326)
    assert (found["acc_presence"], found["acc_salience"]) == (presence, salience)
    assert (found["best_presence"], found["best_salience"]) == (presence, salience)
    assert found["alpha"] is None
    assert found["beta"] is None


@needs_real
@pytest.mark.parametrize("fold", range(5))
def test_the_truth_of_a_fold_scores_1(call: Call, tmp_path: Path, fold: int) -> None:
    labels = real_labels()
    lines = [line.split(",") for line in (REAL / "train_metadata.csv").read_text().splitlines()]
    folds = {cells[0]: cells[-1] for cells in lines}
    file = put(tmp_path / "labels.json", submission({n: row for n, row in labels.items() if folds[n] == str(fold)}))
    found = call("score", file, "--data", REAL, "--fold", fold, "--json").json
    assert (found["clips"], found["blends"]) == [(522, 280), (486, 270), (468, 240), (472, 240), (508, 296)][fold]
    assert (found["acc_presence"], found["acc_salience"], found["score"]) == (1.0, 1.0, 1.0)


def test_json_has_these_keys_in_this_order(call: Call, data: Path, tmp_path: Path) -> None:
    file = write_probabilities_csv(tmp_path / "p.csv", perfect())
    answer = call("score", file, "--data", data, "--json")
    assert list(answer.json) == KEYS
    assert answer.err == ""
    assert answer.json["score"] == 1.0
    labels = put(tmp_path / "p.json", submission(TRUTH))
    assert list(call("score", labels, "--data", data, "--json").json) == KEYS


def test_lines_for_people(call: Call, data: Path, tmp_path: Path) -> None:
    file = write_probabilities_csv(tmp_path / "p.csv", perfect())
    answer = call("score", file, "--data", data)
    assert answer.code == 0
    ends = call("score", file, "--data", data, "--json").json["intervals"]
    presence, salience, both = (f"[{low:.4f}, {high:.4f}]" for low, high in ends.values())
    assert answer.out.splitlines() == [
        "clips    60 (24 blends)",
        "alpha    0.05    beta 0.05    (chosen on the scored clips: in-sample, optimistic)",
        f"ACC_P    1.0000 {presence}    (best ACC_P on the grid: 1.0000)",
        f"ACC_S    1.0000 {salience}    (best ACC_S on the grid: 1.0000)",
        f"Score    1.0000 {both}",
        "[...]    95 % CI over the 6 actors; thresholds held fixed",
    ]
    given = call("score", file, "--data", data, "--alpha", "0.1", "--beta", "0.2").out
    assert "alpha    0.1    beta 0.2    (as given)" in given
    labels = put(tmp_path / "p.json", submission(TRUTH))
    assert "alpha" not in call("score", labels, "--data", data).out


def test_names_with_endings_and_any_order_are_fine(call: Call, data: Path, tmp_path: Path) -> None:
    rows = {f"{name}.mov": values for name, values in reversed(perfect().items())}
    file = write_probabilities_csv(tmp_path / "P.CSV", rows)
    assert call("score", file, "--data", data, "--json").json["score"] == 1.0
    for ending in ("", ".mp4", ".MOV"):
        labels = put(tmp_path / "p.json", submission(TRUTH, ending))
        assert call("score", labels, "--data", data, "--json").json["score"] == 1.0


def test_data_may_come_from_the_environment(
    call: Call, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_probabilities_csv(tmp_path / "p.csv", perfect())
    monkeypatch.setenv("BLEMORE_DATA", str(data))
    assert call("score", file, "--json").json["score"] == 1.0


def test_numbers_on_the_demo_dataset_say_so_on_stdout(data: Path, tmp_path: Path) -> None:
    file = write_probabilities_csv(tmp_path / "p.csv", perfect())
    found = score_file(file, take_reference(replace(read_dataset(data), demo=True)))
    assert found["caveat"] == "demo: generated clips"
    assert render_score(found).startswith("demo: generated clips\nclips ")
    assert score_file(file, take_reference(read_dataset(data)))["caveat"] is None


def test_warnings_of_the_data_go_to_stderr(call: Call, data: Path, tmp_path: Path) -> None:
    put(data / "stray.mov")
    file = write_probabilities_csv(tmp_path / "p.csv", perfect())
    answer = call("score", file, "--data", data, "--json")
    assert list(answer.json) == KEYS
    assert "stray.mov" in answer.err


def test_decoded_labels_are_rounded_as_the_official_scoring_rounds(call: Call, data: Path, tmp_path: Path) -> None:
    text = (
        submission(TRUTH)
        .replace('"salience": 70}', '"salience": 69.5}')
        .replace('"salience": 30}', '"salience": 30.5}')
    )
    assert text != submission(TRUTH)
    file = put(tmp_path / "p.json", text)
    assert call("score", file, "--data", data, "--json").json["score"] == 1.0


# ------------------------------------------------------------------------------------------------------ score: refusals


def spoilt(**cells: list[float | str]) -> dict[str, list[float | str]]:
    return perfect() | {FIRST: cells["row"]}


BAD_PROBABILITIES: dict[str, tuple[dict[str, list[float | str]], str]] = {
    "five numbers": (
        {name: [0.2] * 5 for name in TRUTH},
        "60 lines (first: '2')",
    ),
    "NaN": (spoilt(row=["nan", 0, 0, 0, 0, 1]), f"1 clip (first: '{FIRST}')"),
    "infinity": (spoilt(row=["inf", 0, 0, 0, 0, 0]), f"1 clip (first: '{FIRST}')"),
    "overflow": (spoilt(row=["1e999", 0, 0, 0, 0, 0]), f"1 clip (first: '{FIRST}')"),
    "negative": (
        spoilt(row=[1.1, -0.1, 0, 0, 0, 0]),
        f"1 clip (first: '{FIRST}')",
    ),
    "above 1": (spoilt(row=[1.5, 0, 0, 0, 0, 0]), f"1 clip (first: '{FIRST}')"),
    "sum": (spoilt(row=[0.5, 0.4, 0, 0, 0, 0]), f"0.9 in 1 clip (first: '{FIRST}')"),
    "logits": (
        {name: [2.5, -1, 0, 3, 0, 0] for name in TRUTH},
        "60 clips (first: 'A1_ang_int1_ver1')",
    ),
    "percentages": ({name: list(v) for name, v in TRUTH.items()}, "60 clips"),
    "text": (spoilt(row=["=1+1", 0, 0, 0, 0, 0]), "'=1+1'"),
    "missing": (
        {name: values for name, values in perfect().items() if not name.startswith("A1_")},
        f"DATA: missing 10 clips (first: '{FIRST}'), unknown 0",
    ),
    "unknown": (perfect() | {"A9_ang_int1_ver1": EVEN}, "missing 0 clips, unknown 1 clip (first: 'A9_ang_int1_ver1')"),
    "duplicated": (
        perfect() | {f"{FIRST}.mov": EVEN},
        f"1 duplicated clip (first: '{FIRST}')",
    ),
    "test clips": (
        {f"test_{k:04d}": EVEN for k in range(1, 595)},
        "test clips are not public",
    ),
    "test clips among others": (perfect() | {"test_0001": EVEN}, "test clips are not public"),
    "none": ({}, "p.csv: expected a clip id in every row"),
    "line break in a name": (perfect() | {'"A\nB"': EVEN}, "unknown 1 clip (first: 'A\\nB')"),
    "terminal codes": (perfect() | {"\x1b[31mred": EVEN}, "unknown 1 clip (first: '\\x1b[31mred')"),
}


@pytest.mark.parametrize("case", BAD_PROBABILITIES)
def test_probabilities_that_are_refused(call: Call, data: Path, tmp_path: Path, case: str) -> None:
    rows, message = BAD_PROBABILITIES[case]
    file = write_probabilities_csv(tmp_path / "p.csv", rows)
    assert message.replace("DATA", str(data.resolve())) in call("score", file, "--data", data).refusal


def test_clips_of_another_fold_and_folds_that_are_not_there(call: Call, data: Path, tmp_path: Path) -> None:
    half = {name: values for name, values in perfect().items() if ROWS[name]["fold"] == "1"}
    file = write_probabilities_csv(tmp_path / "p.csv", half)
    assert call("score", file, "--data", data, "--fold", 1, "--json").json["clips"] == 30
    line = call("score", file, "--data", data).refusal
    assert "30 clips of fold 1" in line
    assert "--fold 1" in line
    assert "fold 7: the dataset has folds 0, 1" in call("score", file, "--data", data, "--fold", 7).refusal
    assert "fold -1" in call("score", file, "--data", data, "--fold", -1).refusal
    whole = write_probabilities_csv(tmp_path / "w.csv", perfect())
    line = call("score", whole, "--data", data, "--fold", 0).refusal
    assert "30 clips of fold 0" in line
    assert "missing 0 clips, unknown 30 clips (first: 'A2_ang_int1_ver1')" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alpha", ".1"], "--alpha and --beta"),
        (["--beta", ".1"], "--alpha and --beta"),
        (["--alpha", "2", "--beta", ".1"], "alpha between 0 and 1, found 2.0"),
        (["--alpha", ".1", "--beta", "-1"], "beta between 0 and 1, found -1.0"),
        (["--alpha", "nan", "--beta", ".1"], "alpha between 0 and 1, found nan"),
        (["--alpha", "1e999", "--beta", ".1"], "alpha between 0 and 1, found inf"),
    ],
)
def test_thresholds_that_are_refused(call: Call, data: Path, tmp_path: Path, options: list[str], message: str) -> None:
    file = write_probabilities_csv(tmp_path / "p.csv", perfect())
    assert message in call("score", file, "--data", data, *options).refusal


def test_thresholds_have_nothing_to_do_with_decoded_labels(call: Call, data: Path, tmp_path: Path) -> None:
    file = put(tmp_path / "p.json", submission(TRUTH))
    line = call("score", file, "--data", data, "--alpha", ".1", "--beta", ".1").refusal
    assert "p.json" in line
    assert "--alpha and --beta" in line


def test_decoded_labels_that_are_refused(call: Call, data: Path, tmp_path: Path) -> None:
    def refusal(text: str) -> str:
        return call("score", put(tmp_path / "p.json", text), "--data", data).refusal

    assert "1 wrong label (first: 'A1_ang_int1_ver1'), found there: the saliences 60/40" in refusal(
        submission(TRUTH | {FIRST: [60, 40, 0, 0, 0, 0]})
    )
    assert "neutral in a blend" in refusal(submission(TRUTH | {FIRST: [50, 0, 0, 0, 0, 50]}))
    assert "an empty list" in refusal(submission(TRUTH | {FIRST: [0] * 6}))
    assert "unknown emotion" in refusal(submission(TRUTH).replace('"hap"', '"happy"'))
    assert "missing 1 clip (first: 'A1_ang_int1_ver1'), unknown 0 clips" in refusal(
        submission({name: label for name, label in TRUTH.items() if name != FIRST})
    )
    assert "repeated clip (first: 'A1_ang_int1_ver1')" in refusal(
        submission(TRUTH).replace("A1_disg_int1_ver1", "A1_ang_int1_ver1")
    )


@needs_real
def test_the_template_has_no_public_labels(call: Call) -> None:
    assert "test clips are not public" in call("score", TEMPLATE, "--data", REAL).refusal


def npz_claiming(shape: str, names: bytes = b"a\0\0\0") -> bytes:
    """An archive whose header claims an array of `shape`."""

    def array(descr: str, shape: str, data: bytes) -> bytes:
        header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + data

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("filenames.npy", array("<U1", "(1,)", names))
        archive.writestr("probabilities.npy", array("<f8", shape, bytes(48)))
    return file.getvalue()


GARBAGE = np.random.default_rng(0).bytes(5000)
FILES: dict[str, bytes] = {
    "empty.csv": b"",
    "empty.json": b"",
    "empty.npz": b"",
    "garbage.csv": GARBAGE,
    "garbage.json": GARBAGE,
    "garbage.npz": GARBAGE,
    "zeros.csv": bytes(5000),
    "cut.npz": npz_claiming("(1, 6)")[:200],
    "bomb.npz": npz_claiming("(1000000000000, 6)"),
    "less than nothing.npz": npz_claiming("(-1, 6)"),
    "no letter.npz": npz_claiming("(1, 6)", b"\xff\xff\xff\xff"),
    "deep.json": b"[" * 100_000,
    "long number.json": b'{"predictions": {"a.mov": [{"emotion": "sad", "salience": ' + b"1" * 9000 + b"}]}}",
    "half a letter.json": b'{"predictions": {"\\ud800": [{"emotion": "\\ud801", "salience": 100}]}}',
    "line break.json": b'{"predi\\nctions": {}}',
    "long cell.csv": b"filename,ang,disg,fea,hap,sad,neu\n" + b"x" * 200_000,
    "long number.csv": b"filename,ang,disg,fea,hap,sad,neu\na," + b"9" * 9000 + b",0,0,0,0,0\n",
    "semicolons.csv": b"filename;ang;disg;fea;hap;sad;neu\na;1;0;0;0;0;0\n",
    "notes.txt": b"hello",
    "no ending": b"hello",
    "weights.pt": GARBAGE,
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_something_else(call: Call, data: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(FILES[name])
    assert name in call("score", file, "--data", data).refusal
    check = call("submit", "--check", file)
    assert check.code == 1
    assert check.err == ""
    assert check.out
    assert all(line.isprintable() for line in check.out.splitlines())


def test_paths_that_lead_nowhere(call: Call, data: Path, tmp_path: Path) -> None:
    for name in ("folder", "folder.csv", "folder.json", "folder.npz"):
        (tmp_path / name).mkdir()
        assert name in call("score", name, "--data", data).refusal
        assert "Is a directory" in call("submit", "--check", name).out
    for name in ("gone.csv", "gone.json", "gone.npz"):
        assert call("score", name, "--data", data).refusal == f"cannot read {name}: No such file or directory"
    assert "File name too long" in call("score", "x" * 3000 + ".csv", "--data", data).refusal
    assert "gone does not exist: set --data" in call("score", "p.csv", "--data", "gone").refusal
    assert "File name too long" in call("data", "check", "x" * 3000).refusal


def test_files_without_permission(call: Call, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = write_probabilities_csv(tmp_path / "closed.csv", perfect())
    real = io.open

    def refuse(file: Any, *rest: Any, **options: Any) -> Any:
        if Path(os.fspath(file)).name in (closed.name, "train_metadata.csv") if not isinstance(file, int) else False:
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *rest, **options)

    monkeypatch.setattr(io, "open", refuse)
    metadata = data / "train_metadata.csv"
    assert call("data", "check", data).refusal == f"cannot read {metadata}: Permission denied"
    assert call("score", closed, "--data", data).refusal == f"cannot read {metadata}: Permission denied"


def test_wrong_usage_is_exit_code_2(call: Call, tmp_path: Path) -> None:
    for arguments in (
        ["score"],
        ["score", "p.csv", "--fold", "x"],
        ["score", "p.csv", "--alpha", "x"],
        ["score", "p.csv", "--reference", "r.csv", "--fold", "0"],
        ["submit"],
        ["submit", "run", "other"],
        ["submit", "--check"],
        ["data", "check"],
        ["data", "chekc", "folder"],
        ["scroe", "p.csv"],
    ):
        answer = call(*arguments)
        assert answer.code == 2, arguments
        assert answer.out == ""
        assert "Error: " in answer.err


# --------------------------------------------------------------------------------------------------------------- submit


@needs_real
def test_the_organisers_template_is_accepted(call: Call, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.write(TEMPLATE, "submission_template.json")
    answer = call("submit", "--check", "s.zip")
    assert (answer.code, answer.err) == (0, "")
    assert "594 test clips" in answer.out


def official(**changed: Any) -> dict[str, Any]:
    labels: dict[str, Any] = {f"test_{k:04d}.mov": [{"emotion": "sad", "salience": 100.0}] for k in range(1, 595)}
    return {name: changed.get(name.removesuffix(".mov"), label) for name, label in labels.items()}


def zipped(path: Path, predictions: dict[str, Any], name: str = "submission_template.json") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, json.dumps({"predictions": predictions}))
    return path


def two(one: str, share_one: float, other: str, share_other: float) -> list[dict[str, Any]]:
    return [{"emotion": one, "salience": share_one}, {"emotion": other, "salience": share_other}]


def renamed(old: str, new: str) -> dict[str, Any]:
    return {new if name == old else name: label for name, label in official().items()}


BROKEN: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no ending": (renamed("test_0005.mov", "test_0005"), ["1 wrong key (first: 'test_0005')"]),
    "a name": (
        renamed("test_0594.mov", "test_0595.mov"),
        ["1 missing clip (first: 'test_0594')", "1 unknown clip (first: 'test_0595.mov')"],
    ),
    "a count": (dict(list(official().items())[:500]), ["94 missing clips (first: 'test_0501')", "500 of 594 clips"]),
    "an emotion": (official(test_0002=[{"emotion": "happy", "salience": 100}]), ["unknown emotion", "'hap'"]),
    "a salience": (official(test_0002=two("ang", 60, "sad", 40)), ["1 label (first: 'test_0002.mov')", "60/40"]),
    "a sum": (official(test_0002=two("ang", 70, "sad", 40)), ["70/40", "sum of 100"]),
    "shares": (official(test_0002=two("ang", 0.7, "sad", 0.3)), ["0.7/0.3"]),
    "neutral": (official(test_0002=two("ang", 50, "neu", 50)), ["neutral in a blend"]),
    "nesting": (official(test_0002=[two("ang", 50, "sad", 50)]), ["1 label (first: 'test_0002.mov')"]),
    "two reasons": (
        official(test_0002=two("ang", 50, "neu", 50), test_0003=[]),
        ["neutral in a blend", "an empty list"],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_explained(call: Call, tmp_path: Path, case: str) -> None:
    predictions, reasons = BROKEN[case]
    answer = call("submit", "--check", put(tmp_path / "s.json", json.dumps({"predictions": predictions})))
    assert answer.code == 1
    assert answer.err == ""
    for reason in reasons:
        assert reason in answer.out


def test_a_good_file_of_ours_in_its_folder_is_nested(call: Call, tmp_path: Path) -> None:
    assert call("submit", "--check", zipped(tmp_path / "s.zip", official())).code == 0
    answer = call("submit", "--check", zipped(tmp_path / "s.zip", official(), "mine/submission_template.json"))
    assert answer.code == 1
    assert "mine/submission_template.json" in answer.out


def test_a_bare_json_is_not_for_codabench(call: Call, tmp_path: Path) -> None:
    answer = call("submit", "--check", put(tmp_path / "s.json", json.dumps({"predictions": official()})))
    assert (answer.code, answer.err) == (1, "")
    reason, verdict = answer.out.splitlines()
    assert reason.startswith("s.json is not a zip file")
    assert verdict.startswith(f"{tmp_path / 's.json'}: ")


def test_a_file_is_judged_by_the_official_clips_and_the_gap_of_the_data_is_named(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_download(tmp_path / "data", tests=593)
    fewer = official()
    del fewer["test_0594.mov"]
    file = zipped(tmp_path / "s.zip", fewer)
    monkeypatch.setenv("BLEMORE_DATA", str(data))
    said = []
    for words in (["--data", data], []):
        answer = call("submit", "--check", file, *words)
        assert answer.code == 1
        said.append(answer.out)
    assert said[0] == said[1]
    missing, gap, _ = said[0].splitlines()
    assert missing.startswith("1 missing clip (first: 'test_0594'): the file holds 593 of 594 clips")
    assert gap.startswith(f"{data} lacks 1 test clip (first: 'test_0594')")
    assert call("submit", "--check", zipped(tmp_path / "whole.zip", official())).code == 0, "the file has them all"
    assert call("submit", "--check", file, "--data", tmp_path / "nowhere").code == 1


def test_a_file_of_demo_clips_is_not_for_codabench(call: Call, tmp_path: Path) -> None:
    data = write_download(tmp_path / "demo", tests=3)
    put(data / DEMO_MARKER, "{}")
    file = zipped(tmp_path / "s.zip", dict(list(official().items())[:3]))
    for words, reasons in ((["--data", data], 2), ([], 1)):
        answer = call("submit", "--check", file, *words)
        assert answer.code == 1
        *said, verdict = answer.out.splitlines()
        assert len(said) == reasons
        assert "3 of 594 clips" in said[0]
        assert verdict.startswith(f"{file}: Codabench would reject this file")
    assert "demo" in call("submit", "--check", file, "--data", data).out


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run, as far as `submit` looks at one."""
    folder = tmp_path / "blemore-runs" / "uzh-s4d-0123456789ab"
    put(folder / "record.json", json.dumps(sample_record().to_json()))
    zipped(folder / "submission.zip", official())
    return folder


def test_a_run_without_some_official_test_clip_is_not_for_codabench(call: Call, run_folder: Path) -> None:
    fewer = official()
    del fewer["test_0417.mov"]
    zipped(run_folder / "submission.zip", fewer)
    answer = call("submit", run_folder.name)
    assert answer.code == 1
    reason, _ = answer.out.splitlines()
    assert reason.startswith("1 missing clip (first: 'test_0417'): the file holds 593 of 594 clips")


def test_submit_a_run(call: Call, run_folder: Path, tmp_path: Path) -> None:
    whole = (run_folder / "submission.zip").read_bytes()
    for name in (run_folder.name, "uzh", run_folder, run_folder / "record.json", f"blemore-runs/{run_folder.name}/"):
        (tmp_path / "mine.zip").unlink(missing_ok=True)
        answer = call("submit", name, "-o", "mine.zip")
        said = f"uzh: run {run_folder.name}\n" if name == "uzh" else ""
        assert answer == Answer(0, "mine.zip: upload this file to Codabench\n", said), name
        assert (tmp_path / "mine.zip").read_bytes() == whole
    assert call("submit", "--check", "mine.zip").code == 0
    plain = call("submit", "uzh")
    assert plain.out == "blemore-runs/uzh-s4d-0123456789ab/submission.zip: upload this file to Codabench\n"
    (tmp_path / "out").mkdir()
    assert call("submit", "uzh", "-o", "out").out.startswith("out/submission.zip: ")
    shutil.move(tmp_path / "blemore-runs", tmp_path / "elsewhere")
    assert call("submit", "uzh", "--runs", "elsewhere", "-o", "deep/er/mine.zip").code == 0
    assert (tmp_path / "deep" / "er" / "mine.zip").read_bytes() == whole


def test_a_demo_run_is_not_for_codabench(call: Call, run_folder: Path) -> None:
    record = sample_record(demo=True, caveat="demo: untrained small encoders")
    (run_folder / "record.json").write_text(json.dumps(record.to_json()))
    assert "do not upload this file to Codabench (demo: untrained small encoders)" in call("submit", "uzh").out


def test_a_transductive_run_is_for_codabench_and_says_what_it_is(call: Call, run_folder: Path) -> None:
    record = sample_record(caveat="transductive test labels (actor-centred)")
    (run_folder / "record.json").write_text(json.dumps(record.to_json()))
    said = call("submit", "uzh").out
    assert "upload this file to Codabench and report this caveat" in said
    assert "transductive test labels (actor-centred)" in said


def test_wrong_run_names_say_what_is_there(call: Call, run_folder: Path, tmp_path: Path) -> None:
    line = call("submit", "uhz-s4d").refusal
    assert "'uhz-s4d' in blemore-runs (found: uzh-s4d-0123456789ab)" in line
    assert line.endswith("; did you mean 'uzh-s4d'?")
    shutil.copytree(run_folder, run_folder.with_name("uzh-s4d-0123456789ab2"))
    assert "'uzh' in blemore-runs (found: uzh-s4d-" in call("submit", "uzh").refusal
    assert call("submit", "uzh-s4d-0123456789ab").code == 0
    assert "'x' in none (found: none)" in call("submit", "x", "--runs", "none").refusal
    for name in ("", "/", "..", "[a", "*", "~"):
        assert "(found: uzh-s4d-0123456789ab" in call("submit", name).refusal


def test_runs_without_a_leaderboard_file(call: Call, run_folder: Path) -> None:
    record = sample_record(status="failed", test=None)
    (run_folder / "record.json").write_text(json.dumps(record.to_json()))
    assert "(status: failed)" in call("submit", run_folder.name).refusal
    (run_folder / "record.json").write_text(json.dumps(sample_record().to_json()))
    (run_folder / "submission.zip").unlink()
    assert "submission.zip is missing" in call("submit", run_folder.name).refusal


def test_places_that_cannot_be_written_to(call: Call, run_folder: Path, tmp_path: Path) -> None:
    assert "mine.json" in call("submit", run_folder.name, "-o", "mine.json").refusal
    put(tmp_path / "file", "in the way")
    assert "file/mine.zip" in call("submit", run_folder.name, "-o", "file/mine.zip").refusal
    (tmp_path / "taken.zip").mkdir()
    assert call("submit", run_folder.name, "-o", "taken.zip").out.startswith("taken.zip/submission.zip: ")


# ----------------------------------------------------------------------------------------------------------- data check


def test_data_check(call: Call, data: Path) -> None:
    answer = call("data", "check", data)
    assert answer.code == 0
    assert answer.err == ""
    assert "clips      60 training, 3 test" in answer.out
    found = call("data", "check", data, "--json").json
    assert (found["clips"], found["test_clips"], found["fold_source"]) == (60, 3, "metadata")


@needs_real
def test_data_check_of_the_real_metadata(call: Call) -> None:
    answer = call("data", "check", REAL)
    assert answer.code == 0
    for line in (
        "clips      2456 training, 0 test",
        "actors     47 in training",
        "folds      5, the official folds",
        "  fold 0   522 clips, 280 blends, 10 actors",
        "  fold 4   508 clips, 296 blends, 10 actors",
        "videos     0 present, 2456 missing (first: A102_ang_int1_ver1)",
    ):
        assert line in answer.out.splitlines()


def test_data_check_refuses_in_one_line(call: Call, data: Path, tmp_path: Path) -> None:
    rows = rows_of()
    rows[2]["emotion_1"] = "fear"
    write_metadata(data, rows)
    assert call("data", "check", data).refusal.startswith(
        "unknown emotion 'fear'; did you mean 'fea'? in 1 clip (first"
    )
    assert "no train_metadata.csv in" in call("data", "check", tmp_path).refusal
    assert "nowhere does not exist" in call("data", "check", "nowhere").refusal
    for name, content in FILES.items():
        (data / "train_metadata.csv").write_bytes(content)
        assert call("data", "check", data).refusal, name


def test_names_that_no_terminal_can_show(call: Call, data: Path) -> None:
    put(Path(os.fsdecode(os.fsencode(data) + b"/\xff\x1b[31m\n.mov")), "video")
    answer = call("data", "check", data)
    assert answer.code == 0
    assert "warning    1 video (first: '\\udcff\\x1b[31m\\n.mov')" in answer.out


@pytest.mark.slow
def test_the_installed_command(data: Path, tmp_path: Path) -> None:
    file = write_probabilities_csv(tmp_path / "p.csv", perfect())
    command = [sys.executable, "-c", "from blemore_harness.cli import main; main()", "score", str(file)]
    done = subprocess.run([*command, "--data", str(data), "--json"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(json.loads(done.stdout)) == KEYS
    done = subprocess.run([*command, "--data", "nowhere"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: nowhere does not exist")
    assert done.stderr.count("\n") == 1
