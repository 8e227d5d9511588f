"""The competition bundle: what Codabench reads in it, and its scoring program, run as the platform runs it."""

from __future__ import annotations

import html
import importlib.util
import json
import math
import os
import random
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import vermin
import yaml
from click.testing import CliRunner

from blemore_harness.errors import BlemoreError, ConfigError, DataError
from blemore_harness.files.leaderboard import check_submission
from blemore_harness.files.prediction_files import read_predictions
from blemore_harness.files.scoring import Reference, decode_file, read_reference
from blemore_harness.scoring.ranking import score_file
from blemore_pages.codabench.bundle import Competition, make_files, write_bundle
from blemore_pages.codabench.commands import codabench
from golden import literal_protocol
from label_cases import BAD_LABELS
from organiser_files import EMOTIONS, SHARES, Label, answer, as_json, draw_truth, write_reference

CLIPS = 40
DAYS = Competition("Made challenge", date(2027, 1, 1), date(2027, 3, 1), date(2027, 3, 8))
TRUTH = draw_truth(CLIPS)
NAME = "submission_template.json"


def find_oldest_python() -> str | None:
    """The oldest Python from 3.7 on that is installed here beside the one of the tests."""
    installed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(7, sys.version_info.minor):
        for path in (*sorted(installed.glob(f"3.{minor}.*/bin/python3")), shutil.which(f"python3.{minor}")):
            if path and subprocess.run([str(path), "-c", ""], capture_output=True, check=False).returncode == 0:
                return str(path)
    return None


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return read_reference(write_reference(tmp_path_factory.mktemp("labels") / "test_metadata.csv", TRUTH))


