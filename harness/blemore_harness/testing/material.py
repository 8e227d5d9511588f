"""What the checks work on: a few generated clips whose labels can be seen and heard, and made-up rows for fusions.

Every emotion has a colour that lies over the whole picture and a tone in the audio, both the same for all actors, so
that what learns anything at all learns them. The faces below are those of the demo dataset.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.data.neutral_files import hand_out
from blemore_harness.demo.actors import make_actor
from blemore_harness.demo.clipfile import write_clip
from blemore_harness.demo.faces import draw_frames, draw_portrait
from blemore_harness.demo.performance import play
from blemore_harness.demo.plan import FOLDS, Plan, PlannedClip, make_plan
from blemore_harness.demo.voices import synthesise
from blemore_harness.disk import digest_of, write_atomically
from blemore_harness.errors import ExtraMissing
from blemore_harness.predictions import Embeddings, Probabilities, softmax

Shares: TypeAlias = NDArray[np.float64]

ACTORS = FOLDS + 1
"""Actors in all: two are in the first fold, and four are left to learn from and to choose an epoch on."""

HELD_OUT_FOLD = 0

CELLS = (0, 1, 2, 3, 4, 5, 16)
"""Places of the label cells of each actor in `plan.label_cells`: six alone and a 70/30 blend."""

FRAMES = (12, 15, 20)
"""Lengths of clips: a batch of them needs padding."""

COLOURS = np.array([[255, 40, 40], [60, 200, 60], [150, 60, 220], [255, 220, 40], [50, 90, 255], [150, 150, 150]])
"""Of the emotions, RGB."""

COLOUR_SHARE = 0.35
"""How much of a picture is colour: a face can still be found under it."""

TONES = (220.0, 330.0, 495.0, 742.0, 1114.0, 1670.0)
"""Of the emotions, in Hz: a fifth apart."""

TONE_LEVEL = 0.25

SEED = 5


@dataclass(frozen=True)
class Material:
    """What a system is tried on.

    Attributes:
        fold: as systems are given it; its held-out clips are of other actors.
        truth: labels of all its clips, held-out ones too, as shares float64 (6,) by id: only checks look at it.
        feature_sets: names of the released features that its clips have.
    """

    fold: Fold
    truth: Mapping[str, Shares]
    feature_sets: frozenset[str] = frozenset()

    @property
    def clips(self) -> Clips:
        """All clips as `prepare` is given them: unlabelled, in an order that says nothing."""
        return Clips(tuple(sorted((*self.fold.train, *self.fold.held_out), key=lambda clip: clip.id)))

    def turned(self) -> Fold:
        """Return another fold.

        It learns from what the first one holds out, and holds out an actor of the first one's.
        """
        train, held_out = self.fold.train, self.fold.held_out
        actors = np.array(train.actors)
        chosen = actors == min(actors.tolist())
        labels = np.array([np.round(self.truth[name] * 100) for name in held_out.ids], dtype=np.int8)
        kept = train.take(~chosen)
        joined = Clips(
            (*kept, *held_out),
            (*(kept.actors or ()), *["held out"] * len(held_out)),
            np.concatenate([kept.labels, labels]),
        )
        return Fold(HELD_OUT_FOLD + 1, joined, train.take(chosen).unlabelled())


def write_clips(folder: Path) -> None:
    """Write the clips and their metadata, as a download lies on disk.

    Raises:
        ExtraMissing: what writes clips is not installed.
    """
    for module, package in (("PIL", "pillow"), ("av", "av")):
        if importlib.util.find_spec(module) is None:
            raise ExtraMissing(
                f"the checks write clips with the package {package}, which is not installed: "
                "pip install 'blemore-harness[encoders]'"
            )
    plan = _plan()
    for number in range(plan.actors):
        actor = make_actor(plan.seed, number)
        portrait = draw_portrait(actor, plan.seed)
        for clip in (clip for clip in plan.clips if clip.actor == number):
            rng = np.random.default_rng([plan.seed, clip.actor, clip.take])
            performance = play(clip, actor.style, rng)
            sound = _with_tone(synthesise(actor.voice, performance, rng), clip, actor.voice.rate)
            write_clip(
                folder / clip.path, _with_colour(draw_frames(portrait, performance, rng), clip), sound, actor.voice.rate
            )
    write_atomically(folder / "train_metadata.csv", plan.metadata())


def read_material(clips: Path, views: Path) -> Material:
    """Read clips that `write_clips` wrote, and whatever lies beside them, as a run would."""
    dataset = read_dataset(clips)
    blinded = blind_dataset(dataset, views)
    for store in blinded.feature_sets:
        blinded.publish_feature_set(store)  # makes the files ready to be read
    truth = {name: row / 100 for name, row in zip(blinded.train.ids, blinded.train.labels.astype(float), strict=True)}
    return Material(blinded.fold(HELD_OUT_FOLD), truth, blinded.feature_sets)


def make_rows_material() -> Material:
    """Make clips without files, for fusions: their base models' rows are all that they see."""
    plan = _plan()
    shuffled = [plan.clips[i] for i in np.random.default_rng(plan.seed).permutation(len(plan.clips))]
    known = {clip.path: Clip("c" + digest_of(clip.path), content=digest_of(clip.path)) for clip in shuffled}
    learn = [clip for clip in shuffled if clip.actor % FOLDS != HELD_OUT_FOLD]
    held_out = [clip for clip in shuffled if clip.actor % FOLDS == HELD_OUT_FOLD]
    labels = np.array([np.round(clip.cell.weights * 100) for clip in learn], dtype=np.int8)
    train = Clips(tuple(known[c.path] for c in learn), tuple(f"A{c.actor}" for c in learn), labels)
    fold = Fold(HELD_OUT_FOLD, train, Clips(tuple(known[c.path] for c in held_out)))
    return Material(fold, {known[clip.path].id: clip.cell.weights for clip in shuffled})


