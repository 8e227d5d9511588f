"""The result table: 80 columns, ordered by Score, failures last with their reason, and no number or caveat lost."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from blemore_harness.drawing.tables import LEGEND, WHICH, draw_results
from blemore_harness.record.scores import StrategyScores
from blemore_harness.record.types import Record
from sample_records import failed_system, sample_means, sample_record, sample_system

NAMES = ("late", "prosody", "wav2vec2-finetuned@larger")
"""By cross-fitted Score."""

REASON = "gone (fold-1) crashed: RuntimeError: out of luck, at systems.py:12; traceback: runs/gone/fold-1-traceback.txt"


def strategies(**scores: float) -> dict[str, StrategyScores]:
    sees: dict[str, Any] = {"official": "itself", "pooled": "all"}
    return {
        name.replace("_", "-"): StrategyScores(
            **sample_means(score, score).by_measure(), sees=sees.get(name, "others"), transductive=name == "actor_rank"
        )
        for name, score in scores.items()
    }


def record() -> Record:
    weights = {"fold": None, "weights": {"prosody": 0.96, "wav2vec2-finetuned@larger": 0.04}}
    return sample_record(
        failed_system("gone", REASON),
        sample_system(NAMES[1], 0.578, 0.330, caveat="untrained small encoders",
                      strategies=strategies(official=0.9, averaged=0.1)),
        sample_system(NAMES[2], 0.5, 0.3, times_asked=200),
        sample_system(NAMES[0], 0.6, 0.34, modality="", kind="fusion", base_models=NAMES[1:], notes=(weights,),
                      strategies=strategies(official=0.9, pooled=0.8, other_folds=0.2, exact=0.3, actor_rank=0.7)),
    )  # fmt: skip


def draw(given: Record, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(draw_results(given))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    return text


@pytest.mark.parametrize("width", [80, 118, 200])
def test_every_number_and_every_caveat_is_there_at_any_width(width: int) -> None:
    text = draw(record(), width)
    row = next(line for line in text.splitlines() if line.strip().startswith("prosody") and "±" in line)
    for number in (".578 ± .124", ".330 ± .072", ".454", ".424 [.374, .474]"):
        assert number in row
    assert not re.search(r"\b0\.\d", text), "one number style"
    words = " ".join(text.split())
    for remark in (
        "prosody: untrained small encoders",
        "wav2vec2-finetuned@larger: chosen on the held-out folds (asked 200 times)",
        "late: weights: prosody .96, wav2vec2-finetuned@larger .04; base models chosen on the held-out folds",
        f"gone failed: {REASON}",
        WHICH,
    ):
        assert remark in words
    assert len(LEGEND) <= 3


def test_what_holds_for_several_systems_is_said_once() -> None:
    names = [f"encoder-{number}" for number in range(10)]
    systems = [
        sample_system(name, 0.5 - k / 50, 0.3, caveat="untrained small encoders") for k, name in enumerate(names)
    ]
    words = " ".join(draw(sample_record(*systems, sample_system("prosody", 0.1, 0.1, caveat="other"))).split())
    assert f"{', '.join(names)}: untrained small encoders" in words
    assert words.count("untrained small encoders") == 1
    assert "prosody: other" in words


def test_the_table_fits_80_columns_wherever_it_is_drawn() -> None:
    assert max(len(line.rstrip()) for line in draw(record(), 200).splitlines() if "───" in line) <= 80


def test_rows_are_ordered_by_score_and_failures_are_last() -> None:
    rows = [line.split()[0] for line in draw(record()).splitlines() if "±" in line and "ACC_P" not in line]
    assert rows == ["late", "prosody", "wav2vec2-finetuned@lar"[: len(rows[2])]]
    table = draw(record()).split("\n\n")[0].splitlines()
    names = [line.split()[0] for line in table if line.startswith((" late ", " prosody ", " wav2", " gone "))]
    assert [name[:4] for name in names] == ["late", "pros", "wav2", "gone"]


def test_strategies_are_those_of_the_best_system_the_valid_ones_first() -> None:
    text = draw(record())
    below = text[text.index("threshold strategies, late") :]
    shown = [line.split()[0] for line in below.splitlines() if re.search(r"(\.\d{3}\s+){3}", line + " ")]
    assert shown == ["exact", "other-folds", "actor-rank", "official", "pooled"]
    assert "Test clips: one, decoded by other-folds (asked for)." in below
    assert "decodes the test clips" not in below, "these are of another system"
    test = replace(sample_record().test, system="late")  # type: ignore[type-var]
    assert "decodes the test clips" in draw(replace(record(), test=test))


def test_no_strategy_is_called_like_a_kind_of_number() -> None:
    from blemore_harness.decoding.strategies import STRATEGIES

    assert "cross-fitted" not in STRATEGIES
    assert "other-folds" in STRATEGIES


def test_a_run_without_results_is_drawn() -> None:
    text = draw(sample_record(failed_system("gone", REASON), test=None))
    assert REASON in " ".join(text.split())
    assert "threshold strategies" not in text
    assert draw(sample_record(test=None))


@pytest.mark.parametrize("weights", [{"file": "model.bin", "loaded": 380}, "random-small", ["a", "b"]])
@pytest.mark.parametrize("kind", ["encoder", "fusion"])
def test_notes_of_any_shape_are_drawn(kind: Any, weights: object) -> None:
    """As of `s4d`, which notes under `weights` the file that it loaded."""
    text = draw(
        sample_record(sample_system("s4d", kind=kind, notes=({"fold": None, "weights": weights, "chosen": 3},)))
    )
    assert "s4d" in text
    assert "chose 3" not in text
    assert "weights:" not in text
