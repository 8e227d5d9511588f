"""The report in a real browser: every control works, nothing is requested, and everybody can use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.protocol.rules import label_text
from blemore_harness.scoring.breakdown import find_kinds
from blemore_pages.report.entries import Entry, list_entries
from blemore_pages.report.page import render_page
from browsers import open_chromium
from builders import rows_of
from report_runs import answer, finished_run

pytestmark = [pytest.mark.report, pytest.mark.slow]

NAMES = ("good", "</script><script>alert(1)</script>", "a-system-with-quite-a-long-name@and-a-variant-of-it")

BAD_CLIP = '<img src="x" onerror="alert(2)">'

PIXEL = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgICAgMCAgIDAwMDBAYEBAQEBAgGBgUGCQgKCgkICQkKDA8MCgsOCwkJDRENDg8QEBEQCgwSExIQEw8QEBD/wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAACf/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AVN//2Q=="  # noqa: E501
"""A JPEG of one pixel."""


@pytest.fixture(scope="module")
def entries() -> tuple[Entry, ...]:
    """Three systems on 120 clips, of which one has a name that is markup."""
    rows = rows_of(12, 3)
    rows[0] |= {"filename": BAD_CLIP}
    answers = {name: answer(rows, skill, k) for k, (name, skill) in enumerate(zip(NAMES, (0.6, 0.4, 0.1), strict=True))}
    return list_entries([finished_run(Path("run-0123"), answers, rows, warnings=(NAMES[1],))])


@pytest.fixture(scope="module")
def file(entries: tuple[Entry, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from blemore_pages.charts.every import run_charts, system_charts

    run = finished_run_of(entries)
    charts = [system_charts(entry.system) for entry in entries]
    path = tmp_path_factory.mktemp("report") / "page.html"
    pictures = dict.fromkeys(entries[0].system.ids, PIXEL)
    path.write_text(render_page([run], entries, run_charts([run]), charts, lambda budget: pictures))
    return path


def finished_run_of(entries: tuple[Entry, ...]) -> Any:
    from blemore_pages.contents import Contents

    systems = tuple(entry.system for entry in entries)
    return Contents(Path("run-0123"), systems[0].loaded.record, systems, ())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser: Any, file: Path) -> Iterator[Any]:
    """Opens the page; at the end nothing may have been requested, said on the console, asked or crashed."""
    contexts, troubles = [], []

    def open_one(width: int = 1280, scheme: str = "light", anchor: str = "") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: troubles.append(request.url) if is_foreign(request.url) else None)
        page.goto(file.as_uri() + anchor)
        page.wait_for_selector("html[data-ready=all]", state="attached")
        return page

    def is_foreign(url: str) -> bool:
        return not url.startswith((file.as_uri(), "data:image/jpeg;base64,"))

    yield open_one
    for context in contexts:
        context.close()
    assert troubles == []


def column(page: Any, section: str, name: str) -> list[str]:
    """The texts of a column of a section's table of clips, on the page that is shown."""
    heads = page.locator(f"#{section} table[data-sort] thead th")
    place = [heads.nth(k).get_attribute("data-name") for k in range(heads.count())].index(name) + 1
    cells = page.locator(f"#{section} table[data-sort] tbody td:nth-child({place})")
    return [" ".join(text.split()) for text in cells.all_text_contents()]


def count(page: Any, section: str) -> int:
    text = page.locator(f"#{section} [role=status]").text_content()
    return 0 if text == "No clip matches." else int(text.split()[0].replace(",", ""))


def right(entry: Entry) -> Any:
    return (entry.system.truth == entry.system.labels).all(axis=1)


def test_names_that_are_markup_are_shown_as_they_are(open_page: Any) -> None:
    page = open_page()
    assert page.locator("#results ~ * th a", has_text=NAMES[1]).count() == 1
    page.locator("#clips input[name=text]").fill("onerror")
    assert column(page, "clips", "clip") == [BAD_CLIP]


def test_clips_sort_by_every_head_both_ways(open_page: Any, entries: tuple[Entry, ...]) -> None:
    page = open_page()
    ids = entries[0].system.ids
    first = entries[0].system
    confidence = [
        float((row * (label > 0)).sum()) for row, label in zip(first.probabilities, first.labels, strict=True)
    ]
    heads = page.locator("#clips table[data-sort] thead button")
    for k in range(heads.count()):
        head = heads.nth(k)
        name = head.locator("xpath=..").get_attribute("data-name")
        head.click()
        one = page.locator(f"#clips th[data-name={name}]").get_attribute("aria-sort")
        before = column(page, "clips", name)
        head.click()
        other = page.locator(f"#clips th[data-name={name}]").get_attribute("aria-sort")
        assert {one, other} == {"ascending", "descending"}
        assert page.locator("#clips th[aria-sort]").count() == 1
        assert before != column(page, "clips", name)
    page.locator("#clips th[data-name=confidence] button").click()
    shown = [float(text) for text in column(page, "clips", "confidence")]
    expected = sorted(confidence, reverse=shown[0] > shown[-1])[: len(shown)]
    np.testing.assert_allclose(shown, expected, atol=0.011)
    assert len(shown) == 50
    assert count(page, "clips") == len(ids)


