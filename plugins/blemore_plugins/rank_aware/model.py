"""What training gives: rows and base models' weights of clips, each from its own embeddings only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blemore_harness.clips import Clips
from blemore_harness.context import Context
from blemore_harness.networks import forward_rows, one_thread
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_plugins.rank_aware.inputs import BaseModels, Inputs
from blemore_plugins.rank_aware.network import HEAD, RankAwareNetwork, reconcile


@dataclass(frozen=True)
class RankAwareModel:
    """A trained network and how its inputs are made.

    Attributes:
        inputs: the base models and how their embeddings are standardised.
        network: in eval mode.
    """

    inputs: Inputs
    network: RankAwareNetwork

    def predict(self, clips: Clips, base_models: Mapping[str, Embeddings], context: Context) -> Probabilities:
        """Return the reconciled rows; each depends on its own clip only.

        Raises:
            DataError: a base model that is lacking, has embeddings of another length, or has none for a clip.
        """
        return Probabilities(clips.ids, self._read(clips, base_models)[0])

    def weigh(self, clips: Clips, base_models: BaseModels) -> NDArray[np.float64]:
        """Return each base model's weight for each clip, float64 (N, M) in the order of `inputs.names`.

        0 where not kept.
        """
        return self._read(clips, base_models)[1]

    def _read(self, clips: Clips, base_models: BaseModels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        device = next(self.network.parameters()).device
        return read_rows(self.network, self.inputs.join(base_models, clips.ids).to(device))


def read_rows(network: RankAwareNetwork, rows: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return reconciled rows (N, 6) and base models' weights (N, M), float64, of standardised embeddings.

    In fixed blocks.
    """
    with one_thread():
        given = forward_rows(network, rows).double().cpu().numpy()
    presence, salience, weights = np.split(given, [HEAD, 2 * HEAD], axis=1)
    return reconcile(presence, salience), weights
