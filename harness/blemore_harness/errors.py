"""The exception tree. Each message says what was expected, what was found and what to do.

    BlemoreError                 the user can fix it: exit code 1 unless said otherwise
    ├── DataError                a dataset on disk is invalid
    │   ├── InvalidEmbeddings    embeddings that are not finite numbers, or not exactly one per clip
    │   ├── MetadataError        rows of train_metadata.csv (labels, folds, ids)
    │   └── MediaError           one clip's video, audio or features; knows the clip
    ├── InvalidProbabilities     predictions that are not probabilities, or not for the expected clips
    ├── InvalidPredictions       decoded labels, or a leaderboard file, that would be rejected or mis-scored
    ├── ConfigError              a submission, a configuration file or a command line: exit code 2
    │   ├── UnknownName          a plugin, an option or a submission that does not exist
    │   └── InvalidOption        a known option with an invalid value
    ├── WeightsMissing           pretrained weights that are neither on this machine nor can be downloaded
    ├── ExtraMissing             a required Python package is not installed
    ├── ServiceError             a remote service refused a request or sent an unexpected answer
    └── RunError                 a run directory that is in use, incomplete or not a run
    PluginFailed                 a plugin raised or broke its contract: exit code 3

Any other exception is a bug and shows a traceback. An exception that a plugin raises during a run never ends the run:
it becomes a `PluginFailed`, whatever its class.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence


class HarnessError(Exception):
    """Base class of all errors that the harness raises on purpose."""

    exit_code = 1


class BlemoreError(HarnessError):
    """An error that the user can fix; the message says how."""


class DataError(BlemoreError):
    """A dataset on disk is invalid."""


class InvalidEmbeddings(DataError):
    """Embeddings that are not finite numbers, or not exactly one per clip."""


class MetadataError(DataError):
    """Rows of the metadata that contradict each other, their file names or the protocol."""


class MediaError(DataError):
    """One clip's video, audio or features cannot be used.

    Args:
        message: what was expected, what was found, what to do.
        clip: id of the clip as the plugin knows it; the harness translates it into the released file name.
    """

    def __init__(self, message: str, clip: str | None = None) -> None:
        super().__init__(message)
        self.clip = clip


class InvalidProbabilities(BlemoreError):
    """Predictions that are not probabilities of the six emotions, or not for exactly the expected clips."""


class InvalidPredictions(BlemoreError):
    """Decoded labels that the official scoring would reject or mis-score."""


class ConfigError(BlemoreError):
    """A submission, a configuration file or a command line that cannot be run: wrong usage."""

    exit_code = 2


class UnknownName(ConfigError):
    """A name that does not exist; the message suggests the closest known one."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """Build the error for `name`, with a suggestion from `known`."""
        known = sorted(known)
        return cls(f"unknown {kind} '{name}'{suggest(name, known)} (known: {', '.join(known) or 'none'})")


class InvalidOption(ConfigError):
    """A known option with an invalid value."""


class WeightsMissing(BlemoreError):
    """Pretrained weights that are neither on this machine nor can be downloaded; the message says where to put them.

    Args:
        message: what is missing, why, and what to do.
        source: Hugging Face id or URL from which `prepare` downloads them; None where it cannot.
        todo: what to do without internet access.
    """

    def __init__(self, message: str, source: str | None = None, todo: str = "") -> None:
        super().__init__(message)
        self.source = source
        self.todo = todo


class ExtraMissing(BlemoreError):
    """A required Python package is not installed."""


class ServiceError(BlemoreError):
    """A remote service refused a request or sent an unexpected answer."""


class RunError(BlemoreError):
    """A run directory that is in use by another process, incomplete, or not a run."""


class PluginFailed(HarnessError):
    """A plugin raised an exception or broke its contract.

    Args:
        message: one line for the user.
        plugin: the plugin's name.
        trace: the plugin's own traceback, for the record and the log.
    """

    exit_code = 3

    def __init__(self, message: str, plugin: str, trace: str = "") -> None:
        super().__init__(message)
        self.plugin = plugin
        self.trace = trace

    def __reduce__(self) -> tuple[type[PluginFailed], tuple[str, str, str]]:
        """Return how to rebuild the error in another process (pickle)."""
        return type(self), (str(self), self.plugin, self.trace)


_ELSEWHERE = "choose another folder (--runs for runs, BLEMORE_CACHE for the cache)"

ADVICE = {
    errno.ENOSPC: "the disk is full: free disk space (check with df -h)",
    errno.EDQUOT: "the disk quota is used up: free disk space (check with quota -s)",
    errno.EFBIG: "the file would exceed the maximum file size: raise the limit (ulimit -f)",
    errno.EROFS: f"the file system is read-only: {_ELSEWHERE}",
    errno.EACCES: f"permission denied: check the permissions (ls -ld) or {_ELSEWHERE}",
    errno.EPERM: f"permission denied: check the permissions (ls -ld) or {_ELSEWHERE}",
    errno.ENOTDIR: f"expected a folder, found a file: {_ELSEWHERE}",
    errno.ENAMETOOLONG: f"the file name is too long for this file system: {_ELSEWHERE}",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
}
"""Advice by errno of an operating system error."""

DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""Operating system errors that are not a plugin's fault, wherever they occur."""


def is_disk_trouble(error: OSError) -> bool:
    """Return whether the error is caused by the disk and not by the code."""
    return error.errno in DISK_TROUBLE


def advise(error: OSError) -> str:
    """Return a sentence that describes an operating system error and says what to do.

    >>> advise(OSError(errno.ENOSPC, "No space left on device", "runs/fold-0.csv"))
    'runs/fold-0.csv: the disk is full: free disk space (check with df -h), then run the same command again'
    """
    where = f"{error.filename}: " if error.filename is not None else ""
    known = ADVICE.get(error.errno or 0)
    return f"{where}{known}, then run the same command again" if known else f"{where}{error.strerror or error}"


def suggest(name: str, known: Sequence[str]) -> str:
    """Return `; did you mean 'x'?` for a name close to a known one, else an empty string.

    >>> suggest("wav2vec", ["s4d", "wav2vec2"])
    "; did you mean 'wav2vec2'?"
    >>> suggest("WavLM", ["wavlm"])
    "; did you mean 'wavlm'?"
    >>> suggest("zzz", ["s4d"])
    ''
    """
    spelled = {other.lower(): other for other in reversed(known)}
    close = difflib.get_close_matches(name.lower(), [*spelled], n=1, cutoff=0.5)
    return f"; did you mean '{spelled[close[0]]}'?" if close else ""


def first_and_count(items: Iterable[str], noun: str) -> str:
    """Return how many items there are and the first one, for a message.

    >>> first_and_count(["b", "c"], "clip")
    "2 clips (first: 'b')"
    >>> first_and_count([], "clip")
    '0 clips'
    """
    found = list(items)
    plural = noun if len(found) == 1 else f"{noun}s"
    return f"{len(found)} {plural}" + (f" (first: '{found[0]}')" if found else "")


def printable(text: str) -> str:
    r"""Return text that may contain parts of a file as one line that every terminal can display.

    >>> printable("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
