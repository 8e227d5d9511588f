"""A process that imports the large libraries of a run once, and forks the workers of this machine from there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from blemore_harness.running.guardian import fork_guardians; "
    "sys.exit(fork_guardians(int(sys.argv[2]), sys.argv[3:]))"
)


class Template:
    """The process as the harness holds it; it is told no label and runs nothing of a plugin.

    Where it cannot fork (a library started threads, or ended it), workers are started without it.

    Args:
        modules: that it imports.
        environment: variables that it and its workers get besides those of this process.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._control, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [sys.executable, "-P", "-u", "-c", START, json.dumps(sys.path), str(there.fileno()), *modules]
        with there:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True, pass_fds=[there.fileno()], env={**os.environ, **environment},
            )  # fmt: skip
        self.pid = self._process.pid

    def fork(self, output: int, descriptors: Sequence[int], environment: Mapping[str, str]) -> int | None:
        """Start a guardian and its worker in a session of its own.

        Its number is given to no other process before the template is closed.

        Args:
            output: file descriptor that gets what they print.
            descriptors: as of `guardian.watch_worker`.
            environment: variables that they get.

        Returns:
            The guardian's process id, which is that of its group; None where it cannot be forked.
        """
        with self._lock, contextlib.suppress(OSError):
            socket.send_fds(self._control, [json.dumps(dict(environment)).encode()], [output, *descriptors])
            answer = self._control.recv(64)
            return int(answer) if answer else None
        return None

    def close(self) -> None:
        """Wait until it has ended; its workers have."""
        self._control.close()
        self._process.send_signal(signal.SIGCONT)  # who is stopped does not see that the harness is gone
        self._process.wait()