@pytest.fixture(scope="module")
def bundle(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "new"
    assert write_bundle(folder, reference, DAYS) == folder / "bundle.zip"
    return folder


@pytest.fixture(scope="module")
def program(bundle: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("codabench_scoring", bundle / "scoring_program" / "scoring.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Platform:
    """The folders of Codabench, below a folder that stands for `/app`."""

    def __init__(self, app: Path, bundle: Path) -> None:
        self.app = app
        for name in ("input/res", "output", "program"):
            (app / name).mkdir(parents=True)
        shutil.copytree(bundle / "scoring_program", app / "program", dirs_exist_ok=True)
        shutil.copytree(bundle / "reference_data", app / "input" / "ref")

    def send(self, files: dict[str, str | bytes]) -> None:
        for name, content in files.items():
            path = self.app / "input" / "res" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def score(self, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
        command = yaml.safe_load((self.app / "program" / "metadata.yaml").read_text())["command"]
        first, *words = command.replace("/app/", f"{self.app}/").split()
        assert first == "python3"
        return subprocess.run(
            [python, *words], cwd=self.app / "program", env={"PYTHONUNBUFFERED": "1"}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    @property
    def scores(self) -> Any:
        return json.loads((self.app / "output" / "scores.json").read_text())

    @property
    def page(self) -> str:
        return (self.app / "output" / "detailed_results.html").read_text(encoding="utf-8")


@pytest.fixture
def platform(tmp_path: Path, bundle: Path) -> Platform:
    return Platform(tmp_path / "app", bundle)


# ---------------------------------------------------------------------------------------------------------- the bundle


def test_the_competition_is_what_codabench_reads(bundle: Path) -> None:
    found = yaml.safe_load((bundle / "competition.yaml").read_text(encoding="utf-8"))
    assert (found["version"], found["title"]) == (2, "Made challenge")
    [board] = found["leaderboards"]
    assert board["submission_rule"] in {
        "Add", "Add_And_Delete", "Add_And_Delete_Multiple", "Force_Last", "Force_Latest_Multiple", "Force_Best",
    }  # fmt: skip
    assert [column["key"] for column in board["columns"]] == ["score", "acc_presence", "acc_salience"]
    assert {column["precision"] for column in board["columns"]} == {4}
    assert board["columns"][board["primary_index"]]["key"] == "score"
    first, final = found["phases"]
    assert (first["start"], first["end"], final["start"], final["end"]) == (
        DAYS.start,
        DAYS.final,
        DAYS.final,
        DAYS.end,
    )
    assert {task["index"] for task in found["tasks"]} == {0} == {*first["tasks"], *final["tasks"]}
    for question, facts in found["fact_sheet"].items():
        assert set(facts) == {"key", "type", "title", "selection", "is_required", "is_on_leaderboard"}
        assert facts["key"] == question
        assert facts["type"] in {"checkbox", "text", "select"}
    assert set(found["fact_sheet"]) == {"transductive", "external_data", "paid_api"}
    named = [found["image"], found["terms"], *(page["file"] for page in found["pages"])]
    assert all((bundle / name).stat().st_size > 0 for name in named)
    for folder in (found["tasks"][0]["scoring_program"], found["tasks"][0]["reference_data"], first["starting_kit"]):
        assert (bundle / folder).is_dir()
    assert "@" not in "".join(path.read_text(encoding="utf-8") for path in bundle.rglob("*.md"))


def test_the_zip_holds_the_folder_and_the_same_bundle_gives_the_same_bytes(
    bundle: Path, reference: Reference, tmp_path: Path
) -> None:
    content = make_files(reference, DAYS)
    with zipfile.ZipFile(bundle / "bundle.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == content
    assert {str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file()} == {*content, "bundle.zip"}
    again = write_bundle(tmp_path / "again", reference, DAYS)
    assert again.read_bytes() == (bundle / "bundle.zip").read_bytes()
    assert write_bundle(tmp_path / "again", reference, DAYS) == again


def test_the_logo_is_a_picture(bundle: Path) -> None:
    data = (bundle / "logo.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, pixels, header, kinds = 8, b"", b"", []
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        content = data[place + 8 : place + 8 + size]
        assert struct.unpack(">I", data[place + 8 + size : place + 12 + size]) == (zlib.crc32(kind + content),)
        kinds.append(kind)
        pixels += content if kind == b"IDAT" else b""
        header = content if kind == b"IHDR" else header
        place += 12 + size
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]
    width, height = struct.unpack(">II", header[:8])
    assert len(zlib.decompress(pixels)) == height * (1 + 3 * width)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"title": " "}, "1 to 64"),
        ({"title": "x" * 65}, "64"),
        ({"title": "a\nb: c"}, "64"),
        ({"start": date(2027, 3, 1)}, "2027-03-01, 2027-03-01, 2027-03-08"),
        ({"end": date(2026, 1, 1)}, "2026-01-01"),
    ],
)
def test_competitions_that_codabench_would_refuse(changed: dict[str, Any], named: str) -> None:
    facts = {"title": "t", "start": DAYS.start, "final": DAYS.final, "end": DAYS.end}
    with pytest.raises(ConfigError, match=named):
        Competition(**(facts | changed))


@pytest.mark.parametrize("title", ['"quoted": #1', "Émotions mêlées", "- @clips@ {{ x }}", "yes"])
def test_any_title_is_read_as_it_is(reference: Reference, title: str) -> None:
    content = make_files(reference, Competition(title, DAYS.start, DAYS.final, DAYS.end))
    assert yaml.safe_load(content["competition.yaml"])["title"] == title


def test_other_folders_and_labels_are_refused(reference: Reference, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        write_bundle(tmp_path, reference, DAYS)
    plain = {name: label for name, label in TRUTH.items() if len(label) == 1}
    with pytest.raises(DataError, match="no blends"):
        write_bundle(tmp_path / "b", read_reference(write_reference(tmp_path / "plain.csv", plain)), DAYS)
    assert not (tmp_path / "b").exists()


def test_the_command(tmp_path: Path) -> None:
    labels = write_reference(tmp_path / "labels.csv", TRUTH)
    words = [str(tmp_path / "b"), "--reference", str(labels), "--title", "T", "--start", "2027-01-01"]
    done = CliRunner().invoke(codabench, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert f"{tmp_path / 'b' / 'bundle.zip'}: " in done.output
    assert f"{CLIPS} clips" in done.output
    found = yaml.safe_load((tmp_path / "b" / "competition.yaml").read_text())
    assert [phase["start"].isoformat() for phase in found["phases"]] == ["2027-01-01", "2027-03-25"]
    assert found["phases"][1]["end"].isoformat() == "2027-04-01"


# ------------------------------------------------------------------------------------------------- the scoring program


def test_the_scoring_program_needs_python_3_7_at_most(bundle: Path) -> None:
    source = (bundle / "scoring_program" / "scoring.py").read_text(encoding="utf-8")
    found = vermin.detect(source)
    assert found[1] <= (3, 7)
    assert vermin.detect("x = (y := 3)")[1] == (3, 8), "the check finds what is newer"
    imported = {line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= {"html", "json", "math", "os", "sys", "zipfile"}
    assert (bundle / "starting_kit" / "check.py").read_text(encoding="utf-8") == source


def random_labels(source: random.Random) -> dict[str, list[dict[str, Any]]]:
    """Labels whose saliences are written in all ways that the official scoring rounds to the same."""

    def write(share: int) -> Any:
        return source.choice([share, float(share), str(share), share + 0.3, share - 0.4])

    skill = source.random()
    found = answer(TRUTH, skill, source.randrange(10**9))
    return {n: [{"emotion": e, "salience": write(s)} for e, s in label.items()] for n, label in found.items()}


def test_a_thousand_submissions_score_what_the_official_rules_say(
    program: ModuleType, reference: Reference, tmp_path: Path
) -> None:
    source = random.Random(1)
    truth = [TRUTH[name] for name in TRUTH]
    seen = set()
    path = tmp_path / "s.json"
    for _ in range(1000):
        entries = random_labels(source)
        names = list(entries)
        source.shuffle(names)
        text = json.dumps({"predictions": {f"{name}.mov": entries[name] for name in names}})
        labels = program.read_labels(program.parse(text.encode()), list(TRUTH))
        found = program.score(TRUTH, labels)
        said = [{e["emotion"]: round(float(e["salience"])) for e in entries[name]} for name in TRUTH]
        presence, salience = literal_protocol.presence(truth, said), literal_protocol.salience(truth, said)
        assert (found["acc_presence"], found["acc_salience"]) == (presence, salience)
        assert found["score"] == 0.5 * presence + 0.5 * salience
        path.write_text(text)
        ours = decode_file(path, reference).scores
        assert (ours.presence, ours.salience, ours.score) == (presence, salience, found["score"])
        seen.add(found["score"])
    assert len(seen) > 100


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True], ids=["this Python", "the oldest Python"])
def test_it_scores_as_the_platform_runs_it(platform: Platform, reference: Reference, tmp_path: Path, old: bool) -> None:
    python = find_oldest_python() if old else sys.executable
    if python is None:
        pytest.skip("no older Python is installed here: vermin checks the syntax")
    text = json.dumps(as_json(answer(TRUTH, 0.5, 3)))
    platform.send({NAME: text})
    done = platform.score(python)
    assert done.returncode == 0, done.stderr
    (tmp_path / "s.json").write_text(text)
    ours = score_file(tmp_path / "s.json", reference)
    assert platform.scores == {key: ours[key] for key in ("score", "acc_presence", "acc_salience")}
    assert sorted(path.name for path in (platform.app / "output").iterdir()) == ["detailed_results.html", "scores.json"]
    assert f"<td>{ours['score']:.4f}</td>" in platform.page
    assert all(f'<th scope="row">{emotion}</th>' in platform.page for emotion in EMOTIONS)
    assert "src=" not in platform.page
    assert "http" not in platform.page


def test_the_page_counts_each_emotion(program: ModuleType) -> None:
    truth: dict[str, Label] = {"a": {"ang": 100}, "b": {"ang": 70, "sad": 30}, "c": {"neu": 100}}
    labels: dict[str, Label] = {"a": {"ang": 100}, "b": {"ang": 30, "sad": 70}, "c": {"ang": 100}}
    page = program.describe(truth, labels, program.score(truth, labels))
    assert '<th scope="row">ang</th><td>2</td><td>1.0000</td><td>0.6667</td>' in page
    assert '<th scope="row">hap</th><td>0</td><td>-</td><td>-</td>' in page
    assert '<th scope="row">one emotion</th><td>2</td><td>0.5000</td><td>0.5000</td>' in page
    assert '<th scope="row">blend</th><td>1</td><td>1.0000</td><td>0.0000</td>' in page


@pytest.mark.parametrize(
    "litter",
    [
        {f"mine/deep/{NAME}": ""},
        {f"__MACOSX/._{NAME}": "x", f"mine/._{NAME}": "x", ".DS_Store": "x", NAME: ""},
        {"other.json": ""},
        {"notes.json": "{}", f"mine/{NAME}": ""},
    ],
    ids=["nested", "macOS", "another name", "two JSON files"],
)
def test_what_it_tolerates(platform: Platform, litter: dict[str, str]) -> None:
    text = json.dumps(as_json(TRUTH))
    platform.send({name: content or text for name, content in litter.items()})
    assert platform.score().returncode == 0
    assert platform.scores == {"score": 1.0, "acc_presence": 1.0, "acc_salience": 1.0}


def hostile() -> dict[str, tuple[dict[str, str | bytes], str]]:
    whole = as_json(TRUTH)
    text = json.dumps(whole)
    first = next(iter(whole["predictions"]))
    fewer = {"predictions": {name: label for name, label in whole["predictions"].items() if name != first}}
    more = {"predictions": whole["predictions"] | {"<script>.mov": [{"emotion": "sad", "salience": 100}]}}
    twice = text[:-2] + f', "{first}": []}}}}'
    return {
        "nothing": ({}, "found no file"),
        "no JSON": ({"s.zip": b"PK\x03\x04"}, "1 other file (first: \"s.zip\")"),
        "two": ({"a.json": text, "b.json": text}, '2 JSON files (first: "a.json")'),
        "not JSON": ({NAME: "{"}, "not JSON"),
        "not UTF-8": ({NAME: b"\xff"}, "not JSON"),
        "a list": ({NAME: "[]"}, '"predictions"'),
        "deep": ({NAME: "[" * 100_000}, "nested"),
        "huge": ({NAME: " " * 10_000_001}, "10000000"),
        "a clip less": ({NAME: json.dumps(fewer)}, '1 missing clip (first: "test_0001")'),
        "a clip more": ({NAME: json.dumps(more)}, '1 unknown clip (first: "<script>")'),
        "a clip twice": ({NAME: twice}, '1 repeated clip (first: "test_0001")'),
        "a long number": (
            {NAME: text.replace('"salience": 100', '"salience": 1' + "0" * 1_000_000, 1)}, "1 wrong label",
        ),
        "a long name": ({NAME: text.replace("test_0001", "x" * 100_000)}, '1 unknown clip (first: "xxx'),
    }  # fmt: skip


@pytest.mark.parametrize("case", hostile())
def test_what_cannot_be_scored_is_explained(platform: Platform, case: str) -> None:
    files, reason = hostile()[case]
    platform.send(files)
    done = platform.score()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("cannot be scored: ")
    assert not (platform.app / "output" / "scores.json").exists()
    assert html.escape(reason) in platform.page
    assert "<script" not in platform.page
    assert len(platform.page) < 20_000


def test_the_organiser_may_give_a_score_of_0(reference: Reference, tmp_path: Path) -> None:
    zero = Competition(DAYS.title, DAYS.start, DAYS.final, DAYS.end, refused_score_0=True)
    write_bundle(tmp_path / "b", reference, zero)
    platform = Platform(tmp_path / "app", tmp_path / "b")
    platform.send({NAME: "{"})
    assert platform.score().returncode == 0
    assert platform.scores == {"score": 0.0, "acc_presence": 0.0, "acc_salience": 0.0}
    assert "not JSON" in platform.page


def accepted(program: ModuleType, label: Any, path: Path) -> tuple[bool, bool]:
    """Whether the program and the harness take a label."""
    text = json.dumps({"predictions": {"a.mov": label}})
    path.write_text(text)
    try:
        read_predictions(path)
    except BlemoreError:
        ours = False
    else:
        ours = True
    try:
        program.read_labels(program.parse(text.encode()), ["a"])
    except program.Refused:
        return False, ours
    return True, ours


@pytest.mark.parametrize(("label", "reason"), BAD_LABELS)
def test_labels_that_the_harness_refuses_are_refused(
    program: ModuleType, label: Any, reason: str, tmp_path: Path
) -> None:
    assert accepted(program, label, tmp_path / "a.json") == (False, False), reason


def test_the_program_and_the_harness_take_the_same_labels(program: ModuleType, tmp_path: Path) -> None:
    source = random.Random(2)
    values = [*(s for pair in SHARES for s in pair), 100, 100.0, "100", "7_0", " 30 ", 69.5, 30.5, 50.5, 49.5, 0, -30,
              1e400, math.nan, True, None, "x", [], 10**25]  # fmt: skip
    both = [0, 0]
    for _ in range(2000):
        names = source.choices([*EMOTIONS, "joy", None, 3], k=source.choice([1, 2, 2, 2]))
        label = [{"emotion": name, "salience": source.choice(values)} for name in names]
        theirs, ours = accepted(program, label, tmp_path / "a.json")
        assert theirs == ours, label
        both[ours] += 1
    assert min(both) > 20


# ----------------------------------------------------------------------------------------------------- the starting kit


def check(bundle: Path, path: Path) -> tuple[int, str]:
    words = [sys.executable, str(bundle / "starting_kit" / "check.py"), str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def put_zip(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_the_template_passes_the_checks(bundle: Path, tmp_path: Path) -> None:
    path = put_zip(tmp_path / "s.zip", {NAME: (bundle / "starting_kit" / NAME).read_text()})
    assert check(bundle, path) == (0, "ready to upload\n")
    assert check_submission(path, TRUTH) == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({f"mine/{NAME}": as_json(TRUTH)}, f"mine/{NAME}"),
        ({NAME: as_json(TRUTH), f"__MACOSX/._{NAME}": {}}, "zip -X"),
        ({NAME: as_json(TRUTH), "metadata": {}}, "2 files"),
        ({NAME: as_json(TRUTH, "")}, f"{CLIPS} wrong keys"),
        ({NAME: as_json(dict(list(TRUTH.items())[1:]))}, "1 missing clip"),
        ({}, "no file"),
    ],
)
def test_the_checker_explains(bundle: Path, tmp_path: Path, files: dict[str, Any], reason: str) -> None:
    code, said = check(bundle, put_zip(tmp_path / "s.zip", {name: json.dumps(text) for name, text in files.items()}))
    assert code == 1
    assert reason in said
    assert said.endswith("would be refused\n")


def test_the_checker_takes_anything(bundle: Path, tmp_path: Path) -> None:
    assert check(bundle, tmp_path / "none.zip")[0] == 1
    (tmp_path / "a.zip").write_bytes(b"PK")
    assert check(bundle, tmp_path / "a.zip")[0] == 1
    assert check(bundle, tmp_path)[0] == 1
