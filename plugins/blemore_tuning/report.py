"""What a search found: a submission as TOML, a table, JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from blemore_harness.scoring.intervals import LEVEL, short
from blemore_harness.systems.submission import Submission
from blemore_tuning.study import StudyResult, study_name
from blemore_tuning.tuning import Plan, Tuned

HEAD = "# Written by blemore-harness tune"


def write_submission(submission: Submission, tuned: Tuned) -> str:
    """Return the submission with the best options of the final study as TOML."""
    best, trials = submission.with_options(tuned.final.options, None), tuned.final.trials
    honest = short(tuned.honest.cross_fitted.ranked.mean)
    lines = [
        f"{HEAD}: {trials} trials on all training clips, best inner Score {short(tuned.final.score)} (optimistic).",
        f"# Out-of-sample Score of tuning and training, {_say_trials(tuned)} inside each fold: {honest}. Report that.",
        f"summary = {_value(f'{submission.name}, best of {trials} trials; out-of-sample Score {honest} (nested).')}",
        f"plugins = {_value(list(best.encoders))}",
        *([f"fusion = {_value(best.fusion)}"] if best.fusion is not None else []),
        *([f"thresholds = {_value(best.thresholds)}"] if best.thresholds is not None else []),
        f"seed = {best.seed}",
        f"tuned = {trials}",
    ]
    for name, options in best.options.items():
        if options:
            lines += ["", f"[set.{json.dumps(name)}]", *(f"{key} = {_value(value)}" for key, value in options.items())]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    """Write a value as TOML: what JSON and TOML write alike."""
    return json.dumps("none" if value is None else value, ensure_ascii=False)


def _say_trials(tuned: Tuned) -> str:
    counts = sorted({each.trials for each in tuned.outer})
    return f"{' to '.join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))} trials"


def describe(plan: Plan, tuned: Tuned) -> dict[str, Any]:
    """Return what was found as JSON types."""
    honest = tuned.honest
    return {
        "submission": plan.submission.name,
        "spaces": {each.name: asdict(each.space) for each in plan.searched},
        "trials": sum(each.trials for each in (*tuned.outer, tuned.final)),
        "inner_folds": plan.inner_folds,
        "final": asdict(tuned.final),
        "outer": [asdict(each) for each in tuned.outer],
        "out_of_sample": asdict(honest.cross_fitted),
        "intervals": None if honest.intervals is None else asdict(honest.intervals),
    }


def draw(plan: Plan, tuned: Tuned, demo: bool) -> RenderableType:
    """Draw a row per study, the honest number, and what may be said of the others."""
    studies = (*tuned.outer, tuned.final)
    looked = sum(each.trials for each in studies)
    table = Table(title=f"{plan.submission.name}: {looked} trials in {len(studies)} studies", title_justify="left",
                  title_style="bold", box=SIMPLE_HEAD, pad_edge=False)  # fmt: skip
    table.add_column("study", no_wrap=True)
    for head in ("trials", "pruned", "failed", "inner Score\nof defaults", "inner Score\nof the best"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("best options", overflow="fold")
    for each in studies:
        default = "" if each.default is None else short(each.default)
        counts = (str(count) for count in (each.trials, each.pruned, each.failed))
        table.add_row(study_name(each.fold), *counts, default, short(each.score), _options(each))
    reasons = dict.fromkeys(reason for each in studies for reason in each.reasons)
    lines = [Text(f"failed: {reason}", style="red") for reason in list(reasons)[:3]]
    honest = tuned.honest
    ends = honest.intervals and f" [{short(honest.intervals.ranked[0])}, {short(honest.intervals.ranked[1])}]"
    score = f"{short(honest.cross_fitted.ranked.mean)}{ends or ''}"
    lines.append(Text(f"Out-of-sample Score {score} ({LEVEL} % CI over actors): report this one.", style="bold"))
    if tuned.final.default is not None:
        lines.append(Text(f"Without tuning it is {short(tuned.final.default)}."))
    lines += [
        Text(
            "out-of-sample: tuned and trained on the other folds, for each fold; cross-fitted thresholds", style="dim"
        ),
        Text("inner Scores: the best of several trials on the clips that chose it (optimistic)", style="dim"),
    ]
    caveat = [Text("demo: generated clips", style="bold yellow")] if demo else []
    return Group(*caveat, table, *lines)


def _options(found: StudyResult) -> str:
    several = len(found.options) > 1
    return ", ".join(
        f"{f'{name}.' if several else ''}{key}={f'{value:.3g}' if isinstance(value, float) else value}"
        for name, options in found.options.items()
        for key, value in options.items()
    )
