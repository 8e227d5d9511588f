"""Encoders that give one embedding per clip, which is used as it is: seven statistics of one row say no more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import Store
from blemore_harness.clips import Clip
from blemore_harness.context import Context
from blemore_plugins.features.encoder import FeatureEncoder


class WholeClipEncoder(FeatureEncoder):
    """An embedding of the whole clip, float32 (1, D), extracted from it, with a classification head."""

    def _vector(self, clip: Clip, options: Any, context: Context, store: Store) -> NDArray[np.float32]:
        """Return the embedding of one clip, float32 (D,)."""
        row: NDArray[np.float32] = store.load(clip)[0]
        return row
