"""Predictions for new clips by the models that a run keeps."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from blemore_harness.clips import EMOTIONS, Clips, LabelArray
from blemore_harness.context import Context
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import Dataset
from blemore_harness.decoding.decoders import Decoder
from blemore_harness.errors import DataError, MediaError, PluginFailed, RunError, advise, first_and_count
from blemore_harness.files.runs import SystemFolder
from blemore_harness.hookspecs import Encoder
from blemore_harness.predictions import Embeddings, FloatArray, Probabilities
from blemore_harness.protocol.rules import VIDEO_ENDINGS
from blemore_harness.running.calls import open_call
from blemore_harness.running.keeping import part_name, takes_embeddings
from blemore_harness.running.requests import Embedding, Preparing, check_predictions
from blemore_harness.running.run import Run
from blemore_harness.systems.failures import Crash, blaming
from blemore_harness.systems.resolved import ResolvedSystem

BLOCK = 32
"""Clips that are prepared and predicted together: results of the first ones are there before the last is read."""

FINAL = part_name(None)

NOTHING = Probabilities((), np.empty((0, len(EMOTIONS))))

T = TypeVar("T")


@dataclass(frozen=True)
class ClipAnswer:
    """What a run's models say about a new clip.

    Attributes:
        clip: its file name, or path below the folder that was named.
        label: int8 (6,) percentages in the order of `EMOTIONS`; None where nothing could answer.
        probabilities: float64 (6,), likewise.
        base_models: float64 (6,) by base model, of those that could answer; empty for an encoder alone.
        remarks: what is missing, and why.
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


@dataclass
class _Asked:
    """A system that is asked: one context for all blocks of clips, and its model once that was loaded."""

    resolved: ResolvedSystem
    context: Context
    model: Any = None


