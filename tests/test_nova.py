"""The Nova encoder against a scripted service on loopback, through the real boto3 client."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("boto3")

from blemore_harness.clips import Clips
from blemore_harness.errors import ConfigError, InvalidOption, MediaError, ServiceError
from blemore_harness.options import build_options
from blemore_plugins.hosted.embedder import Embedder
from blemore_plugins.hosted.refusals import Refusal
from blemore_plugins.hosted.server import Wrong
from blemore_plugins.nova import NovaEncoder, NovaOptions
from blemore_plugins.nova.client import read_embedding, sort_error
from blemore_plugins.nova.standin import embed, serve
from gemini_service import FakeTime, Reply, make_clips, make_context, vector_of
from hosted_services import KEY_ID, SECRET, bedrock, read_nova_media, set_keys

pytestmark = pytest.mark.encoders


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("clips"), 4, sound=True)


@pytest.fixture(autouse=True)
def credentials(monkeypatch, tmp_path):
    set_keys(monkeypatch, tmp_path)


def options(service, **given):
    return NovaOptions(**{"endpoint_url": service.address, "workers": 1, **given})


def quick():
    clock = FakeTime()
    return NovaEncoder(clock.pace), clock


def test_one_request_and_one_vector_per_clip(clips, tmp_path):
    with bedrock() as service:
        context, chosen = make_context(tmp_path), options(service, workers=3)
        NovaEncoder().prepare(clips, chosen, context)
        values = NovaEncoder().embed(clips, chosen, context).values
        NovaEncoder().prepare(clips, chosen, make_context(tmp_path))
    assert len(service.requests) == len(clips)
    expected = [vector_of(read_nova_media(request["body"])).astype(np.float32) for request in service.requests]
    assert values.shape == (4, 3072)
    assert np.allclose(sorted(map(tuple, expected)), sorted(map(tuple, values)), atol=1e-6)
    assert len(context.reporter.notes["embeddings made"]) == 2
    assert context.reporter.notes["seconds sent"] == pytest.approx(2.0, abs=0.2)


def test_what_is_on_the_wire(clips, tmp_path):
    with bedrock() as service:
        NovaEncoder().prepare(clips.take([0]), options(service, dimensions=384), make_context(tmp_path))
    (request,) = service.requests
    headers = {name.lower(): value for name, value in request["headers"].items()}
    assert unquote(request["path"]) == "/model/amazon.nova-2-multimodal-embeddings-v1:0/invoke"
    assert headers["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={KEY_ID}/")
    assert "/us-east-1/bedrock/" in headers["authorization"]
    assert SECRET not in json.dumps(headers)
    body = request["body"]
    assert (body["schemaVersion"], body["taskType"]) == ("nova-multimodal-embed-v1", "SINGLE_EMBEDDING")
    given = body["singleEmbeddingParams"]
    assert (given["embeddingPurpose"], given["embeddingDimension"]) == ("CLASSIFICATION", 384)
    assert (given["video"]["format"], given["video"]["embeddingMode"]) == ("mp4", "AUDIO_VIDEO_COMBINED")


@pytest.mark.parametrize(("start", "seconds", "frames"), [(0.0, 30.0, 20), (0.0, 1.0, 10), (0.5, 1.0, 10)])
def test_picture_and_audio_of_the_window_are_one_file_without_names(tmp_path, start, seconds, frames):
    import av

    long = make_clips(tmp_path / "clips", 1, seconds=2.0, sound=True)
    with bedrock() as service:
        NovaEncoder().prepare(long, options(service, start=start, seconds=seconds), make_context(tmp_path))
        NovaEncoder().prepare(long, options(service, start=start, seconds=seconds, audio=False), make_context(tmp_path))
    for request, tracks in zip(service.requests, (2, 1), strict=True):
        [data] = read_nova_media(request["body"])
        assert b"c0" not in data[:200]
        with av.open(io.BytesIO(data)) as file:
            assert len(file.streams) == tracks
            assert len(list(file.decode(video=0))) == frames
        if tracks == 2:
            with av.open(io.BytesIO(data)) as file:
                samples = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
            # AAC comes in blocks of 1,024 samples.
            assert len(samples) / 48_000 == pytest.approx(frames / 10, abs=0.05)
            assert np.abs(samples).max() > 0.2


def test_a_clip_without_audio_is_named_with_what_to_do(tmp_path):
    silent = make_clips(tmp_path / "clips", 2)
    with bedrock() as service:
        with pytest.raises(MediaError, match="audio"):
            NovaEncoder().prepare(silent, options(service), make_context(tmp_path))
        assert not service.requests
        NovaEncoder().prepare(silent, options(service, audio=False), make_context(tmp_path))
    assert len(service.requests) == 2


def test_works_from_the_cache_without_credentials_or_consent(clips, tmp_path, monkeypatch):
    with bedrock() as service:
        chosen = options(service)
        NovaEncoder().prepare(clips, chosen, make_context(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    NovaEncoder().prepare(clips, chosen, make_context(tmp_path))
    assert len(NovaEncoder().embed(clips, chosen, make_context(tmp_path)).ids) == len(clips)


def test_another_model_window_purpose_or_host_is_another_vector(clips, tmp_path):
    one = clips.take([0])
    with bedrock() as service, bedrock() as other:
        for given in ({}, {"seconds": 0.3}, {"audio": False}, {"dimensions": 256}, {"purpose": "CLUSTERING"},
                      {"model": "amazon.nova-3"}, {"region": "us-west-2"}, {}):  # fmt: skip
            NovaEncoder().prepare(one, options(service, **given), make_context(tmp_path))
        NovaEncoder().prepare(one, options(other), make_context(tmp_path))
    assert len(service.requests) == 6
    assert len(other.requests) == 1


@pytest.mark.parametrize("some", ["all", "none"])
def test_no_consent_no_request(clips, tmp_path, some):
    for address in ("", "https://vpce.example.org"):
        with pytest.raises(ConfigError, match=r"Amazon Bedrock in us-east-1.*nova\.consent=true"):
            NovaEncoder().prepare(
                clips if some == "all" else Clips(()), NovaOptions(endpoint_url=address), make_context(tmp_path)
            )


def test_no_credentials_are_one_clear_line(clips, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with bedrock() as service, pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID or AWS_BEARER_TOKEN_BEDROCK"):
        NovaEncoder().prepare(clips, options(service), make_context(tmp_path))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with bedrock() as service, pytest.raises(ConfigError, match="ProfileNotFound"):
        NovaEncoder().prepare(clips, options(service), make_context(tmp_path))
    assert not service.requests


def test_a_budget_stops_before_it_is_exceeded_and_nothing_is_paid_twice(clips, tmp_path):
    with bedrock() as service:
        chosen = options(service, price=0.1, budget=0.12)  # half a second each: .05
        with pytest.raises(ServiceError, match=r"budget of \$0\.1200.*nova\.budget.*2 new embeddings are kept"):
            NovaEncoder().prepare(clips, chosen, make_context(tmp_path))
        assert len(service.requests) == 2
        context = make_context(tmp_path)
        NovaEncoder().prepare(clips, replace(chosen, budget=0.3), context)
    assert len(service.requests) == 4
    assert set(service.paid.values()) == {1}
    assert context.reporter.notes["cost in US dollars"] == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(
    ("embeddings", "expected"),
    [
        ([], "found 0"),
        ([{"embedding": [1.0] * 3072}] * 2, "found 2"),
        ([{"embedding": [1.0] * 1024}], "3072.* 1024"),
    ],
)
def test_an_answer_of_the_wrong_shape_stops(clips, tmp_path, embeddings, expected):
    with bedrock([Reply(200, {"embeddings": embeddings})]) as service, pytest.raises(ServiceError, match=expected):
        quick()[0].prepare(clips, options(service), make_context(tmp_path))
    assert len(service.requests) == 1


def test_the_stand_in_answers_the_real_client_without_credentials_or_consent(clips, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    for dimensions in (3072, 256):
        chosen, context = NovaOptions(service="stand-in", dimensions=dimensions), make_context(tmp_path)
        NovaEncoder().prepare(clips, chosen, context)
        values = NovaEncoder().embed(clips, chosen, context).values
        assert values.shape == (4, dimensions)
    again = make_context(tmp_path / "again")
    NovaEncoder().prepare(clips, chosen, again)
    assert np.array_equal(values, NovaEncoder().embed(clips, chosen, again).values)
    assert not [thread for thread in threading.enumerate() if thread.name == "nova-stand-in"]
    settings = [json.loads(path.read_text()) for path in (tmp_path / "cache" / "nova").rglob("settings.json")]
    assert all(each["origin"].startswith("stand-in") for each in settings)
    assert NovaEncoder().caveat(chosen) == "stand-in embeddings"


@pytest.mark.parametrize(
    "change",
    [
        {"taskType": "SEGMENTED_EMBEDDING"},
        {"singleEmbeddingParams": {}},
        {"singleEmbeddingParams": {"embeddingPurpose": "CLASSIFICATION", "embeddingDimension": 100, "video":
         {"format": "mp4", "embeddingMode": "AUDIO_VIDEO_COMBINED", "source": {"bytes": "AAAA"}}}},
        {"singleEmbeddingParams": {"embeddingPurpose": "CLASSIFICATION", "embeddingDimension": 256, "video":
         {"format": "mp4", "embeddingMode": "AUDIO_VIDEO_COMBINED", "source": {"bytes": "AAAA"}}}},
    ],
)  # fmt: skip
def test_the_stand_in_rejects_what_the_service_rejects(change):
    with pytest.raises(Wrong) as caught:
        embed(json.dumps({"taskType": "SINGLE_EMBEDDING", **change}).encode(), Embedder())
    assert caught.value.code == 400


def test_the_stand_in_asks_for_its_credentials(clips, tmp_path):
    with serve() as endpoint:
        chosen = NovaOptions(endpoint_url=endpoint.address)
        with pytest.raises(ServiceError, match=r"403.*credentials"):
            NovaEncoder().prepare(clips, chosen, make_context(tmp_path))


@pytest.mark.parametrize(
    "given",
    [{"seconds": "31"}, {"seconds": "0"}, {"start": "-1"}, {"dimensions": "512"}, {"purpose": "FUN"}, {"model": " "},
     {"price": "-1"}, {"budget": "1"}, {"endpoint_url": "bedrock"}, {"endpoint_url": "https://"}, {"workers": "0"},
     {"attempts": "0"}, {"timeout": "0"}, {"refused": "skip"}, {"region": ""}],
)  # fmt: skip
def test_impossible_options_are_refused(given):
    with pytest.raises(InvalidOption, match=next(iter(given))):
        build_options("nova", NovaOptions, given)


def test_an_answer_of_zeros_or_of_another_form_is_asked_for_again():
    for data in (b"", b"[]", b'{"embeddings": 3}', b'{"embeddings": [{"embedding": [0, 0]}]}'):
        with pytest.raises(Refusal) as caught:
            read_embedding(data, 2)
        assert caught.value.verdict == "retry"
    assert sort_error({}, NovaOptions()).verdict == "stop"
