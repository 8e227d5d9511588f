"""What all encoders of features over time do the same way: find the features, describe them, train a head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Store
from blemore_harness.context import Context
from blemore_harness.dataset import Clip, Clips
from blemore_harness.errors import DataError
from blemore_harness.hookspecs import Encoder
from blemore_harness.rows import Embeddings
from blemore_harness.sequences import describe_sequence
from blemore_plugins.features.options import FeatureOptions
from blemore_plugins.features.reading import read_released, read_statistics
from blemore_plugins.hub import digest_file

Sequence2D = NDArray[np.float32]

PART = "statistics"
"""Name of the part of a clip's extracted features that holds their statistics."""

VECTORS_VERSION = 1
"""Counts changes of how statistics are taken."""


class Extractor(Protocol):
    """Makes the features of one family from clips; resolved options in, arrays in the cache out."""

    def mark(self, options: Any) -> str | None:
        """As `Encoder.mark`, for features made with these options."""

    def identify(self, options: Any) -> Mapping[str, object]:
        """As `Encoder.identify`."""

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        """Fetch weights and compute what the cache lacks, clip by clip, so that an interruption loses little.

        Raises:
            WeightsMissing, ExtraMissing, DataError: what is needed is not here.
            MediaError: a clip that cannot be used; those before it are kept.
        """

    def open_store(self, options: Any, context: Context) -> Store:
        """Open the store of features made with these options: float32 (T, D) per clip."""


class FeatureEncoder(Encoder):
    """Features over time under a head.

    Attributes (besides those of `Encoder`):
        store: name of the released folder; empty where nothing was released.
        statistics_store: name of the aggregated file without ending, such as `wavlm_static_features`; empty likewise.
        width: D of the released arrays; None where it is not documented and is read from the files.
        extractor: makes the same features from clips; None where that cannot be done.
    """

    Options: ClassVar[type[Any]] = FeatureOptions
    statistics_store: ClassVar[str] = ""
    width: ClassVar[int | None] = None
    extractor: ClassVar[Extractor | None] = None

    def settle(self, options: FeatureOptions, stores: frozenset[str]) -> FeatureOptions:
        """Replace `auto` by the first source that there is."""
        if options.source != "auto":
            return options
        if self.store in stores:
            return replace(options, source="released")
        if self.statistics_store in stores and options.rows == "clips":
            return replace(options, source="statistics")
        return replace(options, source="media" if self.extractor else "released")

    def stores(self, options: FeatureOptions) -> tuple[str, ...]:
        """Name what is read of the dataset."""
        return {"released": (self.store,), "statistics": (self.statistics_store,)}.get(options.source, ())

    def mark(self, options: FeatureOptions) -> str | None:
        """Say what the extractor says; released features are what they are."""
        return self._extractor.mark(options) if options.source == "media" else None

    def identify(self, options: FeatureOptions) -> Mapping[str, object]:
        """Say what the extractor says."""
        return self._extractor.identify(options) if options.source == "media" else {}

    def prepare(self, clips: Clips, options: FeatureOptions, context: Context) -> None:
        """Read every clip's features once, or extract them: what is missing or damaged shows before any training.

        Raises:
            MediaError: a clip without features, or with a file that cannot be used.
            WeightsMissing, ExtraMissing, DataError: see the family's extractor.
        """
        if options.source == "media":
            self._extractor.prepare(clips, options, context)
        store = self._open_vectors(options, context)
        with context.progress(f"{self.name}: features", len(clips)) as bar:
            for clip in clips:
                self._vector(clip, options, context, store)
                bar.advance()

    def sequence(self, clip: Clip, options: FeatureOptions, context: Context) -> Sequence2D:
        """Give the features of a clip, float32 (T, D)."""
        if options.source == "media":
            return self._extractor.open_store(options, context).load(clip)
        return read_released(clip, self.store, self.width)

    def embed(self, clips: Clips, options: FeatureOptions, context: Context) -> Embeddings:
        """Give the seven statistics of every clip: float32 (N, 7 x D)."""
        store = self._open_vectors(options, context)
        vectors = [self._vector(clip, options, context, store) for clip in clips]
        return Embeddings(clips.ids, np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32))

    def _open_vectors(self, options: FeatureOptions, context: Context) -> Store:
        """Open the store of statistics, which lie beside extracted features, or under the content of released ones."""
        if options.source == "media":
            return self._extractor.open_store(options, context)
        return context.cache.store("statistics", version=VECTORS_VERSION)

    def _vector(self, clip: Clip, options: FeatureOptions, context: Context, store: Store) -> NDArray[np.float32]:
        """Give the seven statistics of one clip, float32 (7 x D,), computed once."""
        if options.source == "statistics":
            return read_statistics(clip, self.statistics_store, self.width)
        part = PART if options.source == "media" else digest_file(clip.features(self.store), context.cache)[:32]
        if not store.has(clip, part):
            store.save(clip, describe_sequence(self.sequence(clip, options, context)), part)
        return store.load(clip, part)

    @property
    def _extractor(self) -> Extractor:
        """The extractor; `DataError` where only released features can be read."""
        if self.extractor is None:
            raise DataError(
                f"{self.name} reads released features only: expected '{self.store}' below the dataset "
                "(pre_extracted_train_data and pre_extracted_test_data)"
            )
        return self.extractor
