"""Where a run happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blemore_harness.cache import Cache
from blemore_harness.context import Reporter
from blemore_harness.data.blinded import BlindedDataset
from blemore_harness.files.runs import Runs
from blemore_harness.networks import Device
from blemore_harness.record.types import Record
from blemore_harness.running.isolation import Isolation
from blemore_harness.running.steps import Stage


@dataclass(frozen=True)
class Workshop:
    """Where a run happens; nothing in here changes a number.

    Attributes:
        runs: root of all runs.
        cache: root of the shared arrays.
        device: `auto`, `cpu` or `cuda`.
        reporter: where the story goes.
        command: the command line, for the record.
        isolation: how worker processes are run; None calls plugins in this process.
        draw: writes a record as text for people, which is kept beside it; None keeps the record only.
        stop_at_bad_clips: raise `MediaError` for the first clip that an encoder cannot use (`remainder` leaves it out),
            in place of reporting the encoder as failed.
    """

    runs: Runs
    cache: Cache
    device: str
    reporter: Reporter
    command: tuple[str, ...] = ()
    isolation: Isolation | None = None
    draw: Callable[[Record], str] | None = None
    stop_at_bad_clips: bool = False

    def stage(self, blinded: BlindedDataset, reporter: Reporter | None = None) -> Stage:
        """Make the stage of a run on a dataset; the story goes to another reporter where one is given."""
        reporter = reporter or self.reporter
        return Stage(blinded, self.cache, Device(self.device), reporter, self.isolation, self.stop_at_bad_clips)
