"""The table of a run as LaTeX, Markdown and CSV: its numbers, marks and notes, and that LaTeX can set it."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

from blemore_harness.drawing.result_text import escape_latex, escape_markdown, format_results
from blemore_harness.record.types import Record
from latex import set_tables
from sample_records import failed_system, sample_record, sample_system

HOSTILE = r"a_b&c%d$e#f{g}h~i^j\k<l>m|n*o[p]`q`'r'" + '"s"'
PUBLISHED = {"acc_presence": 0.266, "acc_presence_sd": 0.021, "score": 0.186, "test_score": 0.177, "source": "a paper"}


def make_record() -> Record:
    """Three systems, of which two are alike to three digits, one that failed, and published numbers."""
    systems = (
        sample_system("worst", 0.3, 0.1), sample_system("best", 0.5781, 0.33), sample_system(HOSTILE, 0.5779, 0.32),
        failed_system("broken", "no"),
    )  # fmt: skip
    record = sample_record(*systems, caveat="demo: 100 % drawn")
    return replace(record, submission=replace(record.submission, name="my_run", expect=PUBLISHED))


ADJUSTED = {"worst": 0.049, HOSTILE: 0.05}


def test_latex_shows_bests_in_bold_marks_and_published_numbers() -> None:
    text = format_results(make_record(), "latex", ADJUSTED)
    rows = {line.partition(" & ")[0]: line for line in text.splitlines() if line.endswith(r"\\")}
    assert rows["best"] == (
        r"best & \textbf{.578} $\pm$ .124 & \textbf{.330} $\pm$ .072 & \textbf{.454} $\pm$ .090 & "
        r"\textbf{.424} [.374, .474] \\"
    )
    other = rows[escape_latex(HOSTILE)]
    assert other.startswith(rf"{escape_latex(HOSTILE)} & \textbf{{.578}} $\pm$ .124 & .320"), "equal as printed"
    assert "dagger" not in other
    assert r".170$^\dagger$ [.120, .220]" in rows["worst"]
    assert rows[r"my\_run, published"] == r"my\_run, published & .266 $\pm$ .021 &  & .186 &  \\"
    assert rows[r"my\_run, published, test clips"].split(" & ")[3] == ".177"
    assert text.index(escape_latex("100 % drawn")) < text.index("tabular")
    assert "below the best system" in text
    assert "broken: failed." in text
    assert "Published: a paper." in text


def test_marks_are_explained_where_there_are_any_and_nothing_is_said_without_a_test() -> None:
    for form in ("latex", "markdown"):
        none = format_results(make_record(), form, {"worst": 0.2, HOSTILE: 0.9})
        assert "dagger" not in none
        assert "†" not in none
        assert "No system is below the best" in none
        assert "corrected" not in format_results(make_record(), form)


def test_markdown_has_five_cells_in_every_row_whatever_a_name_holds() -> None:
    lines = format_results(make_record(), "markdown", ADJUSTED).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 3 + 2
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {6}
    assert table[2].startswith("| best | **.578** ± .124 | **.330**")
    assert ".170† " in table[4]
    assert escape_markdown(HOSTILE) in table[3]


def test_csv_holds_all_digits() -> None:
    record = make_record()
    rows = list(csv.DictReader(io.StringIO(format_results(record, "csv", ADJUSTED))))
    assert [row["system"] for row in rows] == ["best", HOSTILE, "worst", "broken"]
    assert float(rows[0]["official_acc_presence"]) == 0.5781
    found = record.finished[1]
    assert float(rows[0]["cross_fitted_score"]) == found.cross_fitted.score.mean
    assert (
        float(rows[0]["cross_fitted_score_low"]),
        float(rows[0]["cross_fitted_score_high"]),
    ) == found.intervals.score
    assert [row["p_adjusted"] for row in rows] == ["", "0.05", "0.049", ""]
    assert (rows[3]["status"], rows[3]["official_score"], rows[3]["clips"]) == ("failed", "", "60")


def test_a_run_without_results_has_a_table_without_rows() -> None:
    record = sample_record(failed_system("broken", "no"))
    for form in ("latex", "markdown", "csv"):
        assert "broken" in format_results(record, form)


def test_latex_sets_the_table(tmp_path: Path) -> None:
    """Its syntax is checked everywhere, also without LaTeX."""
    text = format_results(make_record(), "latex", ADJUSTED)
    bare = re.sub(r"\\.", "", text.replace(r"$^\dagger$", ""))
    assert bare.count("{") == bare.count("}")
    assert not set('#~^<>|"') & set(bare)
    rows = [re.sub(r"\\.", "", line) for line in text.splitlines() if line.endswith(r"\\") and "multi" not in line]
    assert {row.count("&") for row in rows} == {4}
    set_tables(text, tmp_path)
