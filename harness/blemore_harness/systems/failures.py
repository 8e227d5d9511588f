"""What became of a plugin during a call: in its author's words, with the place in its own code and what to change."""

from __future__ import annotations

import contextlib
import errno
import inspect
import linecache
import os
import re
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from blemore_harness.errors import HarnessError, InvalidProbabilities, MediaError, is_disk_trouble
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.systems.early_fusion import EarlyFusion

UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN})

_STAND_IN = re.compile(r"\bc[0-9a-f]{16}\b")
_READS_NAME = re.compile(r"\.(ids?|stem|video\.name)\b")


class Crash(Exception):
    """How a plugin failed, in parts that another process can read.

    Args:
        what: what happened, to be read right behind the system's name: begins with a colon or a space.
        trace: its traceback, or the last lines that it printed.
        place: file and line of its own code, such as `my_plugin/model.py:12`; empty where none is known.
        clip: opaque id of the clip that it cannot use; None where it is not about one.
    """

    def __init__(self, what: str, trace: str, place: str = "", clip: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.trace = trace
        self.place = place
        self.clip = clip

    @property
    def parts(self) -> tuple[str, str, str, str | None]:
        """What it is made from."""
        return self.what, self.trace, self.place, self.clip


class Lost(Crash):
    """A worker process that gave no answer; what it printed is in a log that `what` names.

    Args:
        what, trace: as of `Crash`.
        again: whether the request is worth another try: the process ended, and nobody knows why.
        counts: whether that is a failure, and not a worker that was put back into a queue.
    """

    def __init__(self, what: str, trace: str, again: bool = False, counts: bool = True) -> None:
        super().__init__(what, trace)
        self.again = again
        self.counts = counts


class WrongAnswer(InvalidProbabilities):
    """Something came back that the contract does not allow.

    Args:
        message: what was expected, what was found, what to do.
        giver: the function that gave it, whose place in the plugin's code is named.
    """

    def __init__(self, message: str, giver: object) -> None:
        super().__init__(message)
        self.giver = giver


@contextmanager
def blaming(system: object, offline: bool = True) -> Iterator[None]:
    """Turn whatever a plugin raises, whatever its class, into a `Crash`.

    Ctrl-C stays the user's, and an `OSError` about a full disk stays as it is. The current folder is that of before,
    to which paths are relative.

    Args:
        system: the encoder or fusion that is called.
        offline: whether the call must do without a network: all but `prepare`.
    """
    here = os.path.curdir
    with contextlib.suppress(FileNotFoundError):
        here = str(Path.cwd())
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        if isinstance(error, OSError) and is_disk_trouble(error):
            raise
        raise describe_failure(error, system, offline) from error
    finally:
        with contextlib.suppress(OSError):  # it was deleted
            os.chdir(here)


def describe_failure(error: BaseException, system: object, offline: bool = True) -> Crash:
    """Put an exception of a plugin into words; arguments as of `blaming`."""
    frame, line = _find_frame(error, system)
    if isinstance(error, ModuleNotFoundError):
        what = (
            f" needs the package '{error.name}': pip install 'blemore-harness[encoders]' "
            "(or what the plugin's own documentation says)"
        )
    elif isinstance(error, HarnessError):
        what = f": {error}"
    else:
        what = f" crashed: {traceback.format_exception_only(error)[-1].strip()}"
    what += _advise(error, frame, line, offline)
    place = _locate(frame.f_code.co_filename, frame.f_globals, line) if frame else _define(error, system)
    clip = error.clip if isinstance(error, MediaError) else None
    return Crash(what, "".join(traceback.format_exception(error)), place, clip)


def _advise(error: BaseException, frame: FrameType | None, line: int, offline: bool) -> str:
    """Report what to change where a common mistake looks like this; empty otherwise."""
    if offline and any(_is_of_network(each) for each in _causes(error)):
        return "; only `prepare` may use the network: fetch there what is needed here, and keep it in `context.cache`"
    if isinstance(error, LookupError | ValueError) and frame is not None and _reads_names(error, frame, line):
        return (
            "; clip ids and file names that plugins see are stand-ins with no label in them: "
            "labels are in `fold.train.labels`"
        )
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _is_of_network(error: BaseException) -> bool:
    return isinstance(error, ConnectionError | socket.gaierror) or (
        isinstance(error, OSError) and error.errno in UNREACHABLE
    )


def _reads_names(error: BaseException, frame: FrameType, line: int) -> bool:
    """Return whether a stand-in is in the message or in a variable, or a clip's name in the line of code."""
    texts = [str(error)]
    for value in frame.f_locals.values():
        texts += [each for each in (value[:16] if isinstance(value, list | tuple) else [value]) if type(each) is str]
    code = linecache.getline(frame.f_code.co_filename, line, frame.f_globals)
    return any(map(_STAND_IN.search, texts)) or bool(_READS_NAME.search(code))


def _find_frame(error: BaseException, system: object) -> tuple[FrameType | None, int]:
    """Find where in a plugin's own code an exception came up: last frame of its package, or of what it extends."""
    frames = list(traceback.walk_tb(error.__traceback__))
    for depth in (1, None):
        homes = {_package(kind.__module__) for each in _systems(system) for kind in type(each).__mro__[:depth]}
        for frame, line in reversed(frames):
            if _package(str(frame.f_globals.get("__name__", ""))) in homes - {"blemore_harness", "builtins"}:
                return frame, line
    return None, 0


def _systems(system: object) -> tuple[object, ...]:
    return system.encoders if isinstance(system, EarlyFusion) else (system,)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _define(error: BaseException, system: object) -> str:
    """Report where the function stands that gave what was refused; empty where that is none of the plugin's."""
    givers = [error.giver] if isinstance(error, WrongAnswer) else []
    for each in _systems(system):
        if isinstance(each, Encoder | Fusion):
            givers += [each.embed, each.fit] if isinstance(each, Encoder) else [each.fit]
    for giver in givers:
        function = inspect.unwrap(getattr(giver, "__func__", giver))  # type: ignore[arg-type]
        code, names = getattr(function, "__code__", None), getattr(function, "__globals__", {})
        if code is not None and _package(str(names.get("__name__", ""))) != "blemore_harness":
            return _locate(code.co_filename, names, code.co_firstlineno)
    return ""


def _locate(file: str, names: dict[str, object], line: int) -> str:
    """Name a line by its file, from the top-level package on."""
    path = Path(file)
    depth = str(names.get("__name__", "")).count(".") + (path.name == "__init__.py")
    return f"{'/'.join(path.parts[-depth - 1 :])}:{line}"
