"""From audio tracks to embeddings in the cache: decode and describe some clips side by side, keep each."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Cache, Store
from blemore_harness.clips import Clip
from blemore_harness.context import Context
from blemore_harness.errors import ExtraMissing, MediaError, first_and_count
from blemore_harness.media.ahead import read_ahead
from blemore_harness.media.audio import audio_key, read_audio
from blemore_harness.networks import usable_cpus
from blemore_plugins.prosody.vocabulary import feature_names

VERSION = 2
"""Version of this package's features, increased whenever values or entries change; part of the cache key."""

CONTOURS = "contours"
"""Name of the cache entry for a clip's contours."""

LIBRARIES = ("librosa", "numpy", "scipy")
"""Packages whose version can change a value."""

GROUP = 8
"""Clips described side by side, at most; each holds about 45 MB for 10 s of audio."""


def open_store(context: Context) -> Store:
    """Return the cache store of embeddings.

    Raises:
        ExtraMissing: a package that computes them is not installed.
    """
    libraries = {name: _version(name) for name in LIBRARIES}
    return context.cache.store(
        "prosody", version=VERSION, audio=audio_key(), libraries=libraries, features=len(feature_names())
    )


def extract(clips: Sequence[Clip], store: Store, context: Context) -> None:
    """Compute the embeddings and contours of clips and store those of each as soon as they are computed.

    Raises:
        MediaError: clips without usable audio, raised after all others are stored; names the first.
        ExtraMissing: av, librosa or scipy is not installed.
    """
    damaged: list[MediaError] = []
    with context.progress("prosody: audio to embeddings", len(clips)) as bar:
        workers = min(GROUP, usable_cpus())
        for clip, described in read_ahead(
            lambda clip: _describe_clip(clip, context.cache), clips, workers, 2 * workers
        ):
            try:
                vector, contours = described.result()
                store.save(clip, contours, CONTOURS)
                store.save(clip, vector)  # last, because it marks a clip as done
            except MediaError as error:
                damaged.append(error)
            bar.advance()
    context.note("described", {"clips": len(clips) - len(damaged), "numbers per clip": len(feature_names())})
    if len(damaged) > 1:
        names = [str(error.clip) for error in damaged]
        raise MediaError(f"{first_and_count(names, 'clip')} without usable audio: {damaged[0]}", damaged[0].clip)
    if damaged:
        raise damaged[0]


def _describe_clip(clip: Clip, cache: Cache) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Decode a clip's audio and compute its features and contours."""
    from blemore_plugins.prosody.functionals import describe_clip
    from blemore_plugins.prosody.pitch import RATE

    try:
        return describe_clip(read_audio(clip, RATE, cache))
    except ImportError as error:
        raise _extra_missing(error) from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise _extra_missing(error) from error


def _extra_missing(error: ImportError) -> ExtraMissing:
    return ExtraMissing(f"prosody requires av, librosa and scipy ({error}): pip install 'blemore-harness[encoders]'")
