"""Predictions for new clips by the models that a run keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.clips import EMOTIONS, Clips, LabelArray
from blemore_harness.context import Reporter
from blemore_harness.data.download import Dataset
from blemore_harness.data.opening import open_blinded
from blemore_harness.decoding.decoders import Decoder
from blemore_harness.decoding.strategies import make_decoder
from blemore_harness.disk import read_json
from blemore_harness.errors import DataError, MediaError, PluginFailed, RunError, first_and_count
from blemore_harness.files.runs import Runs, SystemFolder, folder_name, read_decoder
from blemore_harness.hookspecs import Encoder
from blemore_harness.networks import Device
from blemore_harness.options import describe_options
from blemore_harness.predictions import Embeddings, FloatArray, Probabilities
from blemore_harness.protocol.rules import VIDEO_ENDINGS
from blemore_harness.record.types import FinishedSystem, Record, SystemFacts
from blemore_harness.running.calls import guard, open_call
from blemore_harness.running.keeping import part_name, takes_embeddings
from blemore_harness.running.requests import check_predictions
from blemore_harness.running.run import Run
from blemore_harness.running.steps import embed, prepare
from blemore_harness.systems.core_code import digest_core
from blemore_harness.systems.failures import blaming
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.resolved import ResolvedSystem, find_systems, resolve_systems
from blemore_harness.systems.submission import Submission

BLOCK = 32
"""Clips that are prepared and predicted together: results of the first ones are there before the last is read."""

FINAL = part_name(None)


@dataclass(frozen=True)
class ClipAnswer:
    """What a run's models say about a new clip.

    Attributes:
        clip: its file name, or path below the folder that was named.
        label: int8 (6,) percentages in the order of `EMOTIONS`; None where nothing could answer.
        probabilities: float64 (6,), likewise.
        base_models: float64 (6,) by base model, of those that could answer; empty for an encoder alone.
        remarks: what is missing and why, and what differs from the training.
    """

    clip: str
    label: LabelArray | None
    probabilities: FloatArray | None
    base_models: Mapping[str, FloatArray]
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return the answer as JSON types."""

        def by_emotion(values: FloatArray | None) -> dict[str, float] | None:
            return None if values is None else dict(zip(EMOTIONS, map(float, values), strict=True))

        label = None if self.label is None else {e: int(v) for e, v in zip(EMOTIONS, self.label, strict=True) if v}
        return {
            "clip": self.clip,
            "label": label,
            "probabilities": by_emotion(self.probabilities),
            "base_models": {name: by_emotion(values) for name, values in self.base_models.items()},
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True)
class KeptModels:
    """The kept models of a system of a run, ready to answer.

    Attributes:
        run: on a dataset without clips; that of `predict` takes its place.
        folders: the folder of each system's results, by system name.
        decoder: from probabilities to labels.
        remarks: what differs from the training for every clip.
    """

    run: Run
    folders: Mapping[str, SystemFolder]
    decoder: Decoder
    remarks: tuple[str, ...] = ()

    def predict(self, clips: Mapping[str, Path]) -> Iterator[ClipAnswer]:
        """Answer for video files, by name; answers come in the same order, block by block.

        Raises:
            PluginFailed: a plugin failed for another reason than a clip.
            DataError: a file that cannot be read.
        """
        dataset = _dataset_of(clips)
        blinded = open_blinded(dataset, self.run.reporter)
        run = replace(self.run, dataset=dataset, blinded=blinded, stop_at_bad_clips=True)
        by_name = {blinded.real[clip.id]: clip for clip in blinded.test}
        models: dict[str, Any] = {}
        names = list(clips)
        with run.reporter.progress("clips", len(names)) as bar:
            for start in range(0, len(names), BLOCK):
                block = names[start : start + BLOCK]
                yield from self._answer(run, Clips(tuple(by_name[name] for name in block)), block, models)
                bar.advance(len(block))

    def _answer(self, run: Run, clips: Clips, names: Sequence[str], models: dict[str, Any]) -> Iterator[ClipAnswer]:
        """Answer for a block of clips; models are loaded when they are first needed."""
        given: dict[str, Probabilities | Embeddings] = {}
        missing: dict[str, dict[str, str]] = {clip.id: {} for clip in clips}
        for encoder in run.encoders:
            given[encoder.name], bad = self._ask_encoder(run, encoder, clips, models)
            for clip, reason in bad.items():
                missing[clip][encoder.name] = reason
        rows, refusals = self._fuse(run, clips, given, missing, models)
        order = {run.blinded.real[clip.id]: clip.id for clip in clips}
        for name in names:
            clip = order[name]
            values = rows.get(clip)
            said = {
                base: each.pick((clip,)).values[0]
                for base, each in given.items()
                if run.fusion is not None and isinstance(each, Probabilities) and clip in each.ids
            }
            remarks = [f"{base} is missing: {reason}" for base, reason in missing[clip].items()]
            remarks += [refusals[clip]] if clip in refusals else []
            label = None if values is None else self.decoder.decode(values[None], None)[0]
            yield ClipAnswer(name, label, values, said, (*remarks, *self.remarks))

    def _ask_encoder(
        self, run: Run, encoder: ResolvedSystem, clips: Clips, models: dict[str, Any]
    ) -> tuple[Probabilities | Embeddings, dict[str, str]]:
        """Return what an encoder gives for the clips that it can use, and the reason for each of the others."""
        bad: dict[str, str] = {}
        while True:
            kept = clips.take([k for k, clip in enumerate(clips) if clip.id not in bad])
            if not len(kept):
                return Probabilities((), np.empty((0, len(EMOTIONS)))), bad
            only = replace(run, blinded=replace(run.blinded, test=kept))
            try:
                prepare(only, encoder)
                if run.fusion is not None and takes_embeddings(run.fusion):
                    return embed(only, encoder), bad
                return self._predict(only, encoder, kept, None, models), bad
            except MediaError as error:
                if error.clip is None or all(error.clip != clip.id for clip in kept):
                    raise
                bad[error.clip] = str(error).removeprefix(f"{encoder.name}: ")

    def _fuse(
        self,
        run: Run,
        clips: Clips,
        given: Mapping[str, Probabilities | Embeddings],
        missing: Mapping[str, Mapping[str, str]],
        models: dict[str, Any],
    ) -> tuple[dict[str, FloatArray], dict[str, str]]:
        """Return the row of each clip, and why there is none; clips that lack the same base models go together."""
        if run.fusion is None:
            alone = given[run.encoders[-1].name]
            assert isinstance(alone, Probabilities)
            return dict(zip(alone.ids, alone.values, strict=True)), {}
        rows: dict[str, FloatArray] = {}
        refusals: dict[str, str] = {}
        lacks = {clip.id: tuple(missing[clip.id]) for clip in clips}
        for lack in dict.fromkeys(lacks.values()):
            some = clips.take([k for k, clip in enumerate(clips) if lacks[clip.id] == lack])
            base_models = {name: each.pick(some.ids) for name, each in given.items() if name not in lack}
            if not base_models:
                continue
            try:
                found = self._predict(run, run.fusion, some, base_models, models)
                rows |= zip(found.ids, found.values, strict=True)
            except PluginFailed as error:
                if not lack:
                    raise
                refusals |= dict.fromkeys(some.ids, str(error))
        return rows, refusals

    def _predict(
        self,
        run: Run,
        resolved: ResolvedSystem,
        clips: Clips,
        base_models: Mapping[str, Any] | None,
        models: dict[str, Any],
    ) -> Probabilities:
        """Ask a system's kept model, which is loaded when it is first asked."""
        system, name = resolved.system, resolved.name
        kept = None if name in models else self.folders[name].read_model(FINAL)
        with guard(run, resolved, "predict"), open_call(run, resolved, FINAL) as (context, _), blaming(system):
            if kept is not None:
                models[name] = system.load(kept, resolved.options, context)
            model = models[name]
            given = model.predict(clips, context) if base_models is None else model.predict(clips, base_models, context)
            return check_predictions(given, clips, model.predict)


