"""The process between the harness and a worker: whichever of the two ends first, nothing stays behind.

The harness starts the guardian in a session of its own, so that Ctrl-C in a terminal reaches the harness alone. The
guardian forks the worker, says its process id, waits, and says how it ended. When the harness is gone, even by SIGKILL,
the guardian ends the whole group: the worker and whatever the worker started. Only the standard library is imported
here, because a fork must come before anything that starts threads.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from functools import partial


def watch_worker(pipe: int, life: int, *locks: int) -> int:
    """Fork the worker and wait for its end; returns the exit code of the process that returns.

    Args:
        pipe: file descriptor on which the worker gets its request and answers.
        life: file descriptor of a socket to the harness; its end means that the harness is gone.
        locks: file descriptors of folders that stay locked until both processes have ended; nothing that the worker
            forks gets them, since it may be made to live on.
    """
    worker = os.fork()
    if worker == 0:
        os.close(life)
        for lock in locks:
            os.register_at_fork(after_in_child=partial(os.close, lock))
        from blemore_harness.running.worker import serve

        return serve(pipe)
    os.close(pipe)
    harness = socket.socket(fileno=life)
    threading.Thread(target=_end_with, args=(harness,), name="life", daemon=True).start()
    harness.sendall(f"{worker}\n".encode())
    _, status = os.waitpid(worker, 0)
    harness.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    return 0


def _end_with(harness: socket.socket) -> None:
    """End the group, this process included, once the harness is gone."""
    try:
        while harness.recv(64):
            pass
    except OSError:
        pass
    os.killpg(0, signal.SIGKILL)
