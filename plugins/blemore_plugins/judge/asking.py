"""The answers about clips: read from the cache, and requested where they are missing, each kept as soon as it arrives.

An answer is a file of JSON beside the others that were made with the same settings: the transcript of the question,
with frames and audio left out, what was answered, and what it cost. Probabilities are computed from these files, so
that nothing is paid for twice.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.clips import EMOTIONS, Clip
from blemore_harness.disk import digest_of, read_json, write_json
from blemore_harness.media.audio import read_audio
from blemore_harness.predictions import FloatArray
from blemore_plugins.hosted.budget import Budget, dollars, tokens
from blemore_plugins.hosted.extraction import note_call, now, read_calls
from blemore_plugins.hosted.media import SOUND_RATE, make_jpegs, make_wav
from blemore_plugins.hosted.pace import Pace, insist
from blemore_plugins.hosted.refusals import Refusal, one_line
from blemore_plugins.judge.client import Client, Reply
from blemore_plugins.judge.options import JudgeOptions
from blemore_plugins.judge.questions import (
    LETTERS,
    NUMBERS,
    SET_QUESTION,
    answer_ratio,
    answer_set,
    ask_ratio,
    likely_blend,
    mix,
)
from blemore_plugins.judge.reading import find_alternatives, find_choice, read_probabilities

UNREADABLE = 3
"""Answers without a choice after which a clip counts as refused; each is paid for."""

FRAME_TOKENS, AUDIO_TOKENS = 1500, 50
"""Generous guesses of the tokens of a frame and of a second of audio, for the budget before the first answer."""

Media = list[dict[str, Any]]
"""Frames and audio of a clip as parts of a message."""


@dataclass(frozen=True)
class Example:
    """A labelled clip that is shown with every question.

    Attributes:
        content: digest of the clip.
        label: six percentages.
        media: its frames and audio.
    """

    content: str
    label: tuple[int, ...]
    media: Media = field(repr=False)


def show(clip: Clip, options: JudgeOptions, cache: Cache) -> Media:
    """Return frames and audio of a clip as parts of a message.

    Raises:
        MediaError: a file that cannot be decoded.
    """
    parts: Media = []
    for data in make_jpegs(clip, options.frames, options.size, options.quality) if options.frames else ():
        url = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
        parts.append({"type": "image_url", "image_url": {"url": url}})
    if options.audio:
        wav = base64.b64encode(make_wav(read_audio(clip, SOUND_RATE, cache), SOUND_RATE)).decode()
        parts.append({"type": "input_audio", "input_audio": {"data": wav, "format": "wav"}})
    return parts


def without_media(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return messages for people: frames and audio are replaced by their kind and digest."""
    found = []
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            content = [part["text"] if part["type"] == "text" else _describe(part) for part in content]
        found.append({"role": message["role"], "content": content})
    return found


def _describe(part: Mapping[str, Any]) -> str:
    data = part["image_url"]["url"] if part["type"] == "image_url" else part["input_audio"]["data"]
    kind = "JPEG" if part["type"] == "image_url" else "WAV"
    return f"[{kind}, sha256 {hashlib.sha256(data.encode()).hexdigest()[:16]}]"


@dataclass(frozen=True)
class Question:
    """One question about a clip.

    Attributes:
        name: part of file names: `set`, or `ratio-` and two emotions.
        text: as it is asked.
        choices: the symbols of the answers.
        pair: the blend whose proportion is asked for; None for the question about the set.
    """

    name: str
    text: str
    choices: tuple[str, ...]
    pair: tuple[int, int] | None = None

    def answer(self, label: Sequence[int]) -> str | None:
        """Return the answer for a labelled clip; None where the question has no meaning for it."""
        return answer_set(label) if self.pair is None else answer_ratio(label)

    def about(self, label: Sequence[int]) -> Question:
        """Return the question as it is asked about a labelled clip: of a blend, about its own emotions."""
        if self.pair is None:
            return self
        one, two = (int(emotion) for emotion in np.flatnonzero(np.asarray(label)))
        return ask_about((one, two))


WHICH_SET = Question("set", SET_QUESTION, LETTERS)
"""The first question."""


def ask_about(pair: tuple[int, int]) -> Question:
    """Return the second question: the proportion of a blend."""
    return Question(f"ratio-{EMOTIONS[pair[0]]}-{EMOTIONS[pair[1]]}", ask_ratio(pair), NUMBERS, pair)