def open_models(
    folder: Path, record: Record, plugins: Plugins, scratch: Path, cache: Path, device: str, reporter: Reporter,
    system: str | None = None,
) -> KeptModels:  # fmt: skip
    """Open the kept models of a run.

    Args:
        folder: of the run; its systems lie beside it.
        record: of the run.
        plugins: installed here.
        scratch: folder for what plugins write meanwhile.
        cache: root of the shared arrays.
        device: as of `Device`.
        reporter: shows messages and progress.
        system: who answers; None takes the system that decoded the test clips, else the last one.

    Raises:
        RunError: an unfinished system, or one whose model was not kept.
        ConfigError: a plugin that is not installed here.
    """
    found = _find_system(record, folder.name, system)
    names = (*found.base_models, found.name)
    facts = {each.name: each for each in record.systems if each.name in names}
    submission = Submission(
        record.submission.name,
        found.base_models or (found.name,),
        found.name if found.base_models else None,
        options=_options_of(facts.values()),
        seed=record.submission.seed,
    )
    empty = _dataset_of({})
    blinded = open_blinded(empty, reporter)
    systems = resolve_systems(find_systems(submission, plugins, demo=False), blinded)
    folders = {name: SystemFolder(folder.parent / "systems" / folder_name(name, facts[name].digest)) for name in names}
    for name in names:
        # Of a fusion of embeddings no base model predicts.
        if name == found.name or not takes_embeddings(systems[-1]):
            folders[name].read_model(FINAL)
    run = Run(submission, plugins, systems, empty, blinded, Runs(scratch), Cache(cache), Device(device), reporter)
    remarks = [text for each in systems for text in _other_options(each, facts[each.name])]
    if aged := [each.name for each in systems if _is_other_code(each, folders[each.name])]:
        remarks.append(f"{', '.join(aged)}: trained with another version of the code")
    return KeptModels(run, folders, make_decoder(read_decoder(folder, found.name)), tuple(remarks))


