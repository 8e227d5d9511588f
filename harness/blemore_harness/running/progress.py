"""How far a whole run is: which fold of which system, how long one takes, how long those to come will take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """How far a run is.

    Attributes:
        text: what is done now, and how long the rest takes, as far as that is known.
        done: how many folds, or preparations, are done.
        total: of how many.
    """

    text: str
    done: int
    total: int


Show = Callable[[Standing | None], None]
"""Shows how far a run is; None where there is nothing more to show."""


def ignore_standing(standing: Standing | None) -> None:
    """Show nothing."""


def show_duration(seconds: float) -> str:
    """Write a time for people.

    >>> show_duration(0.24), show_duration(41), show_duration(130), show_duration(14550)
    ('0.2 s', '41 s', '2 min', '4 h 2 min')
    """
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 1.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def show_speed(done: int, seconds: float) -> str:
    """Write how fast things are done.

    >>> show_speed(31, 10), show_speed(3, 60)
    ('3.1/s', '20 s each')
    """
    return f"{done / seconds:.1f}/s" if done >= seconds > 0 else f"{show_duration(seconds / max(done, 1))} each"


class FoldProgress:
    """Counts the folds of all systems; the time left follows from the finished folds of the same system.

    Args:
        parts: by system, in the order in which they are fitted, how many folds it has, the final fit included.
        show: called whenever something changes.
        jobs: how many folds are fitted at the same time.
    """

    def __init__(self, parts: Mapping[str, int], show: Show = ignore_standing, jobs: int = 1) -> None:
        self._parts = dict(parts)
        self._jobs = jobs
        self._show = show
        self._seconds: dict[str, list[float]] = {name: [] for name in parts}

    @classmethod
    @contextmanager
    def shown(cls, parts: Mapping[str, int], show: Show, jobs: int = 1) -> Iterator[FoldProgress]:
        """Return one whose standing is shown until the block ends."""
        try:
            yield cls(parts, show, jobs)
        finally:
            show(None)

    def begin(self, name: str) -> None:
        """Begin with folds of a system."""
        self._show(self.standing(name))

    def drop(self, name: str) -> None:
        """Expect no more folds of a system, which failed."""
        self._parts[name] = len(self._seconds[name])

    def finish(self, name: str, seconds: float) -> None:
        """Count a fold that took so many seconds, now or when it was trained."""
        self._seconds[name].append(seconds)
        self._parts[name] = max(self._parts[name], len(self._seconds[name]))  # one that went on beside one that failed
        self._show(self.standing(name))

    def standing(self, name: str) -> Standing:
        """Return how far the run is while a system is fitted."""
        done, total = sum(map(len, self._seconds.values())), sum(self._parts.values())
        own, parts = self._seconds[name], self._parts[name]
        if len(own) == parts:
            return Standing(f"{done} of {total} folds done ({name})", done, total)
        text = f"fold {done + 1} of {total} ({name} {len(own) + 1} of {parts})"
        if own:
            text += f", {show_duration(sum(own) / len(own))} each, {self._say_rest(name)}"
        return Standing(text, done, total)

    def _say_rest(self, name: str) -> str:
        left, unknown = 0.0, []
        for system, parts in self._parts.items():
            measured = self._seconds[system]
            if measured:
                left += sum(measured) / len(measured) * (parts - len(measured))
            elif parts:
                unknown.append(system)
        rest = f"about {show_duration(left / self._jobs)} left"
        return f"{rest} for {name}, then {', '.join(unknown)}" if unknown else rest


class PreparationProgress:
    """Shows which encoders are being prepared.

    Args:
        names: of all encoders, in their order.
    """

    def __init__(self, names: Sequence[str], show: Show = ignore_standing) -> None:
        self._names = tuple(names)
        self._show = show
        self._running: list[str] = []
        self._done = 0
        self._over = False

    def tell(self, kind: str, name: str) -> None:
        """Take note of an encoder's preparation that `began`, with all clips or some, or ended in whatever way."""
        if kind == "began":
            self._running += [name] if name not in self._running else []
        elif name in self._running:
            self._running.remove(name)
            self._done += 1
        if kind == "began" or self._running:
            first, count = self._names.index(self._running[0]), len(self._names)
            which = f"{first + 1} of {count}" if len(self._running) == 1 else f"{self._done} of {count} done"
            self._show(Standing(f"preparing {', '.join(self._running)} ({which})", first, count))

    def end(self) -> None:
        """Show nothing more, unless something else is shown already."""
        if not self._over:
            self._over = True
            self._show(None)
