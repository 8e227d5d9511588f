"""The conformance kit: what any encoder or fusion must do, checked on a few generated clips.

One list of checks (`checks.CHECKS`) has two front ends: tests in a plugin's own suite,

    from blemore_harness.testing.pytest_plugin import PluginChecks

    class TestLoudness(PluginChecks):
        system = Loudness()

and `blemore-harness check NAME`. pytest is imported by `pytest_plugin` only, and nothing here loads by itself.
"""

from __future__ import annotations

from blemore_harness.testing.checks import CHECKS, Check, checks_for
from blemore_harness.testing.running import check_subject, run_check
from blemore_harness.testing.subjects import Session, Subject
from blemore_harness.testing.verdicts import Verdict, exit_code

__all__ = [
    "CHECKS",
    "Check",
    "Session",
    "Subject",
    "Verdict",
    "check_subject",
    "checks_for",
    "exit_code",
    "run_check",
]
