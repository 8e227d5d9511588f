"""Face crops of real video files: drawn faces, found by the real detector."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fakes import make_context

torch = pytest.importorskip("torch")
pytest.importorskip("facenet_pytorch")
av = pytest.importorskip("av")

from blemore_harness.clips import Clips  # noqa: E402
from blemore_harness.demo.actors import make_actor  # noqa: E402
from blemore_harness.demo.faces import draw_frames, draw_portrait  # noqa: E402
from blemore_harness.demo.performance import play  # noqa: E402
from blemore_harness.demo.plan import make_plan  # noqa: E402
from blemore_harness.errors import MediaError  # noqa: E402
from blemore_plugins.s4d import faces  # noqa: E402
from blemore_plugins.s4d.detector import FaceDetector  # noqa: E402
from blemore_plugins.s4d.faces import extract_faces, open_crops  # noqa: E402
from blemore_plugins.s4d.options import S4DOptions  # noqa: E402
from media_files import clip_of, gradient_frames, write_media  # noqa: E402

pytestmark = pytest.mark.encoders

OPTIONS = S4DOptions(
    weights="random-small", train="all", size=64, step=2, detect_every=4, detect_size=128, smallest_face=0.4, smooth=3
)


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """21 frames of a drawn face, uint8 (21, 192, 192, 3)."""
    plan, actor, rng = make_plan(0, 3, 1), make_actor(0, 1), np.random.default_rng(1)
    clip = dataclasses.replace(next(clip for clip in plan.clips if clip.actor == 1), frames=21)
    return np.stack(list(draw_frames(draw_portrait(actor, 0), play(clip, actor.style, rng), rng)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, face: np.ndarray) -> Path:
    """Videos: a face, the same moving to the right on a wide picture, a face that goes away for a while, no face."""
    folder = tmp_path_factory.mktemp("videos")
    write_media(folder / "face.mov", face)
    wide = np.full((21, 192, 320, 3), 128, np.uint8)
    for number, frame in enumerate(face):
        wide[number, :, 4 * number : 4 * number + 192] = frame
    write_media(folder / "moving.mov", wide)
    gone = face.copy()
    gone[7:10] = 128
    write_media(folder / "gone.mov", gone)
    write_media(folder / "none.mov", np.full((9, 96, 160, 3), 128, np.uint8))
    return folder


def clips_of(folder: Path, *names: str) -> Clips:
    return Clips(tuple(clip_of(folder / f"{name}.mov", name) for name in names))


def test_crops_of_every_second_frame_are_kept_and_counted(tmp_path: Path, folder: Path):
    context = make_context(tmp_path)
    clips = clips_of(folder, "face", "moving", "gone", "none")
    extract_faces(clips, OPTIONS, context)
    store = open_crops(OPTIONS, context)
    crops = {clip.id: store.load(clip) for clip in clips}
    assert {name: array.shape for name, array in crops.items()} == {
        "face": (11, 64, 64, 3),
        "moving": (11, 64, 64, 3),
        "gone": (11, 64, 64, 3),
        "none": (5, 64, 64, 3),
    }
    assert all(array.dtype == np.uint8 for array in crops.values())
    # Frames 0, 4, 8, ... and the last one are searched, the others too where they show a face: 11 + 11 + 11 + 3.
    # Frame 8 of one clip shows nothing.
    assert context.reporter.notes["face detection"] == {"frames looked at": 36, "without a face": 4}
    assert context.reporter.notes["clips without a face"] == ["none"]
    assert "1 of 4 clips" in context.reporter.warnings[0]


def test_a_moving_face_stays_in_the_middle_of_its_crop(tmp_path: Path, folder: Path):
    context = make_context(tmp_path)
    clips = clips_of(folder, "face", "moving")
    extract_faces(clips, OPTIONS, context)
    still, moving = (open_crops(OPTIONS, context).load(clip).astype(float) for clip in clips)
    inner = np.s_[:, 16:48, 16:48]
    shifts = [np.abs(still[inner] - np.roll(moving, shift, axis=2)[inner]).mean() for shift in (-8, -4, 0, 4, 8)]
    assert np.argmin(shifts) == 2
    assert shifts[2] < 0.8 * max(shifts)


def test_workers_take_no_more_cores_than_their_share(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Several of them detect faces at the same time, on machines with many cores."""
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setenv("BLEMORE_CPUS", "1")
    threads: list[int] = []
    find = faces.find_faces
    monkeypatch.setattr(faces, "find_faces", lambda *given: threads.append(torch.get_num_threads()) or find(*given))
    extract_faces(clips_of(folder, "none"), OPTIONS, make_context(tmp_path))
    assert threads == [1]


