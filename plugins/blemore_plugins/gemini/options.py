"""The settings of the Gemini encoder: what is sent, where to, and what of it names a cached vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blemore_harness.heads.options import HeadOptions
from blemore_harness.options import demand, incidental

VECTOR_SIZE = 3072
"""Largest vector of Gemini Embedding 2: always asked for, smaller ones are its prefix (ai.google.dev, embeddings)."""

SMALLEST_VECTOR = 128
"""Smallest vector that the service documents."""

MAX_VIDEO_SECONDS = 120.0
"""Longest silent video in one request (ai.google.dev, embeddings, 2026-06)."""

MAX_FPS = 24.0
"""Upper end of the sampling rates that `VideoMetadata` takes; the service's default is 1."""

CUT_RULE = 2
"""Version of the rule in `clipping` that decides which bytes are sent; `clipping.find_rule` says what it changed."""

FIRST_RULE = 1
"""Part of every cache key; embeddings of clips that a later rule sends other bytes of stand beside the old ones."""

Input = Literal["video", "video+audio", "sound"]
"""What one vector is made from: the picture, picture and audio fused by the service, or the audio alone."""


@dataclass(frozen=True)
class GeminiOptions(HeadOptions):
    """Options of `gemini`, besides those of its head.

    Attributes:
        model: id of the embedding model; embeddings of different ids are never mixed.
        start: where the window begins, in seconds.
        seconds: length of the window; 0 takes all that is left of the clip.
        fps: frames a second that the service is asked to look at; None leaves it at its default of 1.
        audio: `none`; `part` sends the audio beside the picture for one fused vector; `separate` asks for a vector of
            its own, which is concatenated.
        prompt: a fixed text sent with every clip and fused into its vector.
        dimensions: length of the vector that the head sees, a re-normalised prefix of the 3,072 numbers kept.
        consent: whether the videos may be sent to the service.
        service: `google`, or `stand-in` for a server on loopback that needs no key.
        api_version: version in the address of the service.
        base_url: another address of the service; empty leaves it at `GOOGLE_GEMINI_BASE_URL` or Google's own.
        workers: requests on their way at the same time.
        attempts: how often one clip is tried before it is set aside.
        timeout: seconds without a byte after which a request counts as failed.
        refused: what to do about clips that the service refuses: `stop` names them, `zero` gives them a vector of
            zeros and says so in the record.
    """

    model: str = "gemini-embedding-2"
    start: float = 0.0
    seconds: float = 2.0
    fps: float | None = None
    sound: Literal["none", "part", "separate"] = "none"
    prompt: str = ""
    dimensions: int = VECTOR_SIZE
    consent: bool = incidental(False)
    service: Literal["google", "stand-in"] = "google"
    api_version: str = "v1beta"
    base_url: str = ""
    workers: int = incidental(4)
    attempts: int = incidental(8)
    timeout: float = incidental(60.0)
    refused: Literal["stop", "zero"] = "stop"

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(bool(self.model.strip()), "model", "an id such as gemini-embedding-2", self.model)
        demand(bool(self.api_version.strip()), "api_version", "v1beta or v1", self.api_version)
        demand(0 <= self.start < float("inf"), "start", "0 or more seconds", self.start)
        allowed = f"0 (the whole clip) up to {MAX_VIDEO_SECONDS:g} seconds"
        demand(0 <= self.seconds <= MAX_VIDEO_SECONDS, "seconds", allowed, self.seconds)
        demand(self.fps is None or 0 < self.fps <= MAX_FPS, "fps", f"more than 0, at most {MAX_FPS:g}", self.fps)
        allowed = f"{SMALLEST_VECTOR} to {VECTOR_SIZE}"
        demand(SMALLEST_VECTOR <= self.dimensions <= VECTOR_SIZE, "dimensions", allowed, self.dimensions)
        demand(1 <= self.workers <= 32, "workers", "1 to 32", self.workers)
        demand(1 <= self.attempts <= 100, "attempts", "1 to 100", self.attempts)
        demand(0 < self.timeout <= 3600, "timeout", "more than 0, at most 3600 seconds", self.timeout)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What is sent for a clip: one entry per vector, in the order in which they are concatenated."""
        by_sound: dict[str, tuple[Input, ...]] = {
            "none": ("video",),
            "part": ("video+audio",),
            "separate": ("video", "sound"),
        }
        return by_sound[self.sound]

    def facts(self, kind: Input, origin: str) -> dict[str, object]:
        """Return everything that changes a vector of `kind`, as JSON types: its cache key besides the clip's content.

        Args:
            kind: what the vector is made from.
            origin: who computes it: `google`, the name and version of the stand-in, or another address.
        """
        return {
            "model": self.model,
            "api_version": self.api_version,
            "origin": origin,
            "input": kind,
            "start": float(self.start),
            "seconds": float(self.seconds),
            "fps": None if self.fps is None or kind == "sound" else float(self.fps),
            "prompt": self.prompt,
            "dimensions": VECTOR_SIZE,
            "cut_rule": FIRST_RULE,
        }
