"""A server on loopback that imitates the embedding service, so that the demo runs the real client without a key."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import secrets
from collections.abc import Iterator
from email.message import Message
from typing import Any

from blemore_plugins.gemini.options import MAX_FPS, SMALLEST_VECTOR, VECTOR_SIZE
from blemore_plugins.hosted.embedder import Embedder
from blemore_plugins.hosted.endpoints import Endpoint
from blemore_plugins.hosted.server import Wrong, run_server

PATH = re.compile(r"/v1(?:beta)?/models/([\w.-]+):batchEmbedContents")
"""Path of the call, Developer API."""

MAX_BODY = 20_000_000
"""Maximum size of a request in bytes."""

BATCH = 100
"""Maximum number of contents in a request."""

MIME_TYPES = {"video/mp4": "video", "audio/wav": "sound"}
"""What the plugin sends, of all that the service takes."""

STATUS = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 413: "INVALID_ARGUMENT"}
"""Google's names of the errors that are answered here."""


@contextlib.contextmanager
def serve() -> Iterator[Endpoint]:
    """Run the stand-in on a free port of 127.0.0.1 within the context; return the address and a generated key."""
    key, embedder = secrets.token_hex(16), Embedder()

    def answer(path: str, headers: Message, body: bytes) -> dict[str, Any]:
        if not secrets.compare_digest(headers.get("x-goog-api-key", ""), key):
            raise Wrong(403, "The caller does not have permission.")
        address = PATH.fullmatch(path)
        if address is None:
            raise Wrong(404, f"No such method: {path}")
        return {"embeddings": [{"values": _embed(item, address[1], embedder)} for item in read_requests(body)]}

    with run_server("gemini-stand-in", MAX_BODY, answer, _complain) as address:
        yield Endpoint(address, key, local=True)


def _complain(wrong: Wrong) -> dict[str, Any]:
    """Return an error in Google's format."""
    return {"error": {"code": wrong.code, "message": str(wrong), "status": STATUS[wrong.code]}}


def _embed(request: dict[str, Any], model: str, embedder: Embedder) -> list[float]:
    if request.get("model") != f"models/{model}":
        raise Wrong(400, f"Expected the model of the address, found {request.get('model')}.")
    size = request.get("outputDimensionality", VECTOR_SIZE)
    if not isinstance(size, int) or not SMALLEST_VECTOR <= size <= VECTOR_SIZE:
        raise Wrong(400, f"outputDimensionality must be {SMALLEST_VECTOR} to {VECTOR_SIZE}, found {size}.")
    parts = read_parts(request)
    try:
        vector = embedder.embed(parts.get("video"), parts.get("sound"))
    except ValueError as error:
        raise Wrong(400, f"Unable to process the input: {error}") from None
    return [round(float(value), 8) for value in vector[:size]]


def read_requests(body: bytes) -> list[dict[str, Any]]:
    """Read the body of `batchEmbedContents`: `{"requests": [{"model", "content", "outputDimensionality"}, ...]}`."""
    try:
        requests = json.loads(body)["requests"]
    except (ValueError, KeyError, TypeError):
        raise Wrong(400, 'Invalid JSON payload: expected {"requests": [...]}.') from None
    if not isinstance(requests, list) or not 1 <= len(requests) <= BATCH:
        raise Wrong(400, f"Expected 1 to {BATCH} requests in one batch.")
    if not all(isinstance(request, dict) for request in requests):
        raise Wrong(400, "Expected every request to be an object.")
    return requests


def read_parts(request: dict[str, Any]) -> dict[str, bytes]:
    """Return the media of one content by kind; text is checked and left, as this stand-in reads no prompts."""
    found: dict[str, bytes] = {}
    content = request.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    for part in parts if isinstance(parts, list) else []:
        if not isinstance(part, dict):
            raise Wrong(400, "Expected every part to be an object.")
        if isinstance(part.get("text"), str):
            continue
        # Both spellings of Protocol Buffers' JSON are taken, as by the service; the SDK sends the first.
        blob = part.get("inline_data") or part.get("inlineData") or {}
        mime = blob.get("mime_type") or blob.get("mimeType")
        if mime not in MIME_TYPES:
            raise Wrong(400, f"Unsupported MIME type: {mime}")
        if MIME_TYPES[mime] in found:
            raise Wrong(400, f"Expected at most one {MIME_TYPES[mime]} in a content.")
        video_metadata = part.get("video_metadata") or part.get("videoMetadata") or {}
        if not 0 < video_metadata.get("fps", 1.0) <= MAX_FPS:
            raise Wrong(400, f"fps must be in (0, {MAX_FPS:g}].")
        try:
            found[MIME_TYPES[mime]] = base64.b64decode(blob.get("data", ""), altchars=b"-_", validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise Wrong(400, "Expected URL-safe base64 in inline_data.") from None
    if not found:
        raise Wrong(400, "The content has no video and no audio.")
    return found
