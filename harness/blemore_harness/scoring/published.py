"""A finished run beside the published numbers of its submission."""

from __future__ import annotations

from typing import Any

from blemore_harness.errors import RunError
from blemore_harness.record.types import FinishedSystem, Record

MEASURES = {"acc_presence": "ACC_P", "acc_salience": "ACC_S", "score": "Score"}

NOISE = 0.02
"""How far an honest repetition may lie from a published mean at least: an independent rerun of the organisers'
ImageBind baseline came within .02."""

DEVIATIONS = 2.0
"""How many published standard deviations over folds it may lie away where those are more than the noise."""


def compare_with_published(record: Record) -> list[dict[str, Any]]:
    """Compare the official numbers of a run's last system with those that its submission expects.

    Args:
        record: of a finished run; `submission.expect` holds `acc_presence`, `acc_salience`, `score` and, with the
            ending `_sd`, their deviations over folds.

    Returns:
        a row per published number: measure, published, published_sd (or None), found, difference, allowed, agrees.

    Raises:
        RunError: an unfinished run, a run on the demo dataset or another corpus, with external data, on folds made here
            or without all clips, or a submission without published numbers.
    """
    name, expected = record.submission.name, record.submission.expect
    last = record.systems[-1] if record.systems else None
    if record.status != "finished" or not isinstance(last, FinishedSystem):
        raise RunError(f"the run of {name} is {record.status}: run the same command again to finish it")
    if record.data.demo:
        raise RunError(f"the run of {name} is on the demo dataset, and published numbers are of BLEMORE: give --data")
    if record.data.corpus or record.data.extra:
        what = f"is on {record.data.corpus}" if record.data.corpus else "was trained on external data"
        raise RunError(f"the run of {name} {what}, and published numbers are of BLEMORE alone: give --data, no corpus")
    if record.data.left_out:
        raise RunError(f"the run of {name} left out clips, and published numbers are of all: give all clips")
    if record.data.fold_source == "made":
        raise RunError(
            f"the run of {name} is on folds made here, and published numbers are of the official ones: give metadata "
            "with a fold for each clip"
        )
    if not any(measure in expected for measure in MEASURES):
        raise RunError(f"nothing is published for {name}: its submission has no [expect] with {', '.join(MEASURES)}")
    rows = []
    for measure, found in last.official.by_measure().items():
        if measure in expected and found is not None:
            published, deviation = float(expected[measure]), expected.get(f"{measure}_sd")
            difference = found.mean - published
            allowed = max(NOISE, DEVIATIONS * float(deviation or 0.0))
            rows.append(
                {
                    "measure": measure,
                    "published": published,
                    "published_sd": deviation,
                    "found": found.mean,
                    "difference": difference,
                    "allowed": allowed,
                    "agrees": abs(difference) <= allowed,
                }
            )
    return rows
