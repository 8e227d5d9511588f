"""The hosted encoders with scripted services on loopback, for the tests of what all of them do about faults."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.predictions import FloatArray
from blemore_plugins.gemini import GeminiEncoder, GeminiOptions
from blemore_plugins.hosted.encoder import HostedEncoder
from blemore_plugins.judge import Judge, JudgeOptions
from blemore_plugins.nova import NovaEncoder, NovaOptions
from chat_service import MODEL, chat_error, chatting, completion, says
from gemini_service import (
    KEY,
    FakeTime,
    Form,
    Reply,
    Service,
    google_error,
    quota_failure,
    retry_info,
    serving,
    vector_of,
)

CHAT_KEY = "sk-TEST-0123456789-do-not-print"
KEY_ID, SECRET = "AKIATEST0123456789", "s3cret/TEST+do-not-print"

Script = Callable[[int, str], Reply | None] | Sequence[Reply | None] | None

SURE = says("A", {"A": 1.0, "B": 1e-9})
"""An answer of the judge after which no second question is asked."""


@dataclass(frozen=True)
class Hosted:
    """A hosted encoder, its service, and what the service answers in its own format.

    Attributes:
        kind: of the encoder.
        client: package that talks with the service.
        secrets: keys that may be shown nowhere.
        serve: runs the service with a script; what the script leaves out is a good answer to one request per clip.
        make: options by the address of the service and changes.
        silent: changes of options for clips without audio.
        kept: pattern of the files in which what was paid for is kept.
        replaced: the value of the option `refused` that goes on without clips, the note that lists them, and the row
            that they get.
        refusal: of one clip, with a text that is to be repeated; `{}` stands for it.
        busy: an answer that asks to wait for so many seconds.
        down: an answer of a service that is down.
        unreachable: what is said about a server that does not run, besides the number of attempts.
        stops: answers after which no clip would succeed, and what is said of them.
        passes: answers that are tried again.
        quoting: scripts of answers that repeat a secret.
        sent: whether a request was sent with the secret.
        level: of the log in which secrets are looked for.
    """

    kind: type[HostedEncoder]
    client: str
    secrets: tuple[str, ...]
    serve: Callable[[Script], AbstractContextManager[Service]]
    make: Callable[..., Any]
    silent: dict[str, Any]
    kept: str
    replaced: tuple[str, str, float]
    refusal: Callable[[str], Reply]
    busy: Callable[[int], Reply]
    down: Reply
    stops: tuple[tuple[Reply, str], ...]
    passes: tuple[Reply, ...]
    quoting: tuple[tuple[Reply, ...], ...]
    sent: Callable[[dict[str, str]], bool]
    unreachable: str = ""
    level: int = logging.DEBUG

    def __str__(self) -> str:
        return self.kind.name

    def quick(self) -> tuple[HostedEncoder, FakeTime]:
        """Return the encoder, waiting on a clock that only sleeping moves, and the clock."""
        clock = FakeTime()
        return self.kind(clock.pace), clock

    def options(self, address: str, **given: Any) -> Any:
        """Return options for a service at this address."""
        return self.make(address, **{"workers": 1, **given})

    def values(self, clips: Clips, chosen: Any, context: Context) -> FloatArray:
        """Return what the encoder gives for clips that it was prepared for."""
        encoder = self.kind()
        if not isinstance(encoder, Judge):
            return np.asarray(encoder.embed(clips, chosen, context).values, dtype=np.float64)
        nothing = Clips((), (), np.zeros((0, 6), np.int8))
        return encoder.fit(Fold(0, nothing, clips), chosen, context).predict(clips, context).values


# Gemini

QUOTE = f"the key {KEY} again"

GEMINI = Hosted(
    GeminiEncoder,
    "google.genai",
    (KEY,),
    serving,  # type: ignore[arg-type]
    lambda address, **given: GeminiOptions(**{"consent": True, "base_url": address, "timeout": 60.0, **given}),
    {},
    "*.npy",
    ("zero", "embeddings of zeros", 0),
    lambda text: google_error(400, "INVALID_ARGUMENT", text),
    lambda seconds: google_error(429, "RESOURCE_EXHAUSTED", headers={"Retry-After": str(seconds)}),
    google_error(503, "UNAVAILABLE"),
    stops=(
        (google_error(401, "UNAUTHENTICATED"), "key is not accepted"),
        (google_error(403, "PERMISSION_DENIED", f"consumer 'api_key:{KEY}' is suspended"), "key is not accepted"),
        (google_error(400, "INVALID_ARGUMENT", "not valid", [{"reason": "API_KEY_INVALID"}]), "key is not accepted"),
        (google_error(400, "FAILED_PRECONDITION", "location not supported"), "billing"),
        (google_error(404, "NOT_FOUND"), r"gemini\.model.*gemini\.api_version"),
        (google_error(405, "UNIMPLEMENTED"), "405"),
        *(
            (google_error(429, "RESOURCE_EXHAUSTED", "quota", details), "quota")
            for details in (
                [quota_failure("EmbedContentRequestsPerDayPerProjectPerModel-FreeTier"), retry_info("12s")],
                [quota_failure("SpendCap")],
                [quota_failure("EmbedContentPerMinute", value="0"), retry_info("12s")],
                [retry_info("43000s")],
            )
        ),
    ),
    passes=(
        google_error(500, "INTERNAL"),
        google_error(503, "UNAVAILABLE"),
        google_error(408, "CANCELLED"),
        Reply(502, b"<html>bad gateway</html>"),
        Reply(200, b"<html>a proxy's page</html>"),
        Reply(half=True),
    ),
    quoting=(
        (google_error(400, "INVALID_ARGUMENT", QUOTE),),
        (google_error(403, "PERMISSION_DENIED", QUOTE),),
        (google_error(404, "NOT_FOUND", QUOTE),),
        (google_error(429, "RESOURCE_EXHAUSTED", QUOTE, [quota_failure(f"PerDay-{KEY}")]),),
        (google_error(429, "RESOURCE_EXHAUSTED", QUOTE, [retry_info("3s")]),),
        (google_error(503, "UNAVAILABLE", QUOTE),) * 9,
        (Reply(307, {}, {"Location": "http://127.0.0.1:9/"}),),
        (Reply(200, f"no JSON but {KEY}".encode()),) * 9,
    ),
    sent=lambda headers: headers["x-goog-api-key"] == KEY,
)


# The judge


def _chat(script: Script) -> AbstractContextManager[Service]:
    if callable(script):
        return chatting(script)
    replies = list(script or ())
    return chatting(lambda number, _: (replies[number] if number < len(replies) else None) or SURE)


CHAT_QUOTE = f"the key {CHAT_KEY} again"

JUDGE = Hosted(
    Judge,
    "openai",
    (CHAT_KEY,),
    _chat,
    lambda address, **given: JudgeOptions(**{"model": MODEL, "url": f"{address}/v1", "frames": 2, **given}),
    {"audio": False},
    "*-set-0.json",
    ("uniform", "clips with equal probabilities", 1 / 6),
    lambda text: chat_error(400, text),
    lambda seconds: chat_error(429, "slow down", headers={"Retry-After": str(seconds)}),
    chat_error(503),
    stops=(
        (chat_error(401, f"Incorrect API key provided: {CHAT_KEY}"), "OPENAI_API_KEY is not accepted"),
        (chat_error(403), "OPENAI_API_KEY is not accepted"),
        (chat_error(404, "The model does not exist"), rf"{MODEL}.*judge\.model and judge\.url"),
        (chat_error(402), "quota"),
        (chat_error(429, code="insufficient_quota"), "quota"),
        (chat_error(429, headers={"Retry-After": "43000"}), "quota"),
        (Reply(307, {}, {"Location": "http://127.0.0.1:9/v1"}), "redirects"),
    ),
    passes=(
        chat_error(500),
        chat_error(503),
        chat_error(408),
        chat_error(429),
        Reply(502, b"<html>bad gateway</html>"),
        Reply(200, b"<html>a proxy's page</html>"),
        Reply(200, json.dumps(completion("A", {"A": 0.5})).encode()[:-40]),
        Reply(200, {}),
        Reply(half=True),
    ),
    quoting=(
        *((chat_error(code, CHAT_QUOTE),) for code in (400, 401, 404)),
        (chat_error(429, CHAT_QUOTE, headers={"Retry-After": "3"}),),
        (chat_error(503, CHAT_QUOTE),) * 9,
        (Reply(200, f"no JSON but {CHAT_KEY}".encode()),) * 9,
    ),
    sent=lambda headers: headers["authorization"] == f"Bearer {CHAT_KEY}",
    unreachable=r"cannot connect to http://127\.0\.0\.1.*judge\.url",
)


# Nova


def read_nova_media(body: Any) -> list[bytes]:
    """The file that is sent."""
    return [base64.b64decode(body["singleEmbeddingParams"]["video"]["source"]["bytes"])]


def _embed(media: list[bytes], body: Any) -> dict[str, Any]:
    values = vector_of(media)[: body["singleEmbeddingParams"]["embeddingDimension"]].tolist()
    return {"embeddings": [{"embeddingType": "AUDIO_VIDEO_COMBINED", "embedding": values}]}


def bedrock(script: Script = None) -> AbstractContextManager[Service]:
    """Run the service of Nova."""
    return serving(script, Form(read_nova_media, _embed))  # type: ignore[arg-type]


def nova_error(code: int, name: str, message: str = "no", **headers: str) -> Reply:
    """An error in the format of Amazon Bedrock."""
    return Reply(code, {"message": message}, {"x-amzn-ErrorType": name, **headers})


AWS_QUOTE = f"the key {SECRET} of {KEY_ID}"

NOVA = Hosted(
    NovaEncoder,
    "boto3",
    (SECRET, KEY_ID),
    bedrock,
    lambda address, **given: NovaOptions(**{"endpoint_url": address, **given}),
    {"audio": False},
    "*.npy",
    ("zero", "embeddings of zeros", 0),
    lambda text: nova_error(400, "ValidationException", text),
    lambda seconds: nova_error(429, "ThrottlingException", **{"Retry-After": str(seconds)}),
    nova_error(503, "ServiceUnavailableException"),
    stops=(
        (nova_error(403, "AccessDeniedException", f"User {KEY_ID} is not authorized"), r"credentials.*nova\.region"),
        (nova_error(403, "UnrecognizedClientException"), "credentials"),
        (nova_error(404, "ResourceNotFoundException"), r"nova\.model, nova\.region"),
        (nova_error(400, "ServiceQuotaExceededException"), "quota"),
        (nova_error(429, "ThrottlingException", **{"Retry-After": "43000"}), "quota"),
        (Reply(307, {}, {"Location": "http://127.0.0.1:9/"}), "307"),
    ),
    passes=(
        nova_error(500, "InternalServerException"),
        nova_error(503, "ServiceUnavailableException"),
        nova_error(408, "ModelTimeoutException"),
        nova_error(424, "ModelErrorException"),
        nova_error(429, "ModelNotReadyException"),
        Reply(502, b"<html>bad gateway</html>"),
        Reply(200, b"<html>a proxy's page</html>"),
        Reply(200, {"embeddings": [{"embedding": [float("nan")] * 3072}]}),
        Reply(200, {"embeddings": [{"embedding": ["a"] * 3072}]}),
        Reply(half=True),
    ),
    quoting=(
        (nova_error(400, "ValidationException", AWS_QUOTE),),
        (nova_error(403, "AccessDeniedException", AWS_QUOTE),),
        (nova_error(503, "ServiceUnavailableException", AWS_QUOTE),) * 9,
    ),
    sent=lambda headers: KEY_ID in headers["authorization"],
    level=logging.INFO,  # botocore's own debugging log shows the key's id
)

HOSTED = {str(each): each for each in (GEMINI, JUDGE, NOVA)}


def set_keys(monkeypatch: pytest.MonkeyPatch, folder: Any) -> None:
    """Set the keys of all services, and nothing else that their clients read."""
    values = {
        "GOOGLE_API_KEY": KEY, "OPENAI_API_KEY": CHAT_KEY, "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": str(folder / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-credentials"),
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    for name in (
        "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL", "OPENAI_BASE_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
