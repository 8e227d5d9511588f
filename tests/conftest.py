"""Every test begins from the same state of the shared random generators, whatever ran before it."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seed before the first fixture: networks with random weights are drawn there."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