def test_clips_turn_pages(open_page: Any, entries: tuple[Entry, ...]) -> None:
    page = open_page()
    seen = column(page, "clips", "clip")
    forward, back = (page.locator("#clips .pager button", has_text=text) for text in ("Next", "Previous"))
    assert back.is_disabled()
    while forward.is_enabled():
        forward.click()
        seen += column(page, "clips", "clip")
    assert sorted(seen) == sorted(entries[0].system.ids)
    back.click()
    assert page.locator("#clips .pager span").text_content() == "Page 2 of 3"


def test_clips_are_filtered(open_page: Any, entries: tuple[Entry, ...]) -> None:
    page, form = open_page(), "#clips form"
    system = entries[1].system
    page.select_option(f"{form} [name=system]", "1")
    kinds = find_kinds(system.answers)
    confidence = (system.probabilities * (system.labels > 0)).sum(axis=1)
    for control, value, expected in (
        ("fold", "2", system.folds == 2),
        ("actor", "A3", np.array(system.actors) == "A3"),
        ("emotion", "fea", system.truth[:, 2] > 0),
        ("kind", "wrong", ~right(entries[1])),
        *(("kind", str(k), mask) for k, mask in enumerate(kinds.values())),
    ):
        page.select_option(f"{form} [name={control}]", value)
        assert count(page, "clips") == int(expected.sum()), (control, value)
        page.locator(f"{form} button[type=reset]").click()
        page.select_option(f"{form} [name=system]", "1")
        assert count(page, "clips") == len(system.ids)
    page.locator(f"{form} [name=least]").fill("0.5")
    page.locator(f"{form} [name=most]").fill("0.9")
    # Probabilities are shown in thousandths.
    assert abs(count(page, "clips") - int(((confidence >= 0.5) & (confidence <= 0.9)).sum())) <= 1
    page.locator(f"{form} [name=text]").fill("mix_ANG_fea_30")
    assert set(column(page, "clips", "truth")) == {"ang+fea 30/70"}
    page.locator(f"{form} [name=text]").fill("nothing of the kind")
    assert page.locator("#clips [role=status]").text_content() == "No clip matches."


def test_two_systems_stand_side_by_side_differences_first(open_page: Any, entries: tuple[Entry, ...]) -> None:
    page = open_page()
    page.select_option("#pair [name=one]", "2")
    page.select_option("#pair [name=two]", "0")
    one, two = right(entries[2]), right(entries[0])
    cells = {
        name: page.locator(f"#pair [data-count={name}]").text_content() for name in ("both", "one", "two", "neither")
    }
    expected = {"both": one & two, "one": one & ~two, "two": ~one & two, "neither": ~one & ~two}
    assert cells == {name: str(mask.sum()) for name, mask in expected.items()}
    marks = list(zip(column(page, "pair", "answerA"), column(page, "pair", "answerB"), strict=True))
    differ = [a.endswith("right") != b.endswith("right") for a, b in marks]
    wanted = int((one != two).sum())
    assert differ == [k < wanted for k in range(len(differ))]
    for group, mask in expected.items():
        page.select_option("#pair [name=group]", group)
        assert count(page, "pair") == int(mask.sum())
    page.select_option("#pair [name=group]", "differ")
    labels = [list(map(label_text, entries[k].system.labels)) for k in (2, 0)]
    other = np.array([a != b for a, b in zip(*labels, strict=True)])
    assert count(page, "pair") == int((other | (one != two)).sum())


def test_clips_that_every_system_gets_wrong_are_listed(open_page: Any, entries: tuple[Entry, ...]) -> None:
    page = open_page()
    wrong = ~np.stack([right(entry) for entry in entries]).any(axis=0)
    assert 0 < wrong.sum() <= 50
    assert sorted(column(page, "wrong", "clip")) == sorted(np.array(entries[0].system.ids)[wrong].tolist())
    given = [float(text) for text in column(page, "wrong", "given")]
    assert given == sorted(given)


