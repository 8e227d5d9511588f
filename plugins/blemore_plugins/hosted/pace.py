"""When requests are sent: waiting as long as a service asks, and growing delays between attempts."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from blemore_plugins.hosted.refusals import Refusal

Answer = TypeVar("Answer")

FIRST_DELAY = 1.0
"""Seconds before the second attempt if the service specifies no delay."""

LONGEST_DELAY = 60.0
"""Seconds; delays double up to this."""

SERVER_MARGIN = 0.5
"""Seconds added to a delay specified by the service, because clocks and rounding differ."""


class Pace:
    """A shared clock of one extraction.

    Args:
        name: of the encoder, for messages.
        seed: seed of the jitter that spreads the attempts of the workers.
        log: called with a message for delays specified by the service.
        clock: monotonic time in seconds.
        sleep: waits that many seconds; by default it wakes up as soon as `stop` is called.
    """

    def __init__(
        self,
        name: str,
        seed: int,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._name = name
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
        """Whether no further request may be sent."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Prevent further requests and wake up waiting workers."""
        self._stopped.set()

    def wait_for_turn(self) -> None:
        """Wait until the service accepts requests again."""
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
            delay: seconds specified by the service, which apply to all workers.
            reason: message of the service.
        """
        if delay is None:
            with self._lock:
                jitter = self._random.uniform(0.5, 1.0)
                news = reason not in self._told
                self._told.add(reason)
            if news:
                self._log(f"{self._name}: trying again soon ({reason})")
            self._sleep(jitter * min(LONGEST_DELAY, FIRST_DELAY * 2 ** (attempt - 1)))
            return
        with self._lock:
            until = self._clock() + delay + SERVER_MARGIN
            news = until > self._open_at + 1
            self._open_at = max(self._open_at, until)
        if news:
            self._log(f"{self._name}: waiting {delay:.0f} s as the service asks ({reason})")
        self.wait_for_turn()


class Stopped(Exception):
    """No request may be sent any more; the clip was not started or not finished."""


def insist(ask: Callable[[], Answer], pace: Pace, attempts: int) -> Answer:
    """Return what `ask` returns, called again as long as it raises a `Refusal` that says `retry`.

    Raises:
        Refusal: of another verdict, or `failed` after `attempts` attempts.
        Stopped: `pace` was stopped, by this answer or by another worker.
    """
    for attempt in range(1, attempts + 1):
        pace.wait_for_turn()
        if pace.stopped:
            raise Stopped
        try:
            return ask()
        except Refusal as refusal:
            if refusal.verdict == "stop":
                pace.stop()
            if refusal.verdict != "retry":
                raise
            if attempt == attempts:
                raise Refusal("failed", f"{refusal.reason}; gave up after {attempt} attempts") from None
            pace.back_off(attempt, refusal.delay, refusal.reason)
    raise AssertionError("every attempt returns")
