"""The rows of systems, on wide and on narrow terminals: whatever the width, no number and no mark is lost."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from blemore_harness.drawing.system_table import tabulate_systems

NAMES = ("prosody", "wav2vec2-finetuned", "late")
INTERVAL = {"score": [0.3131, 0.4621]}


def system(name: str, **changed: Any) -> dict[str, Any]:
    numbers = {"acc_presence": {"mean": 0.578, "sd": 0.124}, "acc_salience": {"mean": 0.33, "sd": 0.072}}
    numbers["score"] = {"mean": 0.454, "sd": 0.09}
    row = {
        "name": name,
        "modality": "audio",
        "kind": "encoder",
        "base_models": [],
        "status": "finished",
        "caveat": None,
    }
    row |= {"official": numbers, "cross_fitted": {"score": {"mean": 0.419}}, "intervals": INTERVAL}
    return row | {"times_asked": 0, "notes": []} | changed


def record() -> dict[str, Any]:
    weights = {"fold": None, "weights": {"prosody": 0.96, "wav2vec2-finetuned": 0.04}}
    return {
        "systems": [
            system(NAMES[0], caveat="untrained small encoders"),
            system(NAMES[1], times_asked=200),
            system(NAMES[2], modality=None, kind="fusion", base_models=list(NAMES[:2]), notes=[weights]),
            {"name": "gone", "modality": "video", "kind": "encoder", "base_models": [], "status": "failed",
             "caveat": None, "error": {"message": "out of luck"}},
        ]
    }  # fmt: skip


def draw(width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(tabulate_systems(record(), "a run"))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    return text


@pytest.mark.parametrize("width", [80, 100, 118, 200])
def test_every_number_and_every_mark_is_there_at_any_width(width: int) -> None:
    text = draw(width)
    for row in (line for line in text.splitlines() if line.strip().startswith(NAMES) and "±" in line):
        for number in (".578 ± ", ".124", ".330 ± ", ".072", ".454", ".419 [.313, .462]"):
            assert number in row
    words = " ".join(text.split())
    assert words.count(".419 [.313, .462]") == 3
    for name in NAMES:
        assert name in words
    if width in (80, 200):  # elsewhere the lines of a remark stand between other columns
        for remark in ("untrained small encoders", "chosen on the held-out folds (asked 200 times)",
                       "prosody 0.96, wav2vec2-finetuned 0.04; base models chosen on the held-out folds",
                       "failed: out of luck"):  # fmt: skip
            assert remark in words


def test_a_narrow_table_names_the_system_of_each_remark() -> None:
    lines = draw(80).splitlines()
    assert "prosody: untrained small encoders" in lines
    assert "gone: failed: out of luck" in lines
    assert "modality" in draw(118)
    assert "modality" not in draw(80)


@pytest.mark.parametrize("weights", [{"file": "model.bin", "loaded": 380}, "random-small", ["a", "b"]])
@pytest.mark.parametrize("kind", ["encoder", "fusion"])
def test_notes_of_any_shape_are_drawn(kind: str, weights: object) -> None:
    """As of `s4d`, which notes under `weights` the file that it loaded."""
    noted = system("s4d", kind=kind, notes=[{"fold": None, "weights": weights, "chosen": 3}])
    console = Console(file=io.StringIO(), width=200)
    console.print(tabulate_systems({"systems": [noted]}, "a run"))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert "s4d" in text
    assert "chose 3" not in text
