"""The process between the harness and a worker: whichever of the two ends first, nothing stays behind.

The harness starts the guardian in a session of its own, so that Ctrl-C in a terminal reaches the harness alone. The
guardian forks the worker, says its process id, waits, and says how it ended. When the harness is gone, even by SIGKILL,
the guardian ends the whole group: the worker and whatever the worker started. Only the standard library is imported
here, because a fork must come before anything that starts threads.

Guardians are started anew, or forked from a process that has imported large libraries (`template.Template`).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""Of `linux/prctl.h`."""


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
        _end_with_guardian()
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


def fork_guardians(control: int, modules: Sequence[str]) -> int:
    """Import modules, then fork a guardian at each message of the harness, until that is gone.

    Args:
        control: file descriptor of a socket to the harness, which sends variables of the environment, with the
            descriptors of the guardian's output and those of `watch_worker`, and is told the process id.

    Returns:
        The exit code of the process that returns: this one, a guardian or a worker.
    """
    for name in modules:
        with contextlib.suppress(Exception):  # a plugin that needs it will say so
            importlib.import_module(name)
    gc.freeze()  # so that no collection writes into memory that is shared
    with socket.socket(fileno=control) as harness:
        # A fork takes no threads along, and may leave what they held locked.
        while len(list(Path("/proc/self/task").iterdir())) == 1:
            message, descriptors, _, _ = socket.recv_fds(harness, 1 << 16, 200)
            if not message:
                break
            guardian = os.fork()
            if guardian == 0:
                harness.close()
                os.setsid()
                output, *others = descriptors
                for descriptor in (1, 2):
                    os.dup2(output, descriptor)
                os.close(output)
                os.environ.update(json.loads(message))
                return watch_worker(*others)
            for descriptor in descriptors:
                os.close(descriptor)
            harness.sendall(str(guardian).encode())
    # Not before: until they are waited for, no other process gets their numbers.
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    return 0


def _end_with_guardian() -> None:
    """Have Linux end this process with its parent, even where a plugin makes it leave the group."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with(harness: socket.socket) -> None:
    """End the group, this process included, once the harness is gone."""
    try:
        while harness.recv(64):
            pass
    except OSError:
        pass
    os.killpg(0, signal.SIGKILL)