def rename_clips(material: Material, base_models: Mapping[str, Any], folder: Path) -> tuple[Material, dict[str, Any]]:
    """Return the same clips in the same order, each under the name of another and in another folder.

    Returns:
        the material, and what base models give, under the new names.
    """
    clips = material.clips
    names = dict(zip(clips.ids, np.random.default_rng(SEED).permutation(clips.ids).tolist(), strict=True))
    files: dict[Path, Path] = {}

    def move(path: Path, name: str, kind: str) -> Path:
        target = folder / kind / name[-1] / f"{name}{path.suffix}"
        files[target] = path
        return target

    def rename(clip: Clip) -> Clip:
        name = names[clip.id]
        video = clip.video_file and move(clip.video_file, name, "videos")
        features = {store: move(path, name, store) for store, path in clip.feature_files.items()}
        return Clip(name, video, features, clip.content)

    fold = material.fold
    train = Clips(tuple(map(rename, fold.train)), fold.train.actors, fold.train.truth)
    renamed = Fold(fold.index, train, Clips(tuple(map(rename, fold.held_out))))
    hand_out(files, folder, folder / "digests")
    truth = {names[name]: shares for name, shares in material.truth.items()}
    given = {m: type(rows)(tuple(names[name] for name in rows.ids), rows.values) for m, rows in base_models.items()}
    return replace(material, fold=renamed, truth=truth), given


def make_members(material: Material, vectors: bool) -> dict[str, Any]:
    """Return what two good variants of an encoder and one that knows nothing give for all clips, by base model.

    Args:
        material: whose clips.
        embeddings: whether they give `Embeddings` of widths of their own, or `Probabilities`.
    """
    ids = (*material.fold.train.ids, *material.fold.held_out.ids)
    labels = np.array([material.truth[name] for name in ids])
    rng = np.random.default_rng(SEED)
    base_models: dict[str, Any] = {}
    for name, strength in (("toy@good", 4.0), ("toy@fair", 2.5), ("toy@ignorant", 0.0)):
        logits = strength * labels + rng.normal(0, 0.7, labels.shape)
        if vectors:
            mixed = logits @ rng.normal(0, 1, (labels.shape[1], 8 + len(name)))
            base_models[name] = Embeddings(ids, mixed.astype(np.float32))
        else:
            base_models[name] = Probabilities(ids, softmax(logits))
    return base_models


def digest_inputs(material: Material, options: object, base_models: Mapping[str, Any]) -> dict[str, str]:
    """Digest everything that a system is given, arrays and files, by what a person calls it."""
    fold = material.fold
    found = {
        "labels of the training clips": digest_of(fold.train.labels.tolist()),
        "the fold": digest_of([fold.index, fold.train.ids, fold.train.actors, fold.held_out.ids]),
        "options": digest_of(repr(options)),
    }
    for name, rows in base_models.items():
        found[f"rows of the base model '{name}'"] = digest_of([rows.ids, rows.values.tolist()])
    for clip in material.clips:
        for path in filter(None, (clip.video_file, *clip.feature_files.values())):
            found[f"the file {path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _plan() -> Plan:
    full = make_plan(SEED, ACTORS, 0)
    chosen = [clip for clip in full.clips if clip.take in CELLS]
    clips = tuple(replace(clip, frames=FRAMES[i % len(FRAMES)]) for i, clip in enumerate(chosen))
    return replace(full, clips=clips)


def _with_colour(frames: Iterator[NDArray[np.uint8]], clip: PlannedClip) -> Iterator[NDArray[np.uint8]]:
    """Lay the colour of a label over pictures."""
    colour = clip.cell.weights @ COLOURS
    for frame in frames:
        yield ((1 - COLOUR_SHARE) * frame + COLOUR_SHARE * colour).round().astype(np.uint8)


def _with_tone(sound: NDArray[np.float32], clip: PlannedClip, rate: int) -> NDArray[np.float32]:
    """Lay the tones of a label under a audio, float32 (channels, samples)."""
    at = np.arange(sound.shape[1]) / rate
    tones = np.sin(2 * np.pi * np.outer(TONES, at))
    return (0.5 * sound + TONE_LEVEL * (clip.cell.weights @ tones)).astype(np.float32)