def list_clips(paths: Sequence[Path]) -> dict[str, Path]:
    """Return video files by name: files as they are named, and those in folders, at any depth.

    Raises:
        DataError: nothing there, no video in a folder, or two clips of one name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise DataError(f"no such clip or folder: {path}")
        inside = sorted(each for each in path.rglob("*") if each.suffix.lower() in VIDEO_ENDINGS and each.is_file())
        if path.is_dir() and not inside:
            raise DataError(f"no video ({', '.join(sorted(VIDEO_ENDINGS))}) below {path}")
        named = {each.relative_to(path).as_posix(): each for each in inside} if path.is_dir() else {path.name: path}
        if twice := sorted(set(named) & set(found)):
            raise DataError(f"{first_and_count(twice, 'clip')} named twice: rename, or predict them separately")
        found |= named
    return found


def _find_system(record: Record, run: str, name: str | None) -> FinishedSystem:
    wanted = name or (record.test.system if record.test is not None else None)
    finished = {system.name: system for system in record.finished}
    if wanted is None and finished:
        wanted = list(finished)[-1]
    if wanted not in finished:
        which = f" {wanted!r}" if wanted else ""
        raise RunError(f"{run} has no finished system{which} (finished: {', '.join(finished) or 'none'})")
    return finished[wanted]


def _options_of(systems: Any) -> dict[str, dict[str, object]]:
    """Return the options that systems and their parts were given, by name."""
    found: dict[str, dict[str, object]] = {}

    def add(facts: SystemFacts) -> None:
        found[facts.name] = dict(facts.options_given)
        for part in facts.parts:
            add(part)

    for facts in systems:
        add(facts)
    return found


def _other_options(resolved: ResolvedSystem, facts: SystemFacts) -> Iterator[str]:
    """Report an option that means something else here, such as features that were released for the dataset alone."""
    here = describe_options(resolved.options)
    changed = [name for name, value in facts.options.items() if here.get(name) != value]
    if changed and isinstance(resolved.system, Encoder):
        name = changed[0]
        yield f"{resolved.name} was trained with {name}={facts.options[name]}, and takes {name}={here.get(name)} here"


def _is_other_code(resolved: ResolvedSystem, folder: SystemFolder) -> bool:
    """Return whether the plugin, or the harness, is not the one that trained the model."""
    identity = read_json(folder.path / "identity.json")
    own = resolved.distribution.facts()
    return identity.get("core") != digest_core() or any(identity.get(key) != value for key, value in own.items())


def _dataset_of(clips: Mapping[str, Path]) -> Dataset:
    """Return a dataset of nothing but unlabelled clips."""
    nobody = np.zeros(0, dtype=np.int64)
    truth = np.zeros((0, len(EMOTIONS)), dtype=np.int8)
    return Dataset(Path(), (), (), (), truth, nobody, "made", tuple(sorted(clips)), videos=dict(clips))
