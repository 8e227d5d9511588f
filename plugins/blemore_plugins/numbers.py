"""Looks at the numbers of weights before a network computes with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from blemore_harness.errors import DataError, first_and_count


def refuse_numbers(tensors: Iterable[tuple[str, Any]], source: str) -> None:
    """Refuse weights with NaN or infinite values, which a network would turn into embeddings that say nothing.

    Args:
        tensors: names with tensors of torch.
        source: whose they are, as the message begins.

    Raises:
        DataError: naming the first and how many there are.
    """
    wrong = [name for name, tensor in tensors if tensor.is_complex() or not bool(tensor.isfinite().all())]
    if wrong:
        raise DataError(
            f"{source} hold NaN or infinite numbers in {first_and_count(wrong, 'tensor')}: fetch them again"
        )
