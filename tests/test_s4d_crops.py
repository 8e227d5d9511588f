"""From detections to crops, and from crops to the network's input."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.encoders

from blemore_plugins.s4d.batches import prediction_indices, training_indices  # noqa: E402
from blemore_plugins.s4d.tracking import Detections, build_track  # noqa: E402


def face(x: float, y: float, side: float = 40.0, tilt: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A box around (x, y), a little narrower than high, and its eyes."""
    half = np.array([0.4 * side, 0.5 * side])
    eye = 10 * np.array([np.cos(np.radians(tilt)), np.sin(np.radians(tilt))])
    middle = np.array([x, y])
    return np.concatenate([middle - half, middle + half]), np.array([middle - eye, middle + eye])


def found(*faces: tuple[np.ndarray, np.ndarray]) -> Detections:
    return Detections(np.array([box for box, _ in faces]), np.array([eyes for _, eyes in faces]))


def test_squares_are_interpolated_between_detections_and_stand_still_outside():
    faces = [None, found(face(100, 50)), found(face(140, 90, 60)), None]
    track = build_track(10, [0, 2, 6, 9], faces, (320, 240), smooth=1)
    assert (track.looked, track.found) == (4, 2)
    np.testing.assert_allclose(track.squares[:, 0], [100, 100, 100, 110, 120, 130, 140, 140, 140, 140])
    np.testing.assert_allclose(track.squares[4], [120, 70, 50, 0])


def test_a_single_jump_of_the_detector_is_smoothed_away():
    faces = [
        found(face(100, 50)),
        found(face(100, 50)),
        found(face(130, 60)),
        found(face(100, 50)),
        found(face(100, 50)),
    ]
    track = build_track(9, [0, 2, 4, 6, 8], faces, (320, 240), smooth=3)
    np.testing.assert_allclose(track.squares, np.tile([100, 50, 40, 0], (9, 1)), atol=1e-9)


def test_the_mean_over_frames_is_centred():
    faces = [found(face(100, 50)), found(face(140, 50))]
    track = build_track(5, [0, 4], faces, (320, 240), smooth=3)
    np.testing.assert_allclose(track.squares[:, 0], [(100 + 100 + 110) / 3, 110, 120, 130, (130 + 140 + 140) / 3])


def test_the_face_that_stays_is_followed():
    other = face(300, 200, 44)
    faces = [found(face(100, 50)), found(other, face(102, 50)), found(face(101, 50)), found(other)]
    track = build_track(4, [0, 1, 2, 3], faces, (640, 480), smooth=1)
    assert track.found == 3
    assert np.abs(track.squares[:, 0] - 101).max() <= 1


def test_a_clip_without_a_face_shows_the_middle():
    track = build_track(3, [0, 2], [None, None], (320, 240), smooth=5)
    np.testing.assert_allclose(track.squares, np.tile([160, 120, 240, 0], (3, 1)))
    assert (track.looked, track.found) == (2, 0)


def test_the_tilt_is_that_of_the_eyes():
    track = build_track(2, [0, 1], [found(face(100, 50, tilt=20)), found(face(100, 50, tilt=10))], (320, 240), smooth=1)
    np.testing.assert_allclose(track.squares[:, 3], [20, 10])


def literal_training(count: int, length: int, rate: int, end: int) -> list[int]:
    """The sheet's rule with a given end of the window."""
    if count <= length * rate:
        points = list(np.linspace(0, count, count // rate))
        while len(points) < length:
            points.append(count)
        return [int(np.floor(min(max(point, 0), count - 1))) for point in points]
    start = end - length * rate
    return [int(np.floor(min(max(point, start), end - 1))) for point in np.linspace(start, end, length)]


@pytest.mark.parametrize("count", [1, 2, 5, 31, 32, 33, 40, 90])
def test_training_windows_are_the_released_rule(count: int):
    ends = set()
    for draw in np.linspace(0, 1, 400, endpoint=False):
        chosen = training_indices(count, 16, 2, float(draw))
        candidates = range(32, count) if count > 32 else [0]
        matching = [end for end in candidates if literal_training(count, 16, 2, end) == chosen.tolist()]
        assert matching
        ends.update(matching)
    assert ends == (set(range(32, count)) if count > 32 else {0})


def literal_prediction(count: int, length: int, rate: int, segments: int) -> list[list[int]]:
    sampled = list(range(0, count, rate))
    while len(sampled) < length:
        sampled.append(sampled[-1])
    starts = [int(k * max(len(sampled) - length, 0) / (segments - 1)) for k in range(segments)]
    return [sampled[start : start + length] for start in starts]


@pytest.mark.parametrize("count", [1, 5, 31, 32, 33, 40, 90])
@pytest.mark.parametrize("segments", [2, 3])
def test_prediction_windows_are_the_released_rule(count: int, segments: int):
    assert prediction_indices(count, 16, 2, segments).tolist() == literal_prediction(count, 16, 2, segments)


def test_one_prediction_window_is_the_middle_one():
    assert prediction_indices(100, 4, 2, 1).tolist() == [[46, 48, 50, 52]]
