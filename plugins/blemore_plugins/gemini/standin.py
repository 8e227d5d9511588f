"""A server on loopback that imitates the embedding service, so that the demo runs the real client without a key."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import json
import re
import secrets
import threading
import wave
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_plugins.gemini.client import Endpoint
from blemore_plugins.gemini.options import MAX_FPS, SMALLEST_VECTOR, VECTOR_SIZE

PATH = re.compile(r"/v1(?:beta)?/models/([\w.-]+):batchEmbedContents")
"""Path of the call, Developer API."""

MAX_BODY = 20_000_000
"""Maximum size of a request in bytes."""

BATCH = 100
"""Maximum number of contents in a request."""

MIME_TYPES = {"video/mp4": "video", "audio/wav": "sound"}
"""What the plugin sends, of all that the service takes."""

POLL = 0.05
"""Seconds between looks at whether to end."""

STATUS = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 413: "INVALID_ARGUMENT"}
"""Google's names of the errors that are answered here."""


class Wrong(Exception):
    """A request that the service would reject."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def serve() -> Iterator[Endpoint]:
    """Run the stand-in on a free port of 127.0.0.1 within the context; return the address and a generated key."""
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
        super().__init__(address, handler)
        self.key = key
        self.embedder = Embedder()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: StandIn

    def do_POST(self) -> None:
        """Answer a batch of contents with an embedding each, or with an error in Google's format."""
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
        """Do not log requests to standard error."""

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


Floats = NDArray[np.float32]

SIDE = 80
"""Side of the analysed grey images in pixels."""

CELL = 8
"""Side of the squares over which edges are counted, in pixels."""

ORIENTATIONS = 8
"""Bins of edge orientation over half a turn."""

SHADES = 16
"""Number of squares per side of the image over which shades and movements are averaged."""

MOMENTS = 12
"""Maximum number of analysed frames, evenly spaced."""

BANDS, FFT = 32, 512
"""Bands of the audio's spectrum, and samples per window."""


class Embedder:
    """Converts media into embeddings of length 1, float32 (3072,), deterministically."""

    def __init__(self) -> None:
        self._rows = {name: _projection(seed, size) for seed, (name, size) in enumerate(BLOCKS.items())}

    def embed(self, video: bytes | None, sound: bytes | None) -> Floats:
        """Return the embedding of video, audio or both.

        Raises:
            ValueError: bytes that are no such media.
        """
        blocks: dict[str, Floats] = {}
        if video is not None:
            blocks |= describe_pictures(read_frames(video))
        if sound is not None:
            blocks |= describe_sound(*read_audio(sound))
        total = np.zeros(VECTOR_SIZE, np.float32)
        for name, values in blocks.items():
            total += _unit(values) @ self._rows[name]
        if not total.any():
            total[0] = 1  # black and silent media have no direction, and every vector has length 1
        return _unit(total)


GRID = SIDE // CELL
BLOCKS = {
    "edges": GRID * GRID * ORIENTATIONS,
    "edge changes": GRID * GRID * ORIENTATIONS,
    "shades": SHADES * SHADES,
    "shade changes": SHADES * SHADES,
    "motion": SHADES * SHADES,
    "sound": 4 * BANDS,
}
"""Blocks of a description and their sizes."""


def read_frames(video: bytes) -> Floats:
    """Decode up to `MOMENTS` frames, evenly spread: float32 (T, SIDE, SIDE), 0 to 1."""
    import av

    try:
        with av.open(io.BytesIO(video)) as source:
            frames = list(source.decode(video=0))
            chosen = np.linspace(0, len(frames) - 1, min(MOMENTS, len(frames))).round().astype(int)
            pictures = [frames[i].reformat(SIDE, SIDE, "gray").to_ndarray() for i in chosen]
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise ValueError(f"no video ({type(error).__name__})") from None
    if not pictures:
        raise ValueError("a video without frames")
    return np.asarray(np.stack(pictures) / 255, dtype=np.float32)


