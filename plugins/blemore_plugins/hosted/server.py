"""Servers on loopback that imitate a service, so that the demo runs the real client without a key."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

POLL = 0.05
"""Seconds between looks at whether to end."""


class Wrong(Exception):
    """A request that the service would reject."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


Answer: TypeAlias = Callable[[str, Message, bytes], dict[str, Any]]
"""Makes the answer from path, headers and body, or raises `Wrong`."""


@contextlib.contextmanager
def run_server(name: str, most: int, answer: Answer, complain: Callable[[Wrong], dict[str, Any]]) -> Iterator[str]:
    """Run a server on a free port of 127.0.0.1 within the context, and return its address.

    Args:
        name: of its thread.
        most: bytes that a request may have.
        answer: makes the answer to a POST.
        complain: makes the body of an error in the service's format.
    """
    server = _Server(most, answer, complain)
    thread = threading.Thread(target=server.serve_forever, args=(POLL,), name=name, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, most: int, answer: Answer, complain: Callable[[Wrong], dict[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.most = most
        self.answer = answer
        self.complain = complain


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        """Answer with JSON, or with an error in the service's format."""
        try:
            body = self.rfile.read(self._length())
            answer = self.server.answer(self.path, self.headers, body)
        except Wrong as wrong:
            self._reply(wrong.code, self.server.complain(wrong))
            return
        self._reply(200, answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log requests to standard error."""

    def _length(self) -> int:
        length = int(self.headers.get("Content-Length") or 0)
        if length > self.server.most:
            self.close_connection = True
            raise Wrong(413, f"Request payload size exceeds the limit: {self.server.most} bytes.")
        return length

    def _reply(self, code: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
