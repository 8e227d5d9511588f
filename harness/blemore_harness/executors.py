"""Executors: engines that start the workers of a run somewhere, such as the jobs of a cluster.

The harness keeps the plan, the results and the held-out labels. An executor is told what a piece of work needs and
starts a worker for it anywhere; there `running.worker.connect(harness)` connects back to the harness and carries out
requests until it is told to end. Runs, cache and data must be reachable under the same paths there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from blemore_harness.errors import ConfigError, PluginFailed

WAITING_FILE = "waiting"
"""File in the folder of a run that was sent to begin elsewhere and has not begun."""

State = Literal["waiting", "running", "ended"]
"""Of a started worker: not begun yet (or put back into the queue), running, or gone for good."""


@dataclass(frozen=True)
class Needs:
    """What a piece of work needs of the machine that carries it out.

    Attributes:
        name: what is done, for people: `s4d fold-2`.
        system: name of the encoder or fusion.
        kind: the encoder's modality (`video`, `audio`, `audiovisual`), or `fusion`.
        gpus: how many it can use; none where the run is told to compute on CPUs.
        cpus: how many.
        memory: estimate in bytes.
        seconds: limit of its time; None for no limit.
    """

    name: str
    system: str
    kind: str
    gpus: int
    cpus: int
    memory: int
    seconds: float | None = None


@dataclass(frozen=True)
class HarnessAddress:
    """How a worker finds its harness; it can be pickled. Whoever knows the key can take the worker's place: keep it.

    Attributes:
        host: of the harness, as workers reach it.
        port: where it listens.
        key: secret of this worker.
        token: which worker it is; the same after it was put back into the queue and started again.
    """

    host: str
    port: int
    key: bytes = field(repr=False)
    token: str


class Started:
    """A worker that an executor was asked for. Methods may be called from any thread, every few seconds."""

    def state(self) -> State:
        """Return whether it waits, runs, or has ended."""
        raise PluginFailed(f"{type(self).__name__} does not define `state`", type(self).__name__)

    def describe_end(self) -> str:
        """Report how it ended, to be read behind "was lost: ": the reason, the last line and the path of its log."""
        raise PluginFailed(f"{type(self).__name__} does not define `describe_end`", type(self).__name__)

    def stop(self) -> None:
        """End it, whether it waits or runs; does nothing where it has ended."""
        raise PluginFailed(f"{type(self).__name__} does not define `stop`", type(self).__name__)


class Executor:
    """An engine that starts workers; `blemore-harness run --executor NAME` chooses it.

    A worker carries out one request after the other, as long as none of them tells it labels that another one holds
    out; one that has had nothing to do for `idle_seconds` is told to end.

    Attributes:
        name: what users type: lower case letters, digits and dashes.
        summary: one line for `blemore-harness plugins`.
        folder: for logs and other files of its workers, beside the runs; set before the first start, made by whoever
            writes there.
        idle_seconds: how long a worker without work is kept.
        cpus: that a worker is to have, unless the options say otherwise.

    Args:
        options: as given by `--executor-options key=value,...`; refuse what is unknown with `ConfigError`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    folder: Path
    idle_seconds: ClassVar[float] = 30.0
    cpus: int = 4

    def __init__(self, options: Mapping[str, str]) -> None:
        self.options = dict(options)

    @property
    def slots(self) -> int:
        """How many workers may wait or run at the same time."""
        return 1

    @property
    def listens_on(self) -> str:
        """The address that the harness listens on: loopback, or `0.0.0.0` for workers on other machines."""
        return "127.0.0.1"

    @property
    def host(self) -> str:
        """The name of this machine as workers reach it."""
        return self.listens_on

    def start(self, needs: Sequence[Needs], addresses: Sequence[HarnessAddress]) -> Sequence[Started]:
        """Ask for a worker for each of several needs, and return without waiting for them.

        Called with all that is wanted at a time, so that an engine can make an array of it.

        Raises:
            BlemoreError: the engine cannot be used; the run ends.
        """
        raise PluginFailed(f"'{self.name}' does not define `start`", self.name)

    def detach(self, words: Sequence[str], folder: Path) -> str:
        """Have the engine carry out a command of the harness, which outlives this process.

        Args:
            words: the command, without the program.
            folder: of its run. An engine that is about to send the command makes the file `WAITING_FILE` there, which
                the run deletes when it begins: so `runs watch` tells it from an earlier one that has ended.

        Returns:
            What users are told: where it is at work, how to follow it, how to end it.

        Raises:
            ConfigError: the engine cannot.
        """
        raise ConfigError(f"--detach: the executor {self.name} cannot carry out the harness itself")

    def close(self) -> None:
        """End every worker, and let go of the engine. Called once, at the end of a run, however it ends."""
