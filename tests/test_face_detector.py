"""Faces are those of facenet-pytorch in the frames that are searched, and where they are expected in those between."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("facenet_pytorch")

from facenet_pytorch import MTCNN  # noqa: E402

from blemore_harness.clips import Clip  # noqa: E402
from blemore_harness.demo.actors import make_actor  # noqa: E402
from blemore_harness.demo.faces import draw_frames, draw_portrait  # noqa: E402
from blemore_harness.demo.performance import play  # noqa: E402
from blemore_harness.demo.plan import make_plan  # noqa: E402
from blemore_plugins.s4d.detector import FaceDetector  # noqa: E402
from blemore_plugins.s4d.faces import find_faces, gather  # noqa: E402
from blemore_plugins.s4d.options import S4DOptions  # noqa: E402
from blemore_plugins.s4d.tracking import Detections, correct  # noqa: E402
from trained_networks import load_officer, load_smile  # noqa: E402

pytestmark = pytest.mark.encoders


def draw(actor: int, count: int) -> list[np.ndarray]:
    """Draw frames of an actor, every second one of a demo clip, which shows each drawing twice: (192, 192, 3)."""
    plan, rng = make_plan(0, 5, 1), np.random.default_rng(actor)
    person = make_actor(0, actor)
    clip = next(clip for clip in plan.clips if clip.actor == actor)
    frames = draw_frames(draw_portrait(person, 0), play(clip, person.style, rng), rng)
    return [frame for _, frame in zip(range(2 * count), frames, strict=False)][::2]


def draw_crowd() -> np.ndarray:
    """Draw four faces beside and below each other, two of them smaller: (384, 448, 3)."""
    one, two, three, four = (draw(actor, 1)[0] for actor in range(4))
    crowd = np.full((384, 448, 3), 90, np.uint8)
    crowd[:192, :192], crowd[192:, 10:202] = one, two
    crowd[40:136, 250:346], crowd[230:294, 320:384] = three[::2, ::2], four[::3, ::3]
    return crowd


def find_plainly(frame: np.ndarray, smallest: float = 20) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return boxes and landmarks that facenet-pytorch finds in a frame alone, the largest first."""
    if min(frame.shape[:2]) < smallest:
        return []  # facenet-pytorch fails on frames in which no face has room
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        boxes, _, points = MTCNN(min_face_size=smallest, keep_all=True).detect(frame, landmarks=True)
    return [] if boxes is None else list(zip(boxes.astype(float), points.astype(float), strict=True))


def check_equal(found: Detections | None, expected: list[tuple[np.ndarray, np.ndarray]]) -> None:
    assert (0 if found is None else len(found.boxes)) == len(expected)
    for number, (box, points) in enumerate(expected):
        assert found is not None
        np.testing.assert_allclose(found.boxes[number], box, atol=1e-3)
        np.testing.assert_allclose(found.eyes[number], points[:2], atol=1e-3)


