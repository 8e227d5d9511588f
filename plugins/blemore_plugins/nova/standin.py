"""A server on loopback that imitates InvokeModel of Amazon Bedrock for the Nova embedding model.

It checks the form of a request and whose signature it has, not the signature itself.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import json
import re
import secrets
from collections.abc import Iterator
from email.message import Message
from typing import Any
from urllib.parse import unquote

import numpy as np

from blemore_plugins.hosted.embedder import Embedder
from blemore_plugins.hosted.endpoints import Endpoint
from blemore_plugins.hosted.media import SOUND_RATE, make_wav
from blemore_plugins.hosted.server import Wrong, run_server
from blemore_plugins.nova.client import STAND_IN_ID
from blemore_plugins.nova.options import LONGEST, SIZES

PATH = re.compile(r"/model/([^/]+)/invoke")

MODEL = re.compile(r"amazon\.nova-2-multimodal-embeddings-v\d+:\d+")

MAX_BODY = 25_000_000
"""Maximum size of a request in bytes."""


@contextlib.contextmanager
def serve() -> Iterator[Endpoint]:
    """Run the stand-in on a free port of 127.0.0.1 within the context; return the address and a generated secret."""
    embedder = Embedder()

    def answer(path: str, headers: Message, body: bytes) -> dict[str, Any]:
        if f"Credential={STAND_IN_ID}/" not in headers.get("authorization", ""):
            raise Wrong(403, "The security token included in the request is invalid.")
        address = PATH.fullmatch(path)
        if address is None or not MODEL.fullmatch(unquote(address[1])):
            raise Wrong(404, f"Could not resolve the foundation model from {path}.")
        return embed(body, embedder)

    with run_server("nova-stand-in", MAX_BODY, answer, lambda wrong: {"message": str(wrong)}) as address:
        yield Endpoint(address, secrets.token_hex(16), local=True)


def embed(body: bytes, embedder: Embedder) -> dict[str, Any]:
    """Answer a request for one embedding of a video.

    Raises:
        Wrong: a request that the service would reject.
    """
    try:
        request = json.loads(body)
        given = request["singleEmbeddingParams"]
        video, size = given["video"], given["embeddingDimension"]
        data = base64.b64decode(video["source"]["bytes"], validate=True)
        form = (request["taskType"], video["format"], video["embeddingMode"], bool(given["embeddingPurpose"]))
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise Wrong(400, f"Malformed input request ({type(error).__name__}).") from None
    if form != ("SINGLE_EMBEDDING", "mp4", "AUDIO_VIDEO_COMBINED", True) or size not in SIZES:
        raise Wrong(400, f"Unsupported values in the request: {(*form, size)}.")
    try:
        sound = read_sound(data)
        vector = embedder.embed(data, sound)[:size]
    except ValueError as error:
        raise Wrong(400, f"Unable to process the video: {error}") from None
    kind = "VIDEO" if sound is None else "AUDIO_VIDEO_COMBINED"
    return {"embeddings": [{"embeddingType": kind, "embedding": [round(float(value), 8) for value in vector]}]}


def read_sound(data: bytes) -> bytes | None:
    """Return the audio of an MP4 as WAV, None without; `ValueError` for no video, or one that is too long."""
    import av

    try:
        with av.open(io.BytesIO(data)) as file:
            seconds = (file.duration or 0) / av.time_base
            resampler = av.AudioResampler("s16", "mono", SOUND_RATE)
            frames = (
                [part for frame in file.decode(audio=0) for part in resampler.resample(frame)]
                if (file.streams.audio)
                else []
            )
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"no video ({type(error).__name__})") from None
    if seconds > LONGEST + 1:
        raise ValueError(f"{seconds:.0f} s, at most {LONGEST:g} are allowed")
    if not frames:
        return None
    samples = np.concatenate([frame.to_ndarray().ravel() for frame in frames]) / np.float32(32768)
    return make_wav(samples.astype(np.float32), SOUND_RATE)
