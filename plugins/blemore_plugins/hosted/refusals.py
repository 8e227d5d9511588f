"""Why a service gave no usable answer, and what to do: retry, set the clip aside, or stop."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping
from typing import Literal

Verdict = Literal["retry", "refused", "failed", "stop"]
"""Try again later; the service refuses this clip; no usable answer for this clip; no clip would succeed."""

RETRIED = (408, 429, 499)
"""Temporary client errors: timeout, quota, a call cancelled by the service. All 5xx are temporary as well."""

LONGEST_WAIT = 600.0
"""Maximum delay in seconds; a longer one means a quota that refills on another day."""


class Refusal(Exception):
    """No usable answer, the reason and the verdict; stays inside the plugin.

    Attributes:
        verdict: what to do.
        reason: one line for the user.
        delay: seconds to wait as specified by the service, None if unspecified.
    """

    def __init__(self, verdict: Verdict, reason: str, delay: float | None = None) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.reason = reason
        self.delay = delay


def scrub(text: str, key: str) -> str:
    """Remove the key from a text, because services quote it (`consumer 'api_key:...' has been suspended`).

    >>> scrub("consumer 'api_key:s3cret'", "s3cret")
    "consumer 'api_key:[key]'"
    """
    return text.replace(key, "[key]") if key else text


def sort_failure(error: Exception) -> Refusal:
    """Return the refusal for a failed connection or invalid answer, which may succeed later."""
    kind = type(error).__name__
    return Refusal("retry", f"the connection failed or the answer was invalid ({kind}); check network and address")


def transport_errors() -> tuple[type[Exception], ...]:
    """Return the exception types of connections that fail, of the HTTP libraries that are installed."""
    found: list[type[Exception]] = [OSError]
    for library in ("httpx2", "httpx"):
        with contextlib.suppress(ImportError):
            found.append(importlib.import_module(library).HTTPError)
    return tuple(found)


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of the header `Retry-After`, None where it is missing or a date.

    >>> read_retry_after({"Retry-After": "9"})
    9.0
    """
    after = {name.lower(): value for name, value in headers.items()}.get("retry-after")
    return None if after is None else read_seconds(after)


def read_seconds(text: str) -> float | None:
    """Return a finite number of seconds of at least 0, None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def one_line(text: object, longest: int = 300) -> str:
    """Return one short line of a message of a service."""
    return " ".join(str(text or "").split())[:longest]
