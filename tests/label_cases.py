"""Labels of leaderboard files that are refused, with the reason."""

from __future__ import annotations

import pytest


def entry(*pairs: tuple[object, object]) -> list[dict[str, object]]:
    return [{"emotion": emotion, "salience": salience} for emotion, salience in pairs]


BAD_LABELS = [
    pytest.param([], "an empty list", id="empty"),
    pytest.param(entry(("ang", 50), ("fea", 25), ("sad", 25)), "3 emotions", id="three"),
    pytest.param("ang", "something else than a list", id="text"),
    pytest.param({"emotion": "ang", "salience": 100}, "something else than a list", id="object"),
    pytest.param(["ang"], "an entry that is not", id="bare entry"),
    pytest.param([{"emotion": "ang"}], "an entry that is not", id="no salience"),
    pytest.param(entry(("anger", 100)), "unknown emotion \"anger\"; did you mean 'ang'", id="unknown"),
    pytest.param(entry((None, 100)), "unknown emotion null", id="null emotion"),
    pytest.param(entry((["ang"], 100)), "unknown emotion", id="list emotion"),
    pytest.param(entry(("ang", 50), ("ang", 50)), 'the emotion "ang" twice', id="twice"),
    pytest.param(entry(("ang", 50), ("neu", 50)), "neutral in a blend", id="neutral"),
    pytest.param(entry(("ang", 0.7), ("fea", 0.3)), "looks like a share of 1", id="shares"),
    pytest.param(entry(("ang", 1.0)), "looks like a share of 1", id="single share"),
    pytest.param(entry(("ang", 65), ("fea", 35)), "which are not 50/50, 70/30 or 30/70", id="65/35"),
    pytest.param(entry(("ang", 100), ("fea", 0)), "which are not 50/50, 70/30 or 30/70", id="100 as a blend"),
    pytest.param(entry(("ang", 100), ("fea", 100)), "do not sum to 100", id="100/100"),
    pytest.param(entry(("ang", 70), ("fea", 50)), "do not sum to 100", id="sum"),
    pytest.param(entry(("ang", 70)), "stands alone, which is 100", id="single 70"),
    pytest.param(entry(("ang", 0)), "stands alone, which is 100", id="single 0"),
    pytest.param(entry(("ang", None)), "the salience null, which is not a number", id="null"),
    pytest.param(entry(("ang", True)), "the salience true, which is not a number", id="true"),
    pytest.param(entry(("ang", "lots")), 'the salience "lots", which is not a number', id="word"),
    pytest.param(entry(("ang", [100])), "which is not a number", id="list"),
    pytest.param(entry(("ang", float("nan"))), "the salience NaN, which is not a number", id="NaN"),
    pytest.param(entry(("ang", float("inf"))), "the salience Infinity, which is not a number", id="infinite"),
    pytest.param(entry(("ang", 10**400)), r"the salience 10+\.\.\., which is not a number", id="huge"),
]
