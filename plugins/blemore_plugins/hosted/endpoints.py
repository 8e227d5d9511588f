"""Addresses, keys and consent of hosted services."""

from __future__ import annotations

import ipaddress
import os
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field

from blemore_harness.errors import ConfigError


@dataclass(frozen=True)
class Endpoint:
    """Address and key of the service; the key is not part of the representation.

    Attributes:
        address: without the API version.
        key: sent in a header.
        local: whether the server is on loopback, so that proxies of the environment are not used.
    """

    address: str
    key: str = field(repr=False)
    local: bool = False


def read_key(names: Sequence[str], advice: str) -> str:
    """Return the key from the first of these environment variables that is set.

    Raises:
        ConfigError: none is set, or its text cannot be a key; names the variables, never a value.
    """
    name = next((name for name in names if os.environ.get(name)), None)
    if name is None:
        raise ConfigError(f"requires a key in {' or '.join(names)}: {advice}")
    key = os.environ[name].strip()
    if not key or not all("!" <= letter <= "~" for letter in key):
        raise ConfigError(f"expected an API key in {name}, found blank text, spaces or characters outside of ASCII")
    return key


def is_address(text: str) -> bool:
    """Return whether a text is the URL of a server, without a user or password, which a record would keep.

    >>> is_address("http://[::1]:8000/v1"), is_address("127.0.0.1:8000"), is_address("http://"), is_address("http://[::1")
    (True, False, False, False)
    >>> is_address("http://me:secret@localhost:8000/v1")
    False
    """
    try:
        parts = urllib.parse.urlsplit(text)
        named = bool(parts.hostname) and "@" not in parts.netloc
        return parts.scheme in ("http", "https") and named and parts.port != 0
    except ValueError:  # brackets, a port that is no number
        return False


def is_loopback(address: str) -> bool:
    """Return whether a URL names this machine, so that nothing leaves it.

    >>> is_loopback("http://localhost:8000/v1"), is_loopback("http://[::1]/"), is_loopback("https://localhost.org")
    (True, True, False)
    """
    host = urllib.parse.urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def demand_consent(system: str, given: bool, receiver: str, more: str) -> None:
    """Raise a `ConfigError` unless the user permits sending clips to a third party."""
    if not given:
        raise ConfigError(
            f"this would send videos of identifiable people to {receiver}: use --set {system}.consent=true if the "
            f"dataset's licence and the people in it allow this. {more}"
        )
