"""Options of the judge: the endpoint, what is sent, how it is asked, and what that may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from blemore_harness.errors import InvalidOption
from blemore_harness.options import demand, incidental
from blemore_plugins.hosted.endpoints import is_address
from blemore_plugins.judge.questions import INSTRUCTION


@dataclass(frozen=True)
class JudgeOptions:
    """Options of `judge`.

    Attributes:
        url: base address of the endpoint, up to `/v1`.
        model: id of the model.
        key: name of the environment variable that holds the key; not needed on this machine.
        consent: whether clips may be sent to a host other than this machine.
        service: `endpoint`, or `stand-in` for a server on loopback that needs no key and no model.
        prompt: text before the question, in which `{input}` stands for what is sent; empty for the built-in one.
        examples: number of labelled clips of training actors that are shown with every question; 0 for zero-shot.
        frames: number of evenly spaced frames; 0 for none.
        size: longest side of a frame in pixels; larger ones are reduced.
        quality: of the JPEG files.
        audio: whether the audio is sent, as WAV.
        logprobs: whether log-probabilities are asked for.
        samples: number of answers to a question where the endpoint gives no log-probabilities.
        temperature: of the answers.
        max_tokens: longest answer; reasoning before it counts.
        refused: treatment of clips about which there is no usable answer: `stop` is an error that names them,
            `uniform` gives all six emotions the same probability and notes it in the record.
        price_in, price_out: US dollars per million tokens.
        budget: US dollars that answers with these settings may cost in all; None for no limit.
        budget_tokens: the same in tokens.
        workers: number of simultaneous requests.
        attempts: attempts per question before the clip counts as failed.
        timeout: seconds without a byte after which a request has timed out.
    """

    url: str = "http://127.0.0.1:8000/v1"
    model: str = ""
    key: str = incidental("OPENAI_API_KEY")
    consent: bool = incidental(False)
    service: Literal["endpoint", "stand-in"] = "endpoint"
    prompt: str = ""
    examples: int = 0
    frames: int = 8
    size: int = 448
    quality: int = 85
    audio: bool = True
    logprobs: bool = True
    samples: int = 5
    temperature: float = 1.0
    max_tokens: int = 16
    refused: Literal["stop", "uniform"] = "stop"
    price_in: float = incidental(0.0)
    price_out: float = incidental(0.0)
    budget: float | None = incidental(None)
    budget_tokens: int | None = incidental(None)
    workers: int = incidental(4)
    attempts: int = incidental(6)
    timeout: float = incidental(120.0)

    def __post_init__(self) -> None:
        demand(is_address(self.url), "url", "an address without a password such as http://127.0.0.1:8000/v1", self.url)
        demand(0 <= self.examples <= 1000, "examples", "0 to 1000", self.examples)
        demand(0 <= self.frames <= 256, "frames", "0 to 256", self.frames)
        demand(16 <= self.size <= 4096, "size", "16 to 4096 pixels", self.size)
        demand(1 <= self.quality <= 95, "quality", "1 to 95", self.quality)
        demand(1 <= self.samples <= 1000, "samples", "1 to 1000", self.samples)
        demand(0 < self.temperature <= 2, "temperature", "more than 0, at most 2", self.temperature)
        demand(1 <= self.max_tokens <= 100_000, "max_tokens", "1 to 100000", self.max_tokens)
        for name in ("price_in", "price_out"):
            price = getattr(self, name)
            demand(0 <= price < math.inf, name, "0 or more US dollars per million tokens", price)
        for name in ("budget", "budget_tokens"):
            limit = getattr(self, name)
            demand(limit is None or 0 < limit < math.inf, name, "more than 0, or none", limit)
        demand(1 <= self.workers <= 64, "workers", "1 to 64", self.workers)
        demand(1 <= self.attempts <= 100, "attempts", "1 to 100", self.attempts)
        demand(0 < self.timeout <= 3600, "timeout", "more than 0, at most 3600 seconds", self.timeout)
        if not self.frames and not self.audio:
            raise InvalidOption("frames and audio: expected at least one of both to be sent, found neither")
        if self.budget is not None and not (self.price_in or self.price_out):
            raise InvalidOption("budget: requires price_in or price_out, or use budget_tokens")

    @property
    def instruction(self) -> str:
        """The text before the question, which says what is sent."""
        frames = f"{self.frames} frame{'s' if self.frames != 1 else ''} in order of time" if self.frames else ""
        sent = " and ".join(part for part in (frames, "the audio" if self.audio else "") if part)
        return (self.prompt or INSTRUCTION).replace("{input}", sent)

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Return the price of an answer in US dollars."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6
