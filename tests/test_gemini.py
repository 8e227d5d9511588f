"""The Gemini encoder against a scripted service on loopback, through the real google-genai client."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("google.genai")

from audio_files import in_order, write_times
from blemore_harness.clips import Clip, Clips
from blemore_harness.errors import ConfigError, ServiceError
from blemore_plugins.gemini import GeminiEncoder, GeminiOptions
from blemore_plugins.gemini.extraction import list_items
from gemini_service import (
    KEY,
    FakeTime,
    Reply,
    google_error,
    make_clips,
    make_context,
    quota_failure,
    retry_info,
    serving,
    turn,
    vector_of,
    with_cover,
    write_colours,
    write_video,
)

pytestmark = pytest.mark.encoders


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("clips"), 4)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    monkeypatch.delenv("GOOGLE_GEMINI_BASE_URL", raising=False)


def options(service, **given):
    return GeminiOptions(**{"consent": True, "base_url": service.address, "workers": 1, "timeout": 60.0, **given})


def sent_media(request):
    import base64

    parts = request["body"]["requests"][0]["content"]["parts"]
    return [base64.urlsafe_b64decode(part["inline_data"]["data"]) for part in parts if "inline_data" in part]


def test_one_request_and_one_vector_per_clip(clips, tmp_path):
    with serving() as service:
        context, chosen = make_context(tmp_path), options(service, workers=3)
        GeminiEncoder().prepare(clips, chosen, context)
        embeddings = GeminiEncoder().embed(clips, chosen, context)
    assert len(service.requests) == len(clips)
    expected = {tuple(vector_of(sent_media(request)).astype(np.float32)) for request in service.requests}
    assert embeddings.values.shape == (4, 3072)
    assert np.allclose(sorted(expected), sorted(map(tuple, embeddings.values)), atol=1e-6)
    assert context.reporter.done == len(clips)
    assert len(context.reporter.notes["embeddings made"]) == 2


def test_what_is_on_the_wire(clips, tmp_path):
    with serving() as service:
        chosen = options(service, fps=8.0, prompt="a face", timeout=7.2)
        GeminiEncoder().prepare(clips.take([0]), chosen, make_context(tmp_path))
    (request,) = service.requests
    assert request["path"] == "/v1beta/models/gemini-embedding-2:batchEmbedContents"
    assert request["headers"]["x-goog-api-key"] == KEY
    assert KEY not in request["path"]
    (item,) = request["body"]["requests"]
    assert item["outputDimensionality"] == 3072
    text, video = item["content"]["parts"]
    assert text == {"text": "a face"}
    assert video["inline_data"]["mime_type"] == "video/mp4"
    assert video["video_metadata"] == {"fps": 8.0}
    assert "c0" not in json.dumps(request["body"]).replace(video["inline_data"]["data"], "")


def test_the_window_is_what_is_sent(tmp_path):
    import io

    import av

    long = make_clips(tmp_path / "clips", 1, seconds=3.0)
    with serving() as service:
        GeminiEncoder().prepare(long, options(service), make_context(tmp_path))
        GeminiEncoder().prepare(long, options(service, seconds=0.0), make_context(tmp_path))
        GeminiEncoder().prepare(long, options(service, start=1.0, seconds=0.5), make_context(tmp_path))
    counts = []
    for request in service.requests:
        with av.open(io.BytesIO(sent_media(request)[0])) as file:
            counts.append(len(list(file.decode(video=0))))
    assert counts == [20, 30, 5]


def test_sound_beside_the_picture_is_one_vector_and_apart_is_two(tmp_path):
    loud = make_clips(tmp_path / "clips", 2, sound=True)
    context = make_context(tmp_path)
    with serving() as service:
        encoder = GeminiEncoder()
        encoder.prepare(loud, options(service), context)
        encoder.prepare(loud, options(service, audio="part"), context)
        assert encoder.embed(loud, options(service, audio="part"), context).values.shape == (2, 3072)
        assert len(service.requests) == 4
        # The picture's own vector is already there: only the audio is asked for.
        encoder.prepare(loud, options(service, audio="separate"), context)
        both = encoder.embed(loud, options(service, audio="separate", dimensions=768), context).values
    kinds = [[part["inline_data"]["mime_type"] for part in _parts(request)] for request in service.requests]
    assert kinds == [["video/mp4"]] * 2 + [["video/mp4", "audio/wav"]] * 2 + [["audio/wav"]] * 2
    assert both.shape == (2, 1536)
    assert np.allclose(np.linalg.norm(both.reshape(2, 2, 768), axis=2), 1)


def _parts(request):
    return request["body"]["requests"][0]["content"]["parts"]


def test_smaller_vectors_are_a_prefix_and_cost_nothing(clips, tmp_path):
    with serving() as service:
        context = make_context(tmp_path)
        GeminiEncoder().prepare(clips, options(service), context)
        GeminiEncoder().prepare(clips, options(service, dimensions=768), context)
        full = GeminiEncoder().embed(clips, options(service), context).values
        small = GeminiEncoder().embed(clips, options(service, dimensions=768), context).values
    assert len(service.requests) == len(clips)
    prefix = full[:, :768]
    assert np.allclose(small, prefix / np.linalg.norm(prefix, axis=1, keepdims=True), atol=1e-6)


def test_works_offline_from_the_cache(clips, tmp_path, monkeypatch):
    with serving() as service:
        chosen = options(service)
        GeminiEncoder().prepare(clips, chosen, make_context(tmp_path))
    monkeypatch.delenv("GOOGLE_API_KEY")
    offline = GeminiOptions(consent=False, base_url=chosen.base_url)
    GeminiEncoder().prepare(clips, offline, make_context(tmp_path))
    assert len(GeminiEncoder().embed(clips, offline, make_context(tmp_path)).ids) == len(clips)


def test_another_model_window_prompt_or_host_is_another_vector(clips, tmp_path):
    one = clips.take([0])
    with serving() as service, serving() as other:
        for given in ({}, {"model": "gemini-embedding-3"}, {"seconds": 0.3}, {"prompt": "x"}, {"fps": 2.0}):
            GeminiEncoder().prepare(one, options(service, **given), make_context(tmp_path))
        GeminiEncoder().prepare(one, options(other), make_context(tmp_path))
    assert len(service.requests) == 5
    assert len(other.requests) == 1


def test_no_consent_no_request(clips, tmp_path):
    with serving() as service, pytest.raises(ConfigError, match=r"gemini\.consent=true"):
        GeminiEncoder().prepare(clips, options(service, consent=False), make_context(tmp_path))
    assert not service.requests


@pytest.mark.parametrize("value", [None, "  ", "two words", "ключ"])
def test_no_usable_key_is_one_clear_line_without_its_value(clips, tmp_path, monkeypatch, value):
    monkeypatch.delenv("GOOGLE_API_KEY")
    if value is not None:
        monkeypatch.setenv("GEMINI_API_KEY", value)
    with serving() as service, pytest.raises(ConfigError, match="GEMINI_API_KEY") as caught:
        GeminiEncoder().prepare(clips, options(service), make_context(tmp_path))
    assert not service.requests
    assert value is None or value.strip() == "" or value not in str(caught.value)


def test_a_minute_quota_is_waited_for_as_the_service_says(clips, tmp_path):
    busy = google_error(429, "RESOURCE_EXHAUSTED", "slow down", [quota_failure("EmbedPerMinute"), retry_info("34s")])
    time = FakeTime()
    with serving([None, busy]) as service:
        context = make_context(tmp_path)
        time.encoder().prepare(clips, options(service), context)
    assert [round(seconds) for seconds in time.slept] == [34]
    assert time.slept[0] >= 34
    assert any("34 s" in line for line in context.reporter.lines)
    assert len(service.requests) == len(clips) + 1
    assert set(service.paid.values()) == {1}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], "found 0"),
        ([[1.0] + [0.0] * 3071] * 2, "found 2"),
        ([[1.0] + [0.0] * 767], "3072.* 768"),
        ([[0.5] * 3072], "length 1"),
    ],
)
def test_an_answer_of_the_wrong_shape_is_refused(clips, tmp_path, values, expected):
    body = json.dumps({"embeddings": [{"values": row} for row in values]}).encode()
    context = make_context(tmp_path)
    with serving([Reply(200, body)]) as service, pytest.raises(ServiceError, match=expected):
        FakeTime().encoder().prepare(clips, options(service), context)
    assert not list((tmp_path / "cache" / "gemini").rglob(f"{clips.items[0].content}*.npy"))
    assert set(service.asked.values()) == {1}


@pytest.mark.parametrize("values", [[float("nan")] * 3072, [float("inf")] + [0.0] * 3071])
def test_an_answer_of_nan_is_asked_for_again(clips, tmp_path, values):
    body = json.dumps({"embeddings": [{"values": values}]}).encode()
    time, context = FakeTime(), make_context(tmp_path)
    with serving([Reply(200, body), Reply(200, body)]) as service:
        time.encoder().prepare(clips.take([0]), options(service), context)
    assert len(service.requests) == 3
    assert len(time.slept) >= 2
    assert np.isfinite(time.encoder().embed(clips.take([0]), options(service), context).values).all()
    with serving(lambda *_: Reply(200, body)) as service, pytest.raises(ServiceError, match=r"NaN.*after 3 attempts"):
        time.encoder().prepare(clips.take([1]), options(service, attempts=3), context)
    assert len(service.requests) == 3


@pytest.mark.parametrize("sound", ["none", "part", "separate"])
def test_a_vector_is_paid_again_only_where_other_bytes_are_sent(tmp_path, sound):
    """Embeddings of before lie in the store under the content alone."""
    plain, film = make_clips(tmp_path / "plain", 1, sound=True).items[0], tmp_path / "film.mov"
    write_video(film, 1, 1.0, sound=True, bf="3", g="30")
    covered = with_cover(tmp_path / "covered.mov", film, "png", attached=False)
    full = write_colours(tmp_path / "full.mov", "mjpeg", "yuvj420p")
    turned = turn(write_colours(tmp_path / "turned.mov", "mjpeg", "yuvj420p"))
    paths = [film, covered] + ([full, turned] if sound == "none" else [])
    everything = [plain, *(Clip(path.stem, path, {}, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths)]
    clips, context = Clips(tuple(everything)), make_context(tmp_path)
    with serving() as service:
        chosen = options(service, audio=sound)
        old = np.eye(3072, dtype=np.float32)
        for store in GeminiEncoder()._stores(chosen, context):
            for clip in clips:
                store.save(clip, old[0])
        FakeTime().encoder().prepare(clips, chosen, context)
        found = FakeTime().encoder().embed(clips, chosen, context).values
    kept = {clip.id: bool((row[:3072] == old[0]).all()) for clip, row in zip(clips, found, strict=True)}
    assert {name for name, same in kept.items() if not same} == {"covered", "full"} & kept.keys()
    assert sum(service.paid.values()) == (2 if sound == "none" else 1)


def test_audio_with_a_gap_is_sent_again(tmp_path):
    path = tmp_path / "gap.nut"
    clip, context = write_times(path, in_order((40, 3200))), make_context(tmp_path)
    with serving() as service:
        chosen = options(service, audio="separate")
        items = list_items([clip], GeminiEncoder()._stores(chosen, context), chosen, context.cache)
    assert [[item.part for item in kind] for kind in items] == [[""], ["-rule2"]]


def test_a_redirect_is_not_followed(clips, tmp_path):
    with serving() as elsewhere:
        reply = Reply(307, {}, {"Location": f"{elsewhere.address}/v1beta/models/gemini-embedding-2:batchEmbedContents"})
        with serving([reply]) as service, pytest.raises(ServiceError, match="redirect"):
            GeminiEncoder().prepare(clips, options(service), make_context(tmp_path))
    assert len(service.requests) == 1
    assert not elsewhere.requests


def test_the_environment_may_name_the_host(clips, tmp_path, monkeypatch):
    with serving() as service:
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", service.address)
        monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
        GeminiEncoder().prepare(clips.take([0]), GeminiOptions(consent=True), make_context(tmp_path))
    assert len(service.requests) == 1


def test_vectors_are_named_by_content(clips, tmp_path):
    with serving() as service:
        GeminiEncoder().prepare(clips, options(service), make_context(tmp_path))
    stored = {path.stem for path in (tmp_path / "cache" / "gemini").rglob("*.npy")}
    assert stored == {hashlib.sha256(clip.video.read_bytes()).hexdigest() for clip in clips}
