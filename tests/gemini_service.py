"""A scripted service on loopback, by default that of Gemini, and what the tests of hosted encoders share."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from blemore_harness.cache import Cache
from blemore_harness.clips import Clip, Clips
from blemore_harness.context import Context
from blemore_plugins.gemini import GeminiEncoder
from blemore_plugins.hosted.pace import Pace

KEY = "AIzaSyTEST-0123456789-do-not-print"


@dataclass(frozen=True)
class Reply:
    """One scripted answer; the default is a good one."""

    code: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    half: bool = False
    hang: bool = False


def google_error(code: int, status: str, message: str = "no", details: list[Any] | None = None, **more: Any) -> Reply:
    """An answer in Google's error format."""
    return Reply(
        code, {"error": {"code": code, "message": message, "status": status, "details": details or []}}, **more
    )


def retry_info(delay: str) -> dict[str, str]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def quota_failure(quota: str, value: str = "100") -> dict[str, Any]:
    metric = "generativelanguage.googleapis.com/embed_content_requests"
    violation = {"quotaMetric": metric, "quotaId": quota, "quotaValue": value}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def vector_of(parts: list[bytes]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The unit vector that the service gives for these media."""
    seed = int.from_bytes(hashlib.sha256(b"|".join(parts)).digest()[:8], "big")
    vector = np.random.default_rng(seed).standard_normal(3072)
    return np.asarray(vector / np.linalg.norm(vector))


@dataclass(frozen=True)
class Form:
    """How a service is asked and answers.

    Attributes:
        media: reads what is paid for from the body of a request.
        answer: makes a good answer from the same and the body.
    """

    media: Callable[[Any], list[bytes]]
    answer: Callable[[list[bytes], Any], Any]


def google_media(body: Any) -> list[bytes]:
    parts = body["requests"][0]["content"]["parts"]
    return [base64.urlsafe_b64decode(part["inline_data"]["data"]) for part in parts if "inline_data" in part]


GOOGLE = Form(google_media, lambda media, body: {"embeddings": [{"values": vector_of(media).tolist()}]})


class Service(ThreadingHTTPServer):
    """Counts what was asked for and what was paid for, by content."""

    daemon_threads = True

    def __init__(self, script: Callable[[int, str], Reply | None], form: Form) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.form = form
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.requests: list[dict[str, Any]] = []
        self.asked: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        media = self.server.form.media(body)
        content = hashlib.sha256(b"|".join(media)).hexdigest()
        with self.server.lock:
            number = len(self.server.requests)
            self.server.requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
            self.server.asked[content] += 1
        reply = self.server.script(number, content) or Reply()
        if reply.hang:
            self.server.released.wait(300)
            self.close_connection = True
            return
        if reply.body is None:
            answer = json.dumps(self.server.form.answer(media, body)).encode()
        else:
            answer = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        if reply.code == 200 and not reply.half:
            with self.server.lock:
                self.server.paid[content] += 1
        self.send_response(reply.code)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer[: len(answer) // 2] if reply.half else answer)
        if reply.half:
            self.close_connection = True

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving(
    script: Callable[[int, str], Reply | None] | list[Reply | None] | None = None, form: Form = GOOGLE
) -> Iterator[Service]:
    """Run a service; `script` gives the answers in the order of requests, good ones after its end."""
    if callable(script):
        service = Service(script, form)
    else:
        answers = list(script or [])
        service = Service(lambda number, _: answers[number] if number < len(answers) else None, form)
    thread = threading.Thread(target=service.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.released.set()
        service.shutdown()
        service.server_close()
        thread.join()


class Reporter:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: dict[str, object] = {}
        self.done = 0

    @contextlib.contextmanager
    def progress(self, label: str, total: int) -> Iterator[Reporter]:
        yield self

    def advance(self, count: int = 1) -> None:
        self.done += count

    def log(self, message: str) -> None:
        self.lines.append(message)

    warn = log

    def note(self, name: str, value: object) -> None:
        self.notes[name] = value


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def clock(self) -> float:
        with self._lock:
            return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds
            self.slept.append(seconds)

    def encoder(self) -> GeminiEncoder:
        """The encoder, waiting on this clock."""
        return GeminiEncoder(self.pace)

    def pace(self, name: str, seed: int, log: Callable[[str], None]) -> Pace:
        """A pace that waits on this clock."""
        return Pace(name, seed, log, self.clock, self.sleep)


def make_context(folder: Path) -> Context:
    return Context("cpu", 0, folder / "workspace", Cache(folder / "cache"), Reporter())


def write_video(path: Path, seed: int, seconds: float = 0.5, sound: bool = False, **options: str) -> Path:
    """Write a small clip: 10 frames a second, 64 x 64, with a tone if asked."""
    import av

    rng = np.random.default_rng(seed)
    picture = np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    with av.open(str(path), "w", format="mov") as file:
        encoding = {"crf": "30", "threads": "1", "x264-params": "mbtree=0"}  # the same bytes each time
        video = file.add_stream("libx264", rate=10, options=encoding | options)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = file.add_stream("aac", rate=16000, layout="mono") if sound else None
        for index in range(round(seconds * 10)):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, index, axis=1), format="rgb24")
            frame.pts = index
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if audio is not None:
            tone = 0.4 * np.sin(np.arange(round(seconds * 16000)) * (0.1 + 0.01 * seed)).astype(np.float32)
            block = av.AudioFrame.from_ndarray(tone[None], "fltp", "mono")
            block.sample_rate, block.pts = 16000, 0
            file.mux(audio.encode(block))
            file.mux(audio.encode(None))
    return path


def make_clips(folder: Path, count: int, **options: Any) -> Clips:
    """Write `count` different clips and give them as the harness would: opaque ids, a digest of the content."""
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for index in range(count):
        path = folder / f"clip{index}.mov"
        write_video(path, index, **options)
        items.append(Clip(f"c{index}", path, {}, hashlib.sha256(path.read_bytes()).hexdigest()))
    return Clips(tuple(items))


def turn(path):
    data = bytearray(path.read_bytes())
    # The display matrix of a track begins 40 bytes into the body of `tkhd` (ISO 14496-12): a quarter turn clockwise.
    at = data.index(b"tkhd") + 4 + 40
    one, minus, w = (
        (1 << 16).to_bytes(4, "big"),
        (-1 << 16).to_bytes(4, "big", signed=True),
        (1 << 30).to_bytes(4, "big"),
    )
    zero = bytes(4)
    data[at : at + 36] = zero + one + zero + minus + zero + zero + zero + zero + w
    path.write_bytes(data)
    return path


def ramp(side=64):
    """Greys from black to white and from white to black, in both directions."""
    grey = np.linspace(0, 255, side)
    sums = [np.add.outer(grey, other) / 2 for other in (grey, grey[::-1])]
    return np.round(np.stack([*sums, np.tile(grey, (side, 1))], axis=-1))


def write_colours(path, codec, shape, space="bt709", full=True, turned=False):
    """Twenty frames of a ramp in full or limited range, 10 a second, each with its number in its brightness."""
    numbers = {"bt709": 1, "bt470bg": 5, "bt2020": 9, "": 2}
    import av

    with av.open(str(path), "w") as file:
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {"bf": "3", "g": "20"}
        stream = file.add_stream(codec, rate=10, options=quiet if codec.startswith("libx26") else {})
        stream.width = stream.height = 64
        stream.pix_fmt = shape
        context = stream.codec_context
        context.color_range, context.colorspace = (2 if full else 1), numbers[space]
        for index in range(30):
            picture = np.clip(ramp() - index, 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if shape not in ("rgb24", "gbrp"):
                frame = frame.reformat(
                    format=shape,
                    dst_colorspace=numbers[space] if space else None,
                    dst_color_range="JPEG" if full else "MPEG",
                )
            frame.pts = index
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def with_cover(path, film, codec="mjpeg", attached=True):
    """Put a grey picture before the film."""
    import av

    with av.open(str(film)) as given, av.open(str(path), "w") as file:
        cover = file.add_stream(codec, rate=10)
        cover.width = cover.height = 32
        cover.pix_fmt = "rgb24" if codec == "png" else "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic if attached else av.stream.Disposition(0)
        copies = {stream.index: file.add_stream_from_template(stream) for stream in given.streams}
        for stream in copies.values():
            stream.disposition = av.stream.Disposition.default
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8), format="rgb24")
        file.mux(cover.encode(frame))
        file.mux(cover.encode(None))
        for packet in given.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                file.mux(packet)
    return path
