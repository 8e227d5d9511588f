"""The ranking as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from blemore_harness.drawing.score_tables import describe_ties, list_caveats
from blemore_harness.errors import printable
from blemore_harness.scoring.intervals import short, show_p
from blemore_pages.static_table import Column, Page, PageTable, Row, render_page

MEASURES = {"acc_presence": "ACC_P", "acc_salience": "ACC_S", "score": "Score"}


def render_ranking(found: Mapping[str, Any]) -> str:
    """Return a ranking (as of `scoring.ranking.rank_files`) as HTML.

    Raises:
        ExtraMissing: Jinja2 is not installed.
    """
    actors = f" of {found['actors']} actors" if found["actors"] else ""
    lead = f"{found['clips']} clips ({found['blends']} blends){actors}, labels of {found['reference']}."
    caveats = list_caveats(found["ranked"], "name")
    return render_page(Page("Ranking", tuple(_tables(found)), tuple(caveats), (printable(lead),)))


def _tables(found: Mapping[str, Any]) -> Iterator[PageTable]:
    ranked, tested = found["ranked"], any(row["group"] is not None for row in found["ranked"])
    heads = [Column("group", number=True)] if tested else []
    heads += [Column("submission")]
    heads += [Column(text, number=True) for name in MEASURES.values() for text in (name, f"{found['level']} % CI")]
    heads += [Column("p", number=True)] if tested else []
    rows = [Row(tuple(_cells(row, tested))) for row in ranked]
    if ranked:
        yield PageTable(
            f"{len(ranked)} submissions", tuple(heads), tuple(rows), int(tested), notes=describe_ties(found)
        )
    if found["refused"]:
        refused = tuple(Row((printable(row["name"]), printable(row["reason"]))) for row in found["refused"])
        yield PageTable(f"{len(refused)} cannot be scored", (Column("submission"), Column("reason")), refused)


def _cells(row: Mapping[str, Any], tested: bool) -> Iterator[str]:
    if tested:
        yield str(row["group"])
    yield printable(row["name"])
    for measure in MEASURES:
        ends = (row["intervals"] or {}).get(measure)
        yield short(row[measure], 4)
        yield f"{short(ends[0])} to {short(ends[1])}" if ends else "-"
    if tested:
        yield "" if row["p_first"] is None else show_p(row["p_first"])
