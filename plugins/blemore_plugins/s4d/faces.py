"""Face crops of all clips, made once and kept: decode, detect, track, crop.

Decoding and cropping run in threads beside the detector, some clips ahead of it. A clip whose frames are too large to
wait in memory is decoded a second time for cropping.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Store
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.errors import MediaError
from blemore_harness.media.frames import decoder_versions, iter_frames, scan_frames
from blemore_harness.networks import usable_cpus
from blemore_plugins.s4d.options import S4DOptions
from blemore_plugins.s4d.tracking import (
    Detections,
    build_track,
    choose_faces,
    correct,
    crop_square,
    interpolate,
    shrink,
)

if TYPE_CHECKING:
    from blemore_plugins.s4d.detector import FaceDetector

FACES_VERSION = 3
"""Counts changes of this code that change crops."""

HELD_BYTES = 64 * 2**20
"""A clip's frames wait in memory for their crops if they are no larger than this: 23 full-HD frames, 580 of 192 px."""

LOOKS = 4
"""Frames looked at for each that is searched for faces; no more than are stored."""

APART = 32
"""Video frames between searches up to which the face is looked for in between; later it is anywhere."""

GROUP = 8
"""Clips that wait for the detector at most; as many more are being decoded meanwhile."""


@dataclass(frozen=True)
class Footage:
    """A decoded clip.

    Attributes:
        clip: which one.
        frames: frames of the video.
        count: stored frames, every `step`-th of them.
        size: width and height of the video.
        small: the frames for the detector, shrunk.
        looked: which of the stored frames these are.
        searched: those of `looked` in which faces are searched everywhere. In the others only the face that was found
            in these is looked for, where it is expected.
        held: all stored frames at full size, None where they are too large to keep.
    """

    clip: Clip
    frames: int
    count: int
    size: tuple[int, int]
    small: list[NDArray[np.uint8]]
    looked: list[int]
    searched: set[int]
    held: list[NDArray[np.uint8]] | None


def open_crops(options: S4DOptions, context: Context) -> Store:
    """Open the store of crops made with these options: uint8 (T, size, size, 3) per clip.

    The part `found` of a clip holds three whole numbers: frames looked at, frames with the face, frames of the video.
    """
    libraries = {"facenet-pytorch": version("facenet-pytorch"), **decoder_versions()}
    return context.cache.store("s4d-faces", version=FACES_VERSION, libraries=libraries, **options.crop_facts())


def extract_faces(clips: Clips, options: S4DOptions, context: Context, name: str = "s4d") -> None:
    """Make the crops that are not there yet, and put the counts of missing faces in the record.

    Args:
        clips: whose faces are wanted.
        options: what changes a crop, see `S4DOptions.crop_facts`.
        context: cache, device, progress and record.
        name: the encoder that asks, for messages.

    Raises:
        MediaError: a clip that cannot be decoded; crops of other clips are kept.
    """
    store = open_crops(options, context)
    missing = store.missing(clips)
    if missing:
        with context.progress(f"{name}: faces", len(missing)) as bar:
            for count in _extract(missing, store, options, context.device):
                bar.advance(count)
    counts = np.array([store.load(clip, "found") for clip in clips], dtype=np.int64).reshape(-1, 3)
    looked, found = int(counts[:, 0].sum()), int(counts[:, 1].sum())
    faceless = [clip.id for clip, row in zip(clips, counts, strict=True) if row[1] == 0]
    context.note("face detection", {"frames looked at": looked, "without a face": looked - found})
    context.note("clips without a face", faceless)
    if faceless:
        context.warn(
            f"{name}: no face in {len(faceless)} of {len(clips)} clips (first: {faceless[0]}): the middle of the "
            "frame is used"
        )


