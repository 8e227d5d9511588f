"""Labels of leaderboard files that are refused, with the reason."""

from __future__ import annotations

import pytest


def entry(*pairs: tuple[object, object]) -> list[dict[str, object]]:
    return [{"emotion": emotion, "salience": salience} for emotion, salience in pairs]


BAD_LABELS = [
    pytest.param([], "an empty list", id="empty"),
    pytest.param(entry(("ang", 50), ("fea", 25), ("sad", 25)), "3 emotions", id="three"),
    pytest.param("ang", "list", id="text"),
    pytest.param({"emotion": "ang", "salience": 100}, "list", id="object"),
    pytest.param(["ang"], "entry", id="bare entry"),
    pytest.param([{"emotion": "ang"}], "entry", id="no salience"),
    pytest.param(entry(("anger", 100)), "\"anger\".*'ang'", id="unknown"),
    pytest.param(entry((None, 100)), "null", id="null emotion"),
    pytest.param(entry((["ang"], 100)), "unknown emotion", id="list emotion"),
    pytest.param(entry(("ang", 50), ("ang", 50)), '"ang" twice', id="twice"),
    pytest.param(entry(("ang", 50), ("neu", 50)), "neutral", id="neutral"),
    pytest.param(entry(("ang", 0.7), ("fea", 0.3)), "0.7/0.3", id="shares"),
    pytest.param(entry(("ang", 1.0)), "1.0", id="single share"),
    pytest.param(entry(("ang", 65), ("fea", 35)), "65/35: expected 50/50, 70/30 or 30/70", id="65/35"),
    pytest.param(entry(("ang", 100), ("fea", 0)), "100/0: expected 50/50, 70/30 or 30/70", id="100 as a blend"),
    pytest.param(entry(("ang", 100), ("fea", 100)), "100/100.*sum of 100", id="100/100"),
    pytest.param(entry(("ang", 70), ("fea", 50)), "70/50.*sum of 100", id="sum"),
    pytest.param(entry(("ang", 70)), "salience 70 .*expected 100", id="single 70"),
    pytest.param(entry(("ang", 0)), "salience 0 .*expected 100", id="single 0"),
    pytest.param(entry(("ang", None)), "salience null.*number", id="null"),
    pytest.param(entry(("ang", True)), "salience true.*number", id="true"),
    pytest.param(entry(("ang", "lots")), 'salience "lots".*number', id="word"),
    pytest.param(entry(("ang", [100])), "salience a list.*number", id="list"),
    pytest.param(entry(("ang", float("nan"))), "salience NaN.*number", id="NaN"),
    pytest.param(entry(("ang", float("inf"))), "salience Infinity.*number", id="infinite"),
    pytest.param(entry(("ang", 10**400)), r"salience 10+\.\.\..*number", id="huge"),
]
