"""What a check comes to, in words that name what was expected, what was found and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blemore_harness.errors import HarnessError

Status = Literal["passed", "failed", "crashed", "skipped", "known failure"]


class Broken(HarnessError):
    """A check failed: the message says what was expected, what was found and what to do."""


class NotApplicable(HarnessError):
    """A check that says nothing about this system, with the reason."""


@dataclass(frozen=True)
class Verdict:
    """What one check came to.

    Attributes:
        check: its name.
        status: `crashed` where the plugin raised something unforeseen; `known failure` where it failed as its author
            said that it would.
        reason: why, unless it passed.
        trace: the traceback of a crash, else empty.
    """

    check: str
    status: Status
    reason: str = ""
    trace: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing needs to be mended."""
        return self.status not in ("failed", "crashed")


def exit_code(verdicts: list[Verdict]) -> int:
    """Return 3 where a plugin crashed, 1 where a check failed or none was applicable, else 0.

    >>> exit_code([Verdict("options", "passed"), Verdict("gpu", "skipped", "no GPU")])
    0
    >>> exit_code([Verdict("gpu", "skipped", "no GPU")])
    1
    """
    statuses = {verdict.status for verdict in verdicts}
    if "crashed" in statuses:
        return 3
    return 1 if "failed" in statuses or statuses <= {"skipped"} else 0
