"""Pages of tables: everything is escaped, nothing is loaded from anywhere, rows and columns have heads."""

from __future__ import annotations

import builtins
import re
from typing import Any

import pytest

from blemore_harness.errors import ExtraMissing
from blemore_pages.static_table import Column, Page, PageTable, Row, render_page

HOSTILE = "<script>alert(1)</script>"


def page() -> Page:
    columns = (Column("rank", number=True), Column("system"), Column(HOSTILE))
    rows = (Row(("1", "one", HOSTILE), "best"), Row(("", "two", "&"), "quiet"))
    table = PageTable(f"h {HOSTILE}", columns, rows, 1, f"c {HOSTILE}", (HOSTILE,), (HOSTILE,))
    return Page(f"t {HOSTILE}", (table, table), (HOSTILE,), (HOSTILE,), (HOSTILE,))


@pytest.mark.report
def test_texts_are_escaped_and_cells_stand_under_their_heads() -> None:
    html = render_page(page())
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 5 + 2 * 6
    assert html.count('<th scope="col"') == 6
    assert html.count('<th scope="row">one</th>') == 2
    assert html.count('<td class="number">1</td>') == 2
    assert html.count('<tr class="best">') == html.count('<tr class="quiet">') == 2


@pytest.mark.report
def test_it_loads_nothing() -> None:
    html = render_page(page())
    assert re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')>]+)", html) == ["data:,"]
    assert "http" not in html


def test_without_jinja_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "jinja2":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ExtraMissing, match=r"blemore-harness\[report\]"):
        render_page(page())
