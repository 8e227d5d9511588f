"""What charts, figures and Parquet files need beyond the core."""

from __future__ import annotations

import importlib
from typing import Any

from blemore_harness.errors import ExtraMissing


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
