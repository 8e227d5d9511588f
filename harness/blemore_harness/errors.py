"""Errors that tell a person what was expected, what was found and what to do.

    BlemoreError                 the user can fix it: exit code 1 unless said otherwise
    ├── DataError                a dataset on disk is not what it should be
    │   ├── InvalidEmbeddings    embeddings that are not finite numbers, or not one for each clip
    │   ├── MetadataError        rows of train_metadata.csv (labels, folds, ids)
    │   └── MediaError           one clip's video, audio or features; knows the clip
    ├── InvalidProbabilities     rows that are not probabilities, or not of the expected clips
    ├── InvalidPredictions       decoded labels, or a leaderboard file, that would be rejected or mis-scored
    ├── ConfigError              a submission, a configuration file or a command line: exit code 2
    │   ├── UnknownName          a plugin, an option or a submission that nobody offers
    │   └── InvalidOption        a known option with a value that it cannot have
    ├── WeightsMissing           pretrained weights that are neither here nor reachable
    ├── ExtraMissing             a Python package that this needs is not installed
    ├── ServiceError             a remote service said no, or said something else than agreed
    └── RunError                 a run directory that is busy, incomplete or not a run
    PluginFailed                 a plugin raised or broke its contract: exit code 3

Anything that is not one of these is a bug and shows a traceback. What a plugin raises while it is called for a run is
never the run's end: it becomes a `PluginFailed`, whatever its class.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence


class HarnessError(Exception):
    """The root of everything that the harness raises on purpose."""

    exit_code = 1


class BlemoreError(HarnessError):
    """Something the user can fix; the message says how."""


class DataError(BlemoreError):
    """A dataset on disk is not what it should be."""


class InvalidEmbeddings(DataError):
    """Embeddings that are not finite numbers, or not of exactly one for each clip."""


class MetadataError(DataError):
    """Rows of the metadata contradict each other, their file names or the protocol."""


class MediaError(DataError):
    """One clip's video, audio or features cannot be used.

    Args:
        message: what was expected, what was found, what to do.
        clip: id of the clip as the raiser knows it; the harness translates it into the released file name.
    """

    def __init__(self, message: str, clip: str | None = None) -> None:
        super().__init__(message)
        self.clip = clip


class InvalidProbabilities(BlemoreError):
    """Rows that are not probabilities over the six emotions, or not of exactly the expected clips."""


class InvalidPredictions(BlemoreError):
    """Decoded labels that the official scoring would reject or mis-score."""


class ConfigError(BlemoreError):
    """A submission, a configuration file or a command line that cannot be run: wrong usage."""

    exit_code = 2


class UnknownName(ConfigError):
    """A name that nobody offers; the message ends in the closest known ones."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """Build the error for `name`, with a suggestion from `known`."""
        known = sorted(known)
        return cls(f"unknown {kind} '{name}'{suggest(name, known)} (known: {', '.join(known) or 'none'})")


class InvalidOption(ConfigError):
    """A known option with a value that it cannot have."""


class WeightsMissing(BlemoreError):
    """Pretrained weights that are neither on this machine nor reachable; says what to fetch and where to put it.

    Args:
        message: what is missing, why, and what to do.
        source: hub id or address from which `prepare` fetches them where there is a network; None where it cannot.
        todo: what to do without a network.
    """

    def __init__(self, message: str, source: str | None = None, todo: str = "") -> None:
        super().__init__(message)
        self.source = source
        self.todo = todo


class ExtraMissing(BlemoreError):
    """A Python package that this needs is not installed."""


class ServiceError(BlemoreError):
    """A remote service refused, or answered something else than agreed."""


class RunError(BlemoreError):
    """A run directory is held by another process, incomplete, or not a run at all."""


class PluginFailed(HarnessError):
    """A plugin crashed or broke its contract; names the culprit.

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
        """Let it cross from one process to another."""
        return type(self), (str(self), self.plugin, self.trace)


_ELSEWHERE = "name another folder (that of runs with --runs, the cache with BLEMORE_CACHE)"

ADVICE = {
    errno.ENOSPC: "the disk is full: make room (df -h shows where)",
    errno.EDQUOT: "your quota of disk space is used up: make room (quota -s shows how much you have)",
    errno.EFBIG: "a file would be larger than is allowed here: see ulimit -f",
    errno.EROFS: f"this file system can only be read: {_ELSEWHERE}",
    errno.EACCES: f"permission denied: see who may read and write there (ls -ld), or {_ELSEWHERE}",
    errno.EPERM: f"permission denied: see who may read and write there (ls -ld), or {_ELSEWHERE}",
    errno.ENOTDIR: f"a file stands where a folder is expected: {_ELSEWHERE}",
    errno.ENAMETOOLONG: f"the name is longer than this file system takes: {_ELSEWHERE}",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
}
"""What to do about answers of the operating system."""

DISK_TROUBLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""Answers that are no plugin's fault, wherever they come up."""


def is_disk_trouble(error: OSError) -> bool:
    """Return whether the disk, and not the code, is what has to be changed."""
    return error.errno in DISK_TROUBLE


def advise(error: OSError) -> str:
    """Put an answer of the operating system into a sentence that says what to do.

    >>> advise(OSError(errno.ENOSPC, "No space left on device", "runs/fold-0.csv"))
    'runs/fold-0.csv: the disk is full: make room (df -h shows where), then give the same command again'
    """
    where = f"{error.filename}: " if error.filename is not None else ""
    known = ADVICE.get(error.errno or 0)
    return f"{where}{known}, then give the same command again" if known else f"{where}{error.strerror or error}"


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
    """Name the first offender and how many there are.

    >>> first_and_count(["b", "c"], "clip")
    "2 clips (first: 'b')"
    >>> first_and_count([], "clip")
    '0 clips'
    """
    found = list(items)
    plural = noun if len(found) == 1 else f"{noun}s"
    return f"{len(found)} {plural}" + (f" (first: '{found[0]}')" if found else "")


def printable(text: str) -> str:
    r"""Put text that may hold parts of a file on one line that every terminal can show.

    >>> printable("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
