"""What people expect of any command line: its version, `python -m`."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import blemore_harness


def test_the_module_runs_as_the_command_and_knows_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "blemore_harness", "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == blemore_harness.__version__ == importlib.metadata.version("blemore-harness")
