"""How large a report is, how long it takes to write, and how soon a browser can use it.

    python benchmarks/report_page.py [--systems 12] [--rounds 3]

A made-up run of as many clips and actors as the challenge has. The browser is Chromium, headless, with an empty
profile: each figure is the median of several rounds in a new window, in milliseconds. `all` is the time from the start
of navigation until everything can be used, `cpu` the processor time of the page's main thread until then; `sort` is a
click on a head of the table of all clips until its rows are drawn, `pair` the choice of another system side by side.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blemore_pages.charts.every import run_charts, system_charts
from blemore_pages.report.entries import list_entries
from blemore_pages.report.page import render_page, size_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from builders import Row
from report_runs import answer, challenge_rows, finished_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")

WATCH = """
new MutationObserver(() => {
  const ready = document.documentElement.dataset.ready;
  if (ready) (window.times ??= {})[ready] ??= performance.now();
}).observe(document, { subtree: true, attributes: true, attributeFilter: ['data-ready'] });
"""
TIMED = """async (act) => {
  const start = performance.now();
  new Function(act)();
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}"""
SORT = "document.querySelector('#clips th[data-name=confidence] button').click()"
PAIR = """
const choice = document.querySelector('#pair [name=two]');
choice.value = '2';
choice.dispatchEvent(new Event('input', { bubbles: true }));
"""


def write_page(folder: Path, systems: int, rows: Sequence[Row]) -> Path:
    """Write a report of a made-up run on these rows of metadata; print its size and time."""
    answers = {f"system-{k}": answer(rows, 0.1 + 0.5 * k / systems, k) for k in range(systems)}
    run = finished_run(folder / "run", answers, rows)
    start = time.perf_counter()
    entries = list_entries([run])
    charts = [system_charts(entry.system) for entry in entries]
    drawn = time.perf_counter()
    page = render_page([run], entries, run_charts([run]), charts)
    ended = time.perf_counter()
    print(f"{len(rows)} clips, {systems} systems: {size_of(page) / 1e6:.2f} MB")
    print(f"charts {drawn - start:.1f} s, comparisons and page {ended - drawn:.1f} s")
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    return path


def open_once(browser: Browser, path: Path) -> dict[str, float]:
    """Return the times of one visit in milliseconds."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.add_init_script(WATCH)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=all]", state="attached")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    times: dict[str, float] = page.evaluate("window.times") | {"cpu": 1000 * metrics["TaskDuration"]}
    times |= {"sort": page.evaluate(TIMED, SORT), "pair": page.evaluate(TIMED, PAIR)}
    context.close()
    return times


def main() -> None:
    """Measure and print."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        path = write_page(Path(folder), given.systems, challenge_rows())
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        visits = [open_once(browser, path) for _ in range(given.rounds)]
        browser.close()
    for name in visits[0]:
        print(f"{name:>6}: {statistics.median(visit[name] for visit in visits):.0f} ms")


if __name__ == "__main__":
    main()
