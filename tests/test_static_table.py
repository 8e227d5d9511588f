"""Pages of tables: everything is escaped, nothing is loaded from anywhere, rows and columns have heads."""

from __future__ import annotations

import builtins
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blemore_harness.errors import ExtraMissing
from blemore_pages.static_table import Column, Page, PageTable, Row, render_page

HOSTILE = "<script>alert(1)</script>"

CHROMIUM = Path("/usr/bin/chromium")


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


@pytest.mark.report
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_it_is_quiet_and_accessible(tmp_path: Path, scheme: Any, width: int) -> None:
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}")
    sync_api = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    file = tmp_path / "page.html"
    table = page().tables[0]
    file.write_text(render_page(replace(page(), tables=(table, replace(table, heading="another")))))
    asked: list[str] = []
    said: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
        )
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
        tab = context.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: said.append(message.text))
        tab.goto(file.as_uri())
        found = axe.Axe().run(tab).response["violations"]
        wide = tab.evaluate("document.documentElement.scrollWidth")
        browser.close()
    assert [(each["id"], each["impact"]) for each in found] == []
    assert (asked, said) == ([file.as_uri()], [])
    assert wide <= width  # tables scroll by themselves, the page does not
