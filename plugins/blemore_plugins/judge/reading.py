"""Read the choice from an answer, and the probabilities of all choices from its log-probabilities."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from blemore_harness.predictions import FloatArray

THOUGHTS = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
"""Reasoning before the answer; one without an end was cut short before any answer."""

WRAPPING = " \t\r\n()[]{}*_`'\".,:;!<>|/▁Ġ"
"""What may stand around a choice within a token: spaces (also as tokenizers mark them), marks, brackets."""


def find_choice(text: str, choices: Sequence[str]) -> tuple[str, int] | None:
    """Return the choice that an answer makes and where it stands in the text; None if it makes none, or several.

    An answer that is the choice, or begins with it and a mark, is taken at its word (`B`, `(B)`, `B) anger`). Otherwise
    the last choice behind the word `answer` counts, else the only choice that stands alone in the text. Reasoning in
    `<think>` is left out.

    >>> find_choice("B.", "ABC"), find_choice("<think>A or B?</think> The answer is (C).", "ABC")
    (('B', 0), ('C', 38))
    >>> find_choice("I cannot tell.", "ABC") is None
    True
    """
    hidden = THOUGHTS.sub(lambda found: " " * len(found[0]), text)
    word = r"(?<=[AI])\s+[a-z]"  # makes the letter before it an article, or a pronoun
    one = f"[{''.join(choices)}]"
    for pattern in (
        rf"\A[\W_]*({one})[\W_]*\Z",
        rf"\A[\W_]*({one})(?:[).:*\]]|\s*[-\u2013\u2014])",
        rf"(?s:.*)\b[Aa][Nn][Ss][Ww][Ee][Rr]\b(?:\s+is)?[\W_]*({one})(?![A-Za-z0-9])(?!{word})",
    ):
        if found := re.search(pattern, hidden):
            return found[1], found.start(1)
    alone = list(re.finditer(rf"(?<![A-Za-z0-9%])({one})(?![A-Za-z0-9']|\s*%)(?!{word})", hidden))
    named = {found[1] for found in alone}
    return (alone[-1][1], alone[-1].start(1)) if len(named) == 1 else None


def find_alternatives(tokens: Any, text: str, place: int, choice: str) -> dict[str, float] | None:
    """Return the log-probabilities of what could have stood in place of the choice, by token.

    Args:
        tokens: `logprobs.content` of an answer: a list of `{"token", "logprob", "top_logprobs"}`, or nothing.
        text: of the answer.
        place: of the choice in the text.
        choice: the choice.

    Returns:
        None where the endpoint gives none, or no token is the choice (it may be part of a longer one).
    """
    entries = [entry for entry in tokens if isinstance(entry, Mapping)] if isinstance(tokens, list) else []
    pieces = [str(entry.get("token", "")) for entry in entries]
    holding = [index for index, piece in enumerate(pieces) if piece.strip(WRAPPING) == choice]
    if "".join(pieces) == text:
        ends = np.cumsum([len(piece) for piece in pieces])
        holding = [index for index in holding if int(np.searchsorted(ends, place, side="right")) == index]
    if not holding:
        return None
    entry = entries[holding[-1]]
    found = {}
    for other in (entry, *(entry.get("top_logprobs") or [])):
        value = other.get("logprob") if isinstance(other, Mapping) else None
        if isinstance(value, int | float) and math.isfinite(value) and value <= 1e-6:
            found[str(other.get("token", ""))] = float(value)
    return found if len(found) > 1 and pieces[holding[-1]] in found else None


def read_probabilities(alternatives: Mapping[str, float], choices: Sequence[str]) -> FloatArray:
    """Return the probability of each choice, normalised over the choices.

    Tokens that differ in what stands around the choice (`A`, ` A`, `(A`) are added up; a choice that is not among the
    alternatives has probability 0: it is less probable than all that are.

    >>> read_probabilities({"A": -0.5, " A": -2.0, "B": -1.5, "The": -3.0}, "ABC").round(3).tolist()
    [0.768, 0.232, 0.0]
    """
    row = np.zeros(len(choices))
    named = [(token.strip(WRAPPING), value) for token, value in alternatives.items()]
    found = [(list(choices).index(choice), value) for choice, value in named if choice in choices]
    most = max(value for _, value in found)  # endpoints write -9999 for what is not among the most probable tokens
    for index, value in found:
        row[index] += math.exp(value - most)
    return np.asarray(row / row.sum())
