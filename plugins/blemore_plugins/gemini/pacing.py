"""Decides when the next request may go: waits that the service asked for hold back every worker, back-off only one."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

FIRST_DELAY = 1.0
"""Seconds before the second attempt where the service names no delay."""

LONGEST_DELAY = 60.0
"""Seconds; delays double up to this."""

SERVER_MARGIN = 0.5
"""Seconds added to a delay that the service named, since clocks and roundings differ."""


class Pace:
    """A shared clock of one extraction.

    Args:
        seed: of the jitter that keeps workers from coming back all at once.
        log: told about waits that the service asked for.
        clock: seconds, monotonic.
        sleep: waits that many seconds; by default it wakes up as soon as `stop` is called.
    """

    def __init__(
        self,
        seed: int,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._random = random.Random(seed)
        self._log = log
        self._clock = clock
        self._stopped = threading.Event()
        self._sleep = sleep or self._stopped.wait
        self._lock = threading.Lock()
        self._open_at = clock()
        self._told: set[str] = set()

    @property
    def stopped(self) -> bool:
        """Whether no further request may go."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Let no further request go, and wake up whoever waits."""
        self._stopped.set()

    def wait_for_turn(self) -> None:
        """Wait until the service takes requests again."""
        while not self.stopped:
            with self._lock:
                left = self._open_at - self._clock()
            if left <= 0:
                return
            self._sleep(left)

    def back_off(self, attempt: int, delay: float | None, reason: str) -> None:
        """Wait after a failed attempt.

        Args:
            attempt: 1 after the first attempt.
            delay: seconds that the service asked for, which then hold for everybody.
            reason: what the service said.
        """
        if delay is None:
            with self._lock:
                jitter = self._random.uniform(0.5, 1.0)
                news = reason not in self._told
                self._told.add(reason)
            if news:
                self._log(f"gemini: trying again soon ({reason})")
            self._sleep(jitter * min(LONGEST_DELAY, FIRST_DELAY * 2 ** (attempt - 1)))
            return
        with self._lock:
            until = self._clock() + delay + SERVER_MARGIN
            news = until > self._open_at + 1
            self._open_at = max(self._open_at, until)
        if news:
            self._log(f"gemini: waiting {delay:.0f} s as the service asks ({reason})")
        self.wait_for_turn()
