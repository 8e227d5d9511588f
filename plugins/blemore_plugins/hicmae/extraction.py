"""From clips to rows of features in the cache: faces, chunks, spectra, network; decoding runs ahead of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blemore_harness.cache import Cache, Store
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.errors import WeightsMissing
from blemore_harness.hookspecs import Requirement
from blemore_harness.media.ahead import read_ahead
from blemore_harness.media.audio import audio_key, read_audio, warn_of_silence
from blemore_harness.networks import usable_cpus
from blemore_plugins.hicmae.inputs import RATE, cut_windows, import_kaldi, log_mel
from blemore_plugins.hicmae.options import RANDOM_SMALL, RELEASED, SMALL, SMALL_SEED, WEIGHT_FILES, HiCMAEOptions
from blemore_plugins.hicmae.shape import CHUNK
from blemore_plugins.hub import HUB_ID, Weights, find_weights, identify_source, require_packages
from blemore_plugins.requirements import HUB_TOKEN, need
from blemore_plugins.s4d.faces import extract_faces, open_crops

if TYPE_CHECKING:
    from blemore_plugins.hicmae.running import Chunks

VERSION = 1
"""Counts changes of what is computed here."""

PACKAGES = ("torch", "torchvision", "torchaudio", "facenet_pytorch", "av", "PIL")
LIBRARIES = ("torch", "torchaudio", "av")
"""Whose versions are part of the cache key, besides those of the crops."""

FILES = (".pth", ".pt", ".safetensors")
"""Endings of a checkpoint; what has one is no hub id."""

AHEAD = 4
"""Clips read in advance, about 5 MB each."""


class HiCMAEExtractor:
    """Makes the organisers' array of a clip: float32 (chunks, 2048), a row for every 16 frames and their audio."""

    def caveat(self, options: HiCMAEOptions) -> str | None:
        """Report that the random network is not HiCMAE."""
        return "untrained small encoders" if options.weights == RANDOM_SMALL else None

    def identify(self, options: HiCMAEOptions) -> Mapping[str, object]:
        """Tell local weights by their content."""
        return {} if options.weights == RANDOM_SMALL else {"weights": identify_source(options.weights)}

    def requirements(self, options: HiCMAEOptions) -> tuple[Requirement, ...]:
        """Return the packages, and the token of the hub."""
        return (*need("torchvision", "torchaudio", "facenet-pytorch"), HUB_TOKEN)

    def prepare(self, clips: Clips, options: HiCMAEOptions, context: Context) -> None:
        """Find the weights, cut out faces, and compute the features that are not in the cache.

        Raises:
            ExtraMissing: a package of the extra is not installed.
            WeightsMissing, DataError: weights that are not here, or that are not HiCMAE's.
            MediaError: a clip without usable picture or audio; those before it are kept.
        """
        require_packages("hicmae", PACKAGES)
        import_kaldi()
        weights = find(options, download=True)
        context.note("weights", RANDOM_SMALL if weights is None else weights.identity(context.cache))
        missing = self.open_store(options, context).missing(clips)
        if missing:
            self._extract(missing, options, weights, context)
        warn_of_silence(clips, context)

    def open_store(self, options: HiCMAEOptions, context: Context) -> Store:
        """Open the store of features made with these options and weights."""
        weights = find(options)
        return context.cache.store(
            "hicmae",
            version=VERSION,
            audio=audio_key(),
            weights={"seed": SMALL_SEED, **asdict(SMALL)} if weights is None else weights.identity(context.cache),
            crops=open_crops(options.crops(), context).folder.name,
            compat=options.compat,
            stride=options.stride,
            precision=options.precision,
            libraries={name: version(name) for name in LIBRARIES},
        )

    def _extract(
        self, clips: Sequence[Clip], options: HiCMAEOptions, weights: Weights | None, context: Context
    ) -> None:
        from blemore_plugins.hicmae.running import build_network, embed_chunks

        # Before the faces, which take longest: what is wrong with weights shows at once.
        network, loaded = build_network(options, weights, context.device)
        if loaded is not None:
            context.note("checkpoint", asdict(loaded))
        extract_faces(Clips(tuple(clips)), options.crops(), context, "hicmae")
        store, rows = self.open_store(options, context), 0
        with context.progress("hicmae: faces and audio to features", len(clips)) as bar:
            crops = open_crops(options.crops(), context)

            def read(clip: Clip) -> Chunks:
                return read_chunks(clip, options, crops, context.cache)

            for clip, chunks in read_ahead(read, clips, min(AHEAD, usable_cpus()), AHEAD):
                features = embed_chunks(network, chunks.result(), options.precision)
                store.save(clip, features)
                rows += len(features)
                bar.advance()
        context.note("extracted", {"clips": len(clips), "chunks": rows, "width": network.shape.features})


def find(options: HiCMAEOptions, download: bool = False) -> Weights | None:
    """Find the weights; None for the random network.

    Raises:
        WeightsMissing: they are not here, with the way to get them.
    """
    source = options.weights
    if source == RANDOM_SMALL:
        return None
    hub = HUB_ID.fullmatch(source) and not source.endswith(FILES)
    if not hub and not Path(source).expanduser().exists():
        raise WeightsMissing(
            f"no weights of HiCMAE at '{source}': fetch {RELEASED} (base model, pre-trained on VoxCeleb2) by the "
            "SharePoint link in the README of github.com/sunlicai/HiCMAE, which no program can follow, and say "
            "--set hicmae.weights=FILE"
        )
    return find_weights(source, [WEIGHT_FILES], "hicmae.weights", download=download)


def read_chunks(clip: Clip, options: HiCMAEOptions, crops: Store, cache: Cache | None = None) -> Chunks:
    """Cut a clip into chunks and read their pictures and audio.

    Raises:
        MediaError: a clip without audio.
    """
    from blemore_plugins.hicmae.running import Chunks

    faces = crops.load(clip, mmap=True)
    frames = int(crops.load(clip, "found")[2])
    windows = cut_windows(frames, options.stride, options.compat)
    pictures = np.zeros((len(windows), CHUNK, *faces.shape[1:]), dtype=np.uint8)
    for chunk, window in zip(pictures, windows, strict=True):
        chunk[: len(window.frames)] = faces[[frame // options.step for frame in window.frames]]
    wave = read_audio(clip, RATE, cache)
    sound = np.stack([log_mel(wave[window.samples(len(wave))]) for window in windows])
    return Chunks(pictures, tuple(len(window.frames) for window in windows), sound)
