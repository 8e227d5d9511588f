"""A server on loopback that imitates a chat endpoint: it compares colours and sounds, and understands nothing.

Where examples are shown, it answers as the examples that are most like the clip; otherwise it answers by a fixed random
projection, which is as good as guessing.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import io
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_plugins.hosted.embedder import describe_sound, read_audio
from blemore_plugins.hosted.endpoints import Endpoint
from blemore_plugins.hosted.server import Wrong, run_server

Floats = NDArray[np.float64]

PATH = "/v1/chat/completions"

MODEL = "stand-in"

MAX_BODY = 200_000_000
"""Maximum size of a request in bytes."""

MOST_ALTERNATIVES = 20
"""Largest `top_logprobs`, as of OpenAI."""

OPTION = re.compile(r"^(\w)\) ", re.MULTILINE)
"""An answer that a question offers."""

CELLS = 4
"""Squares per side of a picture whose mean colours are compared."""

SHARPNESS = 12.0
"""Difference of log-probabilities per squared distance."""

FAR = 2.0
"""Squared distance of answers that no example has."""


@contextlib.contextmanager
def serve() -> Iterator[Endpoint]:
    """Run the stand-in on a free port of 127.0.0.1 within the context; return the address and a generated key."""
    key = secrets.token_hex(16)
    known: dict[str, Floats] = {}

    def answer(path: str, headers: Message, body: bytes) -> dict[str, Any]:
        given = headers.get("authorization", "").encode(errors="replace")
        if not secrets.compare_digest(given, f"Bearer {key}".encode()):
            raise Wrong(401, "Incorrect API key provided.")
        if path != PATH:
            raise Wrong(404, f"Invalid URL (POST {path})")
        return complete(body, known)

    with run_server("judge-stand-in", MAX_BODY, answer, _complain) as address:
        yield Endpoint(f"{address}/v1", key, local=True)


def _complain(wrong: Wrong) -> dict[str, Any]:
    """Return an error in OpenAI's format."""
    return {"error": {"message": str(wrong), "type": "invalid_request_error", "param": None, "code": None}}


def complete(body: bytes, known: dict[str, Floats]) -> dict[str, Any]:
    """Answer a conversation whose last message offers answers as lines such as `A) anger`.

    Raises:
        Wrong: a request that an endpoint would reject.
    """
    try:
        request = json.loads(body)
        model, messages, wanted = request["model"], request["messages"], request.get("top_logprobs", 0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Wrong(400, "We could not parse the JSON body of your request.") from None
    if model != MODEL:
        raise Wrong(404, f"The model '{model}' does not exist.")
    if not isinstance(wanted, int) or not 0 <= wanted <= MOST_ALTERNATIVES:
        raise Wrong(400, f"top_logprobs must be 0 to {MOST_ALTERNATIVES}, found {wanted}.")
    turns = read_turns(messages, known)
    choices = OPTION.findall(turns[-1][0])
    if not choices:
        raise Wrong(400, "The last message offers no answers.")
    logprobs = np.asarray(judge(turns, choices))
    order = np.argsort(-logprobs, kind="stable")
    best = choices[order[0]]
    tokens = [{"token": choices[i], "logprob": float(logprobs[i])} for i in order[:wanted]]
    content = [{"token": best, "logprob": float(logprobs[order[0]]), "top_logprobs": tokens}]
    return {
        "id": hashlib.sha256(body).hexdigest()[:16],
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": best},
                "logprobs": {"content": content} if request.get("logprobs") else None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": len(body) // 100, "completion_tokens": 1, "total_tokens": len(body) // 100 + 1},
    }


def read_turns(messages: Any, known: dict[str, Floats]) -> list[tuple[str, Floats, str]]:
    """Return of each question its text, the description of its media, and the answer; of the last one no answer.

    Media that were described before are in `known`: examples are shown with every question.
    """
    turns: list[tuple[str, Floats, str]] = []
    if not isinstance(messages, list) or not messages:
        raise Wrong(400, "Expected a list of messages.")
    for message in messages:
        role = message.get("role") if isinstance(message, Mapping) else None
        if role == "assistant" and turns:
            turns[-1] = (*turns[-1][:2], str(message.get("content")))
        elif role == "user":
            turns.append((*_read_parts(message.get("content"), known), ""))
        else:
            raise Wrong(400, f"Expected roles user and assistant in turn, found {role}.")
    return turns


def _read_parts(content: Any, known: dict[str, Floats]) -> tuple[str, Floats]:
    text, images, sounds = "", [], []
    for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
        try:
            if part["type"] == "text":
                text += part["text"]
            elif part["type"] == "image_url":
                images.append(_remember(part["image_url"]["url"], _describe_image, known))
            elif part["type"] == "input_audio" and part["input_audio"]["format"] == "wav":
                sounds.append(_remember(part["input_audio"]["data"], _describe_audio, known))
            else:
                raise Wrong(400, f"Unsupported part: {part['type']}")
        except (KeyError, TypeError):
            raise Wrong(400, "Expected parts of type text, image_url or input_audio (wav).") from None
        except (binascii.Error, OSError, ValueError) as error:
            raise Wrong(400, f"Unable to process the input ({type(error).__name__}).") from None
    blocks = [np.mean(each, axis=0) for each in (images, sounds) if each]
    return text, np.concatenate(blocks) if blocks else np.zeros(1)


def _remember(data: str, describe: Callable[[str], Floats], known: dict[str, Floats]) -> Floats:
    digest = hashlib.sha256(data.encode()).hexdigest()
    if digest not in known:
        known[digest] = describe(data)
    return known[digest]


def _describe_image(url: str) -> Floats:
    """Return the mean colours of the squares of a picture, each within -.5 to .5."""
    from PIL import Image

    head, _, data = url.partition(",")
    if head != "data:image/jpeg;base64":
        raise ValueError("no JPEG")
    picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True))).convert("RGB")
    small = picture.resize((CELLS, CELLS), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64).ravel() / 255 - 0.5


def _describe_audio(data: str) -> Floats:
    """Return features of the spectrum, of length 1."""
    features = describe_sound(*read_audio(base64.b64decode(data, validate=True)))["sound"].astype(np.float64)
    return np.asarray(features / (np.linalg.norm(features) + 1e-9))


def judge(turns: list[tuple[str, Floats, str]], choices: list[str]) -> Floats:
    """Return the log-probability of every choice for the last turn.

    Raises:
        Wrong: examples with other media than the clip.
    """
    text, clip, _ = turns[-1]
    examples = [(answer, media) for _, media, answer in turns[:-1]]
    if any(media.shape != clip.shape for _, media in examples):
        raise Wrong(400, "Expected the same kinds of media in every message.")
    if examples:
        nearest = [
            min((float(((media - clip) ** 2).sum()) for answer, media in examples if answer == choice), default=FAR)
            for choice in choices
        ]
        values = -SHARPNESS * np.asarray(nearest)
    else:
        # Of the question, not of its text before: the same clip is judged alike by every prompt.
        question = text[text.find(f"{choices[0]}) ") :]
        seed = int.from_bytes(hashlib.sha256(question.encode()).digest()[:8], "big")
        values = np.random.default_rng(seed).standard_normal((len(choices), clip.size)) @ clip
    values = values - values.max()
    return np.asarray(values - np.log(np.exp(values).sum()))
