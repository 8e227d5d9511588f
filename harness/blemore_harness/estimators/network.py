"""An encoder made of a torch module, and of a function that turns a clip into the module's input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.errors import ConfigError, PluginFailed
from blemore_harness.estimators.code import describe
from blemore_harness.estimators.inputs import ClipArrays
from blemore_harness.hookspecs import Encoder, Modality, Requirement
from blemore_harness.options import build_options
from blemore_harness.training.options import TrainingOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from blemore_harness.training.fitting import Fresh, TrainedNetwork


class TorchEncoder(Encoder):
    """An encoder that trains a torch module on soft labels with the harness's training loop.

    The loss is the KL divergence of the softmax of the module's logits from the saliences. `TrainingOptions` are the
    options of the encoder: epochs, learning rate and schedule, early stopping, precision and so on. An interrupted
    training resumes from its checkpoint with the same result. The trained weights are kept with the run.

    Args:
        name: what users type after `--plugin`.
        module: returns a new module, such as its class. It maps a batch of inputs to logits (B, 6). It is called with
            a seeded generator, once or twice per fold.
        inputs: turns a clip into an array or a tensor on the CPU, of the same shape for every clip and the same each
            time. It is called in several threads unless the arrays are cached.
        modality: what `inputs` takes as input.
        summary: one line for `blemore-harness plugins`.
        version: raise it when the inputs change for a reason that the code of `inputs` does not show.
        cached: whether inputs are kept in the cache, or computed in every epoch, which needs no disk space.
        feature_sets: names of the released features that `inputs` reads. Then nothing is kept in the cache.
        settings: defaults of this encoder for fields of `TrainingOptions`, such as `epochs=10`.

    Raises:
        ConfigError: a module that is built already, or an unknown or invalid setting.
    """

    def __init__(
        self,
        name: str,
        module: Callable[[], nn.Module],
        inputs: Callable[[Clip], ArrayLike | Tensor],
        *,
        modality: Modality = "audiovisual",
        summary: str = "",
        version: int = 1,
        cached: bool = True,
        feature_sets: tuple[str, ...] = (),
        **settings: Any,
    ) -> None:
        if not callable(module) or (hasattr(module, "state_dict") and not isinstance(module, type)):
            raise ConfigError(
                f"{name}: expected a function that returns a new module, such as its class, found "
                f"{type(module).__name__}: every fold trains a module of its own"
            )
        if not callable(inputs):
            raise ConfigError(f"{name}: expected inputs as a function of a clip, found {inputs!r}")
        self._module, self._sets = module, feature_sets
        self._arrays = ClipArrays(name, inputs, version, kept=cached and not feature_sets)
        # What other encoders state in their class belongs to the instance here.
        vars(self).update(
            name=name,
            modality=modality,
            summary=summary or "torch module trained on soft labels",
            Options=_with_defaults(name, settings),
        )

    def resolve_options(self, options: Any, feature_sets: frozenset[str]) -> TrainingOptions:
        """Return the same options as the class that worker processes can import."""
        return TrainingOptions(**vars(options))

    def identify(self, options: Any) -> Mapping[str, object]:
        """Describe the code of the module and of the inputs."""
        return {"module": describe(self._module), "inputs": self._arrays.identify()}

    def feature_sets(self, options: Any) -> tuple[str, ...]:
        """Name the released features that are read."""
        return self._sets

    def requirements(self, options: Any) -> tuple[Requirement, ...]:
        """Return torch, and what its weights are kept with."""
        return Requirement("torch"), Requirement("safetensors")

    def prepare(self, clips: Clips, options: TrainingOptions, context: Context) -> None:
        """Compute the inputs of all clips, so that one that cannot be used is found before training."""
        self._arrays.prepare(clips, context)

    def fit(self, fold: Fold, options: TrainingOptions, context: Context) -> TrainedNetwork:
        """Train the module on the training clips; see `training.fitting.fit_network`."""
        from blemore_harness.training.fitting import fit_network

        return fit_network(fold, lambda: self._build(options, context), self._source(context), options, context)

    def load(self, folder: Path, options: TrainingOptions, context: Context) -> TrainedNetwork:
        """Read a trained module; see `training.fitting.load_network`."""
        from blemore_harness.training.fitting import load_network

        return load_network(folder, self._build(options, context).network, self._source(context), options)

    def _source(self, context: Context) -> _ArraySource:
        return _ArraySource(self.name, self._arrays.read(context))

    def _build(self, options: TrainingOptions, context: Context) -> Fresh:
        from torch import nn

        from blemore_harness.networks import seeded
        from blemore_harness.training.fitting import Fresh, make_groups

        with seeded(context.seed):
            network = self._module()
        if not isinstance(network, nn.Module):
            raise PluginFailed(f"{self.name}: expected a torch module, found {type(network).__name__}", self.name)
        network = network.to(context.device)
        return Fresh(network, make_groups(network, options))


class _ArraySource:
    """Feeds a network with one array per clip; see `training.batches.Source`.

    Args:
        name: of the encoder, for messages.
        array_of: returns the array of a clip.
    """

    draws = 0

    def __init__(self, name: str, array_of: Callable[[Clip], Any]) -> None:
        self._name, self._array_of = name, array_of

    def read(self, clip: Clip, draw: Tensor | None) -> Tensor:
        """Return the array of a clip as a tensor."""
        import torch

        return torch.from_numpy(self._array_of(clip))

    def join(self, held: Sequence[Tensor], draws: Tensor) -> Tensor:
        """Stack the arrays of a batch.

        Raises:
            PluginFailed: they differ in shape.
        """
        import torch

        shapes = list(dict.fromkeys(tuple(tensor.shape) for tensor in held))
        if len(shapes) > 1:
            raise PluginFailed(
                f"{self._name}: expected inputs of one shape, found {shapes[0]} and {shapes[1]}: "
                "pad them, cut them or pool them over time",
                self._name,
            )
        return torch.stack(list(held))

    def views(self, held: Tensor) -> Tensor:
        """Return the array of one clip as a batch of one."""
        return held[None]


def _with_defaults(name: str, settings: Mapping[str, Any]) -> type[TrainingOptions]:
    """Return `TrainingOptions` with other defaults; errors as of `build_options`."""
    build_options(name, TrainingOptions, settings)
    fields = {field.name: field for field in dataclasses.fields(TrainingOptions)}
    changed = [
        (key, fields[key].type, dataclasses.field(default=value, metadata=fields[key].metadata))
        for key, value in settings.items()
    ]
    return dataclasses.make_dataclass(
        "TrainingOptions",
        changed,
        bases=(TrainingOptions,),
        frozen=True,
        namespace={"__module__": TrainingOptions.__module__, "__doc__": TrainingOptions.__doc__},
    )
