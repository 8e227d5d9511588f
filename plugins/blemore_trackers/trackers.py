"""The trackers that `run --track` offers."""

from __future__ import annotations

import importlib
import importlib.util
from typing import ClassVar

from blemore_harness.errors import ExtraMissing
from blemore_harness.hookspecs import Tracker, hookimpl
from blemore_trackers.events import Listener


class LibraryTracker(Tracker):
    """A tracker of somebody else's library, which is imported when a run starts.

    Attributes:
        package: module that must be there.
        client: module of this package with the class `Client`.
    """

    package: ClassVar[str]
    client: ClassVar[str]

    def connect(self) -> Listener:
        """Return what listens to the runs; the library must be installed."""
        if importlib.util.find_spec(self.package) is None:
            raise ExtraMissing(
                f"--track {self.name}: {self.package} is not installed: pip install 'blemore-harness[{self.name}]'"
            )
        return Listener(lambda started: importlib.import_module(self.client).Client(started))


class TensorBoard(LibraryTracker):
    """Event files in the run's folder."""

    name = "tensorboard"
    summary = "event files in the run's folder, for TensorBoard"
    package, client = "tensorboard", "blemore_trackers.tensorboard"


class MLflow(LibraryTracker):
    """A run of an MLflow experiment."""

    name = "mlflow"
    summary = "a run of the MLflow experiment `blemore`, or of MLFLOW_EXPERIMENT_NAME"
    package, client = "mlflow", "blemore_trackers.mlflow"


class WeightsAndBiases(LibraryTracker):
    """A run of a Weights & Biases project."""

    name = "wandb"
    summary = "a run of the Weights & Biases project `blemore`, or of WANDB_PROJECT; offline without a key"
    package, client = "wandb", "blemore_trackers.wandb"


class Trackio(LibraryTracker):
    """A run of a Trackio project."""

    name = "trackio"
    summary = "a run of the Trackio project `blemore`, or of TRACKIO_PROJECT, on this machine"
    package, client = "trackio", "blemore_trackers.trackio"


@hookimpl
def blemore_experiment_trackers() -> list[Tracker]:
    """Offer them."""
    return [TensorBoard(), MLflow(), WeightsAndBiases(), Trackio()]
