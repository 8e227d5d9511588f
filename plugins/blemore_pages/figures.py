"""Charts as files for a paper: PNG, SVG and PDF at the width of a column, made without a browser."""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blemore_harness.disk import write_atomically
from blemore_harness.errors import RunError
from blemore_pages.charts.chart import Chart
from blemore_pages.extra import load_package

INCHES = 3.4
"""Width of a column of a paper in two columns."""

DOTS = 300
"""Dots per inch of a PNG."""

POINTS = 72
"""Points per inch; a pixel of a chart is a point, so that font sizes are those of print."""

WIDTH = round(INCHES * POINTS)

STEP = 12
"""Points of a line where there is one for each name."""

SHRUNK = 0.7
"""Height of a figure as a share of that on a page, where its width says nothing."""

ROUNDS = 2
"""How often the width of several views is adjusted: axes and their ticks change a little with it."""

STYLE: dict[str, Any] = {
    "background": "white",
    "font": "Helvetica, Arial, sans-serif",
    "view": {"stroke": "#bbbbbb"},
    "axis": {"labelFontSize": 7, "titleFontSize": 7.5, "titleFontWeight": "normal", "labelColor": "black",
             "titleColor": "black", "gridColor": "#e6e6e6", "tickColor": "#888888", "titlePadding": 3,
             "labelPadding": 2, "labelLimit": 100},
    "legend": {"labelFontSize": 7, "titleFontSize": 7, "titleFontWeight": "normal", "gradientLength": 70,
               "gradientThickness": 7, "symbolSize": 30, "labelColor": "black", "titleColor": "black", "offset": 5},
    "header": {"labelFontSize": 7.5, "labelPadding": 2, "labelColor": "black"},
    "title": {"fontSize": 7.5, "fontWeight": "normal", "offset": 3},
    "text": {"fontSize": 6},
}  # fmt: skip
"""Black on white, in sizes of print."""


_SIZE = re.compile(r'(<svg[^>]*?) width="([^"]+)" height="([^"]+)"')


def write_figures(charts: Sequence[Chart], folder: Path) -> tuple[Path, ...]:
    """Write every chart as `NAME.png`, `NAME.svg` and `NAME.pdf`; of charts with the same name the second is `NAME-2`.

    Args:
        charts: any.
        folder: made if it does not exist.

    Returns:
        The files, in the order of the charts.

    Raises:
        ExtraMissing: vl-convert-python is not installed.
        RunError: the folder cannot be written to.
    """
    convert = load_package("vl_convert", "figures")
    written, names = [], Counter[str]()
    for chart in charts:
        names[chart.name] += 1
        name = chart.name if names[chart.name] == 1 else f"{chart.name}-{names[chart.name]}"
        spec = fit_column(chart.spec, lambda spec: _width_of(convert.vegalite_to_svg(spec)))
        svg = convert.vegalite_to_svg(spec)
        content: dict[str, str | bytes] = {
            "png": convert.svg_to_png(svg, scale=1, ppi=DOTS),
            # Programs take a pixel of an SVG for a 96th of an inch; the width says how wide it is.
            "svg": _SIZE.sub(_in_points, svg, count=1),
            "pdf": convert.svg_to_pdf(svg),
        }
        for ending, data in content.items():
            path = folder / f"{name}.{ending}"
            try:
                write_atomically(path, data)
            except OSError as error:
                raise RunError(f"cannot write {path}: {error.strerror}") from error
            written.append(path)
    return tuple(written)


def fit_column(spec: Mapping[str, Any], measure: Callable[[Mapping[str, Any]], float]) -> dict[str, Any]:
    """Return a specification whose drawing is as wide as a column, legends and labels included.

    Args:
        spec: Vega-Lite JSON of a view, of layers, or of facets.
        measure: gives the width of a drawing in points.
    """
    found: dict[str, Any] = copy.deepcopy(dict(spec)) | {"config": STYLE, "padding": 3}
    views: list[dict[str, Any]] = found.get("concat") or ([found["spec"]] if "spec" in found else [])
    wide, high = ((views or [found])[0][side] for side in ("width", "height"))
    if not views:
        found |= {"autosize": {"type": "fit-x", "contains": "padding"}, "width": WIDTH, "height": {"step": STEP}}
        if not isinstance(high, dict):
            found["height"] = round(high * (min(1.0, WIDTH / wide) if isinstance(wide, int) else SHRUNK))
        return found
    # Several views do not fit themselves: each is widened or narrowed by its part of what is too much or too little.
    width, columns = wide, min(found.get("columns", 1), len(views))
    for _ in range(ROUNDS):
        width += math.floor((WIDTH - measure(_resized(found, views, width, high))) / columns)
    return _resized(found, views, width, round(high * width / wide))


def _resized(spec: dict[str, Any], views: Sequence[dict[str, Any]], width: int, height: int) -> dict[str, Any]:
    for view in views:
        view["width"], view["height"] = width, height
    return spec


def _width_of(svg: str) -> float:
    found = _SIZE.search(svg)
    assert found is not None
    return float(found[2])


def _in_points(found: re.Match[str]) -> str:
    start, width, height = found.groups()
    return f'{start} width="{width}pt" height="{height}pt"'
