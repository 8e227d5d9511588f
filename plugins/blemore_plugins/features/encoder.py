"""The common part of all encoders of frame-level features: reading or extracting, pooling, and training a head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Store
from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import DataError, InvalidOption, MediaError
from blemore_harness.hookspecs import Card, Encoder, Model, Requirement
from blemore_harness.pooling import STATISTICS, pool_statistics
from blemore_harness.predictions import Embeddings
from blemore_plugins.cards import card_of
from blemore_plugins.features.options import FeatureOptions
from blemore_plugins.features.reading import (
    read_released,
    read_statistics,
    refuse_missing,
    refuse_unseen,
    refuse_widths,
)

Sequence2D = NDArray[np.float32]

VECTORS_VERSION = 1
"""Version of the statistics, increased with every change."""

PART = f"statistics-{VECTORS_VERSION}"
"""Name of the cache entry for the statistics of extracted features."""


class Extractor(Protocol):
    """Extracts the features of one family from clips into the cache, given resolved options."""

    def caveat(self, options: Any) -> str | None:
        """Return the caveat of features extracted with these options, as `Encoder.caveat`."""

    def identify(self, options: Any) -> Mapping[str, object]:
        """Return the configuration of the extractor, as `Encoder.identify`."""

    def requirements(self, options: Any) -> tuple[Requirement, ...]:
        """As `Encoder.requirements`."""

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        """Download weights and compute missing features clip by clip, so that an interruption loses little.

        Raises:
            WeightsMissing, ExtraMissing, DataError: a requirement is missing.
            MediaError: a clip that cannot be used; features of previous clips are kept.
        """

    def open_store(self, options: Any, context: Context) -> Store:
        """Return the cache store of features extracted with these options: float32 (T, D) per clip."""


class FeatureEncoder(Encoder):
    """Frame-level features with a classification head.

    Attributes (besides those of `Encoder`):
        store: name of the feature set, as it was released, or as `prepare --export` names it; empty if there is none.
        statistics_store: name of the aggregated file without suffix, such as `wavlm_static_features`; empty if none.
        width: D of the released arrays; None if it is not documented and read from the files.
        extractor: extracts the same features from clips; None if this is not possible.
    """

    Options: ClassVar[type[Any]] = FeatureOptions
    prepares_each_clip: ClassVar[bool] = True
    statistics_store: ClassVar[str] = ""
    width: ClassVar[int | None] = None
    extractor: ClassVar[Extractor | None] = None

    def resolve_options(self, options: Any, feature_sets: frozenset[str]) -> Any:
        """Replace `auto` by the first available source.

        Raises:
            InvalidOption: a source that this family does not have, or `rows` that the only source cannot provide.
        """
        if options.source == "auto":
            return replace(options, source=self._first_source(options, feature_sets))
        named = {"released": self.store, "statistics": self.statistics_store, "media": self.extractor}
        if not named[options.source]:
            has = ", ".join(source for source, there in named.items() if there)
            raise InvalidOption(f"source: '{self.name}' has no source '{options.source}', expected one of: auto, {has}")
        return options

    def feature_sets(self, options: Any) -> tuple[str, ...]:
        """Return the feature sets that are read."""
        return {"released": (self.store,), "statistics": (self.statistics_store,)}.get(options.source, ())

    def caveat(self, options: Any) -> str | None:
        """Return the caveat of the extractor; released features have none."""
        return self._extractor.caveat(options) if options.source == "media" else None

    def card(self, options: Any) -> Card:
        """Return the card of the network that makes the features, or made the released ones."""
        return card_of(self.named_weights(options) if options.source == "media" else self.store)

    def named_weights(self, options: Any) -> str:
        """Return what the options name as the weights of the extractor."""
        return str(getattr(options, "model", ""))

    def identify(self, options: Any) -> Mapping[str, object]:
        """Return the configuration of the extractor."""
        return self._extractor.identify(options) if options.source == "media" else {}

    def requirements(self, options: Any) -> tuple[Requirement, ...]:
        """Return what the extractor needs; released features need nothing."""
        return self._extractor.requirements(options) if options.source == "media" else ()

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        """Read or extract every clip's features once, so that missing or damaged files are found before training.

        Raises:
            MediaError: clips without features or with unusable files; names the first and their number.
            WeightsMissing, ExtraMissing, DataError: see the family's extractor.
        """
        if options.source == "media":
            extractor = self._extractor
            refuse_unseen(clips, self.store)
            if self.statistics_store:  # of others nobody has released features
                context.log(f"{self.name}: features are extracted from the clips, not read from '{self.store}'")
            extractor.prepare(clips, options, context)
        else:
            refuse_missing(clips, self._source_name(options), options.source, self.name if self.extractor else "")
        store = self._open_vectors(options, context)
        widths: dict[str, int] = {}
        refused: list[MediaError] = []
        with context.progress(f"{self.name}: features", len(clips)) as bar:
            for clip in clips:
                try:
                    widths[clip.id] = len(self._vector(clip, options, context, store)) // STATISTICS
                except MediaError as error:
                    refused.append(error)
                bar.advance()
        if refused:
            raise MediaError(f"{refused[0]} ({len(refused)} of {len(clips)} clips cannot be used)", refused[0].clip)
        refuse_widths(widths, self._source_name(options))

    def frame_features(self, clip: Clip, options: Any, context: Context) -> Sequence2D:
        """Return the features of a clip, float32 (T, D).

        Raises:
            DataError: the source is the aggregated file, which has no frame-level features.
        """
        if options.source == "media":
            found = self._extractor.open_store(options, context).load(clip)
            return found.mean(axis=1, dtype=np.float32) if found.ndim == 3 else found
        if options.source == "statistics":
            raise DataError(
                f"'{self.statistics_store}' has statistics per clip and no frame-level features: "
                f"use --set {self.name}.source=released or media"
            )
        return self.read(clip, options)

    def read(self, clip: Clip, options: Any) -> Sequence2D:
        """Read the released features of a clip, float32 (T, D); families with other file formats override this."""
        return read_released(clip, self.store, self.width)

    def reading(self, options: Any) -> Mapping[str, object]:
        """Return what the result of `read` depends on besides the file, as JSON types for the cache key."""
        return {"store": self.store, "width": self.width}

    def embed(self, clips: Clips, options: Any, context: Context) -> Embeddings:
        """Return the seven statistics of every clip: float32 (N, 7 x D)."""
        store = self._open_vectors(options, context)
        vectors = [self._vector(clip, options, context, store) for clip in clips]
        return Embeddings(clips.ids, np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32))

    def fit(self, fold: Fold, options: Any, context: Context) -> Model:
        """Train the head on the clips' statistics, or on all their embeddings."""
        if options.rows == "clips":
            return super().fit(fold, options, context)
        from blemore_harness.heads.subsampled import fit_head_on_rows

        return fit_head_on_rows(lambda clip: self.frame_features(clip, options, context), fold, options, context)

    def load(self, folder: Path, options: Any, context: Context) -> Model:
        """Read a trained head."""
        if options.rows == "clips":
            from blemore_harness.heads.fitting import load_encoder

            return load_encoder(self, folder, options, context)
        from blemore_harness.heads.subsampled import load_head_on_rows

        return load_head_on_rows(folder, lambda clip: self.frame_features(clip, options, context), context)

    def fit_folds(self, folds: Sequence[Fold], options: Any, contexts: Sequence[Context]) -> Iterable[Model]:
        """Train the heads of several folds at once where that is faster; those on embeddings one by one."""
        if options.rows != "clips":
            return super().fit_folds(folds, options, contexts)
        from blemore_harness.heads.fitting import fit_encoder_folds

        return fit_encoder_folds(self, folds, options, contexts)

    def _first_source(self, options: Any, feature_sets: frozenset[str]) -> str:
        if self.store in feature_sets:
            return "released"
        if self.statistics_store in feature_sets and not options.needs_frames:
            return "statistics"
        if self.extractor:
            return "media"
        if self.statistics_store in feature_sets:
            raise InvalidOption(
                f"{options.needs_frames} requires '{self.store}' with all embeddings of a clip, found only "
                f"'{self.statistics_store}' with statistics per clip: use the defaults of these options"
            )
        return "released"

    def _source_name(self, options: Any) -> str:
        return "".join(self.feature_sets(options)) or "the extracted features"

    def _open_vectors(self, options: Any, context: Context) -> Store:
        """Return the cache store of statistics, next to extracted features or keyed by the content of released ones."""
        if options.source == "media":
            return self._extractor.open_store(options, context)
        return context.cache.store("statistics", version=VECTORS_VERSION, numpy=np.__version__, **self.reading(options))

    def _vector(self, clip: Clip, options: Any, context: Context, store: Store) -> NDArray[np.float32]:
        """Return the seven statistics of one clip, float32 (7 x D,), from the cache if known."""
        if options.source == "statistics":
            return read_statistics(clip, self.statistics_store, self.width)
        part = PART if options.source == "media" else context.cache.digest_file(clip.features(self.store))[:32]
        if not store.has(clip, part):
            store.save(clip, pool_statistics(self.frame_features(clip, options, context)), part)
        return store.load(clip, part)

    @property
    def _extractor(self) -> Extractor:
        """The extractor; `DataError` if only released features are supported."""
        if self.extractor is None:
            raise DataError(
                f"{self.name} supports released features only: expected '{self.store}' in the dataset "
                "(pre_extracted_train_data and pre_extracted_test_data)"
            )
        return self.extractor
