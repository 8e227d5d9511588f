"""All charts of runs and of systems."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from blemore_pages.charts.chart import Chart
from blemore_pages.charts.matrices import draw_common_errors, draw_emotions, draw_saliences, draw_sets
from blemore_pages.charts.results import draw_actors, draw_results
from blemore_pages.charts.thresholds import draw_reliability, draw_surface
from blemore_pages.charts.training import draw_curves, draw_weights
from blemore_pages.contents import Contents, SystemContents

OF_SYSTEMS: tuple[Callable[[SystemContents], Chart | None], ...] = (
    draw_sets, draw_emotions, draw_saliences, draw_actors, draw_surface, draw_reliability, draw_weights, draw_curves,
)  # fmt: skip


def run_charts(runs: Sequence[Contents]) -> tuple[Chart, ...]:
    """Return the charts about runs as a whole; those without anything to show are left out.

    Raises:
        ExtraMissing: altair is not installed.
    """
    return _shown(draw_results(runs), *map(draw_common_errors, runs))


def system_charts(system: SystemContents) -> tuple[Chart, ...]:
    """Return the charts about one system; those without anything to show are left out.

    Raises:
        ExtraMissing: altair is not installed.
    """
    return _shown(*(draw(system) for draw in OF_SYSTEMS))


def _shown(*charts: Chart | None) -> tuple[Chart, ...]:
    return tuple(chart for chart in charts if chart is not None)
