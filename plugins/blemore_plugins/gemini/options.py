"""Options of the Gemini encoder: what is sent and where, and the cache keys of embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blemore_harness.heads.options import HeadOptions
from blemore_harness.options import demand, incidental

VECTOR_SIZE = 3072
"""Largest size of Gemini Embedding 2, which is always requested; smaller ones are its prefix (ai.google.dev,
embeddings)."""

SMALLEST_VECTOR = 128
"""Smallest documented size."""

MAX_VIDEO_SECONDS = 120.0
"""Longest silent video in one request (ai.google.dev, embeddings, 2026-06)."""

MAX_FPS = 24.0
"""Upper end of the sampling rates that `VideoMetadata` takes; the service's default is 1."""

CUT_RULE = 2
"""Version of the rule in `clipping` that determines the bytes sent; see `clipping.find_rule` for its changes."""

FIRST_RULE = 1
"""Part of every cache key; embeddings of clips whose bytes a later rule changed are stored next to the old ones."""

Input = Literal["video", "video+audio", "sound"]
"""Input of one embedding: the video, video and audio fused by the service, or the audio alone."""


@dataclass(frozen=True)
class GeminiOptions(HeadOptions):
    """Options of `gemini`, besides those of its head.

    Attributes:
        model: id of the embedding model; embeddings of different ids are never mixed.
        start: start of the window in seconds.
        seconds: length of the window; 0 for the rest of the clip.
        fps: frames per second that the service samples; None for its default of 1.
        audio: `none`; `part` sends the audio with the video for one fused embedding; `separate` requests an embedding
            of the audio, which is concatenated.
        prompt: a fixed text sent with every clip and fused into its embedding.
        dimensions: length of the embedding for the head, a re-normalised prefix of the stored 3,072 values.
        consent: whether the videos may be sent to the service.
        service: `google`, or `stand-in` for a server on loopback that needs no key.
        api_version: version in the address of the service.
        base_url: another address of the service; empty for `GOOGLE_GEMINI_BASE_URL` or Google's own.
        workers: number of simultaneous requests.
        attempts: attempts per clip before it counts as failed.
        timeout: seconds without a byte after which a request has timed out.
        refused: treatment of clips that the service refuses: `stop` is an error that names them, `zero` uses an
            embedding of zeros and notes it in the record.
    """

    model: str = "gemini-embedding-2"
    start: float = 0.0
    seconds: float = 2.0
    fps: float | None = None
    audio: Literal["none", "part", "separate"] = "none"
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
        """The inputs sent for a clip, one per embedding, in the order of concatenation."""
        inputs: dict[str, tuple[Input, ...]] = {
            "none": ("video",),
            "part": ("video+audio",),
            "separate": ("video", "sound"),
        }
        return inputs[self.audio]

    def facts(self, kind: Input, origin: str) -> dict[str, object]:
        """Return everything that changes an embedding of `kind` besides the clip's content, as JSON for cache keys.

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
