"""From clips to one embedding each in the cache; decoding runs ahead of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.cache import Store
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.disk import read_json, write_json
from blemore_harness.errors import DataError, ExtraMissing
from blemore_harness.hookspecs import Requirement
from blemore_harness.media.ahead import read_ahead
from blemore_harness.media.audio import audio_key, read_audio, warn_of_silence
from blemore_harness.media.frame_cache import open_frames
from blemore_harness.media.frames import decoder_versions, uniform_indices, video_info
from blemore_harness.networks import fitting_threads, usable_cpus
from blemore_plugins.omni.options import RANDOM_SMALL, OmniOptions
from blemore_plugins.omni.weights import OmniWeights, fetch_rest, find, identify_folder
from blemore_plugins.requirements import HUB_TOKEN, need

VERSION = 1
"""Counts changes of what this folder computes; part of the cache key."""

OLDEST = 6
"""First major version of sentence-transformers whose `encode` takes audio and video."""

AHEAD = 8
"""Clips that are decoded ahead of the model."""

INPUTS_FILE = "inputs.json"
"""File next to the embeddings with what the model takes of a clip, which only the model says where `inputs=auto`."""

LIBRARIES = ("transformers", "sentence-transformers")
"""Packages whose version can change embeddings, besides torch."""


class OmniExtractor:
    """Makes one embedding per clip, float32 (1, D)."""

    def caveat(self, options: OmniOptions) -> str | None:
        """Return the caveat of an untrained random network."""
        return "untrained small encoders" if options.model == RANDOM_SMALL else None

    def identify(self, options: OmniOptions) -> Mapping[str, object]:
        """Identify a local model by its contents."""
        place = Path(options.model).expanduser()
        return {"model": identify_folder(place)} if place.is_dir() else {}

    def requirements(self, options: OmniOptions) -> tuple[Requirement, ...]:
        """Return the packages, and the token of the hub."""
        return () if options.model == RANDOM_SMALL else (*need(*LIBRARIES), HUB_TOKEN)

    def prepare(self, clips: Clips, options: OmniOptions, context: Context) -> None:
        """Fetch the model and compute the embeddings that the cache lacks, clip by clip.

        Raises:
            ExtraMissing: sentence-transformers is not installed, or too old.
            WeightsMissing, DataError, InvalidOption: see `weights` and `model`.
            MediaError: a clip without usable audio or video; embeddings of previous clips are stored.
        """
        if options.model != RANDOM_SMALL:
            require_multimodal()
        weights = find(options, download=True)
        store = self._store(options, weights, context)
        context.note("model", RANDOM_SMALL if weights is None else weights.identity(context.cache))
        if not clips:
            return
        missing, taken = store.missing(clips), store.folder / INPUTS_FILE
        if missing or not taken.exists():
            if weights is not None:
                fetch_rest(weights, options)
            self._extract(missing, store, options, weights, context)
        if "audio" in read_json(taken)["inputs"]:
            warn_of_silence(clips, context)

    def open_store(self, options: OmniOptions, context: Context) -> Store:
        """Return the cache store of the embeddings that these options and weights give."""
        return self._store(options, find(options), context)

    def _store(self, options: OmniOptions, weights: OmniWeights | None, context: Context) -> Store:
        names = ("torch",) if weights is None else ("torch", *LIBRARIES)
        return context.cache.store(
            "omni",
            version=VERSION,
            model=RANDOM_SMALL if weights is None else weights.identity(context.cache),
            inputs=options.taken(),
            frames=options.frames,
            prompt=options.given_prompt(),
            precision=options.precision_on(context.device),
            source=open_frames(context.cache).store.folder.name,
            audio=audio_key(),
            versions={name: _version(name) for name in names} | decoder_versions(),
        )

    def _extract(
        self, clips: Sequence[Clip], store: Store, options: OmniOptions, weights: OmniWeights | None, context: Context
    ) -> None:
        try:
            from blemore_plugins.omni.model import audio_input, load_embedder, video_input
            from blemore_plugins.vision.running import computing
        except ImportError as error:
            raise ExtraMissing(f'omni needs torch ({error}): pip install "blemore-harness[encoders]"') from error

        embedder = load_embedder(options, weights, context.device)
        write_json(store.folder / INPUTS_FILE, {"inputs": sorted(embedder.inputs)})
        if len(embedder.calls) > 1:
            context.log("omni: the model does not combine audio and video, its two embeddings are concatenated")
        cache = open_frames(context.cache)

        def read(clip: Clip) -> dict[str, Any]:
            given: dict[str, Any] = {}
            if "video" in embedder.inputs:
                info = video_info(clip)
                frames = cache.read(clip, uniform_indices(info.frames, options.frames))
                given["video"] = video_input(frames, info.seconds)
            if "audio" in embedder.inputs:
                given["audio"] = audio_input(read_audio(clip, embedder.rate, context.cache), embedder.rate)
            return given

        workers = min(AHEAD, usable_cpus())
        with (
            context.progress("omni: audio and video to embeddings", len(clips)) as bar,
            computing("fp32", context.device),
            fitting_threads(embedder.model),
        ):
            for clip, reading in read_ahead(read, clips, workers, workers):
                embedding = embedder.embed(reading.result())
                if not np.isfinite(embedding).all():
                    raise DataError(
                        f"omni gives NaN or infinite values for clip {clip.id}: the weights '{options.model}' are "
                        "damaged, or need precision=fp32"
                    )
                store.save(clip, embedding[None])
                bar.advance()
        context.note("extracted", {"clips": len(clips), "inputs": [list(call) for call in embedder.calls]})


def require_multimodal() -> None:
    """Check that sentence-transformers is installed and takes audio and video.

    Raises:
        ExtraMissing: it does not.
    """
    found = _version("sentence-transformers")
    if int(found.partition(".")[0]) < OLDEST:
        raise ExtraMissing(
            f"omni needs sentence-transformers {OLDEST} or newer, whose `encode` takes audio and video, found {found}: "
            'pip install -U "blemore-harness[omni]"'
        )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        extra = "omni" if package == "sentence-transformers" else "encoders"
        raise ExtraMissing(f'omni needs {package}: pip install "blemore-harness[{extra}]"') from error
