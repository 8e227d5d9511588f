"""A small picture of each clip: its middle frame, as JPEG."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence

from blemore_harness.clips import Clip
from blemore_harness.context import Reporter
from blemore_harness.data.download import Dataset
from blemore_harness.errors import DataError, MediaError
from blemore_harness.media.frame_files import work_side_by_side
from blemore_harness.media.frames import read_frames
from blemore_harness.media.opening import check_media

HEIGHT = 72
"""Height of a thumbnail in pixels."""

QUALITY = 60
"""JPEG quality: a thumbnail takes some 2 KB."""

BATCH = 64
"""Clips that are opened before it is looked whether their pictures still fit."""


def make_thumbnails(dataset: Dataset, ids: Sequence[str], budget: int, reporter: Reporter) -> dict[str, str]:
    """Return JPEG files in base64 by clip id, of as many clips as fit, the first first.

    Clips whose video cannot be read are left out with a warning.

    Args:
        ids: real ids, the most wanted first.
        budget: characters that all pictures together may take.

    Raises:
        DataError: a dataset without videos of these clips.
        ExtraMissing: PyAV or pillow is not installed.
    """
    wanted = [name for name in ids if name in dataset.videos]
    if not wanted:
        raise DataError(
            f"no videos of the clips in {dataset.root}: thumbnails are made of them; leave out --thumbnails"
        )
    found: dict[str, str] = {}
    left = budget
    with reporter.progress("thumbnails", len(wanted)) as bar:
        for start in range(0, len(wanted), BATCH):
            names = wanted[start : start + BATCH]
            made: dict[str, str] = {}

            def make(name: str, made: dict[str, str] = made) -> None:
                try:
                    made[name] = _thumbnail(Clip(name, dataset.videos[name]))
                except MediaError as error:
                    reporter.warn(f"no thumbnail: {error}")

            work_side_by_side(make, names, os.cpu_count() or 1, bar.advance)
            for name in names:
                size = len(made.get(name, "")) + len(name) + 6
                if size > left:
                    return found
                if name in made:
                    found[name] = made[name]
                    left -= size
    return found


def _thumbnail(clip: Clip) -> str:
    from PIL import Image

    # Files may not say how many frames they have: then the first one.
    (frame,) = read_frames(clip, [max(check_media(clip, "video").frames // 2, 0)])
    height, width = frame.shape[:2]
    picture = Image.fromarray(frame).resize((max(1, round(width * HEIGHT / height)), HEIGHT))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(file.getvalue()).decode()
