"""A limit on what requests may cost, kept before they are sent."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from blemore_plugins.hosted.refusals import Refusal


class Budget:
    """What was spent of a limit; safe to use from several threads.

    Args:
        option: that sets the limit, for messages: `judge.budget`.
        limit: None for no limit.
        spent: before, on the same work.
        form: writes an amount, such as `$1.20`.
    """

    def __init__(self, option: str, limit: float | None, spent: float, form: Callable[[float], str]) -> None:
        self._option = option
        self._limit = limit
        self._form = form
        self._lock = threading.Lock()
        self._reserved = 0.0
        self.spent = spent

    @contextlib.contextmanager
    def reserve(self, estimate: float) -> Iterator[Callable[[float], None]]:
        """Reserve what a request may cost while it is under way; returns a function that books what it did cost.

        Raises:
            Refusal: `stop`, if the limit could be exceeded by this request and those under way.
        """
        with self._lock:
            if self._limit is not None and self.spent + self._reserved + estimate > self._limit:
                spent, more = self._form(self.spent), self._form(self._reserved + estimate)
                raise Refusal(
                    "stop",
                    f"the budget of {self._form(self._limit)} is used up: {spent} is spent, and the next requests may "
                    f"cost {more}: raise {self._option} to continue",
                )
            self._reserved += estimate
        try:
            yield self._book
        finally:
            with self._lock:
                self._reserved -= estimate

    def _book(self, amount: float) -> None:
        with self._lock:
            self.spent += amount


def dollars(amount: float) -> str:
    """Write an amount of US dollars, small ones in more digits.

    >>> dollars(12.5), dollars(0.00123)
    ('$12.50', '$0.0012')
    """
    return f"${amount:.2f}" if amount >= 1 or not amount else f"${amount:.4f}"


def tokens(amount: float) -> str:
    """Write a number of tokens.

    >>> tokens(12345)
    '12,345 tokens'
    """
    return f"{amount:,.0f} tokens"
