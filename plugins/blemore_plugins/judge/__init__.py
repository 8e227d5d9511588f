"""A judge: a multimodal chat model that is shown a clip and makes a forced choice among the legal labels.

See docs/how-to/judge.md for what is sent and asked, what it costs, and how answers become probabilities.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from blemore_harness.cache import Store
from blemore_harness.clips import EMOTIONS, Clip, Clips, Fold
from blemore_harness.context import Context
from blemore_harness.disk import read_json, write_json
from blemore_harness.errors import ConfigError, DataError
from blemore_harness.hookspecs import Card, Encoder, Modality, Requirement, hookimpl
from blemore_harness.media.audio import audio_key, warn_of_silence
from blemore_harness.media.frames import decoder_versions
from blemore_harness.predictions import FloatArray, Probabilities
from blemore_plugins.cards import CODE
from blemore_plugins.hosted.encoder import HostedEncoder
from blemore_plugins.hosted.endpoints import Endpoint, demand_consent, is_loopback, read_key
from blemore_plugins.hosted.extraction import CALLS_FILE, alone, read_calls, read_dates, report, work
from blemore_plugins.judge.asking import Answers, Example, Interview, Ledger, show
from blemore_plugins.judge.client import open_client
from blemore_plugins.judge.options import JudgeOptions
from blemore_plugins.judge.questions import SET_QUESTION, answer_set, ask_ratio
from blemore_plugins.requirements import need

STAND_IN = "stand-in 1"
"""Name of the stand-in in cache keys; a new number for every change of what it answers."""

ADVICE = "Try another prompt or model, or give these clips equal probabilities: judge.refused=uniform"
"""About clips without a usable answer."""

CONSENT = "An endpoint on this machine (http://127.0.0.1:...) needs no consent (docs/how-to/judge.md)"
"""What to know before consent is given."""


@dataclass(frozen=True)
class Asked:
    """A clip whose answers are missing."""

    clip: Clip


class Judge(HostedEncoder):
    """Forced choices of a chat model, zero-shot or with labelled examples from the training clips of the fold."""

    name: ClassVar[str] = "judge"
    summary: ClassVar[str] = "any OpenAI-compatible chat model: forced choice over the legal labels (consent if remote)"
    modality: ClassVar[Modality] = "audiovisual"
    Options: ClassVar[type[Any]] = JudgeOptions
    noun: ClassVar[str] = "answer"
    demo_options: ClassVar[Mapping[str, object]] = {
        "service": "stand-in",
        "model": "stand-in",
        "examples": 16,
        "frames": 2,
        "size": 64,
    }

    def _service_card(self, options: JudgeOptions) -> Card:
        """Return what is known of a model behind an endpoint, which is its name."""
        paid = not is_loopback(options.url) or bool(options.price_in or options.price_out)
        source = f"{options.model or 'the model that judge.model names'} at {options.url}"
        return Card(CODE, "unknown", "unknown", "unknown", paid=paid, source=source)

    def identify(self, options: JudgeOptions) -> Mapping[str, object]:
        """Return the whole text that is asked."""
        return {"prompt": options.instruction, "questions": [SET_QUESTION, ask_ratio((0, 1))]}

    def is_trained(self, options: JudgeOptions) -> bool:
        """Return whether examples are chosen among the training clips."""
        return bool(options.examples)

    def requirements(self, options: JudgeOptions) -> tuple[Requirement, ...]:
        """Return the package, and the key of a remote endpoint."""
        local = options.service == "stand-in" or is_loopback(options.url)
        return (*need("openai"), *(() if local else (Requirement(options.key, "key"),)))

    def prepare(self, clips: Clips, options: JudgeOptions, context: Context) -> None:
        """Check model, consent and key, and ask about all clips; with examples, a fold asks when it predicts.

        Raises:
            ConfigError: no model, no consent, or no key.
            ExtraMissing: openai, PyAV or pillow is not installed.
            ServiceError, MediaError: see `hosted.extraction.report`.
        """
        store = self._store(options, context)
        if options.audio and clips:
            warn_of_silence(clips, context)
        if not clips or options.examples:
            if not clips or not (store.folder / CALLS_FILE).exists():  # otherwise nothing may be left to ask
                with self._endpoint(options) as endpoint, open_client(endpoint, options):
                    return
            return
        self.answer(clips, Answers(store.folder, options), context)

    def fit(self, fold: Fold, options: JudgeOptions, context: Context) -> JudgeModel:
        """Choose the examples among the training clips; there is nothing else to fit."""
        chosen = choose_examples(fold.train, options.examples, context.seed)
        examples = [
            Example(clip.content, tuple(int(share) for share in label), show(clip, options, context.cache))
            for clip, label in zip(chosen, chosen.labels if options.examples else (), strict=True)
        ]
        return JudgeModel(self, options, tuple(examples))

    def load(self, folder: Path, options: JudgeOptions, context: Context) -> JudgeModel:
        """Read the examples."""
        kept = read_json(folder / "examples.json")["examples"]
        examples = [Example(each["content"], tuple(each["label"]), each["media"]) for each in kept]
        return JudgeModel(self, options, tuple(examples))

    def answer(self, clips: Clips, answers: Answers, context: Context) -> FloatArray:
        """Return the probabilities of clips, float64 (N, 6); asks what is missing, with key and consent.

        Raises:
            ServiceError, MediaError: see `hosted.extraction.report`.
        """
        options, uniform = answers.options, answers.options.refused == "uniform"
        if _missing(clips, answers, uniform):
            service = self._service(options)
            with self._endpoint(options) as endpoint, alone([answers.folder], service, context):
                items = _missing(clips, answers, uniform)  # another process may have asked meanwhile
                proven = bool(read_calls(answers.folder))
                pace = self._pace(context)
                with open_client(endpoint, options) as client:
                    interview = Interview(answers, client, pace, Ledger.open(answers.folder, options))
                    tally = work(items, lambda item: interview.ask(item.clip, context.cache), pace, service, proven,
                                 context)  # fmt: skip
                for item in items:
                    if item.clip.id in tally.refused and (proven or tally.made):
                        write_json(answers.path(item.clip, "refused"), {"reason": tally.refused[item.clip.id]})
            report(tally, service, context, "equal probabilities" if uniform else "", ADVICE)
        note_answers(clips, answers, context)
        rows = [answers.read(clip) for clip in clips]
        equal = np.full(len(EMOTIONS), 1 / len(EMOTIONS))
        return np.array([equal if row is None else row for row in rows]).reshape(len(clips), len(EMOTIONS))

    def _store(self, options: JudgeOptions, context: Context) -> Store:
        """Return the cache store of all answers that are asked for in the same way.

        Versions of libraries are not part of it: frames of another FFmpeg are hardly others, and would be paid again.
        """
        frames = {"count": options.frames, "size": options.size, "quality": options.quality,
                  "decoder": decoder_versions()["decoder"]}  # fmt: skip
        return context.cache.store(
            "judge",
            origin=STAND_IN if options.service == "stand-in" else options.url.rstrip("/"),
            model=options.model,
            instruction=options.instruction,
            questions=[SET_QUESTION, ask_ratio((0, 1))],
            frames=frames if options.frames else None,
            audio=audio_key()["version"] if options.audio else None,
            temperature=options.temperature,
            max_tokens=options.max_tokens,
            logprobs=options.logprobs,
        )

    @contextlib.contextmanager
    def _endpoint(self, options: JudgeOptions) -> Iterator[Endpoint]:
        """Return the endpoint after checking model, consent and key; a stand-in server runs within the context."""
        if options.service == "stand-in":
            from blemore_plugins.judge.standin import serve

            with serve() as endpoint:
                yield endpoint
            return
        if not options.model.strip():
            raise ConfigError("judge.model: expected the id of a model that the endpoint serves, found none")
        local, address = is_loopback(options.url), options.url.rstrip("/")
        if not local:
            demand_consent(self.name, options.consent, address, CONSENT)
        key = ""
        if not local or os.environ.get(options.key):
            key = read_key((options.key,), f"set it to the key of {address}, or name another in judge.key")
        yield Endpoint(address, key, local)


@dataclass(frozen=True)
class JudgeModel:
    """Asks with the examples of a fold.

    Attributes:
        judge: the encoder.
        options: how questions are asked.
        examples: labelled clips of the fold's training part.
    """

    judge: Judge
    options: JudgeOptions
    examples: tuple[Example, ...]

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        """Return the judge's beliefs as probabilities; asks what `prepare` could not ask."""
        folder = self.judge._store(self.options, context).folder
        values = self.judge.answer(clips, Answers(folder, self.options, self.examples), context)
        return Probabilities(clips.ids, values)

    def save(self, folder: Path) -> None:
        """Write the examples, with the frames and the audio that are sent."""
        kept = [{"content": each.content, "label": list(each.label), "media": each.media} for each in self.examples]
        write_json(folder / "examples.json", {"examples": kept})


