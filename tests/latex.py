"""Sets LaTeX with pdflatex of Debian's texlive-latex-base and -recommended, which CI installs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def set_tables(text: str, folder: Path) -> None:
    """Fail unless LaTeX sets tables of booktabs; skip where pdflatex is not installed, and fail where CI is set."""
    if shutil.which("pdflatex") is None:
        assert not os.environ.get("CI"), "CI sets tables with pdflatex"
        pytest.skip("pdflatex is not installed")
    source = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{text}\end{{document}}"
    (folder / "t.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "t.pdf").stat().st_size > 5000
