"""Rules of the judge that need neither PyAV nor openai: questions, mapping, reading of answers, budget, options."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from blemore_harness.clips import Clip, Clips
from blemore_harness.errors import ConfigError, DataError, InvalidOption
from blemore_harness.options import build_options
from blemore_harness.protocol.grid import OFFICIAL_GRID
from blemore_harness.protocol.rules import decode, label_text
from blemore_plugins.hosted.budget import Budget, dollars
from blemore_plugins.hosted.endpoints import demand_consent, is_loopback
from blemore_plugins.hosted.extraction import note_call
from blemore_plugins.hosted.refusals import Refusal
from blemore_plugins.judge import Judge, JudgeOptions, choose_examples
from blemore_plugins.judge.asking import Ledger, kind_of
from blemore_plugins.judge.client import read_reply, sort_status
from blemore_plugins.judge.questions import (
    LEAST_BLEND,
    LETTERS,
    NUMBERS,
    PAIRS,
    SET_QUESTION,
    SETS,
    SHARES,
    answer_ratio,
    answer_set,
    ask_ratio,
    likely_blend,
    mix,
)
from blemore_plugins.judge.reading import find_alternatives, find_choice, read_probabilities


def legal_labels() -> list[tuple[int, ...]]:
    singles = [tuple(100 * (index == emotion) for index in range(6)) for emotion in range(6)]
    blends = []
    for one, two in PAIRS:
        for shares in SHARES:
            row = [0] * 6
            row[one], row[two] = shares
            blends.append(tuple(row))
    return singles + blends


def certain(label: tuple[int, ...]) -> tuple[np.ndarray, dict[tuple[int, int], np.ndarray]]:
    sets = np.eye(len(SETS))[LETTERS.index(answer_set(label))]
    number = answer_ratio(label)
    pair = SETS[int(sets.argmax())]
    return sets, {} if number is None else {pair: np.eye(3)[NUMBERS.index(number)]}


def test_there_are_36_legal_labels_in_16_sets() -> None:
    assert len(legal_labels()) == len(set(legal_labels())) == 36
    assert len(SETS) == len(LETTERS) == len(set(SETS)) == 16
    assert len({(answer_set(label), answer_ratio(label)) for label in legal_labels()}) == 36


@pytest.mark.parametrize("label", legal_labels(), ids=label_text)
def test_a_certain_judge_is_decoded_to_its_label(label: tuple[int, ...]) -> None:
    row = mix(*certain(label))
    assert np.allclose(row, np.array(label) / 100)
    alphas, betas = ([x for x in OFFICIAL_GRID if x < limit] for limit in (0.3, 0.4))
    assert len(alphas) == 6
    assert len(betas) == 8
    for alpha in alphas:
        for beta in betas:
            assert decode([row], float(alpha), float(beta))[0].tolist() == list(label)


def test_an_unsure_judge_gives_proportional_probabilities() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        labels = [legal_labels()[i] for i in rng.choice(36, 3, replace=False)]
        if len({answer_set(label) for label in labels}) < 3:
            continue
        weights = rng.dirichlet(np.ones(3))
        sets = sum(weight * certain(label)[0] for weight, label in zip(weights, labels, strict=True))
        ratios = {pair: row for label in labels for pair, row in certain(label)[1].items()}
        expected = sum(weight * np.array(label) / 100 for weight, label in zip(weights, labels, strict=True))
        assert np.allclose(mix(sets, ratios), expected)
    half = mix(np.eye(16)[SETS.index((0, 2))], {(0, 2): np.array([0.5, 0.5, 0.0])})
    assert np.allclose(half, [0.6, 0, 0.4, 0, 0, 0])


def test_rows_are_probabilities_and_unknown_proportions_are_equal_shares() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        row = mix(rng.dirichlet(np.ones(16)), {PAIRS[3]: rng.dirichlet(np.ones(3))})
        assert math.isclose(row.sum(), 1)
        assert (row >= 0).all()
    assert np.allclose(mix(np.eye(16)[SETS.index((1, 4))], {}), [0, 0.5, 0, 0, 0.5, 0])


def test_the_proportion_is_asked_of_the_most_probable_blend() -> None:
    sets = np.zeros(16)
    sets[0], sets[SETS.index((1, 2))], sets[SETS.index((0, 4))] = 0.5, 0.3, 0.2
    assert likely_blend(sets) == (1, 2)
    assert likely_blend(np.eye(16)[3]) is None
    sets = np.eye(16)[0] * (1 - LEAST_BLEND) + np.eye(16)[9] * LEAST_BLEND
    assert likely_blend(sets) == SETS[9]


def test_questions_offer_every_answer_once() -> None:
    assert [line[:2] for line in SET_QUESTION.splitlines()[1:-1]] == [f"{letter})" for letter in LETTERS]
    assert "\nJ) anger and sadness\n" in SET_QUESTION
    assert "1) mostly fear: 70 % fear, 30 % sadness" in ask_ratio((2, 4))
    assert "3) mostly sadness: 30 % fear, 70 % sadness" in ask_ratio((2, 4))


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("B", "B"),
        (" B\n", "B"),
        ("(B)", "B"),
        ("**B**", "B"),
        ("B.", "B"),
        ("B) disgust", "B"),
        ("B - disgust", "B"),
        ("Answer: B", "B"),
        ("The answer is B.", "B"),
        ("The correct answer is **(B)**, because A and C do not fit.", "B"),
        ('{"answer": "B"}', "B"),
        ("<think>A smiles? C? The answer is C.</think>\nB", "B"),
        ("<think>A or C</think>The answer is: B", "B"),
        ("The answer is B because of the brows", "B"),
        ("I think that it is B", "B"),
        ("A person frowns; I choose B", "B"),
        ("A", "A"),
        ("A) anger", "A"),
        ("The answer could be A, but the final answer is B", "B"),
        ("It is between B and C", None),
        ("I cannot judge emotions of people.", None),
        ("A face is not enough to tell", None),
        ("<think>It may be B, or", None),
        ("", None),
        ("Q", None),
        ("anger", None),
    ],
)
def test_the_choice_is_found_in_what_models_write(text: str, choice: str | None) -> None:
    found = find_choice(text, LETTERS)
    assert (found[0] if found else None) == choice
    if found:
        assert text[found[1]] == choice


@pytest.mark.parametrize(
    ("text", "choice"), [("2", "2"), ("2) both equally", "2"), ("70 % anger", None), ("Answer: 3 (30 % / 70 %)", "3")]
)
def test_numbers_are_not_taken_for_percentages(text: str, choice: str | None) -> None:
    found = find_choice(text, NUMBERS)
    assert (found[0] if found else None) == choice


def token(text: str, **top: float) -> dict[str, object]:
    return {"token": text, "logprob": -0.2, "top_logprobs": [{"token": t, "logprob": v} for t, v in top.items()]}


def test_probabilities_are_of_the_token_that_makes_the_choice() -> None:
    text = "Not B. Answer: B"
    tokens = [token("Not"), token(" B", C=-1.0), token("."), token(" Answer"), token(":"), token(" B", A=-2.0, E=-3.0)]
    found = find_choice(text, LETTERS)
    assert found == ("B", 15)
    alternatives = find_alternatives(tokens, text, found[1], "B")
    assert alternatives == {" B": -0.2, "A": -2.0, "E": -3.0}
    row = read_probabilities(alternatives, LETTERS)
    weights = {"A": math.exp(-2), "B": math.exp(-0.2), "E": math.exp(-3)}
    assert np.allclose(row, [weights.get(letter, 0) / sum(weights.values()) for letter in LETTERS])


def test_spellings_of_a_choice_are_added_up_and_other_tokens_left_out() -> None:
    given = {"A": math.log(0.2), " A": math.log(0.1), "▁A": math.log(0.1), "(B": math.log(0.4), "The": math.log(0.1)}
    assert np.allclose(read_probabilities(given, "ABC"), [0.5, 0.5, 0])


@pytest.mark.parametrize(
    "tokens", [None, [], [1], [token("BC", A=-1.0)], [{"token": "B", "logprob": -0.1, "top_logprobs": []}], "B"]
)
def test_no_usable_log_probabilities_are_none(tokens: object) -> None:
    assert find_alternatives(tokens, "B", 0, "B") is None


def test_log_probabilities_that_are_no_numbers_are_left_out() -> None:
    tokens = [{"token": "B", "logprob": -0.5, "top_logprobs": [{"token": "A", "logprob": math.nan}, {"token": "C"}, 3,
                                                               {"token": "D", "logprob": -9999.0}]}]  # fmt: skip
    found = find_alternatives(tokens, "B", 0, "B")
    assert found == {"B": -0.5, "D": -9999.0}
    assert read_probabilities(found, LETTERS).tolist() == np.eye(16)[1].tolist()
    tokens[0]["logprob"] = -math.inf
    assert find_alternatives(tokens, "B", 0, "B") is None


def test_a_choice_that_the_endpoint_calls_all_but_impossible_has_a_probability() -> None:
    tokens = [{"token": "B", "logprob": -9999.0, "top_logprobs": [{"token": "The", "logprob": -0.1}]}]
    found = find_alternatives(tokens, "B", 0, "B")
    assert found is not None
    assert read_probabilities(found, LETTERS).tolist() == np.eye(16)[1].tolist()


def status(number: int, headers: dict[str, str] | None = None, **error: object) -> Refusal:
    return sort_status(number, {"message": "said", **error}, headers or {}, JudgeOptions(model="m", key="MY_KEY"))


@pytest.mark.parametrize(
    ("refusal", "verdict", "delay", "hint"),
    [
        (status(429, {"Retry-After": "9"}), "retry", 9.0, "429"),
        (status(429, {"retry-after": "3600"}), "stop", 3600.0, "quota"),
        (status(429, code="insufficient_quota"), "stop", None, "quota"),
        (status(402), "stop", None, "quota"),
        (status(408), "retry", None, "408"),
        (status(503, {"Retry-After": "2"}), "retry", 2.0, "503"),
        (status(401), "stop", None, "MY_KEY"),
        (status(403), "stop", None, "MY_KEY"),
        (status(404), "stop", None, "'m'"),
        (status(400), "refused", None, r"judge.logprobs=false"),
        (status(413), "refused", None, "said"),
        (status(307), "stop", None, "redirects"),
        (status(418), "stop", None, "418"),
        (sort_status(500, "<html>", {}, JudgeOptions()), "retry", None, "<html>"),
        (sort_status(400, {"error": {"message": "inner"}}, {}, JudgeOptions()), "refused", None, "inner"),
        (sort_status(503, None, {}, JudgeOptions()), "retry", None, "503"),
    ],
)
def test_answers_are_sorted_by_what_to_do(refusal: Refusal, verdict: str, delay: float | None, hint: str) -> None:
    assert (refusal.verdict, refusal.delay) == (verdict, delay)
    assert hint in refusal.reason


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"<html>", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": null}]}', b'"x"',
     b'{"choices": [{"message": {"content": [1]}}]}', b'{"choices": [{"message": {"content": "A"}}], "usage": 3}'],
)  # fmt: skip
def test_what_is_no_chat_completion_is_asked_for_again(data: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        read_reply(data)
    assert caught.value.verdict == "retry"


def test_a_budget_stops_before_it_is_exceeded() -> None:
    budget = Budget("judge.budget", 1.0, 0.5, dollars)
    with budget.reserve(0.3) as book:
        with pytest.raises(Refusal, match=r"\$1\.00.*\$0\.5000 is spent.*judge\.budget") as caught, budget.reserve(0.3):
            raise AssertionError
        assert caught.value.verdict == "stop"
        book(0.1)
    with budget.reserve(0.4):
        pass
    assert budget.spent == pytest.approx(0.6)
    with pytest.raises(Refusal), budget.reserve(0.41):
        pass
    with Budget("judge.budget", None, 1e9, dollars).reserve(1e9):
        pass


def test_requests_with_examples_are_not_estimated_by_those_without(tmp_path: Path) -> None:
    for examples, tokens in ((0, 900), (2, 2900)):
        note_call(tmp_path, Clip("c"), question="set", examples=examples, tokens_in=tokens, tokens_out=1)
    options = JudgeOptions(model="m", budget_tokens=10_000)
    ledger, messages = Ledger.open(tmp_path, options), [{"role": "user", "content": "x" * 8000}]
    found = [ledger.estimate(messages, kind_of("set", examples), options)[0] for examples in (0, 2, 16)]
    assert found == [900, 2900, 4050]  # of 16 there was none: half of the letters and 50
    assert ledger.tokens.spent == 3802


@pytest.mark.parametrize(
    "given",
    [
        {"url": "localhost:8000"},
        {"url": "http://"},
        {"url": "http://me:secret@localhost:8000/v1"},
        {"url": "http://[::1"},
        {"url": "http://localhost:port/v1"},
        {"examples": "-1"},
        {"frames": "-1"},
        {"size": "8"},
        {"quality": "0"},
        {"samples": "0"},
        {"temperature": "0"},
        {"max_tokens": "0"},
        {"price_in": "-1"},
        {"budget": "0", "price_in": "1"},
        {"budget": "5"},
        {"budget_tokens": "0"},
        {"frames": "0", "audio": "false"},
        {"workers": "0"},
        {"refused": "zero"},
    ],
)
def test_impossible_options_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(given))):
        build_options("judge", JudgeOptions, given)


def test_the_text_that_is_asked_is_in_the_identity() -> None:
    judge = Judge()
    plain = judge.identify(JudgeOptions())
    assert SET_QUESTION in plain["questions"]
    assert "8 frames in order of time and the audio of a short" in plain["prompt"]
    assert judge.identify(JudgeOptions(prompt="Look at {input}."))["prompt"] != plain["prompt"]
    assert "the audio" not in judge.identify(JudgeOptions(audio=False))["prompt"]
    assert "frame" not in judge.identify(JudgeOptions(frames=0))["prompt"]


def test_importing_the_plugin_loads_nothing_heavy() -> None:
    code = (
        "import sys, blemore_plugins.judge; "
        "print([name for name in ('av', 'openai', 'torch', 'httpx', 'PIL', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cards_caveats_and_requirements_follow_the_endpoint() -> None:
    judge = Judge()
    assert judge.caveat(JudgeOptions(service="stand-in")) == "stand-in answers"
    assert judge.caveat(JudgeOptions()) is None
    local, remote = JudgeOptions(model="m"), JudgeOptions(model="m", url="https://example.org/v1", key="MY_KEY")
    assert [judge.card(options).paid for options in (local, remote)] == [False, True]
    assert judge.card(JudgeOptions(service="stand-in")).weights_licence == "none"
    assert [need.name for need in judge.requirements(local)] == ["openai"]
    assert [need.name for need in judge.requirements(remote)] == ["openai", "MY_KEY"]


def test_a_judge_is_trained_by_its_examples_alone() -> None:
    """Without them it does not ask about clips that are only trained on."""
    assert not Judge().is_trained(JudgeOptions())
    assert Judge().is_trained(JudgeOptions(examples=16))


def test_loopback_needs_no_consent_and_others_do() -> None:
    assert all(map(is_loopback, ("http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:3/v1")))
    for address in ("https://api.openai.com/v1", "http://127.0.0.1.example.org", "http://10.0.0.3/v1", "http://x@y/"):
        assert not is_loopback(address)
    with pytest.raises(ConfigError, match=r"example\.org.*judge\.consent=true"):
        demand_consent("judge", False, "https://example.org", "")


def training_clips(count: int = 72) -> Clips:
    labels = np.array([legal_labels()[index % 36] for index in range(count)], dtype=np.int8)
    clips = tuple(Clip(f"t{index}", content=f"{index * 7919 % 1009:04x}") for index in range(count))
    return Clips(clips, tuple(f"A{index % 5}" for index in range(count)), labels)


def test_examples_are_of_different_sets_and_actors_and_do_not_depend_on_order() -> None:
    clips = training_clips()
    chosen = choose_examples(clips, 16, seed=3)
    assert {answer_set(label) for label in chosen.labels} == set(LETTERS)
    assert len(set(chosen.actors or ())) == 5
    other = clips.take(np.random.default_rng(0).permutation(len(clips)))
    assert choose_examples(other, 16, seed=3).ids == chosen.ids
    assert choose_examples(clips, 16, seed=4).ids != chosen.ids
    assert choose_examples(clips, 5, seed=3).ids == chosen.ids[:5]
    assert set(choose_examples(clips, 72, seed=3).ids) == set(clips.ids)
    assert len(choose_examples(clips, 0, seed=3)) == 0
    with pytest.raises(DataError, match="at least 73"):
        choose_examples(clips, 73, seed=3)
