"""The judge against a scripted chat endpoint on loopback, through the real openai client."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import wave
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("PIL")
pytest.importorskip("openai")

from blemore_harness.clips import Clip, Clips, Fold
from blemore_harness.errors import ConfigError, MediaError, ServiceError
from blemore_plugins.judge import Judge, JudgeOptions
from blemore_plugins.judge.questions import LETTERS, NUMBERS, PAIRS, SETS, likely_blend, mix
from chat_service import MODEL, belief, chat_error, chatting, completion, last_text, read_media, says
from gemini_service import FakeTime, Reply, make_clips, make_context

pytestmark = pytest.mark.encoders

KEY = "sk-TEST-0123456789-do-not-print"


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("clips"), 4, sound=True)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def options(service, **given):
    return JudgeOptions(**{"model": MODEL, "url": f"{service.address}/v1", "workers": 1, "frames": 2, **given})


def quick():
    """The judge, waiting on a clock that only sleeping moves."""
    clock = FakeTime()
    return Judge(clock.pace), clock


def predict(judge, clips, chosen, context):
    judge.prepare(clips, chosen, context)
    model = judge.fit(Fold(0, Clips((), (), np.zeros((0, 6), np.int8)), clips), chosen, context)
    return model.predict(clips, context).values


def parts(request):
    return request["body"]["messages"][-1]["content"]


def sent_key(request):
    return {name.lower(): value for name, value in request["headers"].items()}["authorization"]


def test_beliefs_become_probabilities(clips, tmp_path):
    with chatting() as service:
        context = make_context(tmp_path)
        rows = predict(Judge(), clips, options(service, workers=3), context)
        asked = len(service.requests)
        assert np.array_equal(predict(Judge(), clips, options(service), make_context(tmp_path)), rows)
        assert len(service.requests) == asked  # the second time from the cache
    expected, ratios = [], [each for each in service.requests if "proportion" in last_text(each["body"])]
    for request in service.requests:
        if "proportion" not in last_text(request["body"]):
            sets = np.array(list(belief(read_media(request["body"]), LETTERS).values()))
            ratio = next((each for each in ratios if parts(each)[1:-1] == parts(request)[1:-1]), None)
            pair = likely_blend(sets)
            assert (ratio is None) == (pair is None)
            known = {} if ratio is None else {pair: np.array(list(belief(read_media(ratio["body"]), NUMBERS).values()))}
            expected.append(mix(sets, known))
    assert np.allclose(sorted(rows.tolist()), sorted(np.array(expected).tolist()))
    assert np.allclose(rows.sum(axis=1), 1)
    notes = context.reporter.notes["answers"]
    assert notes["model"] == [MODEL]
    assert notes["with log-probabilities"] == asked
    assert notes["tokens"] == 1001 * asked


def test_what_is_on_the_wire(clips, tmp_path):
    with chatting([says("A", {"A": 1.0, "B": 1e-9})]) as service:
        Judge().prepare(clips.take([0]), options(service, prompt="Look at {input}.", size=32), make_context(tmp_path))
    (request,) = service.requests
    body = request["body"]
    assert request["path"] == "/v1/chat/completions"
    assert sent_key(request) == f"Bearer {KEY}"
    assert (body["model"], body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (MODEL, True, 20, 16)
    text, one, two, sound, question = parts(request)
    assert text == {"type": "text", "text": "Look at 2 frames in order of time and the audio."}
    assert question["text"].startswith("Which emotion")
    from PIL import Image

    for picture in (one, two):
        head, _, data = picture["image_url"]["url"].partition(",")
        assert head == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (32, 32)
    assert sound["input_audio"]["format"] == "wav"
    with wave.open(io.BytesIO(base64.b64decode(sound["input_audio"]["data"]))) as file:
        assert (file.getframerate(), file.getnchannels()) == (16000, 1)
        assert file.getnframes() / 16000 == pytest.approx(0.5, abs=0.1)
    assert "c0" not in json.dumps([text, question, body["model"]])


@pytest.mark.parametrize(("given", "kinds"), [({"audio": False}, ["image_url"] * 2), ({"frames": 0}, ["input_audio"])])
def test_frames_and_audio_can_be_left_out(clips, tmp_path, given, kinds):
    with chatting([says("A", {"A": 1.0, "B": 1e-9})]) as service:
        Judge().prepare(clips.take([0]), options(service, **given), make_context(tmp_path))
    assert [part["type"] for part in parts(service.requests[0])][1:-1] == kinds


def test_a_certain_answer_is_the_label_and_needs_no_proportion_for_one_emotion(clips, tmp_path):
    sure = [says("D", {"D": 1.0, "A": 1e-9}), says("I", {"I": 1.0, "A": 1e-9}), says("3", {"3": 1.0, "1": 1e-9})]
    with chatting(sure) as service:
        rows = predict(Judge(), clips.take([0, 1]), options(service), make_context(tmp_path))
    assert len(service.requests) == 3
    assert SETS[LETTERS.index("I")] == (0, 3)
    assert np.allclose(rows, [[0, 0, 0, 1, 0, 0], [0.3, 0, 0, 0.7, 0, 0]], atol=1e-6)
    assert "blend of anger and happiness" in last_text(service.requests[2]["body"])


def test_without_log_probabilities_repeated_answers_are_counted(clips, tmp_path):
    letters = [says(letter) for letter in ("A", "A", "The answer is G.", "E")]
    numbers = [says(number) for number in ("1", "2", "1", "1")]
    with chatting([*letters, *numbers]) as service:
        context, chosen = make_context(tmp_path), options(service, samples=4)
        rows = predict(Judge(), clips.take([0]), chosen, context)
        assert len(service.requests) == 8
        more = replace(chosen, samples=5)  # one more of each: the others are kept
        predict(Judge(), clips.take([0]), more, make_context(tmp_path))
        assert len(service.requests) == 10
    assert SETS[LETTERS.index("G")] == PAIRS[0] == (0, 1)
    share = (3 * 0.7 + 0.5) / 4
    assert np.allclose(rows, [[0.5 + 0.25 * share, 0.25 * (1 - share), 0, 0, 0.25, 0]])
    assert context.reporter.notes["answers"]["repeated"] == 8


def test_log_probabilities_need_not_be_asked_for(clips, tmp_path):
    with chatting(lambda *_: says("F")) as service:
        rows = predict(Judge(), clips.take([0]), options(service, logprobs=False, samples=2), make_context(tmp_path))
    assert rows.tolist() == [[0, 0, 0, 0, 0, 1]]
    assert len(service.requests) == 2
    assert "logprobs" not in service.requests[0]["body"]


def test_reasoning_before_the_answer_is_left_out(clips, tmp_path):
    reply = says("<think> Is it A ? No. </think> Answer: B", {"B": 0.75, "F": 0.25})
    with chatting([reply]) as service:
        rows = predict(Judge(), clips.take([0]), options(service, max_tokens=500), make_context(tmp_path))
    assert np.allclose(rows, [[0, 0.75, 0, 0, 0, 0.25]])


def test_a_transcript_of_every_answer_can_be_read(clips, tmp_path):
    with chatting([says("I cannot tell."), says("D", {"D": 0.9, "A": 0.1})]) as service:
        Judge().prepare(clips.take([0]), options(service, price_in=2.0, price_out=8.0), make_context(tmp_path))
    (path,) = (tmp_path / "cache" / "judge").rglob("*-set-0.json")
    assert path.name == f"{hashlib.sha256(clips.items[0].video.read_bytes()).hexdigest()}-set-0.json"
    kept = json.loads(path.read_text())
    assert (kept["answer"], kept["choice"], kept["unreadable"]) == ("D", "D", ["I cannot tell."])
    assert (kept["tokens_in"], kept["tokens_out"], kept["cost"]) == (1000, 1, pytest.approx(0.002008))
    assert any("Which emotion" in part for part in kept["question"][-1]["content"])
    assert any(part.startswith("[JPEG, sha256 ") for part in kept["question"][-1]["content"])
    assert len(path.read_bytes()) < 5000
    calls = [json.loads(line) for line in (path.parent / "calls.jsonl").read_text().splitlines()]
    assert [call["tokens_in"] for call in calls] == [1000, 1000]  # the unreadable answer was paid for, too


# Examples


def fold_of(clips, train=3):
    labels = np.array([[100, 0, 0, 0, 0, 0], [70, 0, 0, 30, 0, 0], [0, 0, 0, 0, 0, 100]], np.int8)[:train]
    training = Clips(clips.items[:train], tuple(f"A{i}" for i in range(train)), labels)
    return Fold(0, training, Clips(clips.items[train:]))


def test_examples_come_from_the_training_clips_of_the_fold(clips, tmp_path):
    fold = fold_of(clips)
    with chatting() as service:
        context, chosen = make_context(tmp_path), options(service, examples=3)
        Judge().prepare(clips, chosen, context)
        assert not service.requests
        model = Judge().fit(fold, chosen, context)
        assert not service.requests
        rows = model.predict(fold.held_out, context).values
        first = service.requests[0]["body"]["messages"]
        assert [message["role"] for message in first] == ["user", "assistant"] * 3 + ["user"]
        assert sorted(message["content"] for message in first[1::2]) == ["A", "F", "I"]
        asked = len(service.requests)
        # The media of the question are those of the held-out clip, and of no example.
        shown = [json.dumps(message["content"][-4:-1]) for message in first[::2]]
        assert len(set(shown)) == 4
        # Saved and loaded it asks the same: nothing is asked again.
        (tmp_path / "model").mkdir()
        model.save(tmp_path / "model")
        again = Judge().load(tmp_path / "model", chosen, context).predict(fold.held_out, context).values
        assert np.array_equal(again, rows)
        assert len(service.requests) == asked
        # Another label of an example is another question.
        other = replace(fold.train, truth=np.roll(fold.train.labels, 1, axis=0))
        Judge().fit(replace(fold, train=other), chosen, context).predict(fold.held_out, context)
        assert len(service.requests) > asked


def test_examples_of_blends_are_asked_about_their_own_proportion(clips, tmp_path):
    fold = fold_of(clips)
    with chatting([says("K", {"K": 1.0, "A": 1e-9}), says("2", {"2": 1.0, "1": 1e-9})]) as service:
        context, chosen = make_context(tmp_path), options(service, examples=3)
        Judge().fit(fold, chosen, context).predict(fold.held_out, context)
    user, assistant, last = service.requests[1]["body"]["messages"]
    assert "blend of anger and happiness" in user["content"][-1]["text"]
    assert assistant["content"] == "1"
    assert "blend of disgust and fear" in last["content"][-1]["text"]


# Consent and keys


def test_a_remote_host_needs_consent_and_a_key_and_loopback_neither(clips, tmp_path, monkeypatch):
    remote = JudgeOptions(model="m", url="https://judge.example.org/v1")
    for some in (clips, Clips(())):
        with pytest.raises(ConfigError, match=r"judge\.example\.org.*judge\.consent=true"):
            Judge().prepare(some, remote, make_context(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="requires a key in OPENAI_API_KEY"):
        Judge().prepare(clips, replace(remote, consent=True), make_context(tmp_path))
    monkeypatch.setenv("MY_KEY", "two words")
    with pytest.raises(ConfigError, match="MY_KEY") as caught:
        Judge().prepare(clips, replace(remote, consent=True, key="MY_KEY"), make_context(tmp_path))
    assert "two words" not in str(caught.value)
    with chatting() as service:
        Judge().prepare(clips.take([0]), options(service), make_context(tmp_path))
    assert sent_key(service.requests[0]) == "Bearer none"


def test_no_model_is_said_before_anything_is_sent(clips, tmp_path):
    with chatting() as service, pytest.raises(ConfigError, match=r"judge\.model"):
        Judge().prepare(clips, options(service, model=" "), make_context(tmp_path))
    assert not service.requests


def test_answers_in_the_cache_need_neither_key_nor_consent_nor_network(clips, tmp_path):
    with chatting() as service:
        chosen = options(service)
        rows = predict(Judge(), clips, chosen, make_context(tmp_path))
    assert np.array_equal(predict(Judge(), clips, replace(chosen, workers=3), make_context(tmp_path)), rows)


def test_another_model_prompt_or_number_of_frames_is_another_question(clips, tmp_path):
    one, sure = clips.take([0]), lambda *_: says("A", {"A": 1.0, "B": 1e-9})
    with chatting(sure) as service, chatting(sure) as other:
        for given in ({}, {"model": "m2"}, {"prompt": "x"}, {"frames": 3}, {"size": 32}, {"audio": False},
                      {"temperature": 0.5}, {"max_tokens": 17}, {"quality": 50}, {}):  # fmt: skip
            Judge().prepare(one, options(service, **given), make_context(tmp_path))
        Judge().prepare(one, options(other), make_context(tmp_path))
    assert len(service.requests) == 9
    assert len(other.requests) == 1


# Budget


def test_a_budget_stops_before_it_is_exceeded_and_nothing_is_paid_twice(clips, tmp_path):
    sure = says("A", {"A": 1.0, "B": 1e-9})
    with chatting(lambda *_: sure) as service:
        judge, _ = quick()
        # Before the first answer a request may cost .0037 by a guess; then each costs .001001, and may cost .001016.
        chosen = options(service, price_in=1.0, price_out=1.0, budget=0.0042)
        judge.prepare(clips.take([0]), chosen, make_context(tmp_path))
        chosen = replace(chosen, budget=0.0031)
        with pytest.raises(ServiceError, match=r"budget of \$0\.0031 is.*judge\.budget.*2 new answers"):
            judge.prepare(clips, chosen, make_context(tmp_path))
        assert len(service.requests) == 3
        with pytest.raises(ServiceError, match="nothing is lost"):
            judge.prepare(clips, chosen, make_context(tmp_path))
        assert len(service.requests) == 3
        judge.prepare(clips, replace(chosen, budget=0.0050), make_context(tmp_path))
    assert len(service.requests) == 4
    assert set(service.paid.values()) == {1}


def test_a_budget_in_tokens_holds_for_requests_under_way(clips, tmp_path):
    sure = says("A", {"A": 1.0, "B": 1e-9})
    with chatting(lambda *_: sure) as service:
        judge, _ = quick()
        judge.prepare(clips.take([0]), options(service), make_context(tmp_path))
        with pytest.raises(ServiceError, match=r"2,500 tokens.*judge\.budget_tokens"):
            judge.prepare(clips, options(service, budget_tokens=2500, workers=4), make_context(tmp_path))
    assert sum(service.paid.values()) == 2


def test_a_budget_needs_an_endpoint_that_counts(clips, tmp_path):
    body = completion("A", {"A": 1.0, "B": 1e-9}) | {"usage": None}
    with chatting([Reply(200, body)] * 4) as service, pytest.raises(ServiceError, match="does not count tokens"):
        quick()[0].prepare(clips, options(service, budget_tokens=10**6), make_context(tmp_path))
    assert len(service.requests) == 1


# Faults


@pytest.mark.parametrize(
    ("reply", "times", "hint"),
    [
        (says("I cannot identify emotions of people."), 3, "I cannot identify"),
        (says(""), 3, "found 'nothing'"),
        (says(None, refusal="That would not be right."), 1, "That would not be right"),
        (chat_error(400, "bad image"), 1, "bad image"),
        (chat_error(413, "too large"), 1, "too large"),
    ],
)
def test_a_refused_clip_is_named_after_all_others_are_done(clips, tmp_path, reply, times, hint):
    judge, _ = quick()
    sure = says("A", {"A": 1.0, "B": 1e-9})
    with chatting([sure, *[reply] * times, *[sure] * 9]) as service:
        with pytest.raises(MediaError, match=rf"1 clip \(first: 'c1'\).*{hint}.*judge\.refused=uniform") as caught:
            judge.prepare(clips, options(service), make_context(tmp_path))
        assert caught.value.clip == "c1"
        asked = len(service.requests)
        context, equal = make_context(tmp_path), options(service, refused="uniform")
        rows = predict(judge, clips, equal, context)
        assert len(service.requests) == asked  # it was given up, and is not asked for again
        assert np.allclose(rows[1], 1 / 6)
        assert context.reporter.notes["clips with equal probabilities"] == ["c1"]
        # Or once more, now that there is an answer.
        judge.prepare(clips, options(service), make_context(tmp_path))
        assert len(service.requests) == asked + 1
        assert predict(judge, clips, equal, make_context(tmp_path))[1].argmax() == 0


def test_refusals_alone_are_blamed_on_the_request(tmp_path):
    many = make_clips(tmp_path / "clips", 8, seconds=0.2)
    with (
        chatting(lambda *_: chat_error(400, "logprobs is not supported")) as service,
        pytest.raises(ServiceError, match=r"5 clips in a row.*judge\.logprobs=false"),
    ):
        quick()[0].prepare(many, options(service, audio=False), make_context(tmp_path))
    assert len(service.requests) <= 7
    assert not list(tmp_path.rglob("*-refused.json"))


# The stand-in


def test_the_stand_in_answers_the_real_client_without_key_or_consent(clips, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    chosen = JudgeOptions(service="stand-in", model="stand-in", frames=2, size=64)
    rows = predict(Judge(), clips, chosen, make_context(tmp_path))
    assert np.array_equal(predict(Judge(), clips, chosen, make_context(tmp_path / "again")), rows)
    assert len(np.unique(rows.round(6), axis=0)) == len(clips)
    assert not [thread for thread in threading.enumerate() if thread.name == "judge-stand-in"]
    (settings,) = (tmp_path / "cache" / "judge").rglob("settings.json")
    assert json.loads(settings.read_text())["origin"].startswith("stand-in")


def test_the_stand_in_answers_as_the_most_similar_example(clips, tmp_path):
    chosen, context = JudgeOptions(service="stand-in", model="stand-in", examples=3, frames=2), make_context(tmp_path)
    fold = fold_of(clips)
    twins = Clips(tuple(Clip(f"twin{i}", clip.video_file, {}, clip.content) for i, clip in enumerate(fold.train)))
    rows = Judge().fit(fold, chosen, context).predict(twins, context).values
    assert rows.argmax(axis=1).tolist() == [0, 0, 5]
    assert rows[1, 3] > 0.2


@pytest.mark.parametrize(
    ("body", "path", "key", "code"),
    [
        ({"model": "stand-in", "messages": []}, "/v1/chat/completions", "wrong", 401),
        ({"model": "stand-in", "messages": []}, "/v1/completions", None, 404),
        (b"{", "/v1/chat/completions", None, 400),
        ({"model": "other", "messages": []}, "/v1/chat/completions", None, 404),
        ({"model": "stand-in", "messages": []}, "/v1/chat/completions", None, 400),
        ({"model": "stand-in", "messages": [{"role": "tool"}]}, "/v1/chat/completions", None, 400),
        ({"model": "stand-in", "messages": [{"role": "user", "content": "Well?"}]}, "/v1/chat/completions", None, 400),
        ({"model": "stand-in", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url":
          {"url": "data:image/jpeg;base64,AAAA"}}]}]}, "/v1/chat/completions", None, 400),
        ({"model": "stand-in", "messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio":
          {"data": "AAAA", "format": "wav"}}]}]}, "/v1/chat/completions", None, 400),
        ({"model": "stand-in", "top_logprobs": 21, "messages": [{"role": "user", "content": "A) x"}]},
         "/v1/chat/completions", None, 400),
    ],
)  # fmt: skip
def test_the_stand_in_rejects_what_an_endpoint_rejects(body, path, key, code):
    import urllib.error
    import urllib.request

    from blemore_plugins.judge.standin import serve

    with serve() as endpoint:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        address = endpoint.address.removesuffix("/v1") + path
        request = urllib.request.Request(address, data, {"Authorization": f"Bearer {key or endpoint.key}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with pytest.raises(urllib.error.HTTPError) as caught:
            opener.open(request)
        with caught.value as answer:
            assert answer.code == code
            assert json.loads(answer.read())["error"]["message"]
