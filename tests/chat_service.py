"""A scripted chat endpoint on loopback: answers of one token with log-probabilities, and every fault."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from blemore_plugins.judge.questions import LETTERS, NUMBERS
from gemini_service import Form, Reply, Service, serving

MODEL = "omni-7b"


def last_text(body: Any) -> str:
    """The question of a request."""
    return str(body["messages"][-1]["content"][-1]["text"])


def read_media(body: Any) -> list[bytes]:
    """Everything that is sent: the whole conversation."""
    return [json.dumps(body["messages"], sort_keys=True).encode()]


def completion(text: str | None, probabilities: dict[str, float] | None = None, **message: Any) -> dict[str, Any]:
    """A chat completion; `probabilities` are of what could stand in place of its last token."""
    logprobs = None
    if probabilities is not None and text:
        *before, last = text.split(" ")
        lead = [{"token": f"{word} ", "logprob": -0.1, "top_logprobs": []} for word in before]
        top = [{"token": token, "logprob": math.log(value)} for token, value in probabilities.items()]
        logprobs = {"content": [*lead, {"token": last, "logprob": -0.1, "top_logprobs": top}]}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "logprobs": logprobs,
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 1000, "completion_tokens": 1, "total_tokens": 1001}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice], "usage": usage}


def belief(media: list[bytes], choices: tuple[str, ...]) -> dict[str, float]:
    """Probabilities that depend on what is sent."""
    digest = hashlib.sha256(b"|".join(media)).digest()
    weights = [1 + byte for byte in digest[: len(choices)]]
    return {choice: weight / sum(weights) for choice, weight in zip(choices, weights, strict=True)}


def good(media: list[bytes], body: Any) -> dict[str, Any]:
    """An answer with the log-probabilities of all choices, if these are asked for."""
    choices = NUMBERS if "proportion" in last_text(body) else LETTERS
    found = belief(media, choices)
    return completion(max(found, key=lambda choice: found[choice]), found if body.get("logprobs") else None)


def says(text: str | None, probabilities: dict[str, float] | None = None, **message: Any) -> Reply:
    """An answer of 200 with this text."""
    return Reply(200, completion(text, probabilities, **message))


def chat_error(number: int, message: str = "no", **more: Any) -> Reply:
    """An error in OpenAI's format."""
    headers = more.pop("headers", {})
    return Reply(number, {"error": {"message": message, "type": "error", "param": None, "code": None, **more}}, headers)


@contextlib.contextmanager
def chatting(script: Callable[[int, str], Reply | None] | list[Reply | None] | None = None) -> Iterator[Service]:
    """Run an endpoint; `script` gives the answers in the order of requests, good ones after its end."""
    with serving(script, Form(read_media, good)) as service:
        yield service
