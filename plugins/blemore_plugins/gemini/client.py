"""Client of the embedding service through google-genai: returns one validated embedding per content, or a `Refusal`.

Exceptions of the SDK are converted to a `Refusal` outside the `except` block: they hold the request with the key in its
headers, and a chained exception would write it into logs and records.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.errors import ConfigError, ExtraMissing
from blemore_plugins.gemini.options import VECTOR_SIZE, GeminiOptions
from blemore_plugins.gemini.refusals import sort_answer
from blemore_plugins.hosted.endpoints import Endpoint, is_address, read_key
from blemore_plugins.hosted.refusals import Refusal, scrub, sort_failure, transport_errors
from blemore_plugins.hosted.vectors import check_vectors

GOOGLE = "https://generativelanguage.googleapis.com"
"""Address of the Gemini Developer API."""

KEY_NAMES = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
"""Environment variables that may hold the key; the first one that is set wins, as in the SDK."""

NORM_TOLERANCE = 1e-2
"""Tolerated deviation of the length of an embedding from 1, due to rounding in half precision."""


@dataclass(frozen=True)
class Material:
    """The input of one embedding; None and empty parts are left out."""

    video: bytes | None = field(default=None, repr=False)
    sound: bytes | None = field(default=None, repr=False)


def find_address(options: GeminiOptions) -> str:
    """Return the address of the real service: the option, the environment or Google's own."""
    address = (options.base_url or os.environ.get("GOOGLE_GEMINI_BASE_URL") or GOOGLE).rstrip("/")
    if not is_address(address):
        raise ConfigError(f"base_url must be an address that begins with https:// (or http://), found '{address}'")
    return address


def find_key() -> str:
    """Return the key from the environment; the `ConfigError` names the variables, never a value."""
    return read_key(KEY_NAMES, "create one at https://aistudio.google.com/api-keys in a project with billing")


class Client:
    """One connection to the service; safe to use from several threads.

    Args:
        sdk: the client of google-genai.
        options: model, prompt and sampling rate.
        key: removed from every message.
        failures: exception types of a failed connection or an invalid answer.
    """

    def __init__(self, sdk: Any, options: GeminiOptions, key: str, failures: tuple[type[Exception], ...]) -> None:
        self._sdk = sdk
        self._options = options
        self._key = key
        self._failures = failures

    def ask(self, material: Material) -> NDArray[np.float32]:
        """Return the embedding of one content, float32 (3072,), of length 1.

        Raises:
            Refusal: with a verdict, without the key and without a chained exception.
        """
        from google.genai import errors, types

        refusal = None
        try:
            answer = self._sdk.models.embed_content(
                model=self._options.model,
                # In a separate Content: bare parts in one list would be fused into one embedding across clips.
                contents=[types.Content(role="user", parts=self._parts(material))],
                config=types.EmbedContentConfig(output_dimensionality=VECTOR_SIZE),
            )
        except errors.APIError as error:
            headers = getattr(error.response, "headers", None)
            refusal = sort_answer(error.code, error.details, dict(headers or {}), self._options.model)
        except self._failures as error:
            refusal = sort_failure(error)
        if refusal is not None:
            raise Refusal(refusal.verdict, scrub(refusal.reason, self._key), refusal.delay)
        return read_vector([vector.values for vector in answer.embeddings or []])

    def _parts(self, material: Material) -> list[Any]:
        from google.genai import types

        parts = [types.Part(text=self._options.prompt)] if self._options.prompt else []
        if material.video is not None:
            fps = self._options.fps
            parts.append(
                types.Part(
                    inline_data=types.Blob(data=material.video, mime_type="video/mp4"),
                    video_metadata=None if fps is None else types.VideoMetadata(fps=fps),
                )
            )
        if material.sound is not None:
            parts.append(types.Part(inline_data=types.Blob(data=material.sound, mime_type="audio/wav")))
        return parts


@contextlib.contextmanager
def open_client(endpoint: Endpoint, options: GeminiOptions) -> Iterator[Client]:
    """Return a client without retries (see `extraction`) and without redirects (which would receive the key).

    Raises:
        ExtraMissing: google-genai is not installed.
    """
    try:
        from google import genai
        from google.genai import types
    except ImportError as error:
        raise ExtraMissing('gemini needs google-genai: pip install "blemore-harness[encoders]"') from error
    transport = {"follow_redirects": False, "trust_env": not endpoint.local}
    sdk = genai.Client(
        vertexai=False,
        api_key=endpoint.key,
        http_options=types.HttpOptions(
            base_url=endpoint.address,
            api_version=options.api_version,
            timeout=math.ceil(options.timeout * 1000),  # milliseconds
            client_args=transport,
            async_client_args=transport,
        ),
    )
    try:
        yield Client(sdk, options, endpoint.key, _failures())
    finally:
        sdk.close()


def read_vector(vectors: list[Any]) -> NDArray[np.float32]:
    """Validate the answer for one content: one embedding of 3,072 finite values, of length 1.

    An unreadable embedding is requested again; one of another size is not, because it would not change.

    >>> read_vector([[1.0] + [0.0] * 3071]).shape
    (3072,)
    """
    vector = check_vectors(vectors, VECTOR_SIZE, "gemini.model")
    length = float(np.linalg.norm(vector))
    if abs(length - 1) > NORM_TOLERANCE:
        raise Refusal("failed", f"expected an embedding of length 1, found {length:.4g}")
    return np.asarray(vector / length, dtype=np.float32)


def _failures() -> tuple[type[Exception], ...]:
    """Return the exception types of failed connections and invalid answers that the SDK does not convert."""
    import pydantic
    from google.genai import errors

    return (
        *transport_errors(),
        json.JSONDecodeError,
        pydantic.ValidationError,
        errors.UnknownApiResponseError,
    )
