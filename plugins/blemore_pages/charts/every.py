"""All charts of runs and of systems."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from blemore_pages.charts.chart import Chart
from blemore_pages.contents import Contents, SystemContents

OF_RUNS: tuple[Callable[[Sequence[Contents]], Chart | None], ...] = ()

OF_SYSTEMS: tuple[Callable[[SystemContents], Chart | None], ...] = ()


def run_charts(runs: Sequence[Contents]) -> tuple[Chart, ...]:
    """Return the charts about runs as a whole; those without anything to show are left out."""
    return tuple(chart for draw in OF_RUNS if (chart := draw(runs)) is not None)


def system_charts(system: SystemContents) -> tuple[Chart, ...]:
    """Return the charts about one system; those without anything to show are left out."""
    return tuple(chart for draw in OF_SYSTEMS if (chart := draw(system)) is not None)
