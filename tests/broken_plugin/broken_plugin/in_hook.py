"""Raises when it is asked for its encoders."""

from blemore_harness.hookspecs import hookimpl


@hookimpl
def blemore_encoders():
    raise KeyError("BROKEN_PLUGIN_HOME")
