"""The systems that a report shows: those of all its runs, each once and under a name of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from blemore_harness.errors import RunError
from blemore_pages.contents import Contents, SystemContents


@dataclass(frozen=True)
class Entry:
    """A system of a report.

    Attributes:
        name: the system's name, with its run where several runs have a system of that name.
        anchor: id of its part of the page.
        system: what is shown of it.
    """

    name: str
    anchor: str
    system: SystemContents


def list_entries(runs: Sequence[Contents]) -> tuple[Entry, ...]:
    """Return the systems of all runs by cross-fitted Score, the best first; one that several runs share stands once.

    Raises:
        RunError: runs on other clips, of other protocol versions, or that left out other clips.
    """
    _check_alike(runs)
    found: dict[tuple[str, str], tuple[Contents, SystemContents]] = {}
    for run in runs:
        for system in run.systems:
            found.setdefault((system.name, system.record.digest), (run, system))
    names = Counter(name for name, _ in found)
    ranked = sorted(found.values(), key=lambda pair: -pair[1].record.cross_fitted.ranked.mean)
    return tuple(
        Entry(system.name if names[system.name] == 1 else f"{system.name} ({run.folder.name})", f"system-{k}", system)
        for k, (run, system) in enumerate(ranked, 1)
    )


def _check_alike(runs: Sequence[Contents]) -> None:
    first = runs[0]
    for other in runs[1:]:
        for what, mine, theirs in (
            ("dataset", first.record.data.digest, other.record.data.digest),
            ("protocol version", first.record.protocol, other.record.protocol),
            ("clips", first.systems[0].ids, other.systems[0].ids),
        ):
            if mine != theirs:
                shown = "" if what == "clips" else f" ({mine} and {theirs})"
                raise RunError(
                    f"a report shows runs on the same clips: {first.folder.name} and {other.folder.name} have "
                    f"another {what}{shown}; write a report for each"
                )