def choose_examples(clips: Clips, count: int, seed: int) -> Clips:
    """Choose labelled examples: a clip of each set of emotions in turn, each by the actor that was chosen least.

    The choice depends on the contents of the clips and the seed, not on their order or names.

    Raises:
        DataError: fewer clips of different content than examples.
    """
    by_content = {clip.content: index for index, clip in sorted(enumerate(clips), key=lambda pair: -pair[0])}
    if len(by_content) < count:
        raise DataError(f"judge.examples: expected at least {count} training clips, found {len(by_content)}")
    order = np.random.default_rng(seed).permutation(np.array(sorted(by_content), dtype=object))
    waiting: dict[str, list[int]] = {}
    for content in order if count else ():
        waiting.setdefault(answer_set(clips.labels[by_content[content]]), []).append(by_content[content])
    actors, chosen, times = clips.actors or clips.ids, list[int](), dict[str, int]()
    while len(chosen) < count:
        for letter in [letter for letter in waiting if waiting[letter]][: count - len(chosen)]:
            best = min(waiting[letter], key=lambda index: times.get(actors[index], 0))
            waiting[letter].remove(best)
            times[actors[best]] = times.get(actors[best], 0) + 1
            chosen.append(best)
    return clips.take(np.array(chosen, dtype=int))


