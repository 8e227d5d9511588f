"""The results of a run as text for other programs: a LaTeX or Markdown table for people to read, CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from blemore_harness.drawing.system_table import rank_systems
from blemore_harness.errors import printable
from blemore_harness.record.scores import Mean
from blemore_harness.record.types import FinishedSystem, Record
from blemore_harness.scoring.caveats import describe_folds, describe_help, describe_system
from blemore_harness.scoring.intervals import LEVEL, UNDEFINED, short
from blemore_harness.scoring.measures import NO_BLENDS
from blemore_harness.scoring.published import MEASURES

Form = Literal["latex", "markdown", "csv"]

BELOW: Final = (100 - LEVEL) / 100
"""A system with a smaller p against the best one is marked."""

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "±": r"$\pm$", "†": r"$^\dagger$",
}  # fmt: skip

_MARKDOWN = "\\`*_[]<>|#~"


@dataclass(frozen=True)
class _Cell:
    """A number as text, whether it is the best of its column, and what stands behind it in plain type."""

    text: str
    best: bool = False
    after: str = ""


def format_results(record: Record, form: Form, adjusted: Mapping[str, float] | None = None) -> str:
    """Return the table of a run, systems by cross-fitted Score, with everything that must be said about it.

    LaTeX (with `booktabs`) and Markdown show deviations, intervals, the best number of a column in bold, and a dagger
    at systems that lie below the best by more than noise. CSV holds all digits.

    Args:
        record: of the run.
        adjusted: by system, p against the system with the best cross-fitted Score, corrected for the number of
            comparisons; None where nothing was compared, and nothing is marked then.
    """
    if form == "csv":
        return _csv(record, adjusted or {})
    rows = _rows(record, adjusted or {})
    notes = _notes(record, adjusted)
    return _latex(record, rows, notes) if form == "latex" else _markdown(record, rows, notes)


def escape_latex(text: str) -> str:
    r"""Return a text that LaTeX prints as it is.

    >>> escape_latex("a_b 95 % {x}")
    'a\\_b 95 \\% \\{x\\}'
    """
    return "".join(_LATEX.get(letter, letter) for letter in printable(text))


def escape_markdown(text: str) -> str:
    r"""Return a text that Markdown shows as it is, in a cell of a table too.

    >>> escape_markdown("a_b|c")
    'a\\_b\\|c'
    """
    return "".join(f"\\{letter}" if letter in _MARKDOWN else letter for letter in printable(text))


def _rows(record: Record, adjusted: Mapping[str, float]) -> list[tuple[str, list[_Cell]]]:
    """Return a name and four cells per system, then those of the published numbers."""
    ranked = rank_systems(record)
    columns: list[Callable[[FinishedSystem], Mean | None]] = [
        lambda system: system.official.acc_presence,
        lambda system: system.official.acc_salience,
        lambda system: system.official.score,
        lambda system: system.cross_fitted.ranked,
    ]
    # Numbers that are printed alike are best alike.
    known = [[mean for system in ranked if (mean := column(system))] for column in columns]
    best = [max((short(mean.mean) for mean in means), key=float, default="") for means in known]
    rows = []
    for system in ranked:
        numbers = [column(system) for column in columns]
        cells = [
            _Cell(short(number.mean), short(number.mean) == top, f" ± {short(number.sd)}")
            if number
            else _Cell(UNDEFINED)
            for number, top in zip(numbers[:3], best[:3], strict=True)
        ]
        after = "" if system.intervals is None else " [{}, {}]".format(*map(short, system.intervals.ranked))
        mark = "†" if adjusted.get(system.name, 1.0) < BELOW else ""
        honest = short(system.cross_fitted.ranked.mean)
        cells.append(_Cell(honest, honest == best[3], mark + after))
        rows.append((system.name, cells))
    return rows + _published(record)


def _published(record: Record) -> list[tuple[str, list[_Cell]]]:
    """Return rows of the published numbers of the submission, in validation and on the test clips."""
    expected, rows = record.submission.expect, []
    for prefix, words in (("", "published"), ("test_", "published, test clips")):
        cells = []
        for measure in MEASURES:
            value, sd = expected.get(f"{prefix}{measure}"), expected.get(f"{prefix}{measure}_sd")
            cells.append(_Cell("" if value is None else short(value), after="" if sd is None else f" ± {short(sd)}"))
        if any(cell.text for cell in cells):
            rows.append((f"{record.submission.name}, {words}", [*cells, _Cell("")]))
    return rows


def _notes(record: Record, adjusted: Mapping[str, float] | None) -> list[str]:
    """Return what must be said, a sentence or two each."""
    data = record.data
    notes = [f"{data.clips} clips of {data.actors} actors in {data.folds} folds."]
    notes += [f"Caveat: {record.caveat}."] if record.caveat else []
    notes += [] if data.blends else [NO_BLENDS]
    notes += [words[0].upper() + words[1:]] if (words := describe_folds(data)) else []
    notes.append(
        "Official: thresholds and fusion weights chosen on the scored folds (in-sample), mean ± standard deviation "
        f"over folds. Cross-fitted: both chosen on the other folds, with {LEVEL} % intervals over actors."
    )
    if adjusted is not None and any(p < BELOW for p in adjusted.values()):
        notes.append(
            f"†: below the best system by more than noise (p < {short(BELOW, 2)}, permutation test by actor, "
            "corrected for all pairs)."
        )
    elif adjusted:
        notes.append("No system is below the best one by more than noise (permutation test by actor, corrected).")
    for system in rank_systems(record):
        said = [*describe_system(system, record), *describe_help(system, record)]
        notes += [f"{system.name}: {'; '.join(said)}."] if said else []
    notes += [f"{system.name}: {system.status}." for system in record.systems if not isinstance(system, FinishedSystem)]
    if source := record.submission.expect.get("source"):
        notes.append(f"Published: {source}.")
    return notes


def _latex(record: Record, rows: Sequence[tuple[str, list[_Cell]]], notes: Sequence[str]) -> str:
    ranked = "Score" if record.data.blends else "ACC$_P$"
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(record.submission.name)}: {' '.join(map(escape_latex, notes))}}}",
        r"\begin{tabular}{lrrrr}",
        r"\toprule",
        r"& \multicolumn{3}{c}{official} & cross-fitted \\",
        r"\cmidrule(lr){2-4} \cmidrule(lr){5-5}",
        rf"System & ACC$_P$ & ACC$_S$ & Score & {ranked} [{LEVEL}\,\% CI] \\",
        r"\midrule",
    ]
    for name, cells in rows:
        shown = [(rf"\textbf{{{c.text}}}" if c.best else c.text) + escape_latex(c.after) for c in cells]
        lines.append(" & ".join([escape_latex(name), *shown]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _markdown(record: Record, rows: Sequence[tuple[str, list[_Cell]]], notes: Sequence[str]) -> str:
    heads = ["system", "ACC_P, official", "ACC_S, official", "Score, official"]
    heads.append(f"{record.data.ranked_by}, cross-fitted [{LEVEL} % CI]")
    lines = [f"| {' | '.join(map(escape_markdown, heads))} |", "|:--|--:|--:|--:|--:|"]
    for name, cells in rows:
        shown = [(f"**{c.text}**" if c.best else c.text) + escape_markdown(c.after) for c in cells]
        lines.append(f"| {' | '.join([escape_markdown(name), *shown])} |")
    return "\n".join([*lines, "", *(f"{escape_markdown(note)}  " for note in notes)]).rstrip() + "\n"


def _csv(record: Record, adjusted: Mapping[str, float]) -> str:
    measures = list(MEASURES)
    heads = ["system", "kind", "status"]
    ways = ("official", "cross_fitted")
    heads += [f"{way}_{measure}{end}" for way in ways for measure in measures for end in ("", "_sd")]
    heads += [f"cross_fitted_{measure}_{end}" for measure in measures for end in ("low", "high")]
    heads += ["p_adjusted", "clips", "actors", "caveat"]
    text = io.StringIO()
    writer = csv.DictWriter(text, heads, lineterminator="\n")
    writer.writeheader()
    data = {"clips": record.data.clips, "actors": record.data.actors, "caveat": record.caveat}
    others = [system for system in record.systems if not isinstance(system, FinishedSystem)]
    for system in rank_systems(record):
        row: dict[str, object] = {"system": system.name, "kind": system.kind, "status": system.status, **data}
        for way, means in (("official", system.official), ("cross_fitted", system.cross_fitted)):
            for measure, mean in means.by_measure().items():
                if mean is not None:
                    row |= {f"{way}_{measure}": mean.mean, f"{way}_{measure}_sd": mean.sd}
        if system.intervals is not None:
            for measure, (low, high) in ((m, e) for m in measures if (e := getattr(system.intervals, m))):
                row |= {f"cross_fitted_{measure}_low": low, f"cross_fitted_{measure}_high": high}
        writer.writerow(row | {"p_adjusted": adjusted.get(system.name)})
    for other in others:
        writer.writerow({"system": other.name, "kind": other.kind, "status": other.status, **data})
    return text.getvalue()
