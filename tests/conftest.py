"""What holds for every test: its random numbers are the same each time, and a busy machine is no failure.

Tests that are marked `report` are skipped where the extra `report` is not installed.
"""

from __future__ import annotations

import os
import random
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Configuration of whoever runs the tests changes no default of theirs.
os.environ["XDG_CONFIG_HOME"] = os.devnull

# Small systems in this process: workers take longer to start. Tests of several ask for them.
os.environ["BLEMORE_JOBS"] = "1"

# The same examples each time, in whatever time they take.
settings.register_profile("sure", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sure")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seed before the first fixture: networks with random weights are drawn there."""
    if item.get_closest_marker("report"):
        for package in ("altair", "jinja2", "pyarrow", "vl_convert"):
            pytest.importorskip(package)
    if item.get_closest_marker("encoders"):
        for package in ("torch", "av"):
            pytest.importorskip(package)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
