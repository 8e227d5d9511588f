"""From clips to frame-level features in the cache: what all frozen visual encoders do the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Store
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_harness.errors import DataError, ExtraMissing, WeightsMissing
from blemore_harness.hookspecs import Requirement
from blemore_harness.media.ahead import read_ahead
from blemore_harness.media.frame_cache import open_frames
from blemore_harness.media.frames import BATCH, decoder_versions, iter_frames, read_frames, video_info
from blemore_harness.networks import fitting_threads, usable_cpus
from blemore_plugins.hub import Weights, find_weights, identify_source
from blemore_plugins.requirements import HUB_TOKEN, need
from blemore_plugins.s4d.faces import extract_faces, open_crops
from blemore_plugins.vision.options import RANDOM_SMALL, VisionOptions
from blemore_plugins.vision.pictures import PictureRule, fit

if TYPE_CHECKING:
    from blemore_plugins.vision.running import Network

VERSION = 1
"""Counts changes of what this folder computes; part of the cache key."""

WORKERS = 16
"""Clips that are decoded side by side, ahead of the network."""

Files = tuple[tuple[str, ...], ...]

FOLDER: Files = (("config.json",), ("model.safetensors", "pytorch_model.bin"))
"""What is needed of a model of transformers' layout."""


class VisionExtractor:
    """Makes features of one family from clips; families say what is their own (see `features.encoder.Extractor`).

    Attributes:
        name: of the encoder.
        files: which files make up its weights, each with the names that it may have.
        libraries: packages whose version can change its numbers, besides torch.
        hint: what to say where the weights are missing, such as how to get access.
        caution: what every extraction warns of, such as that its features are not the released ones.
        rule: how frames become input; None where the weights say it (`Network.rule`).
    """

    name: ClassVar[str]
    files: ClassVar[Files] = FOLDER
    libraries: ClassVar[tuple[str, ...]] = ("transformers",)
    hint: ClassVar[str] = ""
    caution: ClassVar[str] = ""
    rule: ClassVar[PictureRule | None] = None

    def build(self, options: Any, weights: Weights | None) -> Network:
        """Load the network, or make the small random one where there are no weights; on the CPU, float32."""
        raise TypeError(f"{type(self).__name__} does not say how its network is built")

    def rule_of(self, options: Any) -> PictureRule | None:
        """Return the rule for frames with these options; None where the weights say it."""
        return self.rule

    def fills_with_zeros(self, options: Any) -> bool:
        """Report how the last window is filled: with zeros, or with the last frame."""
        return False

    def reads_full(self, options: Any) -> bool:
        """Return whether frames are decoded at full size."""
        return bool(options.frames == "full")

    def caveat(self, options: VisionOptions) -> str | None:
        """Return the caveat of an untrained random network."""
        return "untrained small encoders" if options.model == RANDOM_SMALL else None

    def identify(self, options: VisionOptions) -> Mapping[str, object]:
        """Identify a local model by its contents."""
        return {} if options.model == RANDOM_SMALL else {"model": identify_source(options.model, self.files)}

    def requirements(self, options: VisionOptions) -> tuple[Requirement, ...]:
        """Return the packages, and the token of the hub."""
        detector = ("facenet-pytorch",) if _crops_faces(options) else ()
        return (*need(*self.libraries, *detector), HUB_TOKEN)

    def find(self, options: Any, download: bool) -> Weights:
        """Find the weights; `download` allows the network."""
        return find_weights(
            options.model, self.files, f"{self.name}.model", revision=options.revision, download=download
        )

    def weights(self, options: VisionOptions, download: bool = False) -> Weights | None:
        """Find the weights; None for the random network.

        Raises:
            WeightsMissing: with the family's hint.
        """
        if options.model == RANDOM_SMALL:
            return None
        try:
            return self.find(options, download)
        except WeightsMissing as error:
            hint = f"; {self.hint}" if self.hint else ""
            raise WeightsMissing(f"{error}{hint}", error.source, f"{error.todo}{hint}") from error

    def open_store(self, options: Any, context: Context) -> Store:
        """Return the cache store of the features that these options and weights give."""
        return self._store(options, self.weights(options), context)

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        """Fetch the weights and compute what the cache lacks, clip by clip.

        Raises:
            WeightsMissing, ExtraMissing, DataError: weights or packages that are not here, or do not fit.
            MediaError: a clip without usable frames; previous clips are stored.
        """
        weights = self.weights(options, download=True)
        store = self._store(options, weights, context)
        context.note("model", RANDOM_SMALL if weights is None else weights.identity(context.cache))
        if self.caution:
            context.warn(f"{self.name}: {self.caution}")
        missing = store.missing(clips)
        if missing:
            self._extract(missing, store, options, weights, context)

    def _store(self, options: Any, weights: Weights | None, context: Context) -> Store:
        packages = ("torch", *self.libraries)
        rule = self.rule_of(options)
        return context.cache.store(
            f"vision-{self.name}",
            version=VERSION,
            model=RANDOM_SMALL if weights is None else weights.identity(context.cache),
            rule=None if rule is None else asdict(rule),
            zeros=self.fills_with_zeros(options),
            stride=getattr(options, "stride", 1),
            frames=self._frames_key(options, context),
            precision=options.precision_on(context.device),
            versions={package: self._version(package) for package in packages} | decoder_versions(),
            **self.key(options),
        )

    def key(self, options: Any) -> dict[str, object]:
        """Return what features depend on besides what all families have, as JSON types."""
        return {}

    def _frames_key(self, options: Any, context: Context) -> str:
        """Return where frames come from: full size, or the folder of the shared frames or of the face crops."""
        if _crops_faces(options):
            try:
                return str(open_crops(options.crops(), context).folder.name)
            except PackageNotFoundError as error:
                raise self._extra_missing(error) from error
        return "full" if self.reads_full(options) else str(open_frames(context.cache).store.folder.name)

    def _extract(
        self, clips: Sequence[Clip], store: Store, options: Any, weights: Weights | None, context: Context
    ) -> None:
        try:
            from blemore_plugins.vision.running import computing, run_clip

            network = self.build(options, weights)
        except ImportError as error:
            raise self._extra_missing(error) from error
        network.module.requires_grad_(False).to(context.device)
        rule, zeros = network.rule or self.rule_of(options), self.fills_with_zeros(options)
        assert rule is not None  # the family or the weights say it
        if _crops_faces(options):
            extract_faces(Clips(tuple(clips)), options.crops(), context, self.name)
        read = self._reader(options, rule, network, context)
        precision, seen = options.precision_on(context.device), 0
        workers = min(WORKERS, usable_cpus())
        with (
            context.progress(f"{self.name}: frames to features", len(clips)) as bar,
            computing(precision, context.device),
            fitting_threads(network.module),
        ):
            for clip, reading in read_ahead(read, clips, workers, workers):
                frames = reading.result()
                features = run_clip(network, rule, zeros, frames, context.device)
                if not np.isfinite(features).all():
                    raise DataError(
                        f"{self.name} gives NaN or infinite features for clip {clip.id}: the weights '{options.model}' "
                        "are damaged, or need precision=fp32"
                    )
                store.save(clip, features)
                seen += len(frames)
                bar.advance()
        context.note("extracted", {"clips": len(clips), "frames": seen, "precision": precision})

    def _reader(
        self, options: Any, rule: PictureRule, network: Network, context: Context
    ) -> Callable[[Clip], NDArray[Any]]:
        """Return the function that reads a clip's frames, as `running.run_clip` takes them."""
        stride = getattr(options, "stride", 1)
        if _crops_faces(options):
            crops = open_crops(options.crops(), context)
            return crops.load
        if self.reads_full(options):
            return lambda clip: fit_full(clip, network, stride, rule)
        cache = open_frames(context.cache)
        return lambda clip: cache.read(clip, lambda count: network.choose(count, stride))

    def _version(self, package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError as error:
            raise self._extra_missing(error) from error

    def _extra_missing(self, error: ImportError) -> ExtraMissing:
        names = ", ".join(("torch", *self.libraries))
        return ExtraMissing(f'{self.name} needs {names} ({error}): pip install "blemore-harness[encoders]"')


def _crops_faces(options: Any) -> bool:
    return bool(getattr(options, "faces", False))


def fit_full(clip: Clip, network: Network, stride: int, rule: PictureRule) -> NDArray[np.float32]:
    """Decode what the network wants of a clip at full size and make squares of it, float32 (T, 3, side, side)."""
    import torch

    parts: list[NDArray[np.float32]] = []
    held: list[NDArray[np.uint8]] = []

    def empty() -> None:
        if held:
            parts.append(fit(torch.from_numpy(np.stack(held)), rule, network.side).numpy())
            held.clear()

    if network.spread:
        frames = read_frames(clip, network.choose(video_info(clip).frames, stride))
        return fit(torch.from_numpy(frames), rule, network.side).numpy()
    for frame in iter_frames(clip, stride):
        held.append(frame)
        if len(held) == BATCH:
            empty()
    empty()
    return np.concatenate(parts)
