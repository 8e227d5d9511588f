"""The compiled search is kept in the user's cache: later processes load it, and no trouble with files stops them."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.cache import Cache

numba = pytest.importorskip("numba")
pytestmark = pytest.mark.encoders

from blemore_plugins.late import scorers  # noqa: E402
from blemore_plugins.late.scorers import keep_compiled  # noqa: E402

SEARCH = """
import sys
import numpy as np
from pathlib import Path
from blemore_harness.cache import Cache
from blemore_plugins.late import kernel
from blemore_plugins.late.scorers import CompiledScorer
from blemore_plugins.late.space import bounded_grid
rng = np.random.default_rng(0)
truth = np.eye(6, dtype=np.int8)[rng.integers(0, 6, 60)] * np.int8(100)
scorer = CompiledScorer(rng.dirichlet(np.ones(6), (3, 60)), truth, 1, Cache(Path(sys.argv[1])))
found = scorer.best_of(bounded_grid(3, 10), int), scorer.scores(np.full((1, 3), 1 / 3))
stats = kernel.search_range.stats, kernel.score_points.stats
print(found, *(sum(getattr(each, kind).total() for each in stats) for kind in ("cache_misses", "cache_hits")))
"""


def add_halves(values: np.ndarray) -> float:
    total = 0.0
    for value in values:
        total += 0.5 * value
    return total


def source(folder: Path, text: str = "as it is") -> Path:
    path = folder / "source.py"
    path.write_text(text)
    return path


def call(cache: Cache, file: Path) -> tuple[float, int]:
    """Call a function that nothing is known of in memory; returns its value, and how often it was compiled."""
    function: Any = numba.njit(add_halves)
    keep_compiled(cache, (function,), (file,))
    value = function(np.arange(4.0))
    return value, sum(function.stats.cache_misses.values())


def test_the_second_process_compiles_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SEARCH, str(tmp_path)]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first.endswith(" 2 0\n")
    assert second.endswith(" 0 2\n")
    assert first[:-4] == second[:-4]


def test_processes_that_begin_at_once_find_the_same_and_leave_what_the_next_one_loads(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SEARCH, str(tmp_path)]
    together = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = {process.communicate()[0][:-5] for process in together}
    assert [process.returncode for process in together] == [0, 0]
    third = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert third.endswith(" 0 2\n")
    assert found == {third[:-5]}
    assert len(list(tmp_path.rglob("*.pickle"))) == 2


def test_what_was_compiled_is_loaded_until_the_sources_change(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert call(cache, source(tmp_path)) == (3.0, 1)
    assert call(cache, source(tmp_path)) == (3.0, 0)
    assert call(cache, source(tmp_path, "edited")) == (3.0, 1)
    files = list(cache.root.rglob("*.pickle"))
    assert len(files) == 2
    assert all(file.parent.stat().st_mode & 0o077 == 0 for file in files), "only the user may write what is executed"


def test_damaged_code_is_compiled_anew(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    call(cache, source(tmp_path))
    [file] = cache.root.rglob("*.pickle")
    file.write_bytes(file.read_bytes()[:1000])
    assert call(cache, source(tmp_path)) == (3.0, 1)
    assert call(cache, source(tmp_path)) == (3.0, 0)


def test_code_of_another_user_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "cache")
    call(cache, source(tmp_path))
    [file] = cache.root.rglob("*.pickle")
    real = Path.stat

    def stat(self: Path, **how: Any) -> Any:
        found = list(real(self, **how))
        found[4] += self == file
        return type(real(self, **how))(found)

    monkeypatch.setattr(Path, "stat", stat)
    assert call(cache, source(tmp_path)) == (3.0, 1)


def test_without_a_folder_to_write_to_it_compiles_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert call(Cache(tmp_path / "file" / "cache"), source(tmp_path))[0] == 3.0


def test_a_full_disk_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scorers, "write_atomically", fail)
    assert call(Cache(tmp_path / "cache"), source(tmp_path)) == (3.0, 1)
    assert call(Cache(tmp_path / "cache"), source(tmp_path)) == (3.0, 1)
