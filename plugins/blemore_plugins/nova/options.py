"""Options of the Nova encoder: what is sent and where, and the cache keys of embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from blemore_harness.errors import InvalidOption
from blemore_harness.heads.options import HeadOptions
from blemore_harness.options import demand, incidental
from blemore_plugins.hosted.endpoints import is_address

SIZES = (256, 384, 1024, 3072)
"""Documented lengths of embeddings (docs.aws.amazon.com, Nova user guide, embeddings schema)."""

LONGEST = 30.0
"""Longest video of one synchronous request in seconds (the same page)."""

CUT_RULE = 1
"""Version of the rule in `clipping` that determines the bytes sent."""


@dataclass(frozen=True)
class NovaOptions(HeadOptions):
    """Options of `nova`, besides those of its head.

    Attributes:
        model: id of the embedding model; embeddings of different ids are never mixed.
        region: of Amazon Bedrock.
        purpose: `embeddingPurpose` of the request.
        start: start of the window in seconds.
        seconds: length of the window.
        audio: whether the audio is sent in the same file and fused by the service.
        dimensions: length of the embedding; each is requested by itself.
        consent: whether the videos may be sent to the service.
        service: `bedrock`, or `stand-in` for a server on loopback that needs no credentials.
        endpoint_url: another address of the service, such as a VPC endpoint; empty for that of the region.
        price: US dollars per second of video; 0 where it is not known.
        budget: US dollars that embeddings with these settings may cost in all; None for no limit.
        workers: number of simultaneous requests.
        attempts: attempts per clip before it counts as failed.
        timeout: seconds without a byte after which a request has timed out.
        refused: treatment of clips that the service refuses: `stop` is an error that names them, `zero` uses an
            embedding of zeros and notes it in the record.
    """

    model: str = "amazon.nova-2-multimodal-embeddings-v1:0"
    region: str = incidental("us-east-1")
    purpose: Literal[
        "CLASSIFICATION", "CLUSTERING", "GENERIC_INDEX", "GENERIC_RETRIEVAL", "VIDEO_RETRIEVAL", "AUDIO_RETRIEVAL"
    ] = "CLASSIFICATION"
    start: float = 0.0
    seconds: float = LONGEST
    audio: bool = True
    dimensions: int = 3072
    consent: bool = incidental(False)
    service: Literal["bedrock", "stand-in"] = "bedrock"
    endpoint_url: str = ""
    price: float = incidental(0.0)
    budget: float | None = incidental(None)
    workers: int = incidental(4)
    attempts: int = incidental(8)
    timeout: float = incidental(60.0)
    refused: Literal["stop", "zero"] = "stop"

    def __post_init__(self) -> None:
        super().__post_init__()
        demand(bool(self.model.strip()), "model", "an id such as amazon.nova-2-multimodal-embeddings-v1:0", self.model)
        demand(bool(self.region.strip()), "region", "a region such as us-east-1", self.region)
        demand(0 <= self.start < math.inf, "start", "0 or more seconds", self.start)
        demand(0 < self.seconds <= LONGEST, "seconds", f"more than 0, at most {LONGEST:g} seconds", self.seconds)
        demand(self.dimensions in SIZES, "dimensions", ", ".join(map(str, SIZES)), self.dimensions)
        address = self.endpoint_url
        demand(not address or is_address(address), "endpoint_url", "an address such as https://HOST", address)
        demand(0 <= self.price < math.inf, "price", "0 or more US dollars per second", self.price)
        demand(self.budget is None or 0 < self.budget < math.inf, "budget", "more than 0, or none", self.budget)
        demand(1 <= self.workers <= 32, "workers", "1 to 32", self.workers)
        demand(1 <= self.attempts <= 100, "attempts", "1 to 100", self.attempts)
        demand(0 < self.timeout <= 3600, "timeout", "more than 0, at most 3600 seconds", self.timeout)
        if self.budget is not None and not self.price:
            raise InvalidOption("budget: requires price, in US dollars per second of video")

    def facts(self, origin: str, audio_version: object) -> dict[str, object]:
        """Return everything that changes an embedding besides the clip's content, as JSON for cache keys.

        Args:
            origin: who computes it: `bedrock`, the name and version of the stand-in, or another address.
            audio_version: of the rules by which audio is decoded.
        """
        return {
            "model": self.model,
            "origin": origin,
            "purpose": self.purpose,
            "start": float(self.start),
            "seconds": float(self.seconds),
            "audio": audio_version if self.audio else None,
            "dimensions": self.dimensions,
            "cut_rule": CUT_RULE,
        }
