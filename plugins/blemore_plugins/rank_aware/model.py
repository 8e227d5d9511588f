"""What training gives: rows and members' weights of clips, each from its own vectors only."""

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
from blemore_plugins.rank_aware.inputs import Inputs, Members
from blemore_plugins.rank_aware.network import HEAD, RankAwareNetwork, reconcile


@dataclass(frozen=True)
class RankAwareModel:
    """A trained network and how its inputs are made.

    Attributes:
        inputs: the members and how their vectors are standardised.
        network: in eval mode.
    """

    inputs: Inputs
    network: RankAwareNetwork

    def predict(self, clips: Clips, members: Mapping[str, Embeddings], context: Context) -> Probabilities:
        """Give the reconciled rows; each depends on its own clip only.

        Raises:
            DataError: a member that is lacking, has vectors of another length, or has none for a clip.
        """
        return Probabilities(clips.ids, self._read(clips, members)[0])

    def weigh(self, clips: Clips, members: Members) -> NDArray[np.float64]:
        """Give each member's weight for each clip, float64 (N, M) in the order of `inputs.names`: 0 where not kept."""
        return self._read(clips, members)[1]

    def _read(self, clips: Clips, members: Members) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        device = next(self.network.parameters()).device
        return read_rows(self.network, self.inputs.join(members, clips.ids).to(device))


def read_rows(network: RankAwareNetwork, rows: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give reconciled rows (N, 6) and members' weights (N, M), float64, of standardised vectors; in fixed blocks."""
    with one_thread():
        given = forward_rows(network, rows).double().cpu().numpy()
    presence, salience, weights = np.split(given, [HEAD, 2 * HEAD], axis=1)
    return reconcile(presence, salience), weights
