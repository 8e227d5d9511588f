"""The demo dataset: its shape, that faces are found, that nothing but picture and audio tells the label."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from blemore_harness.clips import EMOTIONS
from blemore_harness.data.download import DEMO_MARKER, read_dataset
from blemore_harness.demo import demo_is_complete, label_cells, write_demo
from blemore_harness.demo import opening as places
from blemore_harness.demo.actors import make_actor
from blemore_harness.demo.clipfile import CLIP_BYTES, write_clip
from blemore_harness.demo.faces import draw_frames, draw_portrait
from blemore_harness.demo.performance import FACE_ACTIONS, VOICE_CONTROLS, make_style, play
from blemore_harness.demo.plan import Plan, actor_name, make_plan
from blemore_harness.demo.writing import UNFINISHED_MARKER, write_plan
from blemore_harness.errors import ConfigError, DataError, ExtraMissing
from media_files import printed_with_other_memory

OFFICIAL_METADATA = Path(__file__).parents[2] / "shared" / "blemore" / "train_metadata.csv"


@pytest.fixture(scope="module")
def tiny_plan() -> Plan:
    """Three clips of each of two training actors and a test actor."""
    whole = make_plan(0, 3, 1)
    clips = [[clip for clip in whole.clips if clip.actor == actor][:3] for actor in range(3)]
    return Plan(0, 3, 1, tuple(itertools.chain(*clips)))


@pytest.fixture(scope="module")
def tiny_demo(tiny_plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("av")
    pytest.importorskip("PIL")
    directory = tmp_path_factory.mktemp("demo") / "one"
    write_plan(directory, tiny_plan, workers=1)
    return directory


def read_rows(plan: Plan) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(plan.metadata())))


def test_label_cells_are_those_of_blemore() -> None:
    pairs = ["ang disg", "ang fea", "ang hap", "ang sad", "disg fea", "disg hap", "disg sad", "fea hap", "fea sad"]
    expected = {((emotion,), (100,)) for emotion in EMOTIONS}
    for pair in [*pairs, "hap sad"]:
        expected |= {(tuple(pair.split()), saliences) for saliences in ((50, 50), (70, 30), (30, 70))}
    cells = label_cells()
    assert len(cells) == 36
    assert {(cell.emotions, cell.saliences) for cell in cells} == expected
    for cell in cells:
        assert cell.weights.sum() == pytest.approx(1)
        assert [EMOTIONS[i] for i in np.flatnonzero(cell.weights)] == list(cell.emotions)


def test_metadata_has_every_cell_of_every_training_actor_under_official_names() -> None:
    rows = read_rows(make_plan(0, 12, 2))
    assert len(rows) == 360
    names = re.compile(
        r"(?P<actor>A\d+)_((?P<single>ang|disg|fea|hap|sad)_int(?P<level>[1-4])|neu_sit(?P<situation>[1-4])"
        r"|mix_(?P<first>[a-z]+)_(?P<second>[a-z]+)_(?P<s1>\d\d)_(?P<s2>\d\d))_ver1"
    )
    cells: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        match = names.fullmatch(row["filename"])
        assert match is not None
        assert match["actor"] == row["video_id"]
        assert row["emotion_1"] == (match["first"] or match["single"] or "neu")
        assert row["emotion_2"] == (match["second"] or "")
        assert row["mix"] == ("1" if match["first"] else "0")
        assert (row["emotion_1_salience"], row["emotion_2_salience"]) == (match["s1"] or "", match["s2"] or "")
        assert (row["intensity_level"], row["situation"]) == (match["level"] or "", match["situation"] or "")
        assert row["version"] == "1"
        assert row["gender"] in {"f", "m"}
        cells[row["video_id"], row["emotion_1"], row["emotion_2"], row["emotion_1_salience"]] += 1
    assert len(cells) == 360
    actors_of_fold = {fold: {row["video_id"] for row in rows if row["fold"] == fold} for fold in "01234"}
    assert [len(actors) for actors in actors_of_fold.values()] == [2] * 5
    assert len(set.union(*actors_of_fold.values())) == 10


def test_columns_and_actors_against_the_released_metadata() -> None:
    if not OFFICIAL_METADATA.exists():
        pytest.skip("the released metadata is not on this machine")
    with OFFICIAL_METADATA.open(newline="") as file:
        reader = csv.DictReader(file)
        released = {row["video_id"] for row in reader}
    text = make_plan(0, 12, 2).metadata()
    assert text.splitlines()[0].split(",") == list(reader.fieldnames or [])
    assert not released & {actor_name(number) for number in range(12)}


def test_test_clips_are_numbered_without_regard_to_actor_and_label() -> None:
    plan = make_plan(0, 12, 2)
    test = [clip for clip in plan.clips if clip.actor >= 10]
    assert [clip.path for clip in test] == [f"test/test_{number:04d}.mov" for number in range(1, 41)]
    assert Counter(clip.actor for clip in test) == {10: 20, 11: 20}
    assert len({clip.actor for clip in test[:10]}) == 2
    others = [clip for clip in make_plan(1, 12, 2).clips if clip.actor >= 10]
    assert [clip.cell for clip in test] != [clip.cell for clip in others]
    assert "test" not in plan.metadata()


def test_lengths_tell_nothing_about_labels() -> None:
    """The same lengths for every actor, and the nearest length among other actors guesses labels at chance."""
    guessed = 0.0
    for seed in range(20):
        train = [clip for clip in make_plan(seed, 12, 2).clips if clip.actor < 10]
        lengths = np.array([clip.frames for clip in train]).reshape(10, 36)
        assert (np.sort(lengths) == np.sort(lengths[0])).all()
        first = np.array([clip.cell.weights.argmax() for clip in train]).reshape(10, 36)
        nearest = np.abs(lengths[0][:, None] - lengths[1:].reshape(1, -1)).argmin(axis=1)
        guessed += float((first[1:].ravel()[nearest] == first[0]).mean()) / 20
    share = np.bincount(first[0], minlength=6) / 36
    chance = float((share**2).sum())
    # 720 guesses: four standard errors.
    assert abs(guessed - chance) < 4 * np.sqrt(chance * (1 - chance) / 720)


def test_every_actor_plays_emotions_apart_and_blends_between_them() -> None:
    prototypes = np.array(list(FACE_ACTIONS.values()))
    right = []
    for number in range(12):
        style = make_style(np.random.default_rng([7, number]))
        for take, clip in enumerate(c for c in make_plan(0, 12, 2).clips if c.actor == 0):
            performance = play(clip, style, np.random.default_rng([8, number, take]))
            assert performance.frames == clip.frames
            assert set(performance.voice) == {*VOICE_CONTROLS, "envelope"}
            assert all(np.isfinite(track).all() and len(track) == clip.frames for track in performance.face.values())
            if not clip.cell.is_blend:
                shown = np.array([performance.face[name].mean() for name in FACE_ACTIONS])
                nearest = np.abs(prototypes - shown[:, None]).sum(axis=0).argmin()
                right.append(EMOTIONS[nearest] == clip.cell.emotions[0])
    assert np.mean(right) > 0.8


def test_salience_moves_the_balance_of_a_blend() -> None:
    style = make_actor(0, 0).style
    smile = {}
    for clip in make_plan(0, 12, 2).clips[:36]:
        if clip.cell.emotions == ("hap", "sad"):
            takes = [play(clip, style, np.random.default_rng([9, i])).face["corner"].mean() for i in range(10)]
            smile[clip.cell.saliences[0]] = np.mean(takes)
    assert smile[30] < smile[50] < smile[70]


def test_too_few_actors_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 training actor"):
        make_plan(0, 2, 2)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ExtraMissing, match=re.escape('pip install "blemore-harness[encoders]"')):
        write_demo(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
@pytest.mark.encoders
def test_same_bytes_from_one_process_and_from_two(tiny_plan: Plan, tiny_demo: Path, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    write_plan(tmp_path / "two", tiny_plan, workers=2, progress=lambda done, total: reports.append((done, total)))
    files = sorted(path.relative_to(tiny_demo) for path in tiny_demo.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path / "two") for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == len(tiny_plan.clips) + 2
    for file in files:
        assert (tiny_demo / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    assert reports[-1] == (9, 9)


@pytest.mark.encoders
def test_another_seed_is_another_dataset(tiny_plan: Plan, tiny_demo: Path, tmp_path: Path) -> None:
    first = tiny_plan.clips[0]
    write_plan(tmp_path / "other", Plan(1, 3, 1, (first,)), workers=1)
    assert (tmp_path / "other" / first.path).read_bytes() != (tiny_demo / first.path).read_bytes()


@pytest.mark.encoders
def test_clips_are_h264_and_aac_of_one_length(tiny_plan: Plan, tiny_demo: Path) -> None:
    av = pytest.importorskip("av")
    for clip in tiny_plan.clips:
        with av.open(str(tiny_demo / clip.path)) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, video.pix_fmt) == ("h264", "yuv420p")
            assert audio.codec_context.name.startswith("aac")
            assert audio.rate in {44100, 48000}
            assert video.average_rate == 25
            frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert len(frames) == clip.frames
        assert 1 <= len(frames) / 25 <= 3
        assert np.abs(np.diff(np.stack(frames).astype(float), axis=0)).mean() > 0.1, "the face moves"
        with av.open(str(tiny_demo / clip.path)) as container:
            sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
        # AAC works in blocks of 1024 samples, and the last one may stick out.
        assert sound.shape[1] / audio.rate == pytest.approx(clip.frames / 25, abs=2048 / audio.rate)
        assert 0.01 < np.abs(sound).max() <= 1
        assert np.sqrt((sound**2).mean()) > 0.005


@pytest.mark.encoders
def test_every_second_frame_is_drawn_and_shown_twice(tiny_plan: Plan) -> None:
    pytest.importorskip("PIL")
    actor = make_actor(0, 0)
    performance = play(tiny_plan.clips[0], actor.style, np.random.default_rng(0))
    for name in performance.face:
        performance.face[name] = performance.face[name][:5]
    frames = list(draw_frames(draw_portrait(actor, 0), performance, np.random.default_rng(1)))
    changes = [float(np.abs(new.astype(float) - old).mean()) for old, new in itertools.pairwise(frames)]
    assert [change > 0.1 for change in changes] == [False, True, False, True]
    assert len(frames) == performance.frames == 5


@pytest.mark.encoders
def test_files_tell_nothing_beside_picture_and_sound(tiny_plan: Plan, tiny_demo: Path) -> None:
    av = pytest.importorskip("av")
    paths = [tiny_demo / clip.path for clip in tiny_plan.clips]
    assert len({path.stat().st_size for path in paths}) == 1
    assert len({path.stat().st_mtime for path in paths}) == 1
    tags = []
    for path in paths:
        assert path.stem.encode() not in path.read_bytes()
        with av.open(str(path)) as container:
            tags.append((container.metadata, *(stream.metadata for stream in container.streams)))
    assert all(tag == tags[0] for tag in tags)
    # Nothing but brands, languages and handlers, which every QuickTime file has.
    keys = {key for tag in tags[0] for key in tag}
    assert keys <= {"major_brand", "minor_version", "compatible_brands", "language", "handler_name", "vendor_id"}


@pytest.mark.slow
@pytest.mark.encoders
def test_bytes_of_a_clip_do_not_depend_on_what_memory_held(tmp_path: Path) -> None:
    pytest.importorskip("av")
    code = (
        "import hashlib, sys; import numpy as np; from pathlib import Path; from media_files import drifting_blocks\n"
        "from blemore_harness.demo.clipfile import write_clip\n"
        "write_clip(Path(sys.argv[1]), drifting_blocks(192), np.zeros((1, 115_200), np.float32), 48_000)\n"
        "print(hashlib.sha256(Path(sys.argv[1]).read_bytes()).hexdigest())\n"
    )
    assert len(printed_with_other_memory(code, str(tmp_path / "clip.mov"))) == 1


@pytest.mark.encoders
def test_even_noise_fits_in_a_clip_file(tmp_path: Path) -> None:
    """Bit rates are bounded: nothing that is drawn can need more than pure noise of the longest length."""
    pytest.importorskip("av")
    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 255, (192, 192, 3), dtype=np.uint8) for _ in range(60))
    write_clip(tmp_path / "noise.mov", frames, rng.normal(0, 0.3, (2, 48000 * 60 // 25)).astype(np.float32), 48000)
    assert (tmp_path / "noise.mov").stat().st_size == CLIP_BYTES


@pytest.mark.encoders
def test_the_harness_reads_it(tiny_plan: Plan, tiny_demo: Path) -> None:
    dataset = read_dataset(tiny_demo)
    assert dataset.demo
    assert list(dataset.ids) == [Path(clip.path).stem for clip in tiny_plan.clips[:6]]
    assert (dataset.truth / 100 == [clip.cell.weights for clip in tiny_plan.clips[:6]]).all()
    assert set(dataset.test_ids) == {Path(clip.path).stem for clip in tiny_plan.clips[6:]}
    assert {*dataset.ids, *dataset.test_ids} == set(dataset.videos)


@pytest.mark.slow
@pytest.mark.encoders
def test_mtcnn_finds_the_faces(tiny_plan: Plan, tiny_demo: Path) -> None:
    av = pytest.importorskip("av")
    facenet = pytest.importorskip("facenet_pytorch")
    pictures = []
    for clip in tiny_plan.clips:
        with av.open(str(tiny_demo / clip.path)) as container:
            pictures += [frame.to_image() for frame in container.decode(video=0)][5::12]
    boxes = facenet.MTCNN(keep_all=True).detect(pictures)[0]
    assert len(pictures) >= 20
    assert np.mean([found is not None for found in boxes]) >= 0.98


@pytest.mark.encoders
def test_an_interrupted_run_goes_on_where_it_stopped(tiny_plan: Plan, tiny_demo: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_demo, copy)
    facts = (copy / DEMO_MARKER).read_text()
    (copy / DEMO_MARKER).rename(copy / UNFINISHED_MARKER)
    lost = copy / tiny_plan.clips[4].path
    lost.unlink()
    reports: list[tuple[int, int]] = []
    write_plan(copy, tiny_plan, workers=1, progress=lambda done, total: reports.append((done, total)))
    assert reports == [(9, 9)]
    assert lost.read_bytes() == (tiny_demo / tiny_plan.clips[4].path).read_bytes()
    assert (copy / DEMO_MARKER).read_text() == facts
    assert not (copy / UNFINISHED_MARKER).exists()


@pytest.mark.encoders
def test_a_finished_demo_is_left_alone_and_others_are_refused(tiny_plan: Plan, tiny_demo: Path, tmp_path: Path) -> None:
    write_plan(tiny_demo, tiny_plan, workers=1, progress=lambda done, total: pytest.fail("made again"))
    with pytest.raises(DataError, match="empty folder"):
        write_demo(tiny_demo, seed=5)
    (tmp_path / "train_metadata.csv").write_text("somebody's data")
    with pytest.raises(DataError, match="empty folder"):
        write_demo(tmp_path)
    with pytest.raises(DataError, match="empty folder"):
        write_demo(tmp_path / "train_metadata.csv")


def test_complete_means_this_version_seed_and_counts(tmp_path: Path) -> None:
    assert not demo_is_complete(tmp_path)
    (tmp_path / DEMO_MARKER).write_text("{broken")
    assert not demo_is_complete(tmp_path)


def test_clips_of_an_older_generator_are_in_nobodys_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path))
    monkeypatch.setattr(places, "GENERATOR_VERSION", 1)
    old = places.demo_folder()
    monkeypatch.undo()
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path))
    assert old.parent == places.demo_folder().parent == tmp_path
    assert old != places.demo_folder()


@pytest.mark.encoders
def test_marker_of_a_finished_demo(tiny_demo: Path) -> None:
    facts = json.loads((tiny_demo / DEMO_MARKER).read_text())
    assert (facts["seed"], facts["actors"], facts["test_actors"], facts["clips"]) == (0, 3, 1, 9)
    # 9 clips are not the 92 of a whole demo with these actors.
    assert not demo_is_complete(tiny_demo, 0, actors=3, test_actors=1)
    (tiny_demo / "train_metadata.csv").read_text().index("A901_ang_int")
