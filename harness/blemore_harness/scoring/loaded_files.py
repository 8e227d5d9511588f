"""Files of predictions that take the place of a system of a run in a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import LabelArray
from blemore_harness.decoding.strategies import STRATEGIES, Sample, decode_folds, make_sample
from blemore_harness.errors import UnknownName
from blemore_harness.files.scoring import Reference, decode_file, read_answers
from blemore_harness.scoring.breakdown import Answers
from blemore_harness.scoring.reading import LoadedSystem


@dataclass(frozen=True)
class LoadedFile:
    """What a file says of the clips of a reference; read as `reading.LoadedSystem` is.

    Attributes:
        run: path of the file.
        name: name of the file.
        ids: clip ids (N).
        truth: int8 (N, 6) percentages.
        folds: int64 (N,); all 0 for labels without folds.
        actors: per clip.
        sample: probabilities of clips in several folds, which strategies decode; None for others.
        labels: int8 (N, 6), what the file says; None where there is a sample.
        caveats: what must stand beside its numbers.
    """

    run: str
    name: str
    ids: tuple[str, ...]
    truth: LabelArray
    folds: NDArray[np.int64]
    actors: tuple[str, ...]
    sample: Sample | None
    labels: LabelArray | None
    caveats: tuple[str, ...]

    def answers(self, strategy: str) -> Answers:
        """Decode by a named strategy; decoded labels are what they are.

        Raises:
            UnknownName: nobody knows the strategy.
        """
        if strategy not in STRATEGIES:
            raise UnknownName.among("threshold strategy", strategy, STRATEGIES)
        labels = self.labels
        if self.sample is not None:
            labels = decode_folds(STRATEGIES[strategy], self.sample)
        assert labels is not None
        return Answers(self.truth, labels, self.folds, self.actors, ("",) * len(self.ids))


def load_file(path: Path, reference: Reference) -> LoadedFile:
    """Load a file.

    Probabilities are decoded by the thresholds of a strategy where the reference has folds; otherwise by the best ones
    on all clips, which is optimistic.

    Raises:
        BlemoreError: as of `files.scoring.decode_file`.
    """
    fold_of = {name: k for k, clips in enumerate(reference.folds) for name in clips}
    folds = np.array([fold_of.get(name, 0) for name in reference.ids], dtype=np.int64)
    actors = reference.actors or ("",) * len(reference.ids)
    caveats = [reference.caveat] if reference.caveat else []
    values, labels = read_answers(path, reference)
    sample = None
    if values is not None and len(set(folds.tolist())) > 1:
        groups = np.unique(actors, return_inverse=True)[1].astype(np.int64)
        sample = make_sample(values, reference.truth, folds, groups)
    elif values is not None:
        labels = decode_file(path, reference).labels
        caveats.append("optimistic: thresholds chosen on the scored clips")
    return LoadedFile(
        str(path), path.name, reference.ids, reference.truth, folds, actors, sample, labels, tuple(caveats)
    )


def labels_of(system: LoadedSystem) -> Reference:
    """Return the clips and labels of a system of a run, for files that are compared with it."""
    folds = system.sample.folds
    parts = tuple(
        frozenset(name for name, other in zip(system.ids, folds, strict=True) if other == number)
        for number in range(int(folds.max()) + 1)
    )
    return Reference(system.ids, system.sample.truth, system.actors, f"the run {system.run}", folds=parts)
