"""`rank`, and `score` of several files: made submissions, hostile ones among them, by labels that an organiser has."""

from __future__ import annotations

import io
import json
import os
import random
import re
import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from blemore_harness.cli import cli
from blemore_harness.errors import BlemoreError, DataError, MetadataError
from blemore_harness.files.leaderboard import write_submission
from blemore_harness.files.prediction_files import write_probabilities
from blemore_harness.files.scoring import read_reference
from blemore_harness.files.submission_format import MAX_BYTES
from blemore_harness.predictions import Probabilities
from blemore_harness.scoring import paired_tests
from blemore_harness.scoring.intervals import ActorCounts
from blemore_harness.scoring.paired_tests import compare_answers, swap_answers
from blemore_harness.scoring.ranking import find_sent, rank_files, score_file
from golden import literal_protocol
from organiser_files import COLUMNS, EMOTIONS, Label, answer, as_json, draw_truth, write_reference

TRUTH = draw_truth(120, seed=5)
NAME = "submission_template.json"


def put_zip(path: Path, files: Mapping[str, str | bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def text_of(labels: Mapping[str, Label]) -> str:
    return json.dumps(as_json(labels))


def put_json(path: Path, labels: Mapping[str, Label]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text_of(labels))
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write_reference(tmp_path / "test_metadata.csv", TRUTH, actors=10)


@dataclass(frozen=True)
class Ended:
    """What a command left: exit code, stdout, and its error."""

    exit_code: int
    stdout: str
    exception: BaseException | None


def call(*words: object) -> Ended:
    result = CliRunner().invoke(cli, [*map(str, words)], standalone_mode=False)
    code = getattr(result.exception, "exit_code", 99) if result.exception else result.return_value or 0
    return Ended(code, result.stdout, result.exception)


def ranking(*words: object) -> Any:
    result = call("rank", *words, "--json")
    return json.loads(result.stdout)


# ------------------------------------------------------------------------------------------------------- what is ranked


def test_every_kind_of_file_scores_what_the_rules_say(reference: Path, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    answers = {f"team{k}": answer(TRUTH, k / 5, seed=k) for k in range(5)}
    put_zip(sent / "team0.zip", {NAME: text_of(answers["team0"])})
    put_zip(sent / "team1.zip", {f"mine/{NAME}": text_of(answers["team1"]), "__MACOSX/._x.json": "", ".DS_Store": ""})
    put_json(sent / "team2.json", answers["team2"])
    put_json(sent / "team3" / NAME, answers["team3"])
    put_json(sent / "team4" / "deep" / "last.json", answers["team4"])
    (sent / ".hidden.json").write_text("{")
    (sent / "__MACOSX").mkdir()
    (sent / "__MACOSX" / "x.json").write_text("{")
    found = ranking(sent, "--reference", reference)
    assert found["refused"] == []
    truth = list(TRUTH.values())
    scores = {}
    for name, labels in answers.items():
        said = [labels[clip] for clip in TRUTH]
        scores[name] = literal_protocol.presence(truth, said), literal_protocol.salience(truth, said)
    ranked = {row["name"].partition(os.sep)[0]: (row["acc_presence"], row["acc_salience"]) for row in found["ranked"]}
    assert ranked == scores
    assert list(ranked) == sorted(scores, key=lambda name: -sum(scores[name]))
    assert [row["name"] for row in found["ranked"] if "last" in row["name"]] == ["team4/deep/last"]


def test_probabilities_are_decoded_by_given_or_by_the_best_thresholds(reference: Path, tmp_path: Path) -> None:
    values = np.array([[label.get(name, 0) / 100 for name in EMOTIONS] for label in TRUTH.values()])
    write_probabilities(tmp_path / "sent" / "a.csv", Probabilities(tuple(TRUTH), values))
    put_json(tmp_path / "sent" / "b.json", TRUTH)
    best = call("rank", tmp_path / "sent", "--reference", reference)
    assert best.exit_code == 0
    assert "optimistic: thresholds chosen on the scored clips, for 1 file (first: 'a')" in best.stdout
    given = ranking(tmp_path / "sent", "--reference", reference, "--alpha", ".6", "--beta", ".1")
    assert (given["ranked"][0]["name"], given["ranked"][0]["score"]) == ("b", 1.0)
    assert given["ranked"][1]["acc_salience"] < 0.5
    assert not any(row["chosen"] for row in given["ranked"])


def test_submissions_that_cannot_be_told_apart_are_tied(reference: Path, tmp_path: Path) -> None:
    for name, skill in {"good": 0.8, "alike": 0.78, "bad": 0.2}.items():
        put_json(tmp_path / "sent" / f"{name}.json", answer(TRUTH, skill, seed=len(name)))
    put_json(tmp_path / "sent" / "again.json", answer(TRUTH, 0.2, seed=3))
    found = ranking(tmp_path / "sent", "--reference", reference)
    groups = {row["name"]: row["group"] for row in found["ranked"]}
    assert groups == {"good": 1, "alike": 1, "again": 2, "bad": 2}
    assert found["ranked"][0]["p_first"] is None
    assert found["ranked"][-1]["p_first"] < 0.05 < found["ranked"][1]["p_first"]
    for row in found["ranked"]:
        low, high = row["intervals"]["score"]
        assert low < row["score"] < high
    equal = [row for row in found["ranked"] if row["name"] in ("again", "bad")]
    assert equal[0]["score"] == equal[1]["score"]


def test_without_actors_there_are_no_intervals_and_no_ties(tmp_path: Path) -> None:
    put_json(tmp_path / "sent" / "a.json", answer(TRUTH, 0.5, seed=1))
    put_json(tmp_path / "sent" / "b.json", answer(TRUTH, 0.1, seed=1))
    without = [column for column in COLUMNS if column != "video_id"]
    for file, actors, columns in (("x.csv", 4, without), ("y.csv", 0, COLUMNS), ("z.csv", 2, COLUMNS)):
        labels = write_reference(tmp_path / file, TRUTH, actors, columns)
        found = ranking(tmp_path / "sent", "--reference", labels)
        assert {(row["group"], row["intervals"], row["p_first"]) for row in found["ranked"]} == {(None, None, None)}
        said = call("rank", tmp_path / "sent", "--reference", labels).stdout
        assert f"{file} names fewer than 3 actors" in said


# ------------------------------------------------------------------------------------------------- hostile and broken


def damaged(name: str) -> Mapping[str, str | bytes]:
    text = text_of(TRUTH)
    entry = {"emotion": "sad", "salience": 100}
    return {
        "nan.json": text.replace('"salience": 100', '"salience": NaN', 1),
        "bool.json": text.replace('"salience": 100', '"salience": true', 1),
        "huge.json": text.replace('"salience": 100', '"salience": 1' + "0" * 400, 1),
        "sum.json": text.replace('"salience": 70', '"salience": 60', 1),
        "long.json": text.replace("test_0001", "x" * 100_000),
        "missing.json": text_of(dict(list(TRUTH.items())[1:])),
        "twice.json": text[:-2] + f', "test_0001.mov": {json.dumps([entry])}}}}}',
        "deep.json": "[" * 100_000,
        "list.json": "[1, 2]",
        "large.json": " " * 50_000_001,
        "rows.csv": "filename;ang;disg;fea;hap;sad;neu\n",
        "team.rar": b"Rar!",
        "empty.zip": b"",
    }  # fmt: skip


def hostile_zips(folder: Path) -> dict[str, str]:
    """Write zips of which each must be refused; returns what is named of each."""
    text = text_of(TRUTH)
    put_zip(folder / "bomb.zip", {NAME: b" " * (MAX_BYTES + 1)})
    put_zip(folder / "nested.zip", {"inner.zip": put_zip(folder.parent / "inner.zip", {NAME: text}).read_bytes()})
    put_zip(folder / "climbing.zip", {f"../../{NAME}": text})
    put_zip(folder / "drive.zip", {f"C:\\{NAME}": text})
    put_zip(folder / "two.zip", {"a.json": text, "b.json": text})
    put_zip(folder / "text.zip", {"readme.txt": "hello"})
    with zipfile.ZipFile(folder / "link.zip", "w") as archive:
        link = zipfile.ZipInfo(NAME)
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with zipfile.ZipFile(folder / "duplicate.zip", "w") as archive:
        archive.writestr(NAME, text)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(NAME, text_of(answer(TRUTH, 0, 1)))
    whole = put_zip(folder.parent / "whole.zip", {NAME: text}).read_bytes()
    (folder / "cut.zip").write_bytes(whole[: len(whole) // 2])
    locked = bytearray(whole)
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(header) + flags] |= 1
    (folder / "locked.zip").write_bytes(locked)
    return {
        "bomb": f"{MAX_BYTES} bytes", "nested": "inner.zip", "climbing": f"../../{NAME}", "drive": "C:",
        "two": "2 JSON files (first: 'a.json')", "text": "readme.txt", "link": "symbolic link",
        "duplicate": "2 JSON files", "cut": "damaged", "locked": "damaged or unsupported",
    }  # fmt: skip


REASONS = {
    "nan": "NaN", "bool": "true", "huge": "expected a number", "sum": "sum of 100", "long": "unknown 1 clip",
    "missing": "missing 1 clip (first: 'test_0001')", "twice": "1 repeated clip (first: 'test_0001')",
    "deep": "nested", "list": '"predictions"', "large": "50 MB", "rows": "commas instead of semicolons",
    "team": ".rar", "empty": "damaged", "outside": "a symbolic link", "away": "a symbolic link",
}  # fmt: skip


def test_whatever_is_sent_the_others_are_ranked(reference: Path, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    put_json(sent / "good.json", TRUTH)
    reasons = REASONS | hostile_zips(sent)
    for name, content in damaged("x").items():
        (sent / name).write_bytes(content.encode() if isinstance(content, str) else content)
    (tmp_path / "elsewhere").mkdir()
    put_json(tmp_path / "elsewhere" / "secret.json", TRUTH)
    (sent / "outside.json").symlink_to(tmp_path / "elsewhere" / "secret.json")
    (sent / "away").symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.rglob("*"))
    result = call("rank", sent, "--reference", reference, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [row["name"] for row in found["ranked"]] == ["good"]
    assert {row["name"] for row in found["refused"]} == set(reasons)
    for row in found["refused"]:
        assert reasons[row["name"]] in row["reason"], row
        assert row["reason"].isprintable()
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked"
    said = call("rank", sent, "--reference", reference)
    assert said.exit_code == 1
    assert said.stdout.count("cannot be scored: ") == len(reasons)


@pytest.mark.parametrize("words", [["no_such_folder"], ["none.zip"], ["-x"], []])
def test_paths_that_lead_nowhere(reference: Path, tmp_path: Path, words: list[str]) -> None:
    result = call("rank", *words, "--reference", reference)
    assert result.exit_code in (1, 2)
    assert not isinstance(result.exception, OSError)


def test_a_name_that_is_no_file_is_a_row(reference: Path, tmp_path: Path) -> None:
    found = ranking("nowhere", put_json(tmp_path / "a.json", TRUTH), "x" * 5000, "--reference", reference)
    assert [row["name"] for row in found["ranked"]] == ["a"]
    assert [row["reason"] for row in found["refused"]] == ["no such file or folder"] * 2


def test_an_empty_folder(reference: Path, tmp_path: Path) -> None:
    (tmp_path / "sent").mkdir()
    result = call("rank", tmp_path / "sent", "--reference", reference)
    assert isinstance(result.exception, DataError)
    assert "sent" in str(result.exception)


def test_names_are_unique_and_the_reference_is_left_out(tmp_path: Path) -> None:
    for name in ("a/x.json", "b/x.json", "x.csv", "x.json", "x/submission_template.json"):
        put_json(tmp_path / name, TRUTH)
    sent = find_sent([tmp_path, tmp_path / "a", tmp_path / "a" / "x.json"], tmp_path / "x.csv")
    names = [each.name for each in sent]
    assert len(names) == len(set(names)) == 6
    assert {"a/x", "b/x"} <= set(names)
    assert not [each for each in sent if each.path.name == "x.csv"]


# ------------------------------------------------------------------------------------------------------- the reference


def edited(tmp_path: Path, **changes: str) -> Path:
    """A reference whose row of test_0002 is changed: texts by column."""
    path = write_reference(tmp_path / "r.csv", TRUTH, actors=10)
    lines = path.read_text().splitlines()
    cells = lines[2].split(",")
    for column, text in changes.items():
        cells[COLUMNS.index(column)] = text
    path.write_text("\n".join([*lines[:2], ",".join(cells), *lines[3:]]) + "\n")
    return path


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"filename": "test_0001"}, "1 clip (first: 'test_0001')"),
        ({"video_id": ""}, "1 clip (first: 'test_0002')"),
        ({"emotion_1": "joy"}, "'joy'"),
        ({"mix": "7"}, "1 clip (first: 'test_0002')"),
    ],
)
def test_references_that_contradict_themselves(tmp_path: Path, changes: dict[str, str], named: str) -> None:
    with pytest.raises(MetadataError, match=re.escape(named)):
        read_reference(edited(tmp_path, **changes))


def test_other_references(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="semicolons"):
        read_reference(write_reference(tmp_path / "s.csv", TRUTH, separator=";"))
    with pytest.raises(MetadataError, match="emotion_2"):
        read_reference(write_reference(tmp_path / "c.csv", TRUTH, columns=COLUMNS[:4]))
    with pytest.raises(MetadataError, match=r"none\.csv"):
        read_reference(tmp_path / "none.csv")


def test_a_reference_with_a_clip_that_nobody_knows(tmp_path: Path) -> None:
    put_json(tmp_path / "sent" / "a.json", TRUTH)
    found = ranking(tmp_path / "sent", "--reference", edited(tmp_path, filename="test_9999"))
    assert found["ranked"] == []
    [row] = found["refused"]
    assert (
        "120 clips of r.csv: missing 1 clip (first: 'test_9999'), unknown 1 clip (first: 'test_0002')" in row["reason"]
    )


# -------------------------------------------------------------------------------------------------------- several files


def test_score_takes_several_files(reference: Path, tmp_path: Path) -> None:
    files = [put_zip(tmp_path / "a.zip", {NAME: text_of(TRUTH)}), put_json(tmp_path / "b.json", answer(TRUTH, 0.3, 1))]
    files.append(put_zip(tmp_path / "c.zip", {NAME: "{"}))
    result = call("score", *files, "--reference", reference, "--json")
    assert result.exit_code == 1
    first, second, third = json.loads(result.stdout)["files"]
    assert (first["file"], first["score"]) == (str(files[0]), 1.0)
    assert second == {"file": str(files[1]), **score_file(files[1], read_reference(reference))}
    assert "c.zip" in third["error"]
    said = call("score", *files, "--reference", reference)
    assert (said.exit_code, "cannot be scored: " in said.stdout) == (1, True)
    assert call("score", *files[:2], "--reference", reference).exit_code == 0
    lone = call("score", files[2], "--reference", reference)
    assert isinstance(lone.exception, BlemoreError)


def test_submit_checks_several_files(tmp_path: Path) -> None:
    from blemore_harness.protocol.rules import official_test_ids

    ids = official_test_ids()
    labels = np.tile(np.array([0, 0, 0, 0, 100, 0], dtype=np.int8), (len(ids), 1))
    good = tmp_path / "good.zip"
    write_submission(good, ids, labels)
    with zipfile.ZipFile(good) as archive:
        text = archive.read(NAME).decode()
    code = put_zip(tmp_path / "code.zip", {NAME: text, "metadata": "command: x"})
    yaml = put_zip(tmp_path / "yaml.zip", {NAME: text, "metadata.yaml": "x"})
    bare = tmp_path / NAME
    bare.write_text(text)
    result = call("submit", "--check", good, code, yaml, bare, "--json")
    assert result.exit_code == 1
    files = {Path(row["file"]).name: row for row in json.loads(result.stdout)["files"]}
    assert {name: row["accepted"] for name, row in files.items()} == {
        "good.zip": True, "code.zip": False, "yaml.zip": False, NAME: False,
    }  # fmt: skip
    for name in ("code.zip", "yaml.zip"):
        assert any("metadata" in problem and "program" in problem for problem in files[name]["problems"])
    assert "not a zip file" in files[NAME]["problems"][0]
    said = call("submit", "--check", good, bare)
    assert said.exit_code == 1
    assert f"{good}: ready to upload" in said.stdout
    assert call("submit", "--check", good, good, "--json").exit_code == 0


# ------------------------------------------------------------------------------------------------------------ the tests


def random_counts(systems: int, actors: int, seed: int) -> dict[str, ActorCounts]:
    source = np.random.default_rng(seed)
    clips, blends = np.full(actors, 10), np.full(actors, 5)
    folds = np.zeros(actors, dtype=np.int64)
    return {
        f"s{k}": ActorCounts(folds, clips, blends, source.binomial(10, 0.4, actors), source.binomial(5, 0.3, actors))
        for k in range(systems)
    }


@pytest.mark.parametrize("actors", [6, 20])
def test_many_systems_at_once_have_the_p_of_each_pair(actors: int) -> None:
    counts = random_counts(5, actors, seed=1)
    counts["twin"] = counts["s0"]
    found = compare_answers(counts)
    assert len(found) == len(list(combinations(counts, 2)))
    for (one, two), pair in found.items():
        assert pair["p"] == pytest.approx(swap_answers(counts[one], counts[two])[-1], abs=1e-12)
        assert pair["p"] <= pair["adjusted"] <= 1
    assert next(pair["adjusted"] for names, pair in found.items() if set(names) == {"s0", "twin"}) == 1.0
    assert compare_answers({"s0": counts["s0"]}) == {}


def test_it_makes_no_difference_how_many_swaps_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = random_counts(4, 8, seed=2)
    whole = compare_answers(counts)
    monkeypatch.setattr(paired_tests, "CELLS", 13)
    assert compare_answers(counts) == whole


def test_two_systems_need_no_correction() -> None:
    counts = random_counts(2, 9, seed=4)
    [pair] = compare_answers(counts).values()
    assert pair["adjusted"] == pair["p"]


def test_equal_systems_are_rarely_called_different() -> None:
    wrong = sum(
        min(pair["adjusted"] for pair in compare_answers(random_counts(12, 10, seed)).values()) < 0.05
        for seed in range(200)
    )
    # The binomial 99.9 % range around 5 % of 200.
    assert 1 <= wrong <= 21


def test_counts_of_other_clips_are_refused() -> None:
    with pytest.raises(DataError):
        compare_answers({"a": random_counts(1, 5, 0)["s0"], "b": random_counts(1, 6, 0)["s0"]})


# ------------------------------------------------------------------------------------------------------------- the page


@pytest.mark.report
def test_the_page_shows_the_ranking(reference: Path, tmp_path: Path) -> None:
    for k in range(3):
        put_json(tmp_path / "sent" / f"team<b>{k}.json", answer(TRUTH, k / 3, seed=k))
    (tmp_path / "sent" / "bad.json").write_text("{")
    result = call("rank", tmp_path / "sent", "--reference", reference, "--html", tmp_path / "r.html", "--json")
    found = json.loads(result.stdout)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<b>" not in page
    assert all(f"team&lt;b&gt;{k}" in page for k in range(3))
    assert f"{found['ranked'][0]['score']:.4f}"[1:] in page
    assert "1 cannot be scored" in page
    assert "http" not in page


def test_the_files_are_read_in_any_order(reference: Path, tmp_path: Path) -> None:
    files = [put_json(tmp_path / f"{k}.json", answer(TRUTH, 0.5, seed=k)) for k in range(6)]
    labels = read_reference(reference)
    expected = rank_files(find_sent(files, reference), labels)
    shuffled: Sequence[Path] = random.Random(0).sample(files, len(files))
    assert rank_files(find_sent(shuffled, reference), labels) == expected
    assert io.StringIO(json.dumps(expected)).read()
