"""The OpenFace encoder: its tables read strictly, then the whole evaluation of a download that has no videos."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
import pytest

from blemore_harness import hookspecs
from blemore_harness.clips import Clip, Clips
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.errors import DataError, InvalidOption, MediaError
from blemore_harness.pipeline import evaluate
from blemore_harness.running.run import open_run
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.plugins import Plugins, register
from blemore_harness.systems.submission import from_plugins
from blemore_plugins import openface
from blemore_plugins.openface import OpenFace, OpenFaceOptions
from builders import rows_of, write_metadata
from fakes import RecordingReporter, make_context
from released_files import (
    feature_path,
    literal_statistics,
    make_sequences,
    write_aggregate,
    write_openface,
    write_openface_store,
)

RELEASED = OpenFaceOptions(source="released")
SKIP = OpenFaceOptions(source="released", nan="skip")

FRAMES = np.random.default_rng(3).normal(size=(4, 11)).astype(np.float32)


def clip_of(path: Path, name: str = "c1") -> Clip:
    return Clip(name, None, {"OpenFace_3": path}, path.name)


def table(path: Path, *lines: str) -> Clip:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return clip_of(path)


def read(clip: Clip, options: OpenFaceOptions = RELEASED) -> np.ndarray:
    return OpenFace().read(clip, options)


# --------------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize(
    "columns",
    [
        ("frame", "emotion_index", "gaze_yaw", "gaze_pitch", "action_units"),
        ("action_units", "timestamp", "gaze_pitch", "gaze_yaw", "emotion_index", "face_id"),
    ],
)
def test_columns_are_found_by_name(tmp_path: Path, columns: tuple[str, ...]) -> None:
    clip = clip_of(write_openface(tmp_path / "a.csv", FRAMES, columns))
    given = read(clip)
    assert given.dtype == np.float32
    np.testing.assert_array_equal(given, FRAMES)


def test_a_released_table_as_it_stands(tmp_path: Path) -> None:
    clip = table(
        tmp_path / "a.csv",
        "\ufeffframe,timestamp,emotion_index, gaze_yaw,gaze_pitch,action_units",
        '0,0.0,3,-0.5,1e-2,"[0.1, .2, 0.3, 4., +0.5, 0, 0.0, 1]"',
        "",
        '1,0.04,6.0,0.25,-.5,"[1,2,3,4,5,6,7,8]"\r',
    )
    assert read(clip).tolist() == [
        [3, -0.5, np.float32(0.01), *np.float32([0.1, 0.2, 0.3, 4, 0.5, 0, 0, 1])],
        [6, 0.25, -0.5, 1, 2, 3, 4, 5, 6, 7, 8],
    ]


HEADER = "emotion_index,gaze_yaw,gaze_pitch,action_units"
GOOD = '1,2,3,"[1, 2, 3, 4, 5, 6, 7, 8]"'


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["emotion_index,gaze_yaw,action_units", GOOD], "column gaze_pitch is missing .*found emotion_index, gaze_yaw"),
        ([HEADER + ",gaze_yaw", GOOD + ",1"], "column gaze_yaw"),
        ([""], "column emotion_index is missing .* found nothing"),
        ([HEADER], "has a header but no frames"),
        ([HEADER, GOOD, "1,2,3"], "line 3.* 4 cells.* 3"),
        ([HEADER, "1,2,3,[1, 2, 3, 4, 5, 6, 7, 8]"], "line 2.* 4 cells.* 11"),
        (
            [HEADER, '1,2,3,"[1, 2, 3, 4, 5, 6, 7]"'],
            r"line 2, column action_units: expected a list of 8, found '\[1, 2",
        ),
        ([HEADER, '1,2,3,"1, 2, 3, 4, 5, 6, 7, 8"'], "line 2, column action_units: expected a list of 8"),
        ([HEADER, "1,2,3,[]"], r"column action_units: expected a list of 8, found '\[\]'"),
        ([HEADER, '1,2,3,"[[1, 2, 3, 4, 5, 6, 7, 8]]"'], r"column action_units: expected a number, found '\[1'"),
        ([HEADER, '1,2,3,"[1, 2, 3, , 5, 6, 7, 8]"'], "column action_units: expected a number, found ''"),
        ([HEADER, '1,2,3,"[1, 2, 3, 4, 5, 6, 7, exit()]"'], r"expected a number, found 'exit\(\)'"),
        ([HEADER, '1,2,3,"[1, 2, 3, 4, 5, 6, 7, 1_000]"'], "expected a number, found '1_000'"),
        ([HEADER, '1,2,3,"[1, 2, 3, 4, 5, 6, 7, ٣]"'], "expected a number, found '٣'"),
        ([HEADER, '1,inf,3,"[1, 2, 3, 4, 5, 6, 7, 8]"'], "line 2, column gaze_yaw: expected a number, found 'inf'"),
        ([HEADER, '1,0x1,3,"[1, 2, 3, 4, 5, 6, 7, 8]"'], "column gaze_yaw: expected a number, found '0x1'"),
        ([HEADER, 'happy,2,3,"[1, 2, 3, 4, 5, 6, 7, 8]"'], "column emotion_index: expected a number, found 'happy'"),
        ([HEADER, GOOD, '1e999,2,3,"[1, 2, 3, 4, 5, 6, 7, 8]"'], "line 3: a number out of range"),
        ([HEADER, '1,2,3,"[1, 2'], "UTF-8"),
    ],
)
def test_tables_that_cannot_be_used_are_named(tmp_path: Path, lines: list[str], reason: str) -> None:
    with pytest.raises(MediaError, match=rf"^clip c1: 'OpenFace_3'.*{reason}") as caught:
        read(table(tmp_path / "a.csv", *lines))
    assert caught.value.clip == "c1"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MediaError, match="UTF-8"):
        read(clip_of(path))
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(MediaError, match="Is a directory"):
        read(clip_of(tmp_path / "b.csv"))


# ------------------------------------------------------------------------------------------------------------------ nan


def holed(path: Path) -> Clip:
    """Five frames, of which the second, the fourth and the fifth lack something."""
    absent = '1,2,3,"[1, 2, nan, 4, 5, 6, 7, NaN]"'
    return table(
        path, HEADER, GOOD, absent, GOOD.replace("1,2", "5,2"), ',2,nan,"[1, 2, 3, 4, 5, 6, 7, 8]"', "1,2,3,nan"
    )


def test_nan_stops_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(
        MediaError,
        match=r"clip c1: .*'OpenFace_3', line 3, column action_units; 3 of 5 frames"
        r".*--set openface\.nan=skip",
    ):
        read(holed(tmp_path / "a.csv"))


@pytest.mark.parametrize(
    "word",
    ["nan", "NaN", "NAN", "-nan", "+nan", "nan(ind)", "-nan(ind)", "-nan(snan)", "-NaN(IND)", "1.#QNAN", "-1.#IND",
     "1.#IND00", "1.#QO", "-1.#QNAN", "1.#SNAN", "NA", "N/A", "#N/A", "null", "None", "<NA>"],
)  # fmt: skip
def test_every_spelling_of_nan_is_nan(tmp_path: Path, word: str) -> None:
    clip = table(
        tmp_path / "a.csv",
        HEADER,
        GOOD,
        f'1,{word},3,"[1, 2, 3, 4, 5, 6, 7, 8]"',
        f'1,2,3,"[1, 2, {word}, 4, 5, 6, 7, 8]"',
        f"1,2,3,{word}",
    )
    _, frames = openface.read_frames(clip, "OpenFace_3")
    assert np.isnan(frames).sum(axis=1).tolist() == [0, 1, 1, 8]
    assert read(clip, SKIP).tolist() == [[1, 2, 3, 1, 2, 3, 4, 5, 6, 7, 8]]
    with pytest.raises(MediaError, match=r"line 3, column gaze_yaw; 3 of 4 frames"):
        read(clip)


@pytest.mark.parametrize("word", ["inf", "1.#INF", "-1.#INF", "nanx", "nan(", "1.#", "1.#QNANx", "NAN(1,2)", "banana"])
def test_what_is_neither_a_number_nor_nan_is_refused(tmp_path: Path, word: str) -> None:
    with pytest.raises(MediaError, match="line 2, column gaze_pitch"):
        read(table(tmp_path / "a.csv", HEADER, f'1,2,"{word}","[1, 2, 3, 4, 5, 6, 7, 8]"'), SKIP)


def test_frames_with_nan_are_left_out_where_asked_and_counted(tmp_path: Path) -> None:
    one, two = holed(tmp_path / "a.csv"), clip_of(write_openface(tmp_path / "b.csv", FRAMES), "c2")
    assert read(one, SKIP).tolist() == [[1, 2, 3, 1, 2, 3, 4, 5, 6, 7, 8], [5, 2, 3, 1, 2, 3, 4, 5, 6, 7, 8]]
    for _ in range(2):  # the second time from the cache
        notebook = RecordingReporter()
        OpenFace().prepare(Clips((one, two)), SKIP, make_context(tmp_path, reporter=notebook))
        assert notebook.notes == {"frames left out": {"absent": 3, "of": 9, "clips": 1}}
        (warning,) = notebook.warnings
        assert warning.startswith("openface: 3 of 9 frames")
    with pytest.raises(MediaError, match="'OpenFace_3'"):
        OpenFace().prepare(Clips((one, two)), RELEASED, make_context(tmp_path))


def test_what_an_export_wrote_is_read_again(tmp_path: Path) -> None:
    np.save(tmp_path / "c1.npy", FRAMES)
    clip = clip_of(tmp_path / "c1.npy")
    np.testing.assert_array_equal(read(clip), FRAMES)
    context = make_context(tmp_path, reporter=RecordingReporter())
    OpenFace().prepare(Clips((clip,)), SKIP, context)
    assert context.reporter.notes["frames left out"] == {"absent": 0, "of": len(FRAMES), "clips": 0}
    np.save(tmp_path / "c2.npy", FRAMES[:, :10])
    with pytest.raises(MediaError, match=r"\(T, 11\) .*\(4, 10\)"):
        read(clip_of(tmp_path / "c2.npy", "c2"))


def test_a_clip_without_a_whole_frame(tmp_path: Path) -> None:
    clip = table(tmp_path / "a.csv", HEADER, "1,2,3,nan", "1,2,3,")
    with pytest.raises(MediaError, match=r"2 frames in 'OpenFace_3'"):
        read(clip, SKIP)


# ------------------------------------------------------------------------------------------------- the whole evaluation


class Silent(RecordingReporter):
    """A reporter for runs, which gives no notes to it."""

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Silent]:
        yield self


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = rows_of(actors=6, folds=3)
    write_metadata(tmp_path / "data", rows)
    write_openface_store(tmp_path / "data", make_sequences(rows, 2, 11))
    return tmp_path / "data"


def run(data: Path, **options: object) -> dict[str, Any]:
    manager = pluggy.PluginManager("blemore_harness")
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)
    register(plugins, openface, "openface", Distribution("blemore-harness", "1"))
    assert plugins.failures == []
    dataset = read_dataset(data)
    blinded = blind_dataset(dataset, data.parent / "views")
    small = {"hidden": "8", "batch_norm": False, "epochs": 12, "learning_rate": 0.02} | options
    submission = from_plugins(["openface"]).with_options({"openface": small}, None)
    runs, cache = data.parent / "runs", data.parent / "cache"
    return evaluate(open_run(submission, plugins, dataset, blinded, runs, cache, Silent()))[0].to_json()


@pytest.mark.encoders
def test_a_download_without_videos_is_evaluated(data: Path) -> None:
    pytest.importorskip("torch")
    record = run(data)
    [system] = record["systems"]
    assert (record["status"], system["status"]) == ("finished", "finished")
    assert system["options"]["source"] == "released"
    # The means tell the emotions: far above what the most frequent label of ten gives.
    assert system["official"]["acc_presence"]["mean"] > 0.6
    assert len(system["folds"]) == 3
    assert record["test"] is not None
    again = run(data)
    assert again["identity"] == record["identity"]
    path = feature_path(data, "OpenFace_3", "A1_ang_int1_ver1", ".csv")
    write_openface(path, FRAMES)
    assert run(data)["identity"] != record["identity"]


@pytest.mark.encoders
def test_the_head_on_every_frame(data: Path) -> None:
    pytest.importorskip("torch")
    record = run(data, rows="embeddings", epochs=3)
    [system] = record["systems"]
    assert system["status"] == "finished"
    assert system["official"]["acc_presence"]["mean"] > 0.3
    assert record["identity"] != run(data, epochs=3)["identity"]


@pytest.mark.encoders
def test_aggregated_files_alone_are_evaluated(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    rows = rows_of(actors=6, folds=3)
    write_metadata(tmp_path / "data", rows)
    vectors = {name: literal_statistics(frames) for name, frames in make_sequences(rows, 2, 11).items()}
    path = write_aggregate(tmp_path / "data" / "openface_static_features.npz", vectors)
    record = run(tmp_path / "data")
    [system] = record["systems"]
    assert (system["status"], system["options"]["source"]) == ("finished", "statistics")
    assert system["official"]["acc_presence"]["mean"] > 0.6
    write_aggregate(path, vectors | {"test_0001": vectors["test_0002"]})
    again = run(tmp_path / "data")
    assert (again["identity"], again["systems"][0]["official"]) == (record["identity"], system["official"])
    write_aggregate(path, vectors | {"A1_ang_int1_ver1": vectors["A1_sad_int1_ver1"]})
    assert run(tmp_path / "data")["identity"] != record["identity"]


def test_damage_shows_before_training_with_real_names(data: Path) -> None:
    for name in ("A1_ang_int1_ver1", "A2_sad_int1_ver1"):
        feature_path(data, "OpenFace_3", name, ".csv").write_text(f"{HEADER}\n1,2,3,nan\n")
    text = run(data)["systems"][0]["error"]["message"]
    assert text.startswith("openface (prepare): clip A")
    assert "nan in 'OpenFace_3', line 2, column action_units" in text
    assert "(2 of 62 clips cannot be used)" in text
    assert "(at blemore_plugins/features/" in text
    feature_path(data, "OpenFace_3", "A3_sad_int1_ver1", ".csv").unlink()
    text = run(data)["systems"][0]["error"]["message"]
    assert "1 clip (first: 'A3_sad_int1_ver1') of 62 without features in" in text


def test_what_openface_cannot_do(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"'openface'.*'media'.*auto, released, stat"):
        run(data, source="media")
    with pytest.raises(InvalidOption, match="nan"):
        run(data, nan="mean")
    write_metadata(tmp_path / "other", rows_of(2))
    with pytest.raises(DataError, match=r"'OpenFace_3' .*none"):
        run(tmp_path / "other")


def test_identity_of_the_data_stands_in_the_run(data: Path) -> None:
    pytest.importorskip("torch")
    record = run(data)
    [system] = record["systems"]
    home = data.parent / "runs" / "systems" / f"openface-{system['digest']}"
    facts = json.loads((home / "identity.json").read_text())
    blinded = blind_dataset(read_dataset(data), data.parent / "views")
    assert facts["feature_sets"] == {"OpenFace_3": blinded.publish_feature_set("OpenFace_3").train}
