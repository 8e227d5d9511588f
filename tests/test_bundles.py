"""`predict` and `bundle` as they are typed: files, streams and exit codes; a bundle answers the same elsewhere."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from blemore_harness.cli import cli
from blemore_harness.clips import EMOTIONS
from blemore_harness.errors import RunError
from blemore_harness.files.bundles import BUNDLE_FILE, open_bundle
from blemore_harness.files.leaderboard import read_submission
from builders import put, rows_of, write_download


def type_in(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)


def say(*words: object) -> str:
    answer = type_in(*words)
    assert answer.exception is None, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in `runs`, and its bundle `models.zip`."""
    root = tmp_path_factory.mktemp("made")
    write_download(root / "data", rows_of(actors=6, folds=3), tests=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLEMORE_CACHE", str(root / "cache"))
        words = ("--plugin", "trivial-single,trivial-blend", "--fusion", "mean", "--runs", root / "runs")
        say("run", *words, "--data", root / "data")
        say("bundle", "trivial", "-o", root / "models.zip", "--runs", root / "runs")
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another cache, and another folder to work in."""
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_answers_as_a_table_and_as_json(made: Path) -> None:
    words = ("predict", "trivial", made / "data" / "test", "--runs", made / "runs")
    rows = list(csv.DictReader(say(*words).splitlines()))
    [home] = (made / "runs").glob("trivial*/submission.zip")
    labels = read_submission(home)
    assert [row["clip"] for row in rows] == [f"{clip}.mov" for clip in labels]
    for row in rows:
        label = [0] * 6
        for which in ("1", "2"):
            if row[f"emotion_{which}"]:
                label[EMOTIONS.index(row[f"emotion_{which}"])] = int(row[f"salience_{which}"])
        assert tuple(label) == labels[row["clip"].removesuffix(".mov")]
    found = json.loads(say(*words, "--json"))
    assert (found["run"], found["system"], found["caveat"], found["remarks"]) == (home.parent.name, "mean", None, [])
    for row, clip in zip(rows, found["clips"], strict=True):
        assert clip["clip"] == row["clip"]
        assert {emotion: float(row[emotion]) for emotion in EMOTIONS} == clip["probabilities"]
        assert clip["base_models"].keys() == {"trivial-single", "trivial-blend"}
        for base, values in clip["base_models"].items():
            assert {emotion: float(row[f"{base}:{emotion}"]) for emotion in EMOTIONS} == values
    assert say(*words, "-o", "answers.csv") == "answers.csv: 3 clips\n"
    assert list(csv.DictReader(Path("answers.csv").read_text().splitlines())) == rows
    assert say(*words, "-o", "answers.json").startswith("answers.json")
    assert json.loads(Path("answers.json").read_text()) == found
    alone = json.loads(say(*words, "--json", "--system", "trivial-blend"))
    assert alone["system"] == "trivial-blend"
    assert [each["base_models"] for each in alone["clips"]] == [{}] * 3
    assert alone["clips"][0]["probabilities"] == found["clips"][0]["base_models"]["trivial-blend"]


def test_the_caveat_of_the_run_stands_in_the_answer_and_on_stderr(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "runs", "runs")
    [file] = Path("runs").glob("trivial*/record.json")
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "caveat": "demo: untrained"}))
    for identity in Path("runs").glob("systems/mean-*/identity.json"):
        identity.write_text(json.dumps({**json.loads(identity.read_text()), "core": "another"}))
    say("bundle", "trivial", "-o", "marked.zip", "--runs", "runs")
    for run in ("trivial", "marked.zip"):
        answer = type_in("predict", run, made / "data" / "test", "--runs", "runs", "--json")
        found = json.loads(answer.stdout)
        assert found["caveat"] == "demo: untrained"
        assert "demo: untrained" in answer.stderr
        assert found["remarks"] == ["mean: trained with another version of the code"]
        assert "another version" in answer.stderr


def test_a_clip_that_cannot_be_used_is_a_row_and_exit_code_one(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from blemore_harness.running import new_clips

    put(Path("new/a.mov"), "fine")
    put(Path("new/b.mov"), "fine, too")
    monkeypatch.setattr(new_clips, "_why_closed", lambda path: "on strike" if path.name == "a.mov" else "")
    answer = type_in("predict", made / "models.zip", "new", "-o", "answers.csv")
    assert answer.return_value == 1
    assert answer.stdout == "answers.csv: 2 clips, 1 without a label\n"
    broken, fine = csv.DictReader(Path("answers.csv").read_text().splitlines())
    assert (broken["clip"], broken["emotion_1"], broken["ang"], broken["remarks"]) == ("a.mov", "", "", "on strike")
    assert fine["emotion_1"]


def test_pretrained_weights_that_are_not_in_a_bundle_are_named(made: Path) -> None:
    shutil.copytree(made / "runs", "runs")
    [file] = Path("runs").glob("trivial*/record.json")
    record = json.loads(file.read_text())
    record["systems"][0]["card"] |= {"parameters": 95_000_000, "source": "https://weights.example"}
    file.write_text(json.dumps(record))
    answer = type_in("bundle", "trivial", "-o", "models.zip", "--runs", "runs")
    assert answer.exit_code == 0
    [line] = [line for line in answer.stderr.splitlines() if "weights" in line]
    assert record["systems"][0]["name"] in line
    assert "https://weights.example" in line


def test_a_bundle_answers_the_same_elsewhere(made: Path) -> None:
    words = (made / "data" / "test", "--json")
    assert say("predict", made / "models.zip", *words) == say("predict", "trivial", *words, "--runs", made / "runs")
    assert not Path("blemore-runs").exists()
    say("bundle", made / "models.zip", "-o", "again.zip", "--system", "trivial-blend")
    assert json.loads(say("predict", "again.zip", *words))["system"] == "trivial-blend"
    answer = type_in("predict", "again.zip", *words, "--system", "mean")
    assert "'mean' (finished: trivial-blend)" in str(answer.exception)


def test_a_bundle_holds_no_code_and_no_path_of_its_machine(made: Path) -> None:
    with zipfile.ZipFile(made / "models.zip") as archive:
        names = archive.namelist()
        texts = [archive.read(name).decode() for name in names if name.endswith(".json")]
    assert {Path(name).suffix for name in names} <= {".json", ".safetensors"}
    assert [text for text in texts if str(made) in text or str(Path.home()) in text] == []
    [record] = [json.loads(text) for name, text in zip(names, texts, strict=True) if name.endswith("record.json")]
    assert {system["name"] for system in record["systems"]} == {"trivial-single", "trivial-blend", "mean"}
    assert record["systems"][0]["card"]["pretraining"] == "none"


Files = dict[str, bytes]


def facts_of(files: Files) -> Any:
    return json.loads(files[BUNDLE_FILE])


def with_facts(inside: Files, **changed: Any) -> Files:
    return {**inside, BUNDLE_FILE: json.dumps({**facts_of(inside), **changed}).encode()}


def with_file(files: Files, name: str, content: bytes = b"{}") -> Files:
    listed = {**facts_of(files)["files"], name: hashlib.sha256(content).hexdigest()}
    return {**with_facts(files, files=listed), name: content}


def without(files: Files, ending: str) -> Files:
    listed = {name: digest for name, digest in facts_of(files)["files"].items() if not name.endswith(ending)}
    return {name: data for name, data in with_facts(files, files=listed).items() if not name.endswith(ending)}


def model_of(files: Files) -> str:
    return next(name for name in files if name.endswith("model.json"))


DAMAGE: dict[str, tuple[Callable[[Files], Files], str]] = {
    "another model": (lambda f: {**f, model_of(f): f[model_of(f)].replace(b"0.5", b"0.4")}, "model.json"),
    "a model that is missing": (lambda f: {k: v for k, v in f.items() if k != model_of(f)}, "model.json"),
    "code": (lambda f: with_file(f, "systems/x/model.py"), "model.py"),
    "a pickle": (lambda f: with_file(f, "systems/x/model.pkl"), "model.pkl"),
    "a path upwards": (lambda f: with_file(f, "../../outside.json"), "outside.json"),
    "an absolute path": (lambda f: with_file(f, "/outside.json"), "outside.json"),
    "a later schema": (lambda f: with_facts(f, schema=2), "2"),
    "a run upwards": (lambda f: with_facts(f, run=".."), "record.json"),
    "no record": (lambda f: without(f, "record.json"), "record.json"),
    "no list": (lambda f: {k: v for k, v in f.items() if k != BUNDLE_FILE}, "no bundle"),
    "a list that is none": (lambda f: {**f, BUNDLE_FILE: b"[]"}, "bundle.json"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_bundle_that_was_changed_is_refused(case: str, made: Path, tmp_path: Path) -> None:
    change, says = DAMAGE[case]
    with zipfile.ZipFile(made / "models.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "changed.zip", "w") as archive:
        for name, data in change(files).items():
            archive.writestr(name, data)
    answer = type_in("predict", "changed.zip", made / "data" / "test")
    assert isinstance(answer.exception, RunError)
    assert "changed.zip" in str(answer.exception)
    assert says in str(answer.exception)
    assert list(tmp_path.rglob("outside.json")) == []
    assert list((tmp_path / "cache" / "new-clips").iterdir()) == []


def test_a_small_file_cannot_become_a_large_one(made: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(BUNDLE_FILE, json.dumps({"schema": 1, "run": "x", "files": {}}) + " " * 10**6)
    with pytest.raises(RunError, match=r"bomb\.zip.*not compressed"):
        open_bundle(Path("bomb.zip"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no zip at all"])
def test_what_is_no_zip_file_is_said_in_plain_words(content: bytes, made: Path) -> None:
    Path("models.zip").write_bytes(content)
    answer = type_in("predict", "models.zip", made / "data" / "test")
    assert isinstance(answer.exception, RunError)
    assert str(answer.exception).startswith("models.zip is no bundle")


def test_a_bundle_that_is_not_there_is_named(made: Path) -> None:
    answer = type_in("predict", "nowhere.zip", made / "data" / "test")
    assert isinstance(answer.exception, RunError)
    assert str(answer.exception).count("nowhere.zip") == 1
    assert "expected" in str(answer.exception)
    answer = type_in("predict", "nobody", made / "data" / "test", "--runs", made / "runs")
    assert "trivial-single,trivial-blend" in str(answer.exception)


@pytest.mark.parametrize("words", [("-o", "x.txt"), ("-o", "x.csv", "--json")])
def test_an_output_that_cannot_be_is_wrong_usage(words: tuple[str, ...], made: Path) -> None:
    answer = type_in("predict", made / "models.zip", made / "data" / "test", *words)
    assert isinstance(answer.exception, click.UsageError)
    assert words[1] in str(answer.exception)


@pytest.mark.once
def test_models_of_isolated_plugins_are_kept_too(made: Path, tmp_path: Path) -> None:
    words = ("--plugin", "trivial-single,trivial-blend", "--fusion", "mean", "--runs", "runs", "--data", made / "data")
    say("run", *words, "--isolate", "--keep-models", "all")
    models = {path.relative_to("runs").as_posix(): path.read_bytes() for path in Path("runs").rglob("*-model/*.json")}
    assert len(models) == 3 * 4
    for path in (made / "runs").rglob("final-model/*.json"):
        assert models[path.relative_to(made / "runs").as_posix()] == path.read_bytes()
