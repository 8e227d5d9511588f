"""Misspells a hook, which nobody would ever call."""

from blemore_harness.hookspecs import hookimpl


@hookimpl
def blemore_encodrs():
    return []
