"""Pages of tables: everything is escaped, nothing is loaded from anywhere, rows and columns have heads."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blemore_harness.errors import ExtraMissing
from blemore_pages.static_table import Column, Page, PageTable, Row, render_page
from browsers import open_chromium

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
def test_letters_that_no_screen_shows_are_written_out() -> None:
    table = PageTable("h", (Column("name"),), (Row(("evil\u202etxt\x1b",)),))
    html = render_page(Page("a\u2066b", (table,)))
    assert r"evil\u202etxt\x1b" in html
    assert r"<h1>a\u2066b</h1>" in html
    assert not {"\u202e", "\x1b", "\u2066"} & set(html)


@pytest.mark.report
def test_it_loads_nothing() -> None:
    html = render_page(page())
    assert re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')>]+)", html) == ["data:,"]
    assert "http" not in html


def test_without_jinja_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ExtraMissing, match=r"jinja2 .*blemore-harness\[report\]"):
        render_page(page())


@pytest.mark.report
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_it_is_quiet_and_accessible(tmp_path: Path, scheme: Any, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    file = tmp_path / "page.html"
    table = page().tables[0]
    file.write_text(render_page(replace(page(), tables=(table, replace(table, heading="another")))))
    asked: list[str] = []
    said: list[str] = []
    with open_chromium() as browser:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
        tab = context.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: said.append(message.text))
        tab.goto(file.as_uri())
        found = axe.Axe().run(tab).response["violations"]
        wide = tab.evaluate("document.documentElement.scrollWidth")
    assert [(each["id"], each["impact"]) for each in found] == []
    assert (asked, said) == ([file.as_uri()], [])
    assert wide <= width  # tables scroll by themselves, the page does not
