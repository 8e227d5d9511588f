"""Pools of processes: a script that opens one needs no guard, and is not run once more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from os import path
print("started", flush=True)
from blemore_harness.processes import open_pool
with open_pool(2) as pool:
    print(sorted(pool.map(path.basename, ["a/one", "b/two", "c/three"])))
import sys
print(sys.modules["__main__"].__file__ == __file__)
"""


@pytest.mark.once
def test_a_script_without_a_guard_is_not_run_again_in_its_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.splitlines() == ["started", "['one', 'three', 'two']", "True"]