@dataclass(frozen=True)
class KeptModels:
    """The kept models of a system of a run, ready to answer.

    Attributes:
        run: on a dataset without clips; the blocks of `predict` take its place.
        folder: of the run.
        folders: the folder of each system's results, by system name.
        decoder: from probabilities to labels.
        scratch: an empty folder.
        caveat: of the run's record: why its answers are not those of a real system; None where they are.
        remarks: what differs from the run for every clip.
        released: by encoder that cannot answer for any new clip, since it reads released features: the reason.
    """

    run: Run
    folder: Path
    folders: Mapping[str, SystemFolder]
    decoder: Decoder
    scratch: Path
    caveat: str | None = None
    remarks: tuple[str, ...] = ()
    released: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The system that answers."""
        return self.run.systems[-1].name

    @property
    def base_models(self) -> tuple[str, ...]:
        """Those whose probabilities stand in the answers: of a fusion of probabilities."""
        fusion = self.run.fusion
        return () if fusion is None or takes_embeddings(fusion) else tuple(each.name for each in self.run.encoders)

    def predict(self, clips: Mapping[str, Path]) -> Iterator[ClipAnswer]:
        """Answer for video files, by name; answers come in the same order, block by block.

        Raises:
            PluginFailed: a plugin failed for another reason than a clip.
        """
        names, real = list(clips), dict[str, str]()
        run = replace(self.run, blinded=replace(self.run.blinded, real=real))  # grows block by block
        with contextlib.ExitStack() as stack, run.reporter.progress("clips", len(names)) as bar:
            asked = {}
            for each in run.systems:
                context, _ = stack.enter_context(open_call(run, each, "predict"))
                asked[each.name] = _Asked(each, replace(context, final=True))
            for start in range(0, len(names), BLOCK):
                block = {name: clips[name] for name in names[start : start + BLOCK]}
                yield from self._answer_block(block, asked, real, None if start else run.reporter.log)
                bar.advance(len(block))

    def _answer_block(
        self,
        clips: Mapping[str, Path],
        asked: Mapping[str, _Asked],
        real: dict[str, str],
        log: Callable[[str], None] | None,
    ) -> Iterator[ClipAnswer]:
        """Answer for some clips; nothing of them is left on disk but what encoders keep in the cache."""
        closed = {name: reason for name, path in clips.items() if (reason := _why_closed(path))}
        there = {name: path for name, path in clips.items() if name not in closed}
        links = self.scratch / "links"
        try:
            blinded = blind_dataset(dataset_of(there), links, log=log)
            real |= blinded.real
            answers = self._answer(blinded.test, asked, real)
        finally:
            shutil.rmtree(links, ignore_errors=True)
        for name, reason in closed.items():
            answers[name] = ClipAnswer(name, None, None, {}, (reason,))
        yield from (answers[name] for name in clips)

    def _answer(self, clips: Clips, asked: Mapping[str, _Asked], real: Mapping[str, str]) -> dict[str, ClipAnswer]:
        """Return the answers by real name."""
        given: dict[str, Probabilities | Embeddings] = {}
        missing: dict[str, dict[str, str]] = {clip: {} for clip in clips.ids}
        for encoder in self.run.encoders:
            given[encoder.name], bad = self._ask_encoder(asked[encoder.name], clips, real)
            for clip, reason in bad.items():
                missing[clip][encoder.name] = reason
        if self.run.fusion is None:
            rows, refusals = given[self.name], dict[str, str]()
        else:
            rows, refusals = self._fuse(asked[self.name], clips, given, missing, real)
        assert isinstance(rows, Probabilities)
        by_clip = dict(zip(rows.ids, rows.values, strict=True))
        answers = {}
        for clip in clips.ids:
            values = by_clip.get(clip)
            said = {name: given[name].pick((clip,)).values[0] for name in self.base_models if clip in given[name].ids}
            label = None if values is None else self.decoder.decode(values[None], None)[0]
            remarks = [f"{name} is missing: {reason}" for name, reason in missing[clip].items()]
            remarks += [refusals[clip]] if clip in refusals else []
            answers[real[clip]] = ClipAnswer(real[clip], label, values, said, tuple(remarks))
        return answers

    def _ask_encoder(
        self, asked: _Asked, clips: Clips, real: Mapping[str, str]
    ) -> tuple[Probabilities | Embeddings, dict[str, str]]:
        """Return what an encoder gives for the clips that it can use, and the reason for each of the others."""
        system, options, context = asked.resolved.system, asked.resolved.options, asked.context
        if asked.resolved.name in self.released:
            return NOTHING, dict.fromkeys(clips.ids, self.released[asked.resolved.name])
        assert isinstance(system, Encoder)
        bad: dict[str, str] = {}
        while len(bad) < len(clips):
            usable = clips.take([number for number, clip in enumerate(clips.ids) if clip not in bad])
            try:
                with _naming_failures(asked.resolved, usable, real, offline=False):
                    Preparing(usable).do(system, options, context)
                with _naming_failures(asked.resolved, usable, real):
                    if self.run.fusion is not None and takes_embeddings(self.run.fusion):
                        return Embedding(usable).do(system, options, context), bad
                    return self._ask(asked, lambda model: model.predict(usable, context), usable), bad  # noqa: B023
            except MediaError as error:
                bad[str(error.clip)] = str(error)
        return NOTHING, bad

    def _fuse(
        self,
        asked: _Asked,
        clips: Clips,
        given: Mapping[str, Probabilities | Embeddings],
        missing: Mapping[str, Mapping[str, str]],
        real: Mapping[str, str],
    ) -> tuple[Probabilities, dict[str, str]]:
        """Return rows, and by clip why there is none; clips that lack the same base models are fused together."""
        rows, refusals = [NOTHING], dict[str, str]()
        for lack in dict.fromkeys(tuple(each) for each in missing.values()):
            some = clips.take([number for number, clip in enumerate(clips.ids) if tuple(missing[clip]) == lack])
            there = {name: each.pick(some.ids) for name, each in given.items() if name not in lack}
            if not there:
                continue
            try:
                with _naming_failures(asked.resolved, some, real):
                    fuse = lambda model: model.predict(some, there, asked.context)  # noqa: B023, E731
                    rows.append(self._ask(asked, fuse, some))
            except PluginFailed as error:
                if not lack:
                    raise
                refusals |= dict.fromkeys(some.ids, str(error))
        ids = tuple(clip for part in rows for clip in part.ids)
        return Probabilities(ids, np.concatenate([part.values for part in rows])), refusals

    def _ask(self, asked: _Asked, predict: Callable[[Any], object], clips: Clips) -> Probabilities:
        """Call the model of a system, which is loaded when it is first asked."""
        resolved = asked.resolved
        if asked.model is None:
            folder = self.folders[resolved.name].read_model(FINAL)
            asked.model = resolved.system.load(folder, resolved.options, asked.context)
        return check_predictions(predict(asked.model), clips, asked.model.predict)


@contextlib.contextmanager
def _naming_failures(
    resolved: ResolvedSystem, clips: Clips, real: Mapping[str, str], offline: bool = True
) -> Iterator[None]:
    """Turn what a plugin raises into an error with real clip names; `offline` as of `blaming`.

    Raises:
        MediaError: it cannot use one of the clips, which the error names.
        PluginFailed: anything else.
    """
    try:
        with blaming(resolved.system, offline):
            yield
    except Crash as crash:
        if isinstance(crash.__cause__, RunError):  # of the harness: a model that was not kept or was damaged
            raise crash.__cause__ from None
        if crash.clip in clips.ids:
            raise MediaError(_with_names(crash.what.removeprefix(": "), real), crash.clip) from crash
        what = _with_names(f"{resolved.name}{crash.what}", real)
        raise PluginFailed(what, resolved.name, _with_names(crash.trace, real)) from crash


def _with_names(text: str, real: Mapping[str, str]) -> str:
    for clip, name in real.items():
        text = text.replace(clip, name)
    return text


def _why_closed(path: Path) -> str:
    """Return why a file cannot be read; empty where it can."""
    try:
        with path.open("rb"):
            return ""
    except OSError as error:
        return f"cannot be read: {advise(error)}"


def dataset_of(clips: Mapping[str, Path]) -> Dataset:
    """Return a dataset of nothing but unlabelled clips."""
    nobody = np.zeros(0, dtype=np.int64)
    truth = np.zeros((0, len(EMOTIONS)), dtype=np.int8)
    return Dataset(Path(), (), (), (), truth, nobody, "made", tuple(sorted(clips)), videos=dict(clips))


def list_clips(paths: Sequence[Path]) -> dict[str, Path]:
    """Return video files by name: files as they are named, and those in folders, at any depth.

    Raises:
        DataError: nothing there, no video, or two clips of one name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise DataError(f"no such clip or folder: {path}")
        if not path.is_dir() and not (path.is_file() and path.suffix.lower() in VIDEO_ENDINGS):
            raise DataError(f"expected a video ({', '.join(VIDEO_ENDINGS)}), found {path}")
        inside = sorted(each for each in path.rglob("*") if each.suffix.lower() in VIDEO_ENDINGS and each.is_file())
        if path.is_dir() and not inside:
            raise DataError(f"no video ({', '.join(VIDEO_ENDINGS)}) below {path}")
        named = {each.relative_to(path).as_posix(): each for each in inside} if path.is_dir() else {path.name: path}
        if twice := sorted(set(named) & set(found)):
            raise DataError(f"{first_and_count(twice, 'clip')} named twice: rename, or predict them separately")
        found |= named
    return found
