"""Reads other corpora than BLEMORE: an adapter says what each media file is, the rest is the same for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemore_harness.cache import DIGESTS
from blemore_harness.clips import EMOTIONS, Clip, Clips, Corpus, CorpusClip
from blemore_harness.data.contents import find_equal
from blemore_harness.data.download import Dataset, leave_out, walk_folders
from blemore_harness.data.folds import make_folds
from blemore_harness.disk import cache_root
from blemore_harness.errors import ConfigError, DataError, first_and_count, printable


def read_corpus(corpus: Corpus, folder: Path, fold_seed: int | None = 0) -> Dataset:
    """Read a corpus from disk.

    Args:
        corpus: the adapter.
        folder: where the corpus lies, at any depth.
        fold_seed: seed of the actor-disjoint folds, where the corpus has none; None for a corpus that is only trained
            on, which may have fewer actors than folds.

    Raises:
        DataError: no such folder, no clips of the corpus in it, labels that the protocol does not know, or an actor in
            two folds.
        MetadataError: fewer actors than folds.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}: expected the folder of {corpus.name}, as in {corpus.name}:FOLDER")
    closed: list[str] = []
    files = [
        place / name
        for place, names in walk_folders(folder, closed)
        for name in names
        if name.lower().endswith(corpus.endings)
    ]
    broken = [path.name for path in files if not path.is_file() or not path.stat().st_size]
    read = list(corpus.read(folder, files))
    known = {clip.file for clip in read}
    strange = [path.name for path in files if path not in known]
    chosen, copies = _choose_files([clip for clip in read if clip.emotions and clip.file.name not in broken])
    if not chosen:
        other = f", found {first_and_count(strange, 'media file')} of other names" if strange else ""
        raise DataError(f"no clips of {corpus.name} below {folder}: expected files such as {corpus.example}{other}")
    others = Counter({clip.id: clip.other for clip in read if clip.other}.values())
    truth = _read_labels(corpus, chosen)
    actors = tuple(clip.actor for clip in chosen)
    folds = _read_folds(corpus, chosen) if fold_seed is not None else np.zeros(len(chosen), dtype=np.int64)
    warnings = [
        (strange, f"{first_and_count(strange, 'file')} is not named as in {corpus.example}: ignored"),
        (broken, f"{first_and_count(broken, 'file')} empty or not a file: left out; download it again"),
        (copies, f"{first_and_count(copies, 'clip')} found more than once: the first is used"),
        (closed, f"{first_and_count(closed, 'folder')} cannot be read: left out; check its permissions (ls -ld)"),
        (others, f"no class of the challenge for {_list_counts(others)}: left out"),
        (
            len(chosen) < corpus.size,
            f"found {len(chosen)} of the {corpus.size} clips of a whole download of {corpus.name}",
        ),
    ]
    return Dataset(
        root=Path(f"{corpus.name}:{folder.resolve()}"),
        ids=tuple(clip.id for clip in chosen),
        actors=actors,
        genders=("",) * len(chosen),
        truth=truth,
        folds=_frozen(make_folds(actors, truth, fold_seed or 0) if folds is None else folds),
        fold_source="made" if folds is None else "metadata",
        videos={clip.id: clip.file for clip in chosen},
        warnings=tuple(printable(text) for found, text in warnings if found),
        corpus=corpus.name,
    )


def with_extra(dataset: Dataset, extra: Sequence[Dataset]) -> Dataset:
    """Return a dataset whose folds are trained on the clips of other corpora as well.

    Clips with the contents of a clip of the dataset are left out. That clip is held out in one of the folds or is a
    test clip, and its label would be that of a training clip.

    Raises:
        ConfigError: a corpus twice, or the one that is scored.
        DataError: a corpus of which no clip is left, or a file that cannot be read.
    """
    names = [each.corpus for each in extra]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"--extra-train: expected each corpus once, found '{twice[0]}' more than once")
    if dataset.corpus in names:
        raise ConfigError(
            f"--extra-train {dataset.corpus}: the corpus is scored (--data), and its held-out clips would be trained on"
        )
    return replace(dataset, extra=tuple(_without_copies(each, dataset) for each in extra)) if extra else dataset


def _without_copies(corpus: Dataset, dataset: Dataset) -> Dataset:
    """Return a corpus without the clips that have the contents of a clip of the dataset."""
    copies = find_equal(corpus.videos, dataset.videos, cache_root() / DIGESTS)
    if not copies:
        return corpus
    first = min(copies)
    found = f"{first_and_count(sorted(copies), 'clip')} with the contents of a clip that is scored ({copies[first]})"
    reasons = {name: f"the contents of {copies[name]}, which is scored" for name in copies}
    left = leave_out(corpus, reasons, all_folds=False)
    if not left.ids:
        raise DataError(f"--extra-train {corpus.corpus}: no clip is left to train on, found {found}")
    text = printable(f"{found}: left out of training, since their labels are held out")
    return replace(left, warnings=(*left.warnings, text))


def _choose_files(read: Sequence[CorpusClip]) -> tuple[list[CorpusClip], list[str]]:
    """Return one file per clip, by id, and the files of clips that were found more than once."""
    best: dict[str, CorpusClip] = {}
    for clip in sorted(read, key=lambda clip: clip.rank):
        best.setdefault(clip.id, clip)
    copies = [
        f"{best[clip.id].file} and {clip.file}"
        for clip in read
        if clip.file != best[clip.id].file and clip.rank == best[clip.id].rank
    ]
    return [best[name] for name in sorted(best)], copies


def _read_labels(corpus: Corpus, clips: Sequence[CorpusClip]) -> NDArray[np.int8]:
    unknown = {name: clip.id for clip in clips for name in clip.emotions if name not in EMOTIONS}
    if unknown:
        name, where = next(iter(unknown.items()))
        raise DataError(f"{corpus.name}, clip {where}: expected emotions of {' '.join(EMOTIONS)}, found '{name}'")
    truth = np.array([[clip.emotions.get(name, 0) for name in EMOTIONS] for clip in clips])
    return Clips(tuple(Clip(clip.id) for clip in clips), None, truth).labels


def _read_folds(corpus: Corpus, clips: Sequence[CorpusClip]) -> NDArray[np.int64] | None:
    """Return the folds of the corpus; None where it has none."""
    without = [clip.id for clip in clips if clip.fold is None]
    if len(without) == len(clips):
        return None
    if without:
        raise DataError(
            f"{corpus.name}: expected a fold of all clips or of none, none of {first_and_count(without, 'clip')}"
        )
    fold_of: dict[str, int | None] = {}
    split = [clip.id for clip in clips if fold_of.setdefault(clip.actor, clip.fold) != clip.fold]
    numbers = sorted({clip.fold for clip in clips if clip.fold is not None})
    if split:
        raise DataError(f"{corpus.name}: an actor is in two folds in {first_and_count(split, 'clip')}")
    if numbers != list(range(len(numbers))) or len(numbers) < 2:
        raise DataError(f"{corpus.name}: expected folds 0 to K-1, K >= 2, found {', '.join(map(str, numbers))}")
    return np.array([clip.fold for clip in clips], dtype=np.int64)


def _list_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({count} clip{'s' * (count > 1)})" for name, count in sorted(counts.items()))


def _frozen(folds: NDArray[np.int64]) -> NDArray[np.int64]:
    folds.setflags(write=False)
    return folds