def test_a_clip_is_shown_with_all_systems_and_closed_by_the_keyboard(
    open_page: Any, entries: tuple[Entry, ...]
) -> None:
    page = open_page()
    button = page.locator("#clips tbody button").nth(3)
    button.press("Enter")
    dialog = page.locator("dialog[open]")
    assert dialog.locator("h2").text_content() == button.text_content()
    assert dialog.locator("tbody th").all_text_contents() == [entry.name for entry in entries]
    assert dialog.locator(".frame img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 1
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    assert button.evaluate("element => element === document.activeElement")


def test_charts_are_drawn_when_they_come_into_view(open_page: Any) -> None:
    page = open_page()
    closed = page.locator("details.system").nth(2)
    closed.locator("summary").first.scroll_into_view_if_needed()
    assert closed.locator("figure").count() > 4
    assert closed.locator("svg").count() == 0
    closed.locator("summary").first.click()
    figure = closed.locator("figure").first
    figure.scroll_into_view_if_needed()
    figure.locator("svg").wait_for()
    figure.locator("details summary").click()
    figure.locator("tbody tr").first.wait_for()
    assert figure.locator("thead th").count() > 1


def test_a_link_to_a_system_opens_it(open_page: Any) -> None:
    page = open_page(anchor="#system-3")
    assert page.locator("#system-3").get_attribute("open") is not None
    page.locator("#results ~ * tbody a[href='#system-2']").click()
    page.wait_for_selector("#system-2[open]")


def test_the_theme_follows_the_system_and_the_switch(open_page: Any) -> None:
    def colours(page: Any) -> tuple[str, str]:
        page.locator("figure.chart").first.scroll_into_view_if_needed()
        page.locator("figure.chart svg").first.wait_for()
        label = page.locator("figure.chart").first.locator("svg .role-axis-title text").first
        return page.evaluate("getComputedStyle(document.body).backgroundColor"), label.get_attribute("fill")

    light, dark = colours(open_page()), colours(open_page(scheme="dark"))
    assert light[0] == "rgb(255, 255, 255)"
    assert light != dark
    assert light[1] != dark[1]
    page = open_page()
    colours(page)
    page.select_option("#theme", "dark")
    page.wait_for_function(
        "colour => document.querySelector('figure.chart svg .role-axis-title text')?.getAttribute('fill') === colour",
        arg=dark[1],
    )
    assert colours(page) == dark
    page.emulate_media(color_scheme="dark")
    page.select_option("#theme", "light")
    page.wait_for_function(
        "colour => document.querySelector('figure.chart svg .role-axis-title text')?.getAttribute('fill') === colour",
        arg=light[1],
    )


def test_the_keyboard_reaches_every_control(open_page: Any) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    wanted = page.evaluate(
        "[...document.querySelectorAll('a, button, select, input, summary, [tabindex=\"0\"]')]"
        ".filter(element => element.checkVisibility() && !element.disabled).length"
    )
    page.evaluate("document.activeElement.blur(); document.body.focus(); window.reached = new Set()")
    page.evaluate("document.addEventListener('focusin', event => window.reached.add(event.target))")
    page.evaluate("document.querySelector('.skip').focus()")
    for _ in range(wanted + 20):
        page.keyboard.press("Tab")
    assert page.evaluate("window.reached.size") >= wanted
    head = page.locator("#clips th[data-name=fold] button")
    head.focus()
    assert head.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.locator("#clips th[data-name=fold]").get_attribute("aria-sort") == "ascending"
    assert page.evaluate("document.activeElement.parentElement.dataset.name") == "fold"


def test_print_draws_what_is_open_in_light_colours_and_leaves_the_controls_out(open_page: Any) -> None:
    page = open_page(scheme="dark")
    page.evaluate("""window.print = () => { window.printed = [
        document.querySelectorAll("figure.chart svg").length,
        document.querySelector("figure.chart svg .role-axis-title text").getAttribute("fill"),
        getComputedStyle(document.body).backgroundColor,
    ]; }""")
    page.locator("#print").click()
    page.wait_for_function("window.printed !== undefined")
    visible = page.evaluate("[...document.querySelectorAll('figure.chart')].filter(e => e.checkVisibility()).length")
    assert visible > 4
    assert page.evaluate("window.printed") == [visible, "rgb(27, 32, 38)", "rgb(255, 255, 255)"]
    assert page.evaluate("document.documentElement.dataset.theme") == "auto"
    page.emulate_media(media="print")
    for controls in ("header.bar", "#clips form button", "#clips .pager"):
        assert not page.locator(controls).first.is_visible()
    assert page.locator(".caveats").is_visible()
    assert page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_window(open_page: Any, width: int) -> None:
    page = open_page(width)
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_axe_finds_no_fault(open_page: Any, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def faults() -> list[str]:
        found = axe.run(page).response["violations"]
        return [f"{each['id']}: {each['nodes'][0]['html'][:200]} ({len(each['nodes'])})" for each in found]

    page = open_page(width, scheme)
    page.evaluate("document.querySelectorAll('main section > details').forEach(part => { part.open = true; })")
    page.locator("details.system figure").first.scroll_into_view_if_needed()
    page.locator("details.system figure svg").first.wait_for()
    page.locator("details.system figure details summary").first.click()
    assert faults() == []
    page.locator("#clips tbody button").first.click()
    assert faults() == []