def read_audio(sound: bytes) -> tuple[Floats, int]:
    """Decode a WAV of 16 bits and one channel: float32 samples within -1 to 1, and their rate."""
    try:
        with wave.open(io.BytesIO(sound)) as file:
            data, rate = file.readframes(file.getnframes()), file.getframerate()
    except (wave.Error, EOFError) as error:
        raise ValueError(f"no WAV ({error})") from None
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2")
    return np.asarray(samples / 32768, dtype=np.float32), rate


def describe_pictures(frames: Floats) -> dict[str, Floats]:
    """Describe (T, SIDE, SIDE) grey pictures: how they look, how that changes, and where things move."""
    edges = count_edges(frames)
    shades = _pool(frames, SIDE // SHADES)
    shades = shades - shades.mean(axis=(1, 2), keepdims=True)
    start, later = slice(0, max(1, len(frames) // 8)), slice(len(frames) // 3, None)
    moves = np.abs(np.diff(frames, axis=0)).mean(axis=0) if len(frames) > 1 else np.zeros_like(frames[0])
    return {
        "edges": edges[later].mean(axis=0).ravel(),
        "edge changes": (edges[later].mean(axis=0) - edges[start].mean(axis=0)).ravel(),
        "shades": shades[later].mean(axis=0).ravel(),
        "shade changes": (shades[later].mean(axis=0) - shades[start].mean(axis=0)).ravel(),
        "motion": np.sqrt(_pool(moves[None], SIDE // SHADES)[0]).ravel(),
    }


def count_edges(frames: Floats) -> Floats:
    """Return the share of each orientation in the edges of each square: float32 (T, GRID, GRID, ORIENTATIONS)."""
    down, right = np.gradient(frames, axis=1), np.gradient(frames, axis=2)
    strength = np.hypot(down, right)
    turn = np.floor(np.arctan2(down, right) * (ORIENTATIONS / np.pi)).astype(np.int32) % ORIENTATIONS
    time, row, column = np.ogrid[: len(frames), :SIDE, :SIDE]
    square = (time * GRID + row // CELL) * GRID + column // CELL
    counts = np.bincount(
        (square * ORIENTATIONS + turn).ravel(), strength.ravel(), len(frames) * GRID * GRID * ORIENTATIONS
    )
    edges = counts.reshape(len(frames), GRID, GRID, ORIENTATIONS) / CELL**2
    return np.asarray(np.sqrt(edges / (edges.sum(axis=-1, keepdims=True) + 0.02)), dtype=np.float32)


def describe_sound(samples: Floats, rate: int) -> dict[str, Floats]:
    """Return features of audio from its spectrum in logarithmic bands: level, spread and movement of each."""
    padded = np.pad(samples, (0, max(0, FFT - len(samples))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, FFT)[:: FFT // 2] * np.hanning(FFT)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    borders = np.geomspace(80, rate / 2, BANDS + 1) / rate * FFT
    first = np.minimum(borders[:-1].astype(int), FFT // 2)
    bands = np.stack(
        [power[:, a : max(a + 1, int(b))].mean(axis=1) for a, b in zip(first, borders[1:], strict=True)], 1
    )
    level = np.log(bands + 1e-6)
    level = (level - level.mean()) / (level.std() + 1e-3)
    change = np.abs(np.diff(level, axis=0)).mean(axis=0) if len(level) > 1 else np.zeros(BANDS)
    parts: Sequence[Any] = (level.mean(axis=0), level.std(axis=0), change, np.percentile(level, 90, axis=0))
    return {"sound": np.concatenate(parts).astype(np.float32)}


def _pool(pictures: Floats, step: int) -> Floats:
    count, height, width = pictures.shape
    return np.asarray(pictures.reshape(count, height // step, step, width // step, step).mean(axis=(2, 4)), np.float32)


def _unit(values: Floats) -> Floats:
    length = float(np.linalg.norm(values))
    return np.asarray(values / length if length > 0 else values, dtype=np.float32)


def _projection(seed: int, size: int) -> Floats:
    rows = np.random.default_rng(seed).standard_normal((size, VECTOR_SIZE), dtype=np.float32)
    return np.asarray(rows / np.sqrt(VECTOR_SIZE), dtype=np.float32)
