"""A file of scores for spreadsheets, written when a run has ended."""

from __future__ import annotations

import csv

from blemore_harness.hookspecs import RunFinished

FILE = "scores.csv"


def write_scores(event: RunFinished) -> None:
    """Write a line per scored system into the run's folder: name, official and cross-fitted Score."""
    with (event.folder / FILE).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("system", "official", "cross_fitted"))
        for system in event.record.finished:
            table.writerow((system.name, system.official.ranked.mean, system.cross_fitted.ranked.mean))
