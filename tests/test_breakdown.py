"""Groups of clips, errors and calibration, against plain loops."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from blemore_harness.clips import EMOTIONS
from blemore_harness.scoring.breakdown import Answers, break_down, count_errors
from blemore_harness.scoring.calibration import measure_calibration
from fakes import LABELS

NEUTRAL = [[0, 0, 0, 0, 0, 100]]
MORE = np.concatenate([LABELS, NEUTRAL, [[30, 0, 0, 70, 0, 0]]])


def answers(seed: int = 0, count: int = 240, genders: bool = True) -> Answers:
    rng = np.random.default_rng(seed)
    truth, said = (MORE[rng.integers(0, len(MORE), count)].astype(np.int8) for _ in range(2))
    said[::2] = truth[::2]
    actor = rng.integers(0, 8, count)
    names = tuple(f"A{k}" for k in actor)
    return Answers(truth, said, actor % 2, names, tuple("fm"[k // 4] if genders else "" for k in actor))


def names_of(row: np.ndarray) -> str:
    return "+".join(EMOTIONS[k] for k in range(6) if row[k])


def belongs(found: Answers, k: int, kind: str, name: str) -> bool:
    row = found.truth[k].tolist()
    shares = sorted(share for share in row if share)
    if kind == "kind":
        return {"neutral": row[5] == 100, "blend": len(shares) == 2}.get(name, len(shares) == 1 and row[5] == 0)
    if kind == "salience":
        return shares == ([50, 50] if name == "50/50" else [30, 70])
    if kind == "emotion":
        return row[EMOTIONS.index(name)] > 0
    if kind == "pair":
        return names_of(found.truth[k]) == name
    return str({"fold": found.folds, "gender": found.genders, "actor": found.actors}[kind][k]) == name


def test_every_group_equals_a_loop_over_its_clips() -> None:
    found = answers()
    groups = break_down(found)
    assert {kind: len(rows) for kind, rows in groups.items()} == {
        "kind": 3, "salience": 2, "emotion": 4, "pair": 2, "fold": 2, "gender": 2, "actor": 8
    }  # fmt: skip
    for kind, rows in groups.items():
        for row in rows:
            mine = [k for k in range(len(found.truth)) if belongs(found, k, kind, row["name"])]
            blends = [k for k in mine if (found.truth[k] > 0).sum() == 2]
            present = [k for k in mine if names_of(found.truth[k]) == names_of(found.labels[k])]
            exact = [k for k in blends if (found.truth[k] == found.labels[k]).all()]
            assert (row["clips"], row["blends"]) == (len(mine), len(blends)), (kind, row["name"])
            assert row["actors"] == len({found.actors[k] for k in mine})
            assert row["acc_presence"] == pytest.approx(len(present) / len(mine))
            assert row["acc_salience"] == (pytest.approx(len(exact) / len(blends)) if blends else None)
            if row["actors"] < 3:
                assert row["acc_presence_interval"] is None
            else:
                low, high = row["acc_presence_interval"]
                assert low <= row["acc_presence"] <= high
    anger = groups["emotion"][0]
    said = [k for k in range(len(found.labels)) if found.labels[k][0]]
    both = [k for k in said if found.truth[k][0]]
    assert anger["precision"] == pytest.approx(len(both) / len(said))
    assert anger["recall"] == pytest.approx(len(both) / anger["clips"])


def test_so_few_actors_have_no_interval() -> None:
    groups = break_down(answers())
    for kind, given in (("fold", True), ("gender", True), ("actor", False), ("emotion", True), ("kind", True)):
        for row in groups[kind]:
            assert (row["actors"] >= 3) is given
            assert (row["acc_presence_interval"] is not None) is given


def test_without_genders_there_is_no_such_group() -> None:
    assert break_down(answers(genders=False))["gender"] == []


def test_errors_add_up_and_the_most_frequent_come_first() -> None:
    found = answers(1)
    errors = count_errors(found)
    assert sum(errors["kinds"].values()) == len(found.truth)
    pairs = list(zip(found.truth, found.labels, strict=True))
    wrong = Counter((names_of(t), names_of(s)) for t, s in pairs if names_of(t) != names_of(s))
    shown = [((row["truth"], row["answer"]), row["clips"]) for row in errors["frequent"]]
    assert len(shown) == 10
    assert shown == sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:10]
    totals = Counter(names_of(t) for t, _ in pairs)
    assert all(row["of"] == totals[row["truth"]] for row in errors["frequent"])
    assert errors["kinds"]["right"] == sum((t == s).all() for t, s in pairs)
    shared = [(t, s) for t, s in pairs if (t > 0).sum() == 1 and (s > 0).sum() == 2]
    held = sum(bool(((t > 0) & (s > 0)).any()) for t, s in shared)
    assert errors["kinds"]["single answered with a blend that holds it"] == held
    assert errors["kinds"]["single answered with a blend without it"] == len(shared) - held


def test_saliences_of_right_pairs_are_written_in_the_order_of_emotions() -> None:
    truth = np.array([[70, 0, 0, 30, 0, 0]] * 3, dtype=np.int8)
    said = np.array([[70, 0, 0, 30, 0, 0], [30, 0, 0, 70, 0, 0], [50, 50, 0, 0, 0, 0]], dtype=np.int8)
    rows = count_errors(Answers(truth, said, np.zeros(3, dtype=np.int64), ("A1",) * 3, ("",) * 3))["saliences"]
    assert rows[1] == {"truth": "70/30", "50/50": 0, "70/30": 1, "30/70": 1}
    assert sum(sum(v for k, v in row.items() if k != "truth") for row in rows) == 2


def test_calibration_equals_loops() -> None:
    rng = np.random.default_rng(2)
    truth = MORE[rng.integers(0, len(MORE), 200)].astype(np.int8)
    values = rng.dirichlet(np.full(6, 0.5), 200)
    found = measure_calibration(values, truth)
    error = 0.0
    for row in found["largest"]:
        mine = [k for k in range(200) if row["low"] <= values[k].max() < row["high"]]
        shares = [truth[k][values[k].argmax()] / 100 for k in mine]
        assert row["clips"] == len(mine)
        assert row["share"] == pytest.approx(np.mean(shares))
        assert row["present"] == pytest.approx(np.mean([s > 0 for s in shares]))
        error += len(mine) / 200 * abs(np.mean([values[k].max() for k in mine]) - np.mean(shares))
    assert sum(row["clips"] for row in found["largest"]) == 200
    assert found["expected_calibration_error"] == pytest.approx(error)
    second = [sorted(row)[-2] for row in values.tolist()]
    blend = [(row > 0).sum() == 2 for row in truth]
    wins = [
        (a > b) + 0.5 * (a == b)
        for a, one in zip(second, blend, strict=True) if one
        for b, other in zip(second, blend, strict=True) if not other
    ]  # fmt: skip
    assert found["blend_auc"] == pytest.approx(np.mean(wins))
    brier = [sum((v - t / 100) ** 2 for v, t in zip(a, b, strict=True)) for a, b in zip(values, truth, strict=True)]
    assert found["brier"] == pytest.approx(np.mean(brier))


def test_rows_that_are_answers_are_told_from_probabilities() -> None:
    truth = np.repeat(MORE, 20, axis=0).astype(np.int8)
    crisp = np.where(truth == 70, 75, np.where(truth == 30, 25, truth)) / 100
    assert measure_calibration(crisp, truth)["answers"] is True
    assert measure_calibration(np.random.default_rng(0).dirichlet(np.ones(6), len(truth)), truth)["answers"] is False
    assert measure_calibration(crisp[:5], truth[:5])["answers"] is False, "too few to say"


def test_rows_that_are_the_truth_are_calibrated() -> None:
    truth = np.repeat(MORE, 3, axis=0).astype(np.int8)
    found = measure_calibration(truth / 100, truth)
    assert found["expected_calibration_error"] == pytest.approx(0, abs=1e-12)
    assert found["brier"] == 0
    assert found["blend_auc"] == 1
    assert measure_calibration(truth[:3] / 100, truth[:3])["blend_auc"] is None