PICTURES: dict[str, tuple[Callable[[], np.ndarray], int]] = {
    "crowd": (draw_crowd, 4),
    "one": (lambda: draw(0, 1)[0], 1),
    "cut off": (lambda: draw(1, 1)[0][60:], 1),
    "smile": (load_smile, 1),
    "officer": (load_officer, 1),
    "noise": (lambda: np.random.default_rng(0).integers(0, 255, (150, 200, 3), dtype=np.uint8), 0),
    "grey": (lambda: np.full((100, 80, 3), 128, np.uint8), 0),
    "narrow": (lambda: draw_crowd()[:24], 0),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("level", [0, 2])
def test_faces_are_those_of_facenet_pytorch(name: str, level: int):
    make, _ = PICTURES[name]
    picture = make()
    smallest = 20 / 0.709**level
    [found] = FaceDetector("cpu", 1.05 * smallest / min(picture.shape[:2])).detect([picture])
    check_equal(found, find_plainly(picture, smallest))


def test_all_faces_of_a_crowd_are_found():
    [found] = FaceDetector("cpu", 0.1).detect([draw_crowd()])
    assert found is not None
    assert len(found.boxes) == PICTURES["crowd"][1]


def test_a_frame_has_the_same_faces_in_any_batch():
    frames = [*draw(0, 2), np.full((192, 192, 3), 128, np.uint8), *draw(2, 2)]
    detector = FaceDetector("cpu", 0.1)
    together = detector.detect(frames * 8)
    assert together[2] is None
    for number, found in enumerate(together):
        check_equal(found, find_plainly(frames[number % 5]))


def square_of(box: np.ndarray) -> np.ndarray:
    """Return centre and longer side of a box."""
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, max(box[2] - box[0], box[3] - box[1])])


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the IoU of two squares."""
    low = np.maximum(one[:2] - one[2] / 2, other[:2] - other[2] / 2)
    high = np.minimum(one[:2] + one[2] / 2, other[:2] + other[2] / 2)
    common = float((high - low).clip(0).prod())
    return common / float(one[2] ** 2 + other[2] ** 2 - common)


@pytest.mark.parametrize("off", [(0, 0, 1), (6, -5, 1), (-4, 6, 1.1), (3, 3, 0.9)])
def test_a_face_is_found_near_where_it_is_expected(off: tuple[float, float, float]):
    frames = [draw(actor, 1)[0] for actor in range(4)]
    known = np.array([square_of(find_plainly(frame)[0][0]) for frame in frames])
    expected = np.column_stack([known[:, :2] + off[:2], known[:, 2] * off[2], np.zeros(4)])
    found = FaceDetector("cpu", 0.1).follow(frames, 2 * expected, scale=2.0)
    for one, square in zip(found, known, strict=True):
        assert one is not None
        assert one.boxes.shape == (1, 4)
        assert overlap(square_of(one.boxes[0] / 2), square) > 0.85
        assert one.eyes[0, 0, 0] < one.eyes[0, 1, 0]


def test_a_face_is_followed_alike_in_any_batch():
    frames = [draw(actor, 1)[0] for actor in (0, 1, 2, 3, 0, 2)]
    known = [[*square_of(find_plainly(frame)[0][0]), 0] for frame in frames]
    expected = np.array(known) + np.array([3, -2, 4, 0])
    detector = FaceDetector("cpu", 0.1)
    for found, frame, square in zip(detector.follow(frames, expected), frames, expected, strict=True):
        [alone] = detector.follow([frame], square[None])
        assert found is not None
        assert alone is not None
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_allclose(found.eyes, alone.eyes, atol=1e-3)


def test_what_following_is_off_is_corrected():
    """Boxes of the same face that lie a twentieth of it to the left and are a tenth larger."""

    def face(x: float, side: float) -> Detections:
        return Detections(np.array([[x - side / 2, 50 - side / 2, x + side / 2, 50 + side / 2]]), np.zeros((1, 2, 2)))

    followed = {n: face(100 + n - 4.4, 88) for n in range(9)}
    searched = {n: np.array([100.0 + n, 50, 80, 0]) for n in (0, 4, 8)}
    searched[4] += [30, 0, 0, 0]  # a jump of the detector does not count
    corrected = correct({**followed, 2: None}, searched)
    assert list(corrected) == [1, 2, 3, 5, 6, 7]
    assert corrected[2] is None
    for index in (1, 3, 5, 6, 7):
        one = corrected[index]
        assert one is not None
        np.testing.assert_allclose(square_of(one.boxes[0]), [100 + index, 50, 80])
    alone = correct({1: followed[1]}, searched)[1]
    assert alone is not None
    np.testing.assert_allclose(alone.boxes, followed[1].boxes)


def test_no_face_is_found_where_none_is():
    frames = [np.full((192, 192, 3), 128, np.uint8), draw(0, 1)[0], draw(0, 1)[0]]
    expected = np.array([[96.0, 96, 100, 0], [20, 170, 30, 0], [500, 500, 60, 0]])
    assert FaceDetector("cpu", 0.1).follow(frames, expected) == [None, None, None]


def test_a_face_that_turns_back_between_searches_is_followed():
    """Interpolation between frames that show it at one side would miss it."""
    [face] = draw(3, 1)
    frames = []
    for number in range(17):
        frames.append(np.full((192, 300, 3), 60, np.uint8))
        left = 30 + 4 * min(number % 8, -number % 8)  # at one place in frames 0, 8 and 16
        frames[-1][:, left : left + 192] = face
    options = S4DOptions(step=2, detect_every=8, smooth=1)
    footage = gather(Clip("k"), (frame if n % 2 == 0 else None for n, frame in enumerate(frames)), options)
    assert footage.searched == {0, 4, 8}
    faces = find_faces(footage, FaceDetector("cpu", 0.1))
    assert list(faces) == list(range(9))
    expected = square_of(find_plainly(face)[0][0])[0] + 30 + np.array([0, 8, 16, 8, 0, 8, 16, 8, 0])
    found = [square_of(one.boxes[0])[0] for one in faces.values() if one is not None]
    np.testing.assert_allclose(found, expected, atol=4)
