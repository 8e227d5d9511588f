"""Optuna, quiet and imported late."""

from __future__ import annotations

from typing import Any

from blemore_harness.errors import ExtraMissing


def load_optuna() -> Any:
    """Import Optuna, and have it print warnings only.

    Raises:
        ExtraMissing: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ExtraMissing(f"tune needs optuna ({error}): pip install 'blemore-harness[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
