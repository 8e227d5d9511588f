"""Client of Amazon Bedrock through boto3: returns one validated embedding per clip, or a `Refusal`.

Exceptions of the SDK are converted to a `Refusal` outside the `except` block, so that no chained exception leads to a
request and its signature.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemore_harness.errors import ConfigError, ExtraMissing
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
from blemore_plugins.hosted.vectors import check_vectors
from blemore_plugins.nova.options import NovaOptions

KEY_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_BEARER_TOKEN_BEDROCK")
"""Environment variables that may hold credentials; boto3 also reads profiles, roles and other sources."""

STAND_IN_ID = "STANDIN"
"""Access key id for the stand-in, whose secret is the key of its endpoint."""

MODEL_ERRORS = 424
"""HTTP status of `ModelErrorException`: the model failed on this request (API reference of InvokeModel)."""


def make_body(data: bytes, options: NovaOptions) -> dict[str, Any]:
    """Return the request: one embedding of one video, audio and video combined."""
    return {
        "schemaVersion": "nova-multimodal-embed-v1",
        "taskType": "SINGLE_EMBEDDING",
        "singleEmbeddingParams": {
            "embeddingPurpose": options.purpose,
            "embeddingDimension": options.dimensions,
            "video": {
                "format": "mp4",
                "embeddingMode": "AUDIO_VIDEO_COMBINED",
                "source": {"bytes": base64.b64encode(data).decode()},
            },
        },
    }


class Client:
    """One connection to the service; safe to use from several threads.

    Args:
        sdk: the `bedrock-runtime` client of boto3.
        options: model and settings of embeddings.
        secrets: removed from every message.
    """

    def __init__(self, sdk: Any, options: NovaOptions, secrets: tuple[str, ...]) -> None:
        self._sdk = sdk
        self._options = options
        self._secrets = secrets

    def ask(self, data: bytes) -> NDArray[np.float32]:
        """Return the embedding of one MP4, float32 (dimensions,).

        Raises:
            Refusal: with a verdict, without credentials and without a chained exception.
        """
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            answer = self._sdk.invoke_model(
                modelId=self._options.model,
                body=json.dumps(make_body(data, self._options)),
                contentType="application/json",
                accept="application/json",
            )
            return read_embedding(answer["body"].read(), self._options.dimensions)
        except ClientError as error:
            refusal = sort_error(error.response, self._options)
        except NoCredentialsError:
            refusal = Refusal("stop", "boto3 finds no AWS credentials")
        except (BotoCoreError, *transport_errors(), ValueError) as error:
            refusal = sort_failure(error)
        except Refusal as error:
            refusal = error
        reason = refusal.reason
        for secret in self._secrets:
            reason = scrub(reason, secret)
        raise Refusal(refusal.verdict, reason, refusal.delay)


def open_client(endpoint: Endpoint, options: NovaOptions) -> Client:
    """Return a client without retries (see `hosted.pace`); the stand-in needs no credentials.

    Raises:
        ExtraMissing: boto3 is not installed.
        ConfigError: boto3 finds no credentials, or cannot read its own configuration.
    """
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise ExtraMissing('nova needs boto3: pip install "blemore-harness[nova]"') from error
    config: dict[str, Any] = {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": options.timeout,
        "read_timeout": options.timeout,
        "max_pool_connections": options.workers,
    }
    given: dict[str, str] = {}
    if endpoint.key:
        given = {"aws_access_key_id": STAND_IN_ID, "aws_secret_access_key": endpoint.key}
        config |= {"proxies": {}, "signature_version": "v4"}
    problem = ""
    try:
        session = boto3.session.Session(region_name=options.region, **given)
        sdk = session.client("bedrock-runtime", endpoint_url=endpoint.address or None, config=Config(**config))
        found = session.get_credentials()
        frozen = found.get_frozen_credentials() if found else ()
    except (BotoCoreError, ValueError) as error:
        problem = f"boto3 cannot be set up ({type(error).__name__}): check the AWS_ variables and ~/.aws/config"
    else:
        if not found and not os.environ.get("AWS_BEARER_TOKEN_BEDROCK"):
            problem = f"requires AWS credentials: set {' or '.join(KEY_NAMES)}, or a profile in ~/.aws (aws configure)"
    if problem:
        raise ConfigError(problem)
    return Client(sdk, options, tuple(secret for secret in frozen if isinstance(secret, str)))


def read_embedding(data: bytes, size: int) -> NDArray[np.float32]:
    """Read `{"embeddings": [{"embeddingType", "embedding"}]}`, float32 (size,).

    Raises:
        Refusal: another body.

    >>> read_embedding(b'{"embeddings": [{"embeddingType": "VIDEO", "embedding": [0.5, -1]}]}', 2).tolist()
    [0.5, -1.0]
    """
    try:
        vectors = [item["embedding"] for item in json.loads(data)["embeddings"]]
    except (ValueError, LookupError, TypeError):
        raise Refusal("retry", "expected JSON with embeddings as the answer, found something else") from None
    vector = check_vectors(vectors, size, "nova.model")
    if not vector.any():
        raise Refusal("retry", "an embedding of zeros")
    return np.asarray(vector, dtype=np.float32)


def sort_error(response: Mapping[str, Any], options: NovaOptions) -> Refusal:
    """Return the refusal for an error of the service.

    Args:
        response: as boto3 gives it: `{"Error": {"Code", "Message"}, "ResponseMetadata": {"HTTPStatusCode", ...}}`.
        options: names of model and region, for advice.
    """
    error, facts = response.get("Error") or {}, response.get("ResponseMetadata") or {}
    code, name = int(facts.get("HTTPStatusCode") or 0), str(error.get("Code") or "")
    said = f"HTTP {code} {one_line(name, 60)}: {one_line(error.get('Message'))}".strip(" :")
    delay = read_retry_after(facts.get("HTTPHeaders") or {})
    if name == "ServiceQuotaExceededException" or (code == 429 and (delay or 0) > LONGEST_WAIT):
        return Refusal("stop", f"{said}; the quota is used up: run the same command again later, or raise it", delay)
    if code in (*RETRIED, MODEL_ERRORS) or code >= 500:
        return Refusal("retry", said, delay)
    if code in (401, 403):
        advice = "check the AWS credentials, and that they may invoke this model in nova.region"
        return Refusal("stop", f"{said}; {advice}")
    if code == 404:
        return Refusal(
            "stop", f"{said}; unknown model '{options.model}' in {options.region}: check nova.model, nova.region"
        )
    if code in (400, 413, 422):
        return Refusal("refused", said)
    return Refusal("stop", said)