@dataclass(frozen=True)
class Answers:
    """The answers to questions asked with the same settings and the same examples.

    Attributes:
        folder: of the answers with the same settings, whatever the examples.
        options: how questions are asked.
        examples: that are shown with every question.
    """

    folder: Path
    options: JudgeOptions
    examples: tuple[Example, ...] = ()

    @property
    def _shown(self) -> str:
        facts = [[example.content, list(example.label)] for example in self.examples]
        return f"-{digest_of(facts)}" if facts else ""

    def path(self, clip: Clip, name: str) -> Path:
        """Return the file of an answer about a clip."""
        return self.folder / f"{clip.content}{self._shown}-{name}.json"

    def refused(self, clip: Clip) -> bool:
        """Return whether the clip was given up before."""
        return self.path(clip, "refused").exists()

    def read(self, clip: Clip) -> FloatArray | None:
        """Return the probabilities of a clip, float64 (6,); None where an answer is missing."""
        sets = self._belief(clip, WHICH_SET)
        if sets is None:
            return None
        pair = likely_blend(sets)
        if pair is None:
            return mix(sets, {})
        ratio = self._belief(clip, ask_about(pair))
        return None if ratio is None else mix(sets, {pair: ratio})

    def transcripts(self, clip: Clip) -> list[dict[str, Any]]:
        """Return the answers about a clip that are kept."""
        kept = self._kept(clip, WHICH_SET)
        sets = self._weigh(WHICH_SET, kept)
        pair = None if sets is None else likely_blend(sets)
        return kept if pair is None else [*kept, *self._kept(clip, ask_about(pair))]

    def _belief(self, clip: Clip, question: Question) -> FloatArray | None:
        """Return the probabilities of the choices; None where an answer is missing."""
        return self._weigh(question, self._kept(clip, question))

    def _kept(self, clip: Clip, question: Question) -> list[dict[str, Any]]:
        found = []
        for number in range(self.options.samples):
            path = self.path(clip, f"{question.name}-{number}")
            if not path.exists():
                break
            found.append(read_json(path))
        return found

    def _weigh(self, question: Question, answers: Sequence[Mapping[str, Any]]) -> FloatArray | None:
        """Return the probabilities by the first answer's log-probabilities, else the shares of all answers."""
        if answers and answers[0]["alternatives"]:
            return read_probabilities(answers[0]["alternatives"], question.choices)
        if len(answers) < self.options.samples:
            return None
        counts = [sum(answer["choice"] == choice for answer in answers) for choice in question.choices]
        return np.asarray(counts, dtype=np.float64) / len(answers)


Kind = tuple[str, int]
"""What requests of equal size have in common: `set` or `ratio`, and the number of examples."""


def kind_of(question: str, examples: int) -> Kind:
    """Return the kind of a request.

    >>> kind_of("ratio-ang-fea", 16)
    ('ratio', 16)
    """
    return question.partition("-")[0], examples


@dataclass(frozen=True)
class Ledger:
    """What answers with the same settings may cost, and did."""

    money: Budget
    tokens: Budget
    largest: dict[Kind, tuple[int, int]]

    @classmethod
    def open(cls, folder: Path, options: JudgeOptions) -> Ledger:
        """Read what was spent on answers with these settings; prices of today hold for all of them."""
        calls, largest = [], dict[Kind, tuple[int, int]]()
        for call in read_calls(folder):
            used = (call.get("tokens_in") or 0, call.get("tokens_out") or 0)
            kind = kind_of(call["question"], call.get("examples", 0))
            largest[kind] = max(largest.get(kind, (0, 0)), used)
            calls.append(used)
        spent = sum(options.cost(*call) for call in calls)
        return cls(
            Budget("judge.budget", options.budget, spent, dollars),
            Budget("judge.budget_tokens", options.budget_tokens, sum(map(sum, calls)), tokens),
            largest,
        )

    def estimate(self, messages: Sequence[Mapping[str, Any]], kind: Kind, options: JudgeOptions) -> tuple[int, int]:
        """Return the tokens that a request may take: as many as the largest of its kind, else a generous guess."""
        if kind in self.largest:
            return self.largest[kind][0], options.max_tokens
        parts = [part for message in messages for part in _parts(message)]
        text = sum(len(part.get("text", "")) for part in parts)
        wavs = sum(len(part["input_audio"]["data"]) for part in parts if part["type"] == "input_audio")
        frames = sum(part["type"] == "image_url" for part in parts)
        seconds = wavs * 3 / 4 / (2 * SOUND_RATE)
        return round(text / 2 + frames * FRAME_TOKENS + seconds * AUDIO_TOKENS) + 50, options.max_tokens


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


