"""The stand-in service: as strict as the real one, deterministic, and enough for the demo."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("google.genai")

from blemore_plugins.gemini import GeminiEncoder, GeminiOptions
from blemore_plugins.gemini.standin import serve
from blemore_plugins.hosted import embedder as statistics
from blemore_plugins.hosted.embedder import Embedder, count_edges, read_frames
from gemini_service import make_clips, make_context

pytestmark = pytest.mark.encoders

ADDRESS = "/v1beta/models/gemini-embedding-2:batchEmbedContents"


def test_the_real_client_gets_vectors_without_key_or_consent(tmp_path, monkeypatch):
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    # A proxy of the environment must not be asked for what stays on this machine.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    clips, options = make_clips(tmp_path / "clips", 3, sound=True), GeminiOptions(service="stand-in", audio="part")
    context = make_context(tmp_path)
    GeminiEncoder().prepare(clips, options, context)
    values = GeminiEncoder().embed(clips, options, context).values
    assert values.shape == (3, 3072)
    assert np.allclose(np.linalg.norm(values, axis=1), 1)
    assert not [thread for thread in threading.enumerate() if thread.name == "gemini-stand-in"]
    again = make_context(tmp_path / "again")
    GeminiEncoder().prepare(clips, options, again)
    assert np.array_equal(values, GeminiEncoder().embed(clips, options, again).values)


def test_its_vectors_are_never_taken_for_the_services(tmp_path):
    clips, context = make_clips(tmp_path / "clips", 1), make_context(tmp_path)
    GeminiEncoder().prepare(clips, GeminiOptions(service="stand-in"), context)
    (folder,) = {path.parent for path in (tmp_path / "cache" / "gemini").rglob("*.npy")}
    assert json.loads((folder / "settings.json").read_text())["origin"].startswith("stand-in")


def post(endpoint, body, path=ADDRESS, key=None):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(endpoint.address + path, data, {"x-goog-api-key": key or endpoint.key})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def video_part(data="AAAA", mime="video/mp4", **more):
    return {"inline_data": {"mime_type": mime, "data": data}, **more}


def request(parts, model="models/gemini-embedding-2", **more):
    return {"requests": [{"model": model, "content": {"parts": parts}, **more}]}


@pytest.mark.parametrize(
    ("body", "path", "key", "code", "status"),
    [
        (request([video_part()]), ADDRESS, "wrong", 403, "PERMISSION_DENIED"),
        (request([video_part()]), "/v1beta/models/x:predict", None, 404, "NOT_FOUND"),
        (b"{", ADDRESS, None, 400, "INVALID_ARGUMENT"),
        ({"requests": []}, ADDRESS, None, 400, "INVALID_ARGUMENT"),
        ({"requests": [1]}, ADDRESS, None, 400, "INVALID_ARGUMENT"),
        (request([video_part()], model="models/other"), ADDRESS, None, 400, "INVALID_ARGUMENT"),
        (request([video_part()], outputDimensionality=64), ADDRESS, None, 400, "INVALID_ARGUMENT"),
        (request([]), ADDRESS, None, 400, "INVALID_ARGUMENT"),
        (request([{"text": "only words"}]), ADDRESS, None, 400, "INVALID_ARGUMENT"),
        (request([1]), ADDRESS, None, 400, "INVALID_ARGUMENT"),
        (request([video_part(mime="video/x-matroska")]), ADDRESS, None, 400, "INVALID_ARGUMENT"),
        (request([video_part(), video_part()]), ADDRESS, None, 400, "INVALID_ARGUMENT"),
        (request([video_part(data="a+b/")]), ADDRESS, None, 400, "INVALID_ARGUMENT"),
        (request([video_part(data="AAAA")]), ADDRESS, None, 400, "INVALID_ARGUMENT"),
        (request([video_part(mime="audio/wav")]), ADDRESS, None, 400, "INVALID_ARGUMENT"),
        (request([video_part(video_metadata={"fps": 60})]), ADDRESS, None, 400, "INVALID_ARGUMENT"),
    ],
)
def test_bad_requests_are_answered_in_googles_format(body, path, key, code, status):
    with serve() as endpoint:
        found, answer = post(endpoint, body, path, key)
    assert found == code == answer["error"]["code"]
    assert answer["error"]["status"] == status
    assert answer["error"]["message"]


def test_a_vector_depends_on_what_is_seen_and_heard(tmp_path):
    from blemore_plugins.gemini.clipping import Window, cut_sound, cut_video

    first, second = make_clips(tmp_path, 2, sound=True).items
    embedder, window = Embedder(), Window(0, 0)
    seen, heard = cut_video(first, window), cut_sound(first, window)
    vectors = [
        embedder.embed(seen, None),
        embedder.embed(None, heard),
        embedder.embed(seen, heard),
        embedder.embed(cut_video(second, window), None),
    ]
    cosines = np.stack(vectors) @ np.stack(vectors).T
    assert np.allclose(np.diag(cosines), 1)
    assert (np.abs(cosines[~np.eye(4, dtype=bool)]) < 0.95).all()


def test_a_black_video_has_a_vector_too(tmp_path):
    embedder = Embedder()
    embedder_frames = np.zeros((3, statistics.SIDE, statistics.SIDE), np.float32)
    assert not any(block.any() for block in statistics.describe_pictures(embedder_frames).values())
    assert np.allclose(np.linalg.norm(embedder.embed(None, _silence())), 1)


def _silence():
    import io
    import wave

    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(200))
    return target.getvalue()


def test_edges_are_told_apart_by_direction():
    upright = np.zeros((1, 80, 80), np.float32)
    upright[:, :, 40:] = 1
    lying = upright.transpose(0, 2, 1)
    a, b = count_edges(upright), count_edges(lying)
    assert a.sum(axis=(0, 1, 2)).argmax() == 0
    assert b.sum(axis=(0, 1, 2)).argmax() == a.shape[-1] // 2


def test_few_frames_are_enough(tmp_path):
    from blemore_plugins.gemini.clipping import Window, cut_video

    (clip,) = make_clips(tmp_path, 1, seconds=0.1).items
    data = cut_video(clip, Window(0, 0))
    assert read_frames(data).shape == (1, 80, 80)
    assert np.isfinite(Embedder().embed(data, None)).all()
