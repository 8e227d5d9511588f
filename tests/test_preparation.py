"""Preparing ahead of a run, and features written down in the released layout."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
import pytest
from numpy.typing import NDArray

from blemore_harness import hookspecs
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.errors import ConfigError, MediaError, RunError
from blemore_harness.hookspecs import Encoder, hookimpl
from blemore_harness.options import parse_settings
from blemore_harness.predictions import Embeddings
from blemore_harness.running.preparation import prepare_ahead
from blemore_harness.running.run import open_run
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.plugins import Plugins, register
from blemore_harness.systems.submission import from_plugins
from builders import put, write_download
from fakes import RecordingReporter
from toys import ToyOptions


class Frames(Encoder):
    """Three numbers per frame, from the clip's content."""

    name = "frames"
    summary = "frames"
    modality = "video"
    store = "Frames"
    Options = ToyOptions

    def __init__(self) -> None:
        self.prepared: list[str] = []
        self.trouble: Exception | None = None

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        store = context.cache.store("frames")
        for clip in store.missing(clips):
            if self.trouble and len(self.prepared) == 2:
                raise self.trouble
            store.save(clip, np.full((2, 3), int(clip.content[:4], 16)))
            self.prepared.append(clip.id)

    def frame_features(self, clip: Clip, options: ToyOptions, context: Context) -> NDArray[np.float32]:
        return context.cache.store("frames").load(clip).astype(np.float32) + options.shift

    def embed(self, clips: Clips, options: ToyOptions, context: Context) -> Embeddings:
        return Embeddings(clips.ids, np.stack([self.frame_features(clip, options, context)[0] for clip in clips]))


class Plain(Frames):
    """The same without frame-level features."""

    name = "plain"
    store = ""


class Place:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.frames, self.plain = Frames(), Plain()
        data = write_download(root / "data")
        listed = read_dataset(data)
        for name in (*listed.ids, *listed.test_ids):
            put(data / "part_01" / f"{name}.mov", name)
        self.dataset = read_dataset(data)
        self.blinded = blind_dataset(self.dataset, root / "views")

    def prepare(self, names: str, *settings: str, export: Path | None = None) -> list[dict[str, str]]:
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        plugins = Plugins(manager)

        @hookimpl
        def blemore_encoders() -> list[Encoder]:
            return [self.frames, self.plain]

        register(plugins, types.SimpleNamespace(blemore_encoders=blemore_encoders), "toys", Distribution("toys", "1"))
        submission = from_plugins([names], None).with_options(parse_settings(settings), None)
        where = (self.root / "runs", self.root / "cache", RecordingReporter())
        return prepare_ahead(open_run(submission, plugins, self.dataset, self.blinded, *where), export)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_every_clip_is_prepared_once(place: Place) -> None:
    clips = len(place.dataset.ids) + len(place.dataset.test_ids)
    [row] = place.prepare("frames")
    assert (row["name"], row["status"], row["features"]) == ("frames", "ready", "")
    assert len(place.frames.prepared) == clips
    place.prepare("frames")
    assert len(place.frames.prepared) == clips


def test_an_interrupted_preparation_goes_on_by_clip(place: Place) -> None:
    place.frames.trouble = MediaError("a damaged clip", "c1")
    [row] = place.prepare("frames")
    assert row["status"] == "failed"
    assert row["remark"].startswith("frames (prepare): a damaged clip (at test_preparation.py:")
    place.frames.trouble = None
    place.prepare("frames")
    assert len(set(place.frames.prepared)) == len(place.frames.prepared)


def test_a_crash_is_a_row_and_the_others_are_prepared(place: Place) -> None:
    place.plain.trouble = ValueError("oh")
    rows = place.prepare("plain,frames")
    assert [row["status"] for row in rows] == ["failed", "ready"]
    assert "plain (prepare) crashed: ValueError: oh" in rows[0]["remark"]


def test_export_is_the_released_layout_under_real_names(place: Place, tmp_path: Path) -> None:
    target = tmp_path / "out"
    [row] = place.prepare("frames", "frames.shift=0.5", export=target)
    train = target / "pre_extracted_train_data" / "Frames_train"
    test = target / "pre_extracted_test_data" / "Frames_test"
    assert row["features"] == str(train)
    assert {path.stem for path in train.glob("*.npy")} == set(place.dataset.ids)
    assert {path.stem for path in test.glob("*.npy")} == set(place.dataset.test_ids)
    content = {place.blinded.real[clip.id]: clip.content for clip in place.blinded.everything()}
    for path in (*train.glob("*.npy"), *test.glob("*.npy")):
        array = np.load(path)
        assert (array.shape, array.dtype) == ((2, 3), np.float32)
        assert array[0, 0] == int(content[path.stem][:4], 16) + 0.5
    said = json.loads((train / "extracted.json").read_text())
    assert (said["system"], said["options"]["shift"]) == ("frames", 0.5)


def test_exported_features_are_found_as_released_ones(place: Place, tmp_path: Path) -> None:
    place.prepare("frames", export=place.root / "data")
    again = read_dataset(place.root / "data")
    assert set(again.features["Frames"]) == {*again.ids, *again.test_ids}
    assert "features 'Frames' were extracted by this harness (extracted.json), not released" in again.warnings


def test_joined_encoders_export_each_part_that_has_features(place: Place, tmp_path: Path) -> None:
    [row] = place.prepare("frames+plain", export=tmp_path / "out")
    assert row["features"].endswith("Frames_train")
    assert [path.name for path in (tmp_path / "out" / "pre_extracted_train_data").iterdir()] == ["Frames_train"]


def test_features_of_two_kinds_are_never_mixed(place: Place, tmp_path: Path) -> None:
    place.prepare("frames", export=tmp_path / "out")
    place.prepare("frames", export=tmp_path / "out")
    with pytest.raises(RunError, match="made in another way"):
        place.prepare("frames", "frames.shift=1", export=tmp_path / "out")
    put(tmp_path / "old" / "pre_extracted_train_data" / "Frames_train" / "x.npy", b"x")
    with pytest.raises(RunError, match="of unknown origin"):
        place.prepare("frames", export=tmp_path / "old")


def test_nothing_to_export_is_said_before_anything_is_done(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to export: plain has no folder in the released layout"):
        place.prepare("plain", export=tmp_path / "out")
    assert place.plain.prepared == []
    assert not (tmp_path / "out").exists()
