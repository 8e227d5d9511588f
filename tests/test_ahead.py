"""Reading ahead: order, how far ahead, errors in their place, nothing begun for a caller who stopped."""

from __future__ import annotations

import threading

import pytest

from blemore_harness.media.ahead import read_ahead


def test_items_come_in_their_order_and_no_more_are_begun_than_asked_for():
    begun: list[int] = []

    def read(item: int) -> int:
        begun.append(item)
        return item * item

    for number, (item, future) in enumerate(read_ahead(read, range(20), workers=3, ahead=4)):
        assert (item, future.result()) == (number, number * number)
        assert len(begun) <= number + 5
    assert sorted(begun) == list(range(20))


def test_an_error_comes_in_its_place():
    reading = read_ahead(lambda item: 1 // item, (1, 0, 1), workers=2, ahead=3)
    results = [future for _, future in reading]
    assert [results[0].result(), results[2].result()] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        results[1].result()


def test_what_was_not_begun_is_dropped():
    gate = threading.Event()
    begun: list[int] = []

    def read(item: int) -> None:
        begun.append(item)
        if item:
            assert gate.wait(60)

    reading = read_ahead(read, range(100), workers=1, ahead=50)
    _, first = next(reading)
    first.result()
    gate.set()
    reading.close()
    assert len(begun) < 51