def _extract(clips: Sequence[Clip], store: Store, options: S4DOptions, device: str) -> Iterator[int]:
    """Yield the number of clips done, group by group."""
    from blemore_plugins.s4d.detector import FaceDetector

    detector = FaceDetector(device, options.smallest_face)
    cores = usable_cpus()
    groups = [clips[start : start + GROUP] for start in range(0, len(clips), GROUP)]
    with ThreadPoolExecutor(min(GROUP, cores)) as pool, _torch_threads(max(1, cores // 2)):

        def decode(group: Sequence[Clip]) -> list[Future[Footage]]:
            return [pool.submit(_decode, clip, options) for clip in group]

        ahead = decode(groups[0])
        writing: list[Future[None]] = []
        try:
            for number in range(len(groups)):
                footage, damaged = _collect(ahead)
                ahead = decode(groups[number + 1]) if number + 1 < len(groups) and not damaged else []
                faces = [find_faces(one, detector) for one in footage]
                yield _finish(writing)
                writing = [
                    pool.submit(_crop, one, found, store, options) for one, found in zip(footage, faces, strict=True)
                ]
                if damaged:
                    _finish(writing)
                    raise damaged[0]
            yield _finish(writing)
        finally:
            for future in ahead:
                future.cancel()


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Leave the other cores to decoding and cropping: where threads of torch wait for a core, all of them wait."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _collect(decoding: Sequence[Future[Footage]]) -> tuple[list[Footage], list[MediaError]]:
    """Wait for decoded clips; those that cannot be decoded do not keep the others from being cropped."""
    footage, damaged = [], []
    for future in decoding:
        try:
            footage.append(future.result())
        except MediaError as error:
            damaged.append(error)
    return footage, damaged


def _finish(writing: Sequence[Future[None]]) -> int:
    for future in writing:
        future.result()
    return len(writing)


def _decode(clip: Clip, options: S4DOptions) -> Footage:
    return gather(clip, scan_frames(clip, lambda number: number % options.step == 0), options)


def gather(clip: Clip, stored: Iterable[NDArray[np.uint8] | None], options: S4DOptions) -> Footage:
    """Take from the frames of a clip, each (height, width, 3) or None where it is not stored, what detection needs."""
    looked: list[int] = []
    small: list[NDArray[np.uint8]] = []
    held: list[NDArray[np.uint8]] | None = []
    every = options.detect_every // options.step
    frames, index, size, last = 0, -1, (0, 0), None
    follow = max(every // LOOKS, 1) if options.detect_every <= APART else every
    for frame in stored:
        frames += 1
        if frame is None:
            continue
        index, last, size = index + 1, frame, (frame.shape[1], frame.shape[0])
        if index % follow == 0:
            looked.append(index)
            small.append(shrink(last, options.detect_size))
        if held is not None:
            held.append(last)
            held = held if last.nbytes * len(held) <= HELD_BYTES else None
    if last is not None and looked[-1] != index:
        looked.append(index)
        small.append(shrink(last, options.detect_size))
    searched = {number for number in looked if number % every == 0 or number == index}
    return Footage(clip, frames, index + 1, size, small, looked, searched, held)


Faces = dict[int, Detections | None]
"""What was found in the frames of a clip that were looked at, by their index."""


def find_faces(footage: Footage, detector: FaceDetector) -> Faces:
    """Run the detector over the frames of a clip: no other clip in a batch moves a box by rounding."""
    scale = footage.size[0] / footage.small[0].shape[1]
    every = detector.detect(_shrunk(footage, footage.searched), scale)
    faces = dict(zip((index for index in footage.looked if index in footage.searched), every, strict=True))
    known = choose_faces(list(faces), list(faces.values()))
    if not known or len(footage.looked) == len(footage.searched):
        return faces
    followed = detector.follow(footage.small, interpolate(footage.looked, known), scale)
    corrected = correct(dict(zip(footage.looked, followed, strict=True)), known)
    return dict(sorted({**corrected, **faces}.items()))


def _shrunk(footage: Footage, indices: set[int]) -> list[NDArray[np.uint8]]:
    return [frame for index, frame in zip(footage.looked, footage.small, strict=True) if index in indices]


def _crop(footage: Footage, faces: Faces, store: Store, options: S4DOptions) -> None:
    track = build_track(footage.count, list(faces), list(faces.values()), footage.size, options.smooth)
    # Without a face the square is the whole middle already.
    scale = options.scale if track.found else 1.0
    frames = iter_frames(footage.clip, options.step) if footage.held is None else footage.held
    crops = np.empty((footage.count, options.size, options.size, 3), dtype=np.uint8)
    for crop, frame, (x, y, side, angle) in zip(crops, frames, track.squares, strict=True):
        crop[...] = crop_square(frame, (x, y), side * scale, options.size, angle if options.align else 0.0)
    store.save(footage.clip, np.array([track.looked, track.found, footage.frames]), "found")
    store.save(footage.clip, crops)
