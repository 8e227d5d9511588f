"""What charts, pages, figures and Parquet files need beyond the core."""

from __future__ import annotations

import importlib
from typing import Any

from blemore_harness.errors import ExtraMissing, printable


def load_package(name: str, purpose: str) -> Any:
    """Import a package of the extra `report`.

    Args:
        name: of the module, such as `altair`.
        purpose: what needs it, in the plural, such as `charts`.

    Raises:
        ExtraMissing: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExtraMissing(f"{purpose} need {name} ({error}): pip install 'blemore-harness[report]'") from error


def show_text(value: Any) -> Any:
    r"""Return a text of a template with letters that no screen shows escaped; markup and other values as they are.

    >>> show_text("a\u202eb"), show_text(1)
    ('a\\u202eb', 1)
    """
    return printable(value) if type(value) is str else value
