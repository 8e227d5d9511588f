"""Options of an executor, read from text."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping

from blemore_harness.errors import ConfigError, UnknownName

TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
"""Slurm's `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes[:seconds]`."""


def check_names(engine: str, options: Mapping[str, str], known: Collection[str]) -> None:
    """Raise `UnknownName` for the first option that the engine does not have."""
    for name in options:
        if name not in known:
            raise UnknownName.among(f"option of the executor {engine}", name, known)


def read_count(engine: str, options: Mapping[str, str], name: str, default: int) -> int:
    """Return a whole number of at least 1."""
    text = options.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--executor {engine}, {name}: expected a whole number of at least 1, found '{text}'")
    return int(text)


def read_minutes(text: str) -> int:
    """Return a time limit in Slurm's notation as minutes, rounded up.

    >>> read_minutes("90"), read_minutes("4:00:00"), read_minutes("1-12"), read_minutes("2:30")
    (90, 240, 2160, 3)
    """
    found = TIME.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"--executor slurm, time: expected minutes, 4:00:00 or 1-12:00:00, found '{text}'")
    days, *rest = (None if part is None else int(part) for part in found.groups())
    first, second, third = rest
    if days is None and third is None:
        seconds = (first or 0) * 60 + (second or 0)
    else:
        seconds = (days or 0) * 86400 + (first or 0) * 3600 + (second or 0) * 60 + (third or 0)
    if seconds < 60:
        raise ConfigError(f"--executor slurm, time: expected at least a minute, found '{text}'")
    return -(-seconds // 60)


def is_loopback(host: str) -> bool:
    """Return whether only processes of this machine reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening_for(host: str) -> str:
    """Return the address to listen on so that workers reach this machine as `host`."""
    return "127.0.0.1" if is_loopback(host) else "0.0.0.0"
