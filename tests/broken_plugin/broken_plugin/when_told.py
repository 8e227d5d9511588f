"""Raises whenever it is told something."""

from blemore_harness.hookspecs import hookimpl


@hookimpl
def blemore_run_started(event):
    raise RuntimeError("no logbook")


@hookimpl
def blemore_fold_finished(event):
    raise SystemExit("no logbook")


@hookimpl
def blemore_run_finished(event):
    raise RuntimeError("no logbook")
