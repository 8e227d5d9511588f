"""Opening files that somebody else made: regular ones only, and no more bytes than such a file can have."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

LARGEST_TABLE = 50_000_000
"""Bytes of a table that is read; the challenge's metadata takes 0.3 MB, and probabilities of its clips 0.5 MB."""

MOST_ROWS = 100_000
"""Rows of a table that are read; the challenge has 3050 clips."""


def check_file(path: Path, most: int) -> None:
    """Refuse what would never end or fill the memory, before it is opened.

    Args:
        path: what is to be read; what is absent or a folder is left to whoever opens it, who says so.
        most: bytes that it may have.

    Raises:
        OSError: a pipe, a socket or a device, or a file that is too large; `strerror` says which.
    """
    try:
        state = path.stat()
    except ValueError as error:  # a name with a null byte
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    except OSError:
        return
    if not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):
        raise OSError(errno.EINVAL, "expected a regular file, found a pipe or device: copy it to a file", str(path))
    if state.st_size > most:
        found = f"{state.st_size / 1e6:.0f} MB, and at most {most / 1e6:.0f} MB are read: is it the right file?"
        raise OSError(errno.EFBIG, found, str(path))


def read_number(text: str) -> float:
    """Read a number as tables have them: `float` also takes digits of other scripts, and `7_0` for 70.

    >>> read_number(" 7e1 ")
    70.0

    Raises:
        ValueError: anything else.
    """
    if not text.isascii() or "_" in text:
        raise ValueError(f"not a plain number: {text!r}")
    return float(text)
