"""What replicates add up to: a row per fusion and strategy, and how far thresholds wander."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from blemore_harness.decoding.strategies import STRATEGIES
from blemore_harness.errors import DataError
from blemore_harness.systems.submission import DEFAULT_FUSION
from blemore_lab.causes import Causes
from blemore_lab.intervals import mean_interval
from blemore_lab.methods import RECIPE
from blemore_lab.replicates import CHOSEN, Outcome, ReplicateResult

REFERENCE = (RECIPE, "averaged")
"""What everything is compared with: weights and thresholds at their best on each fold, both averaged over folds."""

BASES = (RECIPE, "logit-mean")
"""Methods that all others are compared with in every world."""

ORACLE = "oracle"
"""Marks strategies that use other clips of the same actor: here they are given the true actor identities."""

HARNESS_DEFAULT = (DEFAULT_FUSION, CHOSEN)
"""How the harness makes labels for test clips where nothing else is asked for."""

ORGANISERS = MappingProxyType(
    {"alpha": (0.1055, 0.0523), "beta": (0.2147, 0.1560), "acc_presence": (0.2461, 0.0243),
     "acc_salience": (0.1030, 0.0210)}
)  # fmt: skip
"""Mean, and standard deviation over 5 folds as a mean over 21 baselines, in the organisers' 105 recorded fold runs."""

UZH_RANGES = MappingProxyType({"alpha": (0.10, 0.14), "beta": (0.05, 0.43)})
"""Smallest and largest best threshold over the folds of fused systems (arXiv 2603.23650, section IV-D)."""


def describe_rows(results: Sequence[ReplicateResult]) -> list[dict[str, Any]]:
    """Return a row for every fusion and strategy, best on unseen actors first."""
    if not results:
        raise DataError("expected at least 1 replicate, found 0")
    keys = dict.fromkeys(key for result in results for key in result.outcomes)
    rows = [_describe_row(key, [result for result in results if key in result.outcomes]) for key in keys]
    return sorted(rows, key=lambda row: -float(row["unseen"]["score"]))


def describe_methods(results: Sequence[ReplicateResult]) -> list[dict[str, Any]]:
    """Return a row for every method with the thresholds that the harness chooses, best on unseen actors first.

    The reference recipe has its own thresholds. Differences are of the same replicates.
    """
    names = dict.fromkeys(name for result in results for name in result.official)
    rows = [_describe_method(name, [result for result in results if name in result.official]) for name in names]
    return sorted(rows, key=lambda row: -float(row["unseen"]["mean"]))


def _describe_method(name: str, results: Sequence[ReplicateResult]) -> dict[str, Any]:
    own = [unseen_score(name, result) for result in results]
    differences = {
        other: mean_interval([a - unseen_score(other, result) for a, result in zip(own, results, strict=True)
                              if other in result.official])
        for other in BASES if other != name and any(other in result.official for result in results)
    }  # fmt: skip
    chosen = [result.outcomes[name, CHOSEN] for result in results]
    causes = [result.causes[name] for result in results]
    missed = mean_interval([outcome.reported - outcome.unseen.score for outcome in chosen])
    return {
        "method": name,
        "replicates": len(results),
        "official": float(np.mean([result.official[name].score for result in results])),
        "cross_fitted": _mean(chosen, lambda outcome: outcome.reported),
        "unseen": asdict(mean_interval(own)),
        "differences": {other: asdict(found) for other, found in differences.items()},
        "missed": {
            **asdict(missed),
            **{part.name: float(np.mean([getattr(each, part.name) for each in causes])) for part in fields(Causes)},
        },
    }


def unseen_score(method: str, result: ReplicateResult) -> float:
    """Return the Score on unseen actors of a method with its thresholds."""
    return result.outcomes[REFERENCE if method == RECIPE else (method, CHOSEN)].unseen.score


def rank_methods(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean rank over worlds of every method that all of them have, 1 the best; the best method first."""
    orders = [[row["method"] for row in record["methods"]] for record in records]
    common = [name for name in orders[0] if all(name in order for order in orders)]
    ranks = {
        name: float(np.mean([[other for other in order if other in common].index(name) + 1 for order in orders]))
        for name in common
    }
    return dict(sorted(ranks.items(), key=lambda item: item[1]))


def _describe_row(key: tuple[str, str], results: Sequence[ReplicateResult]) -> dict[str, Any]:
    fusion, strategy = key
    own = [result.outcomes[key] for result in results]
    reference = [result.outcomes[REFERENCE] for result in results]
    differences = [a.unseen.score - b.unseen.score for a, b in zip(own, reference, strict=True)]
    official = [result.official[fusion].score for result in results]
    unseen = mean_interval([outcome.unseen.score for outcome in own])
    difference = mean_interval(differences)
    return {
        "fusion": fusion,
        "strategy": strategy,
        "official": float(np.mean(official)),
        "cross_fitted": float(np.mean([outcome.reported for outcome in own])),
        "unseen": {
            "acc_presence": _mean(own, lambda outcome: outcome.unseen.presence),
            "acc_salience": _mean(own, lambda outcome: outcome.unseen.salience),
            "score": unseen.mean,
            "half_interval": unseen.half,
        },
        "difference": {
            "mean": difference.mean,
            "half_interval": difference.half,
            "clear": difference.is_clear,
            "ahead": sum(d > 0 for d in differences) / len(differences),
        },
        "used": _count([outcome.used for outcome in own]) if strategy == CHOSEN else {},
        "remarks": _remarks(key),
    }


def _remarks(key: tuple[str, str]) -> list[str]:
    strategy = key[1]
    remarks = ["reference"] if key == REFERENCE else []
    if key == HARNESS_DEFAULT:
        remarks.append("default of the harness")
    if strategy != CHOSEN and STRATEGIES[strategy].transductive:
        remarks.append(ORACLE)
    return remarks


def describe_spread(results: Sequence[ReplicateResult]) -> dict[str, Any]:
    """Report how far thresholds and accuracies wander between folds, beside what was observed on real encoders."""
    names = list(results[0].encoders)
    simulated = {
        "alpha": [[t[0] for t in result.thresholds[name]] for result in results for name in names],
        "beta": [[t[1] for t in result.thresholds[name]] for result in results for name in names],
        "acc_presence": [[s.presence for s in result.encoders[name]] for result in results for name in names],
        "acc_salience": [[s.salience for s in result.encoders[name]] for result in results for name in names],
    }
    fused = {
        name: [[t[place] for t in result.thresholds[RECIPE]] for result in results]
        for place, name in enumerate(("alpha", "beta"))
    }
    return {
        "encoders": {
            name: {
                "mean": float(np.mean(values)),
                "sd_over_folds": float(np.mean([np.std(folds, ddof=1) for folds in values])),
                "organisers_mean": ORGANISERS[name][0],
                "organisers_sd_over_folds": ORGANISERS[name][1],
            }
            for name, values in simulated.items()
        },
        "fused": {
            name: {
                "lowest": float(np.mean([min(folds) for folds in values])),
                "highest": float(np.mean([max(folds) for folds in values])),
                "published_lowest": UZH_RANGES[name][0],
                "published_highest": UZH_RANGES[name][1],
            }
            for name, values in fused.items()
        },
    }


def _mean(outcomes: Sequence[Outcome], of: Callable[[Outcome], float]) -> float:
    return float(np.mean([of(outcome) for outcome in outcomes]))


def _count(names: Sequence[str]) -> dict[str, int]:
    return {name: names.count(name) for name in sorted(set(names), key=lambda name: (-names.count(name), name))}
