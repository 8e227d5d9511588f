"""Draws comparisons and analyses for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from blemore_harness.scoring.intervals import FEWEST, UNDEFINED, say_minimum, short, show_p
from blemore_harness.scoring.published import MEASURES

SHADES = ((0.005, "█"), (0.01, "▓"), (0.02, "▒"), (0.05, "░"))
"""Cells of the heat map: the best Score less at most this much; blank for what loses more."""


_NAME, _INTERVAL = 8, len(".578 [.522, .633]")
"""Columns that names of groups, and numbers with an interval, are never narrower than."""

_SWAPPED = {
    "rows": "difference and p: permutation test by actor, thresholds chosen anew (two-sided).",
    "answers": "p: permutation test by actor of the decoded labels (two-sided). Thresholds are held fixed, so that p "
    "is too small for systems that differ by their choice alone.",
}
"""What p means, by what was swapped."""


def draw_difference(found: Mapping[str, Any]) -> RenderableType:
    """Draw a comparison as of `analysis.compare_systems`."""
    first, second = found["systems"]
    how = f"{found['thresholds']} thresholds, " if found["thresholds"] else ""
    title = f"{how}{found['clips']} clips, {found['actors']} actors"
    table = _table(title, "", first["title"], second["title"], "difference", "p", folded=(1, 2))
    for measure, name in MEASURES.items():
        row = found["differences"][measure]
        if row is None:
            table.add_row(name, *[UNDEFINED] * 3, "")
            continue
        table.add_row(
            name,
            *(_with_interval(side["scores"][measure], _of(side["intervals"], measure)) for side in (first, second)),
            _with_interval(row["difference"], row["interval"], signed=True),
            show_p(row["p"]),
        )
    caveats = dict.fromkeys(f"{side['title']}: {side['caveat']}" for side in (first, second) if side["caveat"])
    caveats |= dict.fromkeys([found["caveat"]] if found["caveat"] else [])
    notes = [
        *say_minimum(_ranked(found["differences"])["minimum"], found["actors"]),
        f"[...]: {found['level']} % CI over actors; models and thresholds held fixed.",
        _SWAPPED[found["swapped"]],
    ]
    lines = [Text(caveat, style="bold yellow") for caveat in caveats]
    return Group(*lines, table, Text(found["sentence"], style="bold"), *(Text(note, style="dim") for note in notes))


def _ranked(found: Mapping[str, Any]) -> Any:
    """Return what was found of the measure that systems are ranked by: the Score, or ACC_P where it is not defined."""
    return found["acc_presence"] if found["score"] is None else found["score"]


def draw_analysis(found: Mapping[str, Any]) -> RenderableType:
    """Draw an analysis as of `analysis.analyse_system`."""
    caveat = [Text(found["caveat"], style="bold yellow")] if found["caveat"] else []
    numbers = ", ".join(
        f"{name} {_with_interval(found['scores'][measure], _of(found['intervals'], measure), none=UNDEFINED)}"
        for measure, name in MEASURES.items()
    )
    head = Text(f"{found['system']} in {found['run']}: {found['clips']} clips, {found['actors']} actors", style="bold")
    return Group(
        *caveat, head, Text(f"cross-fitted: {numbers}"), Text(), *_groups(found["breakdown"]),
        *_errors(found["errors"]), *_calibration(found["calibration"]),
        *_sensitivity(found["sensitivity"], found["ranked_by"]),
        Text(
            f"[...]: {found['level']} % CI over actors; models and thresholds held fixed. All numbers are "
            "on out-of-fold probabilities.", style="dim",
        ),
    )  # fmt: skip


def _groups(breakdown: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[RenderableType]:
    table = _table("groups of clips", "by", "", "clips", "blends", "ACC_P", "ACC_S", folded=(1,))
    for kind, rows in breakdown.items():
        for k, row in enumerate(rows):
            table.add_row(
                kind if k == 0 else "",
                row["name"],
                str(row["clips"]),
                str(row["blends"]),
                *(_with_interval(row[m], row[f"{m}_interval"]) for m in ("acc_presence", "acc_salience")),
                end_section=k == len(rows) - 1,
            )
    yield table
    yield Text(
        f"Shares of a group's clips, not means over folds; no interval for fewer than {FEWEST} actors.", style="dim"
    )
    yield Text()
    named = _table("emotions", "", "clips", "recall", "precision")
    for row in breakdown["emotion"]:
        named.add_row(row["name"], str(row["clips"]), short(row["recall"]), _number(row["precision"]))
    yield named
    yield Text(
        "recall: share of the emotion's clips whose label was predicted with it; precision: share of the predictions "
        "with it that are right.", style="dim",
    )  # fmt: skip
    yield Text()


def _errors(errors: Mapping[str, Any]) -> Iterator[RenderableType]:
    table = _table("answers", "", "clips")
    for name, count in errors["kinds"].items():
        table.add_row(name, str(count))
    frequent = _table("most frequent wrong answers", "truth", "answer", "clips", "of", left=("truth", "answer"))
    for row in errors["frequent"]:
        frequent.add_row(row["truth"], row["answer"], str(row["clips"]), str(row["of"]))
    saliences = _table("saliences of right pairs", "truth", "50/50", "70/30", "30/70")
    for row in errors["saliences"]:
        saliences.add_row(*(str(value) for value in row.values()))
    both = Table.grid(padding=(0, 4))
    both.add_row(Group(table, saliences), frequent)
    yield both


def _calibration(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    if found["answers"]:
        yield Text("The predictions are labels, not probabilities: calibration says little about them.", style="dim")
    largest = _table("largest probability", "bin", "clips", "mean", "true share", "present")
    for row in found["largest"]:
        numbers = (row["probability"], row["share"], row["present"])
        largest.add_row(_bin(row), str(row["clips"]), *(short(number) for number in numbers))
    second = _table("second probability", "bin", "clips", "mean", "blends")
    for row in found["second"]:
        second.add_row(_bin(row), str(row["clips"]), short(row["probability"]), short(row["blends"]))
    both = Table.grid(padding=(0, 4))
    both.add_row(largest, second)
    yield both
    yield Text(
        f"expected calibration error {short(found['expected_calibration_error'])}; "
        f"Brier score {short(found['brier'])} "
        f"(constant prediction of the mean shares: {short(found['brier_constant'])}); "
        f"second probability tells blends with AUC {_number(found['blend_auc'])}"
    )
    yield Text("true share: salience of the emotion in the true label (.5 in an even blend).", style="dim")
    yield Text()


def _sensitivity(found: Mapping[str, Any], ranked: str) -> Iterator[RenderableType]:
    folds = [str(row["fold"]) for row in found["folds"]]
    table = _table(f"best thresholds per fold, {ranked} lost on others", "fold", "alpha", "beta",
                   ranked, *(f"on {fold}" for fold in folds))  # fmt: skip
    for row, losses in zip(found["folds"], found["transfer"], strict=True):
        numbers = (row["alpha"], row["beta"], row["score"], *losses)
        table.add_row(str(row["fold"]), *(short(number) for number in numbers))
    yield table
    for name in ("alpha", "beta"):
        spread = found[name]
        yield Text(
            f"best {name} of a fold: mean {short(spread['mean'])} ± {short(spread['sd'])} (sd, ddof=1), from "
            f"{short(spread['min'])} to {short(spread['max'])}"
        )
    drop = _ranked(found["drop"])
    yield Text(f"mean loss with another fold's thresholds: {short(found['transfer_loss'])}")
    yield Text(f"official minus cross-fitted {ranked}: {_with_interval(drop['difference'], drop['interval'])}")
    note = "This is what choosing thresholds and weights on the scored folds adds; epochs chosen there add more."
    yield Text(note, style="dim")
    yield Text()
    yield from _heat_map(found, ranked)


def _heat_map(found: Mapping[str, Any], ranked: str) -> Iterator[RenderableType]:
    """Draw the score surface, alpha downwards and beta to the right, two columns per beta."""
    surface, grid, best = found["surface"], found["grid"], found["best"]
    where = f"alpha {short(best['alpha'])}, beta {short(best['beta'])}"
    yield Text(f"{ranked} of all clips together: best {short(best['score'])} at {where} (><)", style="bold")
    yield Text(f"{'beta':>7} {short(grid[0], 2)}{short(grid[-1], 2):>37}")
    for alpha, row in zip(grid, surface, strict=True):
        cells = "".join(
            "><" if (alpha, beta) == (best["alpha"], best["beta"]) else 2 * _shade(best["score"] - value)
            for beta, value in zip(grid, row, strict=True)
        )
        yield Text(f"{short(alpha):>7} {cells}")
    legend = ", ".join(f"{shade} {short(loss)}" for loss, shade in SHADES)
    yield Text(f"{'alpha':>7} {ranked} lost against the best: at most {legend}; blank: more", style="dim")


def _shade(loss: float) -> str:
    # What is as good as the limit may differ from it in the last bits.
    return next((shade for limit, shade in SHADES if loss <= limit + 1e-12), " ")


def _table(title: str, *columns: str, left: Sequence[str] = (), folded: Sequence[int] = ()) -> Table:
    """Make a table whose numbers stay whole at 80 columns; names in `folded` columns may take several lines."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for k, column in enumerate(columns):
        named = k == 0 or column in ("", *left)
        justify: JustifyMethod = "left" if named else "right"
        if k in folded:
            table.add_column(column, justify=justify, overflow="fold", min_width=_NAME if named else _INTERVAL)
        else:
            table.add_column(column, justify=justify, no_wrap=k > 0)
    return table


def _of(intervals: Mapping[str, Any] | None, measure: str) -> Sequence[float] | None:
    return None if intervals is None else intervals[measure]


def _with_interval(value: float | None, interval: Sequence[float] | None, signed: bool = False, none: str = "-") -> str:
    if value is None:
        return none
    text = ("+" if signed and value >= 0 else "") + short(value)
    return text if interval is None else f"{text} [{short(interval[0])}, {short(interval[1])}]"


def _number(value: float | None) -> str:
    return "-" if value is None else short(value)


def _bin(row: Mapping[str, float]) -> str:
    return f"{short(row['low'], 1)}-{short(row['high'], 1)}"
