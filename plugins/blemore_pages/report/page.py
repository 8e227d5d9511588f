"""Writes the report as one page: results as plain HTML, charts and clips as data for the page's own script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from blemore_harness.clips import EMOTIONS
from blemore_harness.drawing.plugin_details import describe_card
from blemore_harness.scoring.breakdown import find_kinds
from blemore_harness.scoring.intervals import LEVEL, short
from blemore_pages.charts.chart import Chart
from blemore_pages.contents import Contents
from blemore_pages.extra import load_package
from blemore_pages.report.clips import collect_clips, pack
from blemore_pages.report.entries import Entry
from blemore_pages.report.head import (
    compare_entries,
    describe_resolution,
    list_caveats,
    list_facts,
    list_pairs,
    list_published,
    list_results,
    list_warnings,
)

FOLDER = Path(__file__).parent

LIMIT = 5_000_000
"""Bytes that a page should not exceed, so that it can be sent by mail and opens at once."""


DEMO_NOTE = " (on BLEMORE, not comparable with the demo dataset)"


def render_page(
    runs: Sequence[Contents],
    entries: Sequence[Entry],
    overview: Sequence[Chart],
    charts: Sequence[Sequence[Chart]],
    thumbnails: Callable[[int], Mapping[str, str]] | None = None,
) -> str:
    """Return the page.

    Args:
        runs: on the same clips.
        entries: their systems, the best first.
        overview: charts about the runs.
        charts: of each entry.
        thumbnails: given the number of characters that are left for them, returns JPEG files in base64 by clip id;
            None shows none.

    Raises:
        ExtraMissing: Jinja2 or vl-convert is not installed.
    """
    jinja2, vega = load_package("jinja2", "report pages"), _bundle_vega()
    markup = load_package("markupsafe", "report pages").Markup
    style, script = (_own(name) for name in ("page.css", "page.js"))
    keyed = {f"chart-{k}": chart for k, chart in enumerate([*overview, *(c for each in charts for c in each)], 1)}
    keys = {id(chart): key for key, chart in keyed.items()}
    first, compared = entries[0].system, compare_entries(entries)
    own, published = list_published(runs)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(FOLDER), trim_blocks=True
    )
    template = environment.get_template("page.html.j2")

    def render(pictures: Mapping[str, str] | None) -> str:
        text: str = template.render(
            values, picture_note=_picture_note(pictures, len(first.ids)), frame_data=pack(pictures or {})
        )
        return text

    values = {
        "zip": zip,
        "ranked_by": first.loaded.record.data.ranked_by,
        "version": version("blemore-harness"),
        "title": _title(runs),
        "confidence": LEVEL,
        "policy": _policy(style, script, vega),
        "caveats": list_caveats(runs),
        "runs": [list_facts(run) for run in runs],
        "resolution": describe_resolution(compared, entries),
        "results": list_results(runs, entries, compared["groups"]),
        "pairs": list_pairs(compared),
        "own_published": own,
        "published": published,
        "not_comparable": DEMO_NOTE if first.loaded.record.data.demo else "",
        "warnings": list_warnings(runs),
        "entries": entries,
        "scores": {entry.name: short(entry.system.record.cross_fitted.ranked.mean) for entry in entries},
        "system_facts": {entry.name: _system_facts(entry) for entry in entries},
        "run_charts": [(keys[id(chart)], chart) for chart in overview],
        "system_charts": [
            (entry, [(keys[id(chart)], chart) for chart in mine]) for entry, mine in zip(entries, charts, strict=True)
        ],
        "emotions": EMOTIONS,
        "kinds": list(find_kinds(first.answers)),
        "folds": sorted(set(first.folds.tolist())),
        "actors": sorted(set(first.actors)),
        "clip_data": pack(collect_clips(entries)),
        "chart_data": pack({key: {"spec": c.spec, "columns": c.columns, "rows": c.rows} for key, c in keyed.items()}),
        "style": markup(style),
        "vega": markup(vega),
        "script": markup(script),
    }
    page = render(None)
    return page if thumbnails is None else render(thumbnails(LIMIT - size_of(page)))


def size_of(page: str) -> int:
    """Return how many bytes a page takes as a file."""
    return len(page.encode(errors="backslashreplace"))


def _title(runs: Sequence[Contents]) -> str:
    names = list(dict.fromkeys(run.record.submission.name for run in runs))
    shown = ", ".join(names) if len(names) < 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
    return f"BLEMORE report: {shown}"


def _system_facts(entry: Entry) -> list[tuple[str, str]]:
    """Return what a system is: pairs of a term and a text."""
    record = entry.system.record
    plugin = record.plugin
    given = ", ".join(f"{name}={value}" for name, value in record.options_given.items()) or "defaults"
    kind = (
        f"{record.kind} of {record.modality}"
        if record.modality
        else f"{record.kind} of {', '.join(record.base_models)}"
    )
    source = f"{plugin.name} of {plugin.distribution} {plugin.version}"
    return [
        ("Kind", kind),
        ("Options", given),
        ("Plugin", source + (f", commit {plugin.commit[:12]}" if plugin.commit else "")),
        ("Configuration hash", record.digest),
        *((f"Card: {label}", text) for label, text in describe_card(record.card).items()),
    ]


def _picture_note(thumbnails: Mapping[str, str] | None, clips: int) -> str:
    if thumbnails is None:
        return "Frames of the clips are left out, since they show people; --thumbnails adds them."
    note = "The frames show people: give this file only to those who may see the clips."
    left_out = clips - len(thumbnails)
    if left_out:
        note += f" {left_out:,} clips have no frame here, so that the file stays below {LIMIT // 1_000_000} MB: "
        note += "clips that every system gets wrong come first, then those on which systems differ."
    return note


def _own(name: str) -> str:
    return "\n" + (FOLDER / name).read_text(encoding="utf-8")


def _policy(style: str, *scripts: str) -> str:
    """Return a policy that allows these scripts and this style only, and no request to anywhere."""
    allowed = " ".join(map(_digest, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_digest(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _bundle_vega() -> str:
    text: str = load_package("vl_convert", "report pages").javascript_bundle("window.vegaEmbed = vegaEmbed")
    assert not any(mark in text for mark in ("</script", "<!--")), "this bundle of Vega ends a script element"
    return text
