"""A run beside published numbers: what agrees, what differs, what cannot be compared."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from blemore_harness.drawing.published import draw_comparison
from blemore_harness.errors import RunError
from blemore_harness.record.types import Record
from blemore_harness.scoring.published import compare_with_published
from sample_records import sample_record, sample_system

EXPECT = {"acc_presence": 0.298, "acc_presence_sd": 0.025, "acc_salience": 0.18, "score": 0.239, "source": "a paper"}


def record(presence: float = 0.3, salience: float = 0.18, expect: Any = EXPECT, **changes: Any) -> Record:
    found = sample_record(sample_system("base-model", 0.9, 0.9), sample_system("last", presence, salience))
    data = replace(found.data, **{key: changes.pop(key) for key in ("demo", "fold_source") if key in changes})
    submission = replace(found.submission, name="baseline-x", expect=expect)
    return replace(found, data=data, submission=submission, **changes)


def test_the_last_system_is_compared_measure_by_measure() -> None:
    rows = {row["measure"]: row for row in compare_with_published(record(presence=0.31))}
    assert list(rows) == ["acc_presence", "acc_salience", "score"]
    assert rows["acc_presence"]["difference"] == pytest.approx(0.012)
    assert [row["allowed"] for row in rows.values()] == [0.05, 0.02, 0.02]
    assert [row["agrees"] for row in rows.values()] == [True, True, True]


@pytest.mark.parametrize(("presence", "agrees"), [(0.347, True), (0.349, False), (0.249, True), (0.247, False)])
def test_two_deviations_are_allowed_in_both_directions(presence: float, agrees: bool) -> None:
    [row] = compare_with_published(record(presence, expect={"acc_presence": 0.298, "acc_presence_sd": 0.025}))
    assert row["agrees"] is agrees


def test_what_differs_is_drawn_with_rule_and_source() -> None:
    rows = compare_with_published(record(salience=0.10))
    assert [row["agrees"] for row in rows] == [True, False, False]
    console = Console(file=io.StringIO(), width=100)
    console.print(draw_comparison(record(salience=0.10), rows))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert ".298 ± .025" in text
    assert "-.080" in text
    assert text.count("differs") == 2
    assert text.count("agrees") == 1
    assert "2 published deviations over folds, at least .02" in text
    assert "a paper" in text


def test_marks_and_honest_epochs_stand_beside_the_comparison() -> None:
    given = record(caveat="transductive: adapted")
    console = Console(file=io.StringIO(), width=80)
    console.print(draw_comparison(given, compare_with_published(given)))
    text = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "transductive: adapted" in text
    assert "expect to be below it" in text
    assert "which are not the official ones" in text
    asked = replace(given.finished[0], times_asked=200)
    given = replace(record(fold_source="official"), systems=(asked, given.finished[1]))
    console = Console(file=io.StringIO(), width=80)
    console.print(draw_comparison(given, compare_with_published(given)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "expect to be below it" not in text
    assert "official ones" not in text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"status": "failed"}, "baseline-x is failed: run the same command again"),
        ({"demo": True}, "demo dataset, and published numbers are of BLEMORE"),
        ({"fold_source": "made"}, "on folds made here, and published numbers are of the official ones"),
        ({"expect": {}}, "nothing is published for baseline-x"),
        ({"expect": {"test_score": 0.2, "source": "s"}}, "nothing is published"),
    ],
)
def test_what_cannot_be_compared_says_why(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message):
        compare_with_published(record(**changed))
