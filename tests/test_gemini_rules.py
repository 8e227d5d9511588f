"""Rules of the Gemini encoder that need neither PyAV nor google-genai: options, refusals, pacing, keys."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from blemore_harness.errors import ConfigError, InvalidOption
from blemore_harness.options import build_options
from blemore_plugins.gemini import GeminiEncoder, GeminiOptions
from blemore_plugins.gemini.client import GOOGLE, find_address, find_key, read_vector
from blemore_plugins.gemini.refusals import sort_answer
from blemore_plugins.hosted.endpoints import Endpoint
from blemore_plugins.hosted.pace import LONGEST_DELAY, Pace
from blemore_plugins.hosted.refusals import Refusal, scrub
from gemini_service import FakeTime, quota_failure, retry_info


def test_importing_the_plugin_loads_nothing_heavy():
    code = (
        "import sys, blemore_plugins.gemini; "
        "print([name for name in ('av', 'google.genai', 'torch', 'httpx2', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_stand_in_is_marked_and_google_is_not():
    assert GeminiEncoder().caveat(GeminiOptions(service="stand-in")) == "stand-in embeddings"
    assert GeminiEncoder().caveat(GeminiOptions()) is None
    assert build_options("gemini", GeminiOptions, GeminiEncoder.demo_options).service == "stand-in"


@pytest.mark.parametrize(
    "given",
    [
        {"seconds": "-1"},
        {"seconds": "121"},
        {"start": "-0.1"},
        {"fps": "0"},
        {"fps": "25"},
        {"dimensions": "64"},
        {"dimensions": "4096"},
        {"workers": "0"},
        {"attempts": "0"},
        {"timeout": "0"},
        {"audio": "loud"},
        {"model": " "},
        {"service": "bing"},
    ],
)
def test_impossible_options_are_refused(given):
    with pytest.raises(InvalidOption, match=next(iter(given))):
        build_options("gemini", GeminiOptions, given)


def test_options_as_typed():
    options = build_options("gemini", GeminiOptions, {"fps": "none", "seconds": "0", "consent": "yes", "audio": "part"})
    assert options.fps is None
    assert options.inputs == ("video+audio",)
    assert options.consent


def test_what_names_a_vector_and_what_does_not():
    base = GeminiOptions()
    same = GeminiOptions(consent=True, workers=1, attempts=2, timeout=1.0, dimensions=768, refused="zero", seconds=2)
    assert same.facts("video", "google") == base.facts("video", "google")
    others = [
        GeminiOptions(model="x"),
        GeminiOptions(api_version="v1"),
        GeminiOptions(start=1.0),
        GeminiOptions(seconds=3.0),
        GeminiOptions(fps=2.0),
        GeminiOptions(prompt="x"),
    ]
    facts = [base.facts("video", "google"), base.facts("sound", "google"), base.facts("video", "stand-in 1")]
    facts += [option.facts("video", "google") for option in others]
    assert len({str(sorted(fact.items(), key=str)) for fact in facts}) == len(facts)


def test_the_first_key_of_the_environment_wins(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "second")
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    assert find_key() == "second"
    monkeypatch.setenv("GOOGLE_API_KEY", " first\n")
    assert find_key() == "first"


def test_the_address_comes_from_the_option_the_environment_or_google(monkeypatch):
    monkeypatch.delenv("GOOGLE_GEMINI_BASE_URL", raising=False)
    assert find_address(GeminiOptions()) == GOOGLE
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1/")
    assert find_address(GeminiOptions()) == "http://127.0.0.1:1"
    assert find_address(GeminiOptions(base_url="https://example.org")) == "https://example.org"
    with pytest.raises(ConfigError, match="https://"):
        find_address(GeminiOptions(base_url="example.org"))


def test_an_endpoint_does_not_show_its_key():
    assert "s3cret" not in repr(Endpoint("http://127.0.0.1", "s3cret"))
    assert scrub("a s3cret b s3cret", "s3cret") == "a [key] b [key]"


def answer(code, status="", details=(), headers=None):
    body = {"error": {"code": code, "status": status, "message": "said", "details": list(details)}}
    return sort_answer(code, body, headers or {}, "m")


@pytest.mark.parametrize(
    ("refusal", "verdict", "delay"),
    [
        (answer(429), "retry", None),
        (answer(429, details=[retry_info("34.074824224s")]), "retry", 34.074824224),
        (answer(429, details=[retry_info("0s")], headers={"Retry-After": "9"}), "retry", 0.0),
        (answer(429, headers={"retry-after": "9"}), "retry", 9.0),
        (answer(429, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}), "retry", None),
        (answer(429, details=[retry_info("soon")]), "retry", None),
        (answer(429, details=[quota_failure("RequestsPerMinute"), retry_info("5s")]), "retry", 5.0),
        (answer(429, details=[quota_failure("RequestsPerDay"), retry_info("5s")]), "stop", 5.0),
        (answer(429, details=[{"violations": [{"quotaMetric": "x/requests_per_day"}]}]), "stop", None),
        (answer(429, details=[{"metadata": {"quota_limit": "EmbedPerDayPerProject"}}]), "stop", None),
        (answer(429, details=[retry_info("3601s")]), "stop", 3601.0),
        (answer(503, headers={"Retry-After": "2"}), "retry", 2.0),
        (answer(504), "retry", None),
        (answer(413), "refused", None),
        (answer(400, "INVALID_ARGUMENT"), "refused", None),
        (answer(400, "FAILED_PRECONDITION"), "stop", None),
        (sort_answer(400, [{"error": {"status": "FAILED_PRECONDITION"}}], {}, "m"), "stop", None),
        (sort_answer(500, "<html>", {}, "m"), "retry", None),
        (sort_answer(418, None, {}, "m"), "stop", None),
        (sort_answer(301, {"message": "moved"}, {}, "m"), "stop", None),
    ],
)
def test_answers_are_sorted_by_what_to_do(refusal, verdict, delay):
    assert (refusal.verdict, refusal.delay) == (verdict, delay)


def test_what_a_service_says_is_kept_short():
    refusal = sort_answer(400, {"error": {"message": "x\ny " * 500, "status": "INVALID_ARGUMENT"}}, {}, "m")
    assert len(refusal.reason) < 400
    assert "\n" not in refusal.reason


def test_a_wait_that_the_service_asks_for_holds_everybody_and_back_off_only_one():
    time, lines = FakeTime(), []
    pace = Pace("gemini", 0, lines.append, time.clock, time.sleep)
    pace.back_off(1, 30.0, "quota")
    assert time.now == 30.5
    pace.back_off(1, None, "load")
    assert 31 <= time.now <= 31.5
    before = time.now
    pace.wait_for_turn()
    assert time.now == before
    pace.back_off(2, None, "load")
    assert lines == ["gemini: waiting 30 s as the service asks (quota)", "gemini: trying again soon (load)"]


def test_back_off_doubles_up_to_a_limit_and_is_the_same_for_a_seed():
    def delays(seed):
        time = FakeTime()
        pace = Pace("gemini", seed, lambda _: None, time.clock, time.sleep)
        for attempt in range(1, 12):
            pace.back_off(attempt, None, "load")
        return time.slept

    assert delays(1) == delays(1) != delays(2)
    limits = [min(LONGEST_DELAY, 2.0**k) for k in range(11)]
    assert all(limit / 2 <= delay <= limit for delay, limit in zip(delays(1), limits, strict=True))


def test_a_stopped_pace_wakes_who_waits():
    pace = Pace("gemini", 0, lambda _: None)
    pace.stop()
    pace.back_off(9, None, "load")
    pace.back_off(1, 500.0, "quota")
    assert pace.stopped


def test_a_vector_is_checked():
    vector = np.arange(3072.0)
    vector /= np.linalg.norm(vector)
    assert np.allclose(read_vector([vector.tolist()]), vector, atol=1e-7)
    with pytest.raises(Refusal, match="numbers"):
        read_vector([["a"] * 3072])
    with pytest.raises(Refusal, match="found 0"):
        read_vector([None])
