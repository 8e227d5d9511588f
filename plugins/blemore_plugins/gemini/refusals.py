"""Classifies error answers of the service: retry, skip the clip, or stop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from blemore_plugins.hosted.refusals import LONGEST_WAIT, RETRIED, Refusal, one_line, read_retry_after, read_seconds

LONG_QUOTAS = ("perday", "permonth", "spend", "billing", "budget")
"""Parts of the names of quotas that a minute does not refill (`EmbedContentRequestsPerDayPerProjectPerModel`)."""

KEY_REASONS = ("API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "API_KEY_HTTP_REFERRER_BLOCKED")
"""`ErrorInfo.reason` of a bad key, which Google reports as 400."""


def sort_answer(code: int, body: Any, headers: Mapping[str, str], model: str) -> Refusal:
    """Return the refusal for an HTTP answer other than 200.

    Args:
        code: HTTP status.
        body: Google's error format, `{"error": {"code", "message", "status", "details"}}`, or anything else.
        headers: of the answer, for `Retry-After`.
        model: id that was asked for, for the hint.
    """
    error = _error_of(body)
    said = f"HTTP {code} {one_line(error.get('status'))}: {one_line(error.get('message'))}".strip(" :")
    details = [item for item in error.get("details") or [] if isinstance(item, dict)]
    if code == 429:
        return _sort_quota(said, details, headers)
    if code in RETRIED or code >= 500:
        return Refusal("retry", said, _read_delay(details, headers))
    if code in (401, 403) or any(item.get("reason") in KEY_REASONS for item in details):
        advice = "the key is not accepted: check it, and that the Gemini API is enabled for its project"
        return Refusal("stop", f"{said}; {advice}")
    if code == 404:
        advice = f"unknown model '{model}': check gemini.model (ids are retired) and gemini.api_version (v1beta, v1)"
        return Refusal("stop", f"{said}; {advice}")
    if code == 400 and error.get("status") == "FAILED_PRECONDITION":
        advice = "the project cannot use the service: the unpaid tier is not offered everywhere, enable billing"
        return Refusal("stop", f"{said}; {advice}")
    if code in (400, 413, 422):
        return Refusal("refused", said)
    if 300 <= code < 400:
        return Refusal("stop", f"HTTP {code}: redirects are not followed, so that the key stays with its host")
    return Refusal("stop", said)


def _sort_quota(said: str, details: list[dict[str, Any]], headers: Mapping[str, str]) -> Refusal:
    """Distinguish a quota that refills within a minute from one of a day, a month or a budget."""
    delay = _read_delay(details, headers)
    names = list(_quota_names(details))
    long = [name for name in names if any(part in _plain(name) for part in LONG_QUOTAS)]
    values = [str(violation.get("quotaValue")) for violation in _violations(details)]
    if long or "0" in values or (delay is not None and delay > LONGEST_WAIT):
        quota = f" ({long[0]})" if long else ""
        advice = "run the same command again after the quota is reset (daily at midnight Pacific time), or raise it"
        return Refusal("stop", f"the quota{quota} is used up: {said}; {advice}", delay)
    quota = f" ({names[0]})" if names else ""
    return Refusal("retry", f"{said}{quota}", delay)


def _error_of(body: Any) -> Mapping[str, Any]:
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    if not isinstance(body, dict):
        return {}
    inner = body.get("error", body)
    return inner if isinstance(inner, dict) else {"message": inner}


def _violations(details: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for item in details:
        for violation in item.get("violations") or []:
            if isinstance(violation, dict):
                yield violation


def _quota_names(details: list[dict[str, Any]]) -> Iterable[str]:
    """Return the names of the quotas in `QuotaFailure` and `ErrorInfo` details."""
    for violation in _violations(details):
        yield from (str(violation[name]) for name in ("quotaId", "quotaMetric", "description") if violation.get(name))
    for item in details:
        metadata = item.get("metadata")
        if isinstance(metadata, dict):
            yield from (str(metadata[name]) for name in ("quota_limit", "quota_metric") if metadata.get(name))


def _plain(name: str) -> str:
    """Spell `requests_per_day`, `RequestsPerDay` and `requests per day` alike."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _read_delay(details: list[dict[str, Any]], headers: Mapping[str, str]) -> float | None:
    """Return the seconds of `RetryInfo.retryDelay` ("34s", "34.07s"), else of the header `Retry-After`."""
    for item in details:
        delay = item.get("retryDelay")
        if isinstance(delay, str) and delay.endswith("s"):
            return read_seconds(delay[:-1])
    return read_retry_after(headers)
