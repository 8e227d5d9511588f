"""Runs checks one by one and reports a verdict on each."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence

from blemore_harness.errors import HarnessError, UnknownName
from blemore_harness.testing.checks import CHECKS, Check, checks_for
from blemore_harness.testing.subjects import Session, Subject
from blemore_harness.testing.trials import Trials
from blemore_harness.testing.verdicts import NotApplicable, Verdict

FIRST = "probabilities"
"""The check that says why a system does not run at all; most others look at what it gave."""


def check_subject(subject: Subject, session: Session, names: Sequence[str] = ()) -> Iterator[Verdict]:
    """Run the checks of a system, and give the verdict on each as it is made.

    Args:
        subject: who is checked.
        session: where clips lie.
        names: which checks; empty for all that apply.

    Raises:
        UnknownName: a check that does not exist.
        ConfigError: options that it does not have.
        ExtraMissing: what writes clips is not installed.
    """
    refuse_unknown([*names, *subject.not_applicable, *subject.known_failures])
    bench = Trials(subject, session)
    for check in checks_for(subject.is_fusion):
        if not names or check.name in names:
            yield run_check(check, bench)


def refuse_unknown(names: Sequence[str]) -> None:
    """Raise `UnknownName` for a check that does not exist."""
    known = [check.name for check in CHECKS]
    for name in names:
        if name not in known:
            raise UnknownName.among("check", name, known)


def run_check(check: Check, bench: Trials) -> Verdict:
    """Run one check; what its author says about it decides what a failure means."""
    subject = bench.subject
    if check.name in subject.not_applicable:
        return Verdict(check.name, "skipped", subject.not_applicable[check.name])
    verdict = _run(check, bench)
    known = subject.known_failures.get(check.name)
    if known is None or verdict.status == "skipped":
        return verdict
    if verdict.status == "passed":
        return Verdict(check.name, "failed", f"it is said to fail ({known}) and passes: take that away")
    return Verdict(check.name, "known failure", f"{known} [{verdict.reason}]")


def _run(check: Check, bench: Trials) -> Verdict:
    try:
        check.run(bench)
    except NotApplicable as reason:
        return Verdict(check.name, "skipped", str(reason))
    except Exception as error:
        if check.name != FIRST and bench.stumbled_over(error):
            return Verdict(check.name, "skipped", f"it does not get through the check `{FIRST}`")
        if isinstance(error, HarnessError):
            return Verdict(check.name, "failed", str(error))
        brief = traceback.format_exception_only(error)[-1].strip()
        return Verdict(check.name, "crashed", brief, traceback.format_exc())
    return Verdict(check.name, "passed")