class Interview:
    """Asks the questions about one clip whose answers are missing.

    Args:
        answers: where answers are kept.
        client: of the endpoint.
        pace: waits between attempts.
        ledger: stops before a budget is exceeded.
    """

    def __init__(self, answers: Answers, client: Client, pace: Pace, ledger: Ledger) -> None:
        self._answers = answers
        self._client = client
        self._pace = pace
        self._ledger = ledger

    def ask(self, clip: Clip, cache: Cache) -> None:
        """Ask what is missing.

        Raises:
            Refusal, Stopped: see `hosted.pace.insist`.
            MediaError: the clip cannot be decoded.
        """
        media = show(clip, self._answers.options, cache)
        pair = likely_blend(self._complete(clip, WHICH_SET, media))
        if pair is not None:
            self._complete(clip, ask_about(pair), media)

    def _complete(self, clip: Clip, question: Question, media: Media) -> FloatArray:
        kept = self._answers._kept(clip, question)
        while (belief := self._answers._weigh(question, kept)) is None:
            kept.append(self._one(clip, question, media, len(kept)))
        return belief

    def _one(self, clip: Clip, question: Question, media: Media, number: int) -> dict[str, Any]:
        """Ask once, again where no choice is made, and keep the answer."""
        messages = converse(self._answers, question, media)
        unreadable: list[str] = []
        for _ in range(UNREADABLE):
            reply = insist(lambda: self._pay(clip, question, messages), self._pace, self._answers.options.attempts)
            if reply.withheld:
                raise Refusal("refused", f"the answer was withheld ({reply.withheld})")
            if choice := find_choice(reply.text, question.choices):
                answer = {
                    "question": without_media(messages),
                    "answer": reply.text,
                    "choice": choice[0],
                    "alternatives": find_alternatives(reply.logprobs, reply.text, choice[1], choice[0]),
                    "unreadable": unreadable,
                    "model": reply.model,
                    "tokens_in": reply.tokens_in,
                    "tokens_out": reply.tokens_out,
                    "cost": self._answers.options.cost(reply.tokens_in or 0, reply.tokens_out or 0),
                    "made": now(),
                }
                write_json(self._answers.path(clip, f"{question.name}-{number}"), answer)
                return answer
            unreadable.append(reply.text)
        expected = f"one of {question.choices[0]} to {question.choices[-1]}"
        found = one_line(unreadable[-1], 80) or "nothing"
        raise Refusal(
            "refused",
            f"expected {expected} as the answer, found '{found}' (the last of {UNREADABLE} answers; reasoning models "
            "need a larger judge.max_tokens)",
        )

    def _pay(self, clip: Clip, question: Question, messages: list[dict[str, Any]]) -> Reply:
        """Send a request within the budgets, and note what it cost."""
        options, ledger = self._answers.options, self._ledger
        kind = kind_of(question.name, len(self._answers.examples))
        guess = ledger.estimate(messages, kind, options)
        with ledger.money.reserve(options.cost(*guess)) as book, ledger.tokens.reserve(sum(guess)) as count:
            reply = self._client.ask(messages)
            note_call(self._answers.folder, clip, question=question.name, examples=kind[1],
                      tokens_in=reply.tokens_in, tokens_out=reply.tokens_out)  # fmt: skip
            used = (reply.tokens_in or 0, reply.tokens_out or 0)
            book(options.cost(*used))
            count(sum(used))
        limited = options.budget is not None or options.budget_tokens is not None
        if limited and reply.tokens_in is None:
            raise Refusal("stop", "the endpoint does not count tokens, so that a budget cannot be kept: remove it")
        ledger.largest[kind] = max(ledger.largest.get(kind, (0, 0)), used)
        return reply


def converse(answers: Answers, question: Question, media: Media) -> list[dict[str, Any]]:
    """Return the messages of a question: every example as a question with its answer, then the clip."""
    messages: list[dict[str, Any]] = []
    for example in answers.examples:
        known = question.answer(example.label)
        if known is not None:
            text = question.about(example.label).text
            messages.append({"role": "user", "content": [*example.media, {"type": "text", "text": text}]})
            messages.append({"role": "assistant", "content": known})
    messages.append({"role": "user", "content": [*media, {"type": "text", "text": question.text}]})
    messages[0]["content"] = [{"type": "text", "text": answers.options.instruction}, *messages[0]["content"]]
    return messages
