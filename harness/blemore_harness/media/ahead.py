"""Reading ahead: files are decoded in threads while a network works on those before them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(
    read: Callable[[T], R], items: Iterable[T], workers: int, ahead: int
) -> Generator[tuple[T, Future[R]], None, None]:
    """Call `read` for every item in threads and yield the items in their order, each with what becomes of its call.

    What is not begun when the caller stops is dropped.

    Args:
        read: called in threads.
        items: what is read.
        workers: threads.
        ahead: items that are begun before they are taken.
    """
    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(read, item)))
            if len(waiting) > ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)
