"""A server on loopback that answers like the embedding service, so that the demo runs the real client without a key.

It sees what the service would see, the bytes of each request, and nothing else; it checks them as strictly.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from blemore_plugins.gemini.client import Endpoint
from blemore_plugins.gemini.options import MAX_FPS, SMALLEST_VECTOR, VECTOR_SIZE

PATH = re.compile(r"/v1(?:beta)?/models/([\w.-]+):batchEmbedContents")
"""Path of the call, Developer API."""

MAX_BODY = 20_000_000
"""Bytes of one request that the service takes."""

BATCH = 100
"""Contents in one request that the service takes."""

MIME_TYPES = {"video/mp4": "video", "audio/wav": "sound"}
"""What the plugin sends, of all that the service takes."""

POLL = 0.05
"""Seconds between looks at whether to end."""

STATUS = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 413: "INVALID_ARGUMENT"}
"""Google's names of the errors that are answered here."""


class Wrong(Exception):
    """A request that the service would not take."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def serve() -> Iterator[Endpoint]:
    """Run the stand-in on a free port of 127.0.0.1 until the block ends; returns the address and a made-up key."""
    key = secrets.token_hex(16)
    server = StandIn(("127.0.0.1", 0), Handler, key)
    thread = threading.Thread(target=server.serve_forever, args=(POLL,), name="gemini-stand-in", daemon=True)
    thread.start()
    try:
        yield Endpoint(f"http://127.0.0.1:{server.server_port}", key, local=True)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class StandIn(ThreadingHTTPServer):
    """The server, which knows its key and how to make a vector."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], key: str) -> None:
        from blemore_plugins.gemini.standin_vectors import Embedder

        super().__init__(address, handler)
        self.key = key
        self.embedder = Embedder()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: StandIn

    def do_POST(self) -> None:
        """Answer a batch of contents with a vector each, or with an error in Google's format."""
        try:
            body = self.rfile.read(self._length())
            self._check_head()
            vectors = [self._embed(request) for request in read_requests(body)]
        except Wrong as wrong:
            code, message = wrong.code, str(wrong)
            self._reply(code, {"error": {"code": code, "message": message, "status": STATUS[code]}})
            return
        self._reply(200, {"embeddings": [{"values": values} for values in vectors]})

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: standard error is the user's."""

    def _length(self) -> int:
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True
            raise Wrong(413, f"Request payload size exceeds the limit: {MAX_BODY} bytes.")
        return length

    def _check_head(self) -> None:
        if not secrets.compare_digest(self.headers.get("x-goog-api-key", ""), self.server.key):
            raise Wrong(403, "The caller does not have permission.")
        if not PATH.fullmatch(self.path):
            raise Wrong(404, f"No such method: {self.path}")

    def _embed(self, request: dict[str, Any]) -> list[float]:
        address = PATH.fullmatch(self.path)
        if address is None or request.get("model") != f"models/{address[1]}":
            raise Wrong(400, f"Expected the model of the address, found {request.get('model')}.")
        size = request.get("outputDimensionality", VECTOR_SIZE)
        if not isinstance(size, int) or not SMALLEST_VECTOR <= size <= VECTOR_SIZE:
            raise Wrong(400, f"outputDimensionality must be {SMALLEST_VECTOR} to {VECTOR_SIZE}, found {size}.")
        parts = read_parts(request)
        try:
            vector = self.server.embedder.embed(parts.get("video"), parts.get("sound"))
        except ValueError as error:
            raise Wrong(400, f"Unable to process the input: {error}") from None
        return [round(float(value), 8) for value in vector[:size]]

    def _reply(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


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