def _missing(clips: Clips, answers: Answers, uniform: bool) -> list[Asked]:
    """Return the clips whose answers are missing, one per content; with `uniform` without those given up before."""
    contents = {clip.content: clip for clip in clips}.values()
    return [Asked(clip) for clip in contents if answers.read(clip) is None and not (uniform and answers.refused(clip))]


def note_answers(clips: Clips, answers: Answers, context: Context) -> None:
    """Keep in the record what answered, when, how probabilities were found, what it cost, and where it is kept."""
    kept = [each for clip in clips for each in answers.transcripts(clip)]
    first = [each["alternatives"] is not None for each in kept]
    context.note("answers", {
        "model": sorted({each["model"] for each in kept}),
        "made": read_dates([answers.folder], clips),
        "with log-probabilities": sum(first),
        "repeated": len(first) - sum(first),
        "tokens": sum((each["tokens_in"] or 0) + (each["tokens_out"] or 0) for each in kept),
        "cost in US dollars": round(sum(each["cost"] for each in kept), 6),
        "transcripts in the cache": f"{context.cache.root.name}/judge/{answers.folder.name}",
    })  # fmt: skip
    equal = [clip.id for clip in clips if answers.refused(clip) and answers.read(clip) is None]
    if equal:
        context.note("clips with equal probabilities", equal)


@hookimpl
def blemore_encoders() -> list[Encoder]:
    """Return the encoder `judge`."""
    return [Judge()]
