"""Leaderboards as terminal tables, Markdown, CSV, LaTeX, JSON and a page of HTML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from blemore_harness.drawing.result_text import escape_latex, escape_markdown
from blemore_harness.scoring.intervals import LEVEL, short
from blemore_pages.leaderboard.boards import Board, By, Numbers, Row
from blemore_pages.static_table import Column, Page, PageTable, render_page
from blemore_pages.static_table import Row as PageRow

TIES = (
    "group: systems of one group cannot be told apart from its best (paired permutation test by actor, p below .05 "
    "after correction for all pairs)."
)

WHICH = {
    "out-of-sample": "Ranked by the out-of-sample (cross-fitted) Score, which predicts the leaderboard.",
    "official": "Ranked by the official Score, to compare with papers: in-sample, which favours fusions.",
}


def draw_boards(boards: Sequence[Board], remarks: Sequence[str], by: By) -> RenderableType:
    """Draw boards for a terminal of 80 columns; caveats are letters, explained below."""
    parts: list[RenderableType] = []
    for board in boards:
        letters = _letters(board)
        parts += [Text(words, style="bold yellow") for words in board.caveats]
        parts.append(_draw_table(board, letters))
        parts += [Text(f"{letter}  {words}") for words, letter in letters.items()]
        parts += [Text(note) for note in board.notes]
        parts.append(Text())
    parts += [Text(remark, style="red") for remark in remarks]
    rows = [row for board in boards for row in board.rows]
    legend = [WHICH[by], TIES] if any(row.group for row in rows) else []
    legend += ["* published"] if any(row.published for row in rows) else []
    return Group(*parts, *(Text(line, style="dim") for line in legend))


def _draw_table(board: Board, letters: Mapping[str, str]) -> Table:
    """Draw the rows of a board, without columns of numbers that none of them has."""
    table = Table(title=board.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False,
                  collapse_padding=True)  # fmt: skip
    numbers = [(_score(row), *_official(row), _test(row)) for row in board.rows]
    heads = (f"cross-fitted\n{board.ranked_by} [{LEVEL} % CI]", "official\nScore", "\nACC_P", "\nACC_S", "test\nScore")
    kept = [k for k in range(len(heads)) if any(row[k] for row in numbers)]
    table.add_column("group", justify="right")
    table.add_column("system", overflow="fold", max_width=26)
    for k in kept:
        table.add_column(heads[k], justify="right", no_wrap=True)
    table.add_column("notes", no_wrap=True)
    for row, cells in zip(board.rows, numbers, strict=True):
        marks = ",".join(letters[words] for words in _remarks(row))
        name = Text(row.name, style="dim" if row.published else "bold")
        name.append(_inside(row), style="not bold")
        group = "*" if row.published else _group(row)
        table.add_row(group, name, *(cells[k] for k in kept), marks)
    return table


def write_markdown(boards: Sequence[Board], by: By) -> str:
    """Write boards as tables of Markdown."""
    lines = []
    for board in boards:
        lines += [f"## {escape_markdown(board.title)}", ""]
        lines += [f"**{escape_markdown(words)}**\n" for words in board.caveats]
        columns, rows = _wide(board)
        lines += [f"| {' | '.join(label for label, _ in columns)} |"]
        lines += [f"|{'|'.join('--:' if number else '---' for _, number in columns)}|"]
        lines += [f"| {' | '.join(map(escape_markdown, texts))} |" for texts in rows]
        ties = [WHICH[by], TIES] if any(row.group for row in board.rows) else []
        lines += ["", *(f"{escape_markdown(note)}\n" for note in (*ties, *board.notes))]
    return "\n".join(lines)


def write_csv(boards: Sequence[Board]) -> str:
    """Write all rows of all boards as one CSV file, numbers in full."""
    file = io.StringIO()
    rows = [_facts(board, row) for board in boards for row in board.rows]
    writer = csv.DictWriter(file, list(rows[0]) if rows else ["system"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def write_json(boards: Sequence[Board], remarks: Sequence[str], by: By) -> str:
    """Write boards as JSON."""
    content = {"by": by, "boards": [asdict(board) for board in boards], "without_row": list(remarks)}
    return json.dumps(content, indent=2)


def write_latex(boards: Sequence[Board]) -> str:
    r"""Write boards as tables of LaTeX (package booktabs); the best number of a column is bold."""
    lines = [r"% \usepackage{booktabs}"]
    for board in boards:
        own = [row for row in board.rows if not row.published]
        ranked = [(_numbers_of(row), row) for row in board.rows]
        best = [max((numbers[k] or 0.0 for numbers, row in ranked if row in own), default=0.0) for k in range(4)]
        letters = _letters(board)
        lines += [r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(board.title)}}}"]
        lines += [r"\begin{tabular}{rlrrrrr}", r"\toprule"]
        lines += [r" & & cross-fitted & \multicolumn{3}{c}{official} & test \\"]
        lines += [r"group & system & Score & ACC$_P$ & ACC$_S$ & Score & Score \\", r"\midrule"]
        for numbers, row in ranked:
            cells = ["" if n is None else short(n) for n in numbers]
            cells = [rf"\textbf{{{cell}}}" if cell and row in own and n == top else cell
                     for cell, n, top in zip(cells, numbers, best, strict=True)]  # fmt: skip
            cells[0] += "" if row.sd is None else rf" $\pm$ {short(row.sd)}"
            marks = ",".join(letters[words] for words in _remarks(row))
            name = escape_latex(row.name + _inside(row)) + (rf"$^{{{marks}}}$" if marks else "")
            group = "" if row.published else _group(row)
            lines.append(" & ".join([group, name, *cells, _test(row)]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        notes = [*board.caveats, *(f"{letter}: {words}" for words, letter in letters.items())]
        lines += [rf"\par\footnotesize {escape_latex('; '.join(notes))}"] if notes else []
        lines += [r"\end{table}", ""]
    return "\n".join(lines)


def write_html(boards: Sequence[Board], remarks: Sequence[str], by: By) -> str:
    """Write boards as a page.

    Raises:
        ExtraMissing: Jinja2 is not installed.
    """
    tables = []
    for board in boards:
        first = next((row for row in board.rows if not row.published), None)
        columns, texts = _wide(board)
        rows = [
            PageRow(cells, "quiet" if row.published else "best" if row is first else "")
            for row, cells in zip(board.rows, texts, strict=True)
        ]
        ties = (TIES,) if first else ()
        heads = [Column(label, number) for label, number in columns]
        tables.append(PageTable(board.title, heads, rows, 1, "", board.caveats, (*ties, *board.notes)))
    footer = [*(f"Without a row: {remark}" for remark in remarks), "Made by blemore-harness leaderboard."]
    return render_page(Page("BLEMORE leaderboard", tables, lead=(WHICH[by],), footer=footer))


COLUMNS = (
    ("group", True), ("system", False), (f"cross-fitted Score [{LEVEL} % CI]", True), ("official Score", True),
    ("ACC_P", True), ("ACC_S", True), ("test Score", True), ("caveats", False), ("saw acted emotions", False),
    ("paid", False), ("licence of weights", False), ("run or source", False),
)  # fmt: skip
"""Heads of the wide tables, and whether a column holds numbers."""


def _wide(board: Board) -> tuple[list[tuple[str, bool]], list[list[str]]]:
    """Return columns and cells of a wide table, without columns that are empty throughout."""
    rows = [_texts(row) for row in board.rows]
    kept = [k for k in range(len(COLUMNS)) if any(row[k] for row in rows)]
    columns = [(label.replace("cross-fitted Score", f"cross-fitted {board.ranked_by}"), n) for label, n in COLUMNS]
    return [columns[k] for k in kept], [[row[k] for k in kept] for row in rows]


def _texts(row: Row) -> list[str]:
    """Return the cells of a row of the wide tables."""
    return [
        _group(row), row.name + _inside(row), _score(row), *_official(row), _test(row), "; ".join(row.caveats),
        row.acted, row.paid, row.weights, row.run or row.source,
    ]  # fmt: skip


def _facts(board: Board, row: Row) -> dict[str, Any]:
    cross = row.out_of_sample or Numbers(None, None, None)
    low, high = row.interval or (None, None)
    return {
        "protocol": board.protocol, "dataset": board.dataset, "group": row.group, "system": row.name,
        "base_models": ",".join(row.base_models), "cross_fitted_score": cross.score, "lower": low, "upper": high,
        "cross_fitted_acc_presence": cross.acc_presence, "cross_fitted_acc_salience": cross.acc_salience,
        "official_score": row.official.score, "official_acc_presence": row.official.acc_presence,
        "official_acc_salience": row.official.acc_salience, "test_score": row.test_score,
        "caveats": "; ".join((*board.caveats, *row.caveats)), "acted_emotions": row.acted, "paid": row.paid,
        "weights_licence": row.weights, "run": row.run, "source": row.source,
        "seeds": ",".join(map(str, row.seeds)), "between_seed_sd": row.sd,
    }  # fmt: skip


def _numbers_of(row: Row) -> list[float | None]:
    cross = row.out_of_sample.ranked if row.out_of_sample else None
    return [cross, row.official.acc_presence, row.official.acc_salience, row.official.score]


def _letters(board: Board) -> dict[str, str]:
    """Return a letter for each caveat of a board's rows."""
    words = dict.fromkeys(words for row in board.rows for words in _remarks(row))
    return dict(zip(words, _names(), strict=False))


