"""Client of a chat endpoint through openai: returns one answer per request, or a `Refusal`.

Exceptions of the SDK are converted to a `Refusal` outside the `except` block: they hold the request with the key in its
headers, and a chained exception would write it into logs and records.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from blemore_harness.errors import ExtraMissing
from blemore_plugins.hosted.endpoints import Endpoint
from blemore_plugins.hosted.refusals import (
    LONGEST_WAIT,
    RETRIED,
    Refusal,
    one_line,
    read_retry_after,
    scrub,
    sort_failure,
    transport_errors,
)
from blemore_plugins.judge.options import JudgeOptions

ALTERNATIVES = 20
"""Alternatives per token that are asked for: the most that endpoints give."""

USED_UP = ("insufficient_quota", "billing_hard_limit_reached")
"""Error codes of a quota that waiting does not refill (OpenAI's guide to error codes)."""

FILTERED = "content_filter"
"""`finish_reason` of an answer that the service withheld."""


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        text: what the model wrote.
        logprobs: of its tokens, as the endpoint gives them; None without.
        tokens_in, tokens_out: as the endpoint counts them; None where it does not.
        model: as the endpoint names it.
        withheld: why the service withheld the answer; empty if it did not.
    """

    text: str
    logprobs: Any = field(default=None, repr=False)
    tokens_in: int | None = None
    tokens_out: int | None = None
    model: str = ""
    withheld: str = ""


class Client:
    """One connection to an endpoint; safe to use from several threads.

    Args:
        sdk: the client of openai.
        options: model and settings of answers.
        endpoint: its key is removed from every message.
    """

    def __init__(self, sdk: Any, options: JudgeOptions, endpoint: Endpoint) -> None:
        self._sdk = sdk
        self._options = options
        self._endpoint = endpoint

    def ask(self, messages: list[dict[str, Any]]) -> Reply:
        """Return the answer to a conversation.

        Raises:
            Refusal: with a verdict, without the key and without a chained exception.
        """
        import openai

        asked = {"logprobs": True, "top_logprobs": ALTERNATIVES} if self._options.logprobs else {}
        try:
            answer = self._sdk.chat.completions.with_raw_response.create(
                model=self._options.model,
                messages=messages,
                temperature=self._options.temperature,
                max_tokens=self._options.max_tokens,
                **asked,
            )
            return read_reply(answer.http_response.content)
        except openai.APIStatusError as error:
            refusal = sort_status(error.status_code, error.body, dict(error.response.headers), self._options)
        except openai.APITimeoutError:
            refusal = Refusal("retry", f"no answer within {self._options.timeout:g} s (judge.timeout)")
        except openai.APIConnectionError:
            address = self._endpoint.address
            refusal = Refusal("retry", f"cannot connect to {address}: is the server running? Check judge.url")
        except (openai.OpenAIError, *transport_errors(), ValueError) as error:
            refusal = sort_failure(error)
        except Refusal as error:
            refusal = error
        raise Refusal(refusal.verdict, scrub(refusal.reason, self._endpoint.key), refusal.delay)


@contextlib.contextmanager
def open_client(endpoint: Endpoint, options: JudgeOptions) -> Iterator[Client]:
    """Return a client without retries (see `hosted.pace`) and without redirects (which would receive the key).

    Raises:
        ExtraMissing: openai is not installed.
    """
    try:
        import openai
    except ImportError as error:
        raise ExtraMissing('judge needs openai: pip install "blemore-harness[judge]"') from error
    transport = openai.DefaultHttpxClient(follow_redirects=False, trust_env=not endpoint.local)
    with openai.OpenAI(
        api_key=endpoint.key or "none",
        base_url=endpoint.address,
        timeout=options.timeout,
        max_retries=0,
        http_client=transport,
    ) as sdk:
        yield Client(sdk, options, endpoint)


def read_reply(data: bytes) -> Reply:
    """Read the body of an answer.

    Raises:
        Refusal: `retry` for a body that is not the JSON of a chat completion, such as one that was cut short.

    >>> read_reply(b'{"choices": [{"message": {"content": "B"}}], "usage": {"prompt_tokens": 9}}').text
    'B'
    """
    try:
        body = json.loads(data)
        choice = body["choices"][0]
        message = choice["message"]
        text = message.get("content") or ""
        usage = body.get("usage") or {}
        logprobs = (choice.get("logprobs") or {}).get("content")
        withheld = message.get("refusal") or (choice.get("finish_reason") == FILTERED and FILTERED) or ""
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, LookupError, TypeError, AttributeError):
        found = one_line(data[:60].decode(errors="replace")) or "nothing"
        raise Refusal(
            "retry", f"expected the JSON of a chat completion, found '{found}': is judge.url right, up to /v1?"
        ) from None
    if not isinstance(text, str):
        raise Refusal("retry", f"expected text as the answer, found {type(text).__name__}")
    tokens = [count if type(count) is int and count >= 0 else None for count in counts]
    return Reply(text, logprobs, tokens[0], tokens[1], str(body.get("model") or ""), one_line(withheld))


def sort_status(code: int, body: Any, headers: Mapping[str, str], options: JudgeOptions) -> Refusal:
    """Return the refusal for an HTTP answer other than 200.

    Args:
        code: HTTP status.
        body: the error in OpenAI's format, `{"message", "type", "code", "param"}`, or anything else.
        headers: of the answer, for `Retry-After`.
        options: names of model and key, for advice.
    """
    error = body if isinstance(body, Mapping) else {"message": body}
    inner = error.get("error")
    error = inner if isinstance(inner, Mapping) else error
    said = f"HTTP {code}: {one_line(error.get('message') or error.get('error'))}".strip(" :")
    delay = read_retry_after(headers)
    if code == 402 or error.get("code") in USED_UP or (code == 429 and (delay or 0) > LONGEST_WAIT):
        return Refusal("stop", f"{said}; the quota is used up: run the same command again when it is refilled", delay)
    if code in RETRIED or code >= 500:
        return Refusal("retry", said, delay)
    if code in (401, 403):
        return Refusal("stop", f"{said}; the key in {options.key} is not accepted (judge.key names its variable)")
    if code == 404:
        return Refusal("stop", f"{said}; unknown model '{options.model}' or address: check judge.model and judge.url")
    if code in (400, 413, 422):
        advice = "; if log-probabilities are not supported, set judge.logprobs=false" if options.logprobs else ""
        return Refusal("refused", said + advice)
    if 300 <= code < 400:
        return Refusal("stop", f"HTTP {code}: redirects are not followed, so that the key stays with its host")
    return Refusal("stop", said)
