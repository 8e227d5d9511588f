"""Who is checked and how: the system, its options, what its author says about it; and a session's shared clips."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blemore_harness.data.download import read_dataset
from blemore_harness.errors import ConfigError
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.options import build_options
from blemore_harness.testing.material import Material, make_rows_material, read_material, write_clips
from blemore_harness.testing.verdicts import Verdict
from blemore_harness.testing.watching import Watch

Release = Callable[[Path, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Subject:
    """A system to be checked.

    Attributes:
        system: the encoder or fusion.
        settings: options to check it with, over its `demo_options`; text is read as `--set` reads it.
        network: whether `prepare` may use the network.
        not_applicable: reason by check that says nothing about this system.
        known_failures: reason by check that it is known to fail; one that passes is a failure.
        release: writes released features for an encoder that reads them: called with the folder of the dataset and
            the labels, as shares float64 (6,), by clip name.
    """

    system: Encoder | Fusion
    settings: Mapping[str, object] = field(default_factory=dict)
    network: bool = False
    not_applicable: Mapping[str, str] = field(default_factory=dict)
    known_failures: Mapping[str, str] = field(default_factory=dict)
    release: Release | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.system, Encoder | Fusion):
            raise ConfigError(f"expected an Encoder or a Fusion object to check, found {type(self.system).__name__}")
        for reasons in (self.not_applicable, self.known_failures):
            silent = [check for check, reason in reasons.items() if not reason.strip()]
            if silent:
                raise ConfigError(f"a check that is set aside needs a reason: none is given for '{silent[0]}'")
        both = sorted(self.not_applicable.keys() & self.known_failures.keys())
        if both:
            raise ConfigError(f"'{both[0]}' cannot be both not applicable and a known failure")

    @property
    def is_fusion(self) -> bool:
        """Whether it takes what encoders give."""
        return isinstance(self.system, Fusion)

    def options(self, feature_sets: frozenset[str]) -> Any:
        """Build its options as a run on the demo dataset does; errors as of `options.build_options`."""
        options = build_options(self.system.name, self.system.Options, {**self.system.demo_options, **self.settings})
        return self.system.resolve_options(options, feature_sets) if isinstance(self.system, Encoder) else options


class Session:
    """What several subjects share: clips, which are written once, and the watch of this process.

    Args:
        folder: an empty or new folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.watch = Watch()
        self.imports: dict[str, Verdict] = {}
        self._plain: Material | None = None

    def material(self, subject: Subject) -> Material:
        """Return the clips that a subject is tried on.

        Raises:
            ExtraMissing: what writes clips is not installed.
        """
        if subject.is_fusion:
            return make_rows_material()
        if subject.release is None:
            if self._plain is None:
                self._plain = read_material(self._clips(), self.folder / "views")
            return self._plain
        own = self.folder / f"released-{subject.system.name}"
        shutil.copytree(self._clips(), own / "clips")
        dataset = read_dataset(own / "clips")
        shares = dict(zip(dataset.ids, dataset.truth / 100, strict=True))
        subject.release(own / "clips", shares)
        return read_material(own / "clips", own / "views")

    def _clips(self) -> Path:
        clips = self.folder / "clips"
        if not (clips / "train_metadata.csv").exists():
            write_clips(clips)
        return clips
