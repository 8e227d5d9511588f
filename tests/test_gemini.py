"""The Gemini encoder against a scripted service on loopback, through the real google-genai client."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("google.genai")

from audio_files import in_order, write_times
from blemore_harness.clips import Clip, Clips
from blemore_harness.errors import ConfigError, MediaError, ServiceError
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


def test_retry_after_is_honoured_where_there_is_no_retry_info(clips, tmp_path):
    time = FakeTime()
    with serving([google_error(429, "RESOURCE_EXHAUSTED", headers={"Retry-After": "7"})]) as service:
        time.encoder().prepare(clips, options(service), make_context(tmp_path))
    assert [round(seconds - 0.5) for seconds in time.slept] == [7]


@pytest.mark.parametrize(
    "details",
    [
        [quota_failure("EmbedContentRequestsPerDayPerProjectPerModel-FreeTier"), retry_info("12s")],
        [quota_failure("SpendCap")],
        [quota_failure("EmbedContentPerMinute", value="0"), retry_info("12s")],
        [retry_info("43000s")],
    ],
)
def test_a_quota_that_waiting_does_not_refill_stops_at_once_and_keeps_what_is_there(clips, tmp_path, details):
    time = FakeTime()
    full = google_error(429, "RESOURCE_EXHAUSTED", "quota", details)
    with serving([None, None, full]) as service:
        with pytest.raises(ServiceError, match=r"quota.*2 new embeddings are kept"):
            time.encoder().prepare(clips, options(service), make_context(tmp_path))
        assert len(service.requests) == 3
        assert not time.slept
        time.encoder().prepare(clips, options(service), make_context(tmp_path))
    assert len(service.requests) == 5
    assert set(service.paid.values()) == {1}
    assert len(service.paid) == len(clips)


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        (google_error(401, "UNAUTHENTICATED"), "key is not accepted"),
        (google_error(403, "PERMISSION_DENIED", f"consumer 'api_key:{KEY}' has been suspended"), "key is not accepted"),
        (
            google_error(400, "INVALID_ARGUMENT", "API key not valid.", [{"reason": "API_KEY_INVALID"}]),
            "key is not accepted",
        ),
        (google_error(400, "FAILED_PRECONDITION", "location not supported"), "billing"),
        (google_error(404, "NOT_FOUND"), r"gemini\.model.*gemini\.api_version"),
        (google_error(405, "UNIMPLEMENTED"), "405"),
    ],
)
def test_what_no_clip_can_pass_stops_at_once(clips, tmp_path, reply, hint):
    time = FakeTime()
    with serving([reply]) as service, pytest.raises(ServiceError, match=hint):
        time.encoder().prepare(clips, options(service), make_context(tmp_path))
    assert len(service.requests) == 1
    assert not time.slept


@pytest.mark.parametrize(
    "reply",
    [
        google_error(500, "INTERNAL"),
        google_error(503, "UNAVAILABLE"),
        google_error(408, "CANCELLED"),
        Reply(502, b"<html>bad gateway</html>"),
        Reply(200, b"<html>a proxy's page</html>"),
        Reply(half=True),
    ],
)
def test_what_passes_is_tried_again(clips, tmp_path, reply):
    time = FakeTime()
    with serving([reply, reply]) as service:
        time.encoder().prepare(clips, options(service), make_context(tmp_path))
    assert len(service.requests) == len(clips) + 2
    assert len(time.slept) == 2
    assert 0.5 <= time.slept[0] <= 1 <= time.slept[1] <= 2


def test_a_hang_ends_at_the_time_limit(clips, tmp_path):
    # A busy machine may need more time for the answer that does come.
    for limit in (2.0, 20.0, 200.0):
        with serving([Reply(hang=True)]) as service:
            context = make_context(tmp_path / str(limit))
            FakeTime().encoder().prepare(clips.take([0]), options(service, timeout=limit), context)
        if len(service.requests) == 2:
            break
    assert len(service.requests) == 2


def test_an_unreachable_host_gives_up_with_one_clear_line(clips, tmp_path):
    with serving() as service:
        chosen = options(service, attempts=2)
    with pytest.raises(ServiceError, match=r"gave up after 2 attempts.*nothing is lost"):
        FakeTime().encoder().prepare(clips, chosen, make_context(tmp_path))


def test_a_service_that_is_down_is_not_asked_for_every_clip(tmp_path):
    many = make_clips(tmp_path / "clips", 8, seconds=0.2)
    with serving(lambda *_: google_error(503, "UNAVAILABLE")) as service, pytest.raises(ServiceError, match="in a row"):
        FakeTime().encoder().prepare(many, options(service, attempts=2), make_context(tmp_path))
    assert len(service.requests) <= 12


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


def test_a_refused_clip_is_named_after_all_others_are_done(clips, tmp_path):
    time = FakeTime()
    with serving([None, google_error(400, "INVALID_ARGUMENT", "bad video")]) as service:
        context = make_context(tmp_path)
        with pytest.raises(MediaError, match=r"refuses 1 clip \(first: 'c1'\).*bad video.*refused=zero") as caught:
            time.encoder().prepare(clips, options(service), context)
        assert caught.value.clip == "c1"
        assert len(service.paid) == 3
        # Going on without it: it is not sent again, has a row of zeros, and the record says so.
        chosen = options(service, refused="zero")
        time.encoder().prepare(clips, chosen, context)
        assert len(service.requests) == 4
        rows = time.encoder().embed(clips, chosen, context).values
        assert context.reporter.notes["embeddings of zeros"] == ["c1"]
        assert [not row.any() for row in rows] == [False, True, False, False]
        # Or once more, now that it is taken.
        time.encoder().prepare(clips, options(service), context)
    assert len(service.requests) == 5
    assert set(service.paid.values()) == {1}


def test_refusals_alone_are_blamed_on_the_request(tmp_path):
    many = make_clips(tmp_path / "clips", 8, seconds=0.2)
    with (
        serving(lambda *_: google_error(400, "INVALID_ARGUMENT", "no such field")) as service,
        pytest.raises(ServiceError, match=r"5 clips in a row.*no such field"),
    ):
        FakeTime().encoder().prepare(many, options(service), make_context(tmp_path))
    assert len(service.requests) <= 7
    assert not list(tmp_path.rglob("*-refused.npy"))


def test_a_broken_file_is_named_after_all_others_are_done(clips, tmp_path):
    from blemore_harness.clips import Clip, Clips

    broken = tmp_path / "broken.mov"
    broken.write_bytes(b"not a video")
    mixed = Clips((Clip("bad", broken, {}, "0" * 64), *clips.items))
    with serving() as service, pytest.raises(MediaError, match="'bad'") as caught:
        GeminiEncoder().prepare(mixed, options(service), make_context(tmp_path))
    assert caught.value.clip == "bad"
    assert len(service.paid) == len(clips)


def test_a_redirect_is_not_followed(clips, tmp_path):
    with serving() as elsewhere:
        reply = Reply(307, {}, {"Location": f"{elsewhere.address}/v1beta/models/gemini-embedding-2:batchEmbedContents"})
        with serving([reply]) as service, pytest.raises(ServiceError, match="redirect"):
            GeminiEncoder().prepare(clips, options(service), make_context(tmp_path))
    assert len(service.requests) == 1
    assert not elsewhere.requests


def test_ctrl_c_keeps_what_is_on_its_way(clips, tmp_path):
    context = make_context(tmp_path)

    def interrupt(count=1):
        raise KeyboardInterrupt

    context.reporter.advance = interrupt
    with serving() as service:
        with pytest.raises(KeyboardInterrupt):
            GeminiEncoder().prepare(clips, options(service), context)
        asked = len(service.requests)
        GeminiEncoder().prepare(clips, options(service), make_context(tmp_path))
    assert 1 <= asked < len(clips)
    assert set(service.paid.values()) == {1}


CHILD = """
import sys
from pathlib import Path
from blemore_plugins.gemini import GeminiEncoder, GeminiOptions
from blemore_plugins.gemini.extraction import list_items
from gemini_service import make_clips, make_context
folder, address = Path(sys.argv[1]), sys.argv[2]
options = GeminiOptions(consent=True, base_url=address, workers=1)
GeminiEncoder().prepare(make_clips(folder / "clips", 4), options, make_context(folder))
"""


@pytest.mark.slow
def test_a_killed_extraction_goes_on_and_pays_nothing_twice(clips, tmp_path):
    with serving([None, None, Reply(hang=True)]) as service:
        command = [sys.executable, "-c", CHILD, str(tmp_path), service.address]
        paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
        # The third request may leave while the second vector is being written down.
        while len(service.requests) < 3 or len(list((tmp_path / "cache" / "gemini").rglob("*.npy"))) < 2:
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        GeminiEncoder().prepare(make_clips(tmp_path / "clips", 4), options(service), make_context(tmp_path))
    assert len(service.requests) == 5
    assert sorted(service.paid.values()) == [1, 1, 1, 1]


def test_the_same_video_twice_is_paid_once(clips, tmp_path):
    from blemore_harness.clips import Clip, Clips

    first = clips.items[0]
    twins = Clips((first, Clip("twin", first.video_file, {}, first.content)))
    with serving() as service:
        context = make_context(tmp_path)
        GeminiEncoder().prepare(twins, options(service), context)
        rows = GeminiEncoder().embed(twins, options(service), context).values
    assert len(service.requests) == 1
    assert np.array_equal(rows[0], rows[1])


QUOTE = f"the key {KEY} again"


@pytest.mark.parametrize(
    "replies",
    [
        [],
        [google_error(400, "INVALID_ARGUMENT", QUOTE)],
        [google_error(403, "PERMISSION_DENIED", QUOTE)],
        [google_error(404, "NOT_FOUND", QUOTE)],
        [google_error(429, "RESOURCE_EXHAUSTED", QUOTE, [quota_failure(f"PerDay-{KEY}")])],
        [google_error(429, "RESOURCE_EXHAUSTED", QUOTE, [retry_info("3s")])],
        [google_error(503, "UNAVAILABLE", QUOTE)] * 9,
        [Reply(half=True)] * 9,
        [Reply(307, {}, {"Location": "http://127.0.0.1:9/"})],
        [Reply(200, f"no JSON but {KEY}".encode())] * 9,
        [Reply(hang=True)] * 9,
    ],
)
def test_the_key_is_printed_and_kept_nowhere(clips, tmp_path, replies, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    context = make_context(tmp_path)
    told = ""
    with serving(replies) as service:
        given = {"attempts": 2, "timeout": 0.2} if replies and replies[0].hang else {}
        try:
            FakeTime().encoder().prepare(clips.take([0]), options(service, **given), context)
        except (ServiceError, MediaError) as error:
            told = "".join(traceback.format_exception(error)) + repr(error)
            link = error
            while link is not None:
                told += repr(vars(link)) + repr(link.args)
                link = link.__cause__ or link.__context__
    assert service.requests[0]["headers"]["x-goog-api-key"] == KEY
    seen = capfd.readouterr()
    told += seen.out + seen.err + caplog.text + repr(context.reporter.lines) + repr(context.reporter.notes)
    assert KEY not in told
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()
        assert KEY not in file.name


def test_two_extractions_of_the_same_vectors_take_turns(clips, tmp_path):
    import threading

    with serving() as service:
        jobs = [
            threading.Thread(target=GeminiEncoder().prepare, args=(clips, options(service), make_context(tmp_path)))
            for _ in range(3)
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
    assert len(service.requests) == len(clips)


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