def _names() -> Iterator[str]:
    """Give a, b, ..., z, aa, ab, ..."""
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    yield from alphabet
    yield from (first + second for first in alphabet for second in alphabet)


def _remarks(row: Row) -> list[str]:
    """Return the caveats of a row, those of its card included."""
    found = list(row.caveats)
    if row.acted not in ("no", ""):
        found.append(f"pretraining on acted emotions: {row.acted}")
    if row.paid == "yes":
        found.append("a paid service takes part")
    return [*found, row.source] if row.published else found


def _inside(row: Row) -> str:
    """Name a fusion's base models in brackets."""
    return f" ({', '.join(row.base_models)})" if row.base_models else ""


def _group(row: Row) -> str:
    """Return the number of a group of ties; a question mark for a system that could not be tested."""
    return "published" if row.published else "?" if row.group is None else str(row.group)


def _test(row: Row) -> str:
    return "" if row.test_score is None else short(row.test_score)


def _score(row: Row) -> str:
    if row.out_of_sample is None:
        return ""
    ends = f" [{short(row.interval[0])}, {short(row.interval[1])}]" if row.interval else ""
    return short(row.out_of_sample.ranked) + ("" if row.sd is None else f" ± {short(row.sd)}") + ends


def _official(row: Row) -> list[str]:
    numbers = (row.official.score, row.official.acc_presence, row.official.acc_salience)
    return ["" if number is None else short(number) for number in numbers]