def test_what_is_there_is_not_made_again(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    context = make_context(tmp_path)
    extract_faces(clips_of(folder, "face"), OPTIONS, context)
    asked: list[str] = []
    decode = faces._decode
    monkeypatch.setattr(faces, "_decode", lambda clip, options: asked.append(clip.id) or decode(clip, options))
    again = make_context(tmp_path)
    extract_faces(clips_of(folder, "face", "none"), OPTIONS, again)
    assert asked == ["none"]
    assert again.reporter.notes["face detection"] == {"frames looked at": 14, "without a face": 3}


def test_large_frames_are_decoded_twice_with_the_same_result(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    clips = clips_of(folder, "gone")
    one, other = make_context(tmp_path / "one"), make_context(tmp_path / "other")
    extract_faces(clips, OPTIONS, one)
    monkeypatch.setattr(faces, "HELD_BYTES", 300_000)
    extract_faces(clips, OPTIONS, other)
    first, second = (open_crops(OPTIONS, context).load(clips.items[0]) for context in (one, other))
    np.testing.assert_array_equal(first, second)


def test_a_damaged_clip_is_named_and_others_are_kept(tmp_path: Path, folder: Path):
    broken = tmp_path / "broken.mov"
    broken.write_bytes((folder / "face.mov").read_bytes()[:900])
    good = clips_of(folder, "face", "none")
    clips = Clips((*good.items, clip_of(broken, "broken")))
    context = make_context(tmp_path)
    with pytest.raises(MediaError, match="broken") as caught:
        extract_faces(clips, OPTIONS, context)
    assert caught.value.clip == "broken"
    store = open_crops(OPTIONS, context)
    assert [store.has(clip) for clip in clips] == [True, True, False]


def test_every_option_that_changes_crops_is_in_the_key(tmp_path: Path):
    context = make_context(tmp_path)
    changes = {
        "scale": 1.0,
        "align": False,
        "size": 96,
        "step": 1,
        "detect_every": 8,
        "detect_size": 256,
        "smallest_face": 0.5,
        "smooth": 1,
    }
    changed = [dataclasses.replace(OPTIONS, **{name: value}) for name, value in changes.items()]
    folders = {open_crops(options, context).folder for options in (OPTIONS, *changed)}
    assert len(folders) == len(changes) + 1
    trained_otherwise = dataclasses.replace(OPTIONS, epochs=7, frames=4)
    assert open_crops(trained_otherwise, context) == open_crops(OPTIONS, context)


@pytest.mark.parametrize(("height", "width"), [(8, 64), (64, 8), (1, 1), (11, 40), (16, 16), (16, 640)])
def test_frames_without_room_for_a_face_have_none(tmp_path: Path, height: int, width: int):
    with av.open(str(tmp_path / "flat.mov"), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, "rgb24"
        for picture in gradient_frames(9, height, width):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    context, clip = make_context(tmp_path), clip_of(tmp_path / "flat.mov", "flat")
    extract_faces(Clips((clip,)), OPTIONS, context)
    assert open_crops(OPTIONS, context).load(clip).shape == (5, 64, 64, 3)
    assert context.reporter.notes["clips without a face"] == ["flat"]


def test_boxes_are_those_of_the_full_frame(face: np.ndarray):
    large = face[::7].repeat(2, axis=1).repeat(2, axis=2)
    detector = FaceDetector("cpu", 0.4)
    direct = detector.detect(list(large))
    shrunk = detector.detect(list(face[::7]), scale=2.0)
    for one, other in zip(direct, shrunk, strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_allclose(one.boxes[0], other.boxes[0], atol=20)
        assert one.eyes[0, 0, 0] < one.eyes[0, 1, 0]
