"""What `data check` finds, as numbers and as lines for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from blemore_harness.cli import cli
from blemore_harness.data.download import DEMO_MARKER, read_dataset
from blemore_harness.data.inspection import inspect_dataset, inspect_videos, render_inspection
from builders import COLUMNS, put, rows_of, write_download, write_metadata
from fakes import RecordingReporter
from media_files import gradient_frames, sine, write_media
from real_material import REAL, needs_real, real_labels


def test_everything_is_counted(tmp_path: Path) -> None:
    data = write_download(tmp_path)
    next(data.rglob("A2_ang_int1_ver1.mov")).unlink()
    next(data.rglob("test_0003.mov")).unlink()
    next(data.rglob("A1_ang_int1_ver1.npy")).unlink()
    found = inspect_dataset(read_dataset(data))
    assert json.loads(json.dumps(found)) == found
    assert found == {
        "root": str(tmp_path.resolve()),
        "demo": False,
        "corpus": "",
        "clips": 60,
        "actors": 6,
        "singles": {"ang": 6, "disg": 6, "fea": 6, "hap": 6, "sad": 6, "neu": 6},
        "blends": {"ang+fea 30/70": 6, "ang+fea 50/50": 6, "ang+fea 70/30": 6, "disg+sad 50/50": 6},
        "fold_source": "metadata",
        "folds": {
            "0": {"clips": 30, "blends": 12, "actors": ["A1", "A3", "A5"]},
            "1": {"clips": 30, "blends": 12, "actors": ["A2", "A4", "A6"]},
        },
        "test_clips": 3,
        "test_clips_missing": {"missing": 591, "first_missing": ["test_0004"]},
        "videos": {"present": 61, "missing": 2, "first_missing": ["A2_ang_int1_ver1"]},
        "features": {"WavLM_large": {"train": 59, "test": 3}},
        "warnings": [],
    }


def test_lines_for_people(tmp_path: Path) -> None:
    data = write_download(tmp_path / "data")
    next(data.rglob("A2_ang_int1_ver1.mov")).unlink()
    put(data / "stray.mp4")
    lines = render_inspection(inspect_dataset(read_dataset(data))).splitlines()
    assert lines == [
        f"dataset    {data.resolve()}",
        "clips      60 training, 3 test",
        "actors     6 in training",
        "labels     36 single (ang 6, disg 6, fea 6, hap 6, sad 6, neu 6), 24 blends of 4 kinds",
        "folds      2, from the metadata, NOT the official folds",
        "  fold 0   30 clips, 12 blends, 3 actors",
        "  fold 1   30 clips, 12 blends, 3 actors",
        "test clips 3 of 594 official ones, 591 missing (first: test_0004): "
        "Codabench rejects incomplete files; download the missing clips",
        "videos     62 present, 1 missing (first: A2_ang_int1_ver1)",
        "features   WavLM_large: 60 training, 3 test",
        "warning    1 video (first: 'stray.mp4') without a row in the metadata: ignored",
    ]


def test_a_gap_in_the_official_test_clips_is_named(tmp_path: Path) -> None:
    data = write_download(tmp_path, tests=594)
    assert "test clips" not in render_inspection(inspect_dataset(read_dataset(data)))
    next(data.rglob("test_0417.mov")).unlink()
    assert "test clips" not in render_inspection(inspect_dataset(read_dataset(data))), "its features are there"
    next(data.rglob("test_0417.npy")).unlink()
    found = inspect_dataset(read_dataset(data))
    assert found["test_clips_missing"] == {"missing": 1, "first_missing": ["test_0417"]}
    assert "test clips 593 of 594 official ones, 1 missing (first: test_0417)" in render_inspection(found)
    put(data / DEMO_MARKER, "{}")
    demo = inspect_dataset(read_dataset(data))
    assert demo["test_clips_missing"]["missing"] == 0
    assert "official ones" not in render_inspection(demo)


def test_made_folds_are_said_to_be(tmp_path: Path) -> None:
    write_metadata(tmp_path, rows_of(), COLUMNS[:-1])
    text = render_inspection(inspect_dataset(read_dataset(tmp_path)))
    assert "folds      5, made from a seed because the metadata has none, NOT the official folds" in text
    assert "warning    the metadata has no fold column: made 5 actor-disjoint folds (seed 0)" in text
    assert "videos     0 present, 60 missing (first: A1_ang_int1_ver1)" in text
    assert "features   no released features found" in text


def test_a_folder_of_labels_alone_says_what_it_is_good_for(tmp_path: Path) -> None:
    words = "labels only, such as score and submit"
    write_metadata(tmp_path / "bare", rows_of())
    assert words in render_inspection(inspect_dataset(read_dataset(tmp_path / "bare")))
    assert words not in render_inspection(inspect_dataset(read_dataset(write_download(tmp_path / "whole"))))


@pytest.mark.encoders
def test_every_clip_is_decoded_and_broken_ones_are_listed(tmp_path: Path) -> None:
    rows = rows_of(actors=2, folds=2)
    data = write_download(tmp_path, rows, tests=1)
    good = write_media(tmp_path / "good.mov", gradient_frames(8), sine(0.5, 16_000))
    files = sorted(data.rglob("*_*.mov"))
    for path in files:
        path.write_bytes(good.read_bytes())
    good.unlink()
    text, cut, mute = files[0], files[1], files[2]
    text.write_text("no video")
    cut.write_bytes(cut.read_bytes()[:-1000])
    write_media(mute, gradient_frames(8))
    reporter = RecordingReporter()
    found = inspect_videos(read_dataset(data), reporter)
    assert found["clips"] == len(files)
    assert set(found["broken"]) == {path.stem for path in (text, cut, mute)}
    assert all(name in reason for name, reason in found["broken"].items())
    result = CliRunner().invoke(cli, ["data", "check", str(data), "--decode"], standalone_mode=False)
    assert result.return_value == 1
    assert f"decoded    {len(files)} clips, 3 of them broken" in result.stdout
    assert text.stem in result.stdout
    for path in (text, cut, mute):
        path.write_bytes(files[-1].read_bytes())
    result = CliRunner().invoke(cli, ["data", "check", str(data), "--decode", "--json"], standalone_mode=False)
    assert (result.return_value, json.loads(result.stdout)["decoded"]["broken"]) == (0, {})


@needs_real
def test_the_real_metadata() -> None:
    found = inspect_dataset(read_dataset(REAL))
    labels = list(real_labels().values())
    assert found["clips"] == len(labels) == 2456
    assert found["actors"] == 47
    assert sum(found["singles"].values()) == sum(1 for label in labels if max(label) == 100)
    assert sum(found["blends"].values()) == 1326
    assert {k: (fold["clips"], fold["blends"]) for k, fold in found["folds"].items()} == {
        "0": (522, 280), "1": (486, 270), "2": (468, 240), "3": (472, 240), "4": (508, 296),
    }  # fmt: skip
    text = render_inspection(found)
    assert "folds      5, the official folds" in text
    assert "1326 blends of 30 kinds" in text
