"""Run a benchmark and keep its figures: with the machine, the commit and the date, in one file for each benchmark.

    python benchmarks/history.py startup [--rounds 1 ...]
    python benchmarks/history.py --chart startup.svg startup
    python benchmarks/history.py --table

The first form runs `benchmarks/startup.py` with the words that follow its name, and appends to
`benchmarks/results/history/startup.json`. A benchmark that takes part has the option `--json FILE` (`figures.py`). The
second draws that file: a panel for each figure, a line for each machine and command. The third writes the latest
figures of all files into docs/performance.md. The name of the machine is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from blemore_harness.disk import write_atomically

HERE = Path(__file__).parent
HISTORY = HERE / "results" / "history"
PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- figures of benchmarks/results/history, by history.py --table -->\n", "<!-- end of figures -->\n"
PACKAGES = ("numpy", "torch", "numba")


def describe_machine() -> dict[str, Any]:
    """Return CPU model, cores, GPU, and versions of Python and of the packages that compute."""
    return {
        "cpu": read_cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": read_gpu(),
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := find_version(name))},
    }


def read_cpu_model() -> str:
    """Return what the system calls its CPU; the architecture where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def read_gpu() -> str | None:
    """Return the name of the first GPU that torch sees."""
    if not find_version("torch"):
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def find_version(package: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe_code() -> dict[str, Any]:
    """Return the commit of the checkout, and whether files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HERE, check=True, capture_output=True, text=True).stdout.strip()

    return {"commit": git("rev-parse", "--short=10", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}


def measure(name: str, words: list[str]) -> dict[str, Any]:
    """Run a benchmark, and return its figures with what they depend on.

    Raises:
        SystemExit: a benchmark that failed, or that is not there.
    """
    script = HERE / f"{name}.py"
    if not script.is_file():
        raise SystemExit(f"expected the name of a benchmark such as head_folds, found '{name}'")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        done = subprocess.run([sys.executable, str(script), *words, "--json", str(path)])
        if done.returncode or not path.exists():
            raise SystemExit(f"{script.name} ended with exit code {done.returncode} and gave no figures")
        figures = json.loads(path.read_text())
    return {
        "date": datetime.now(UTC).date().isoformat(),
        **describe_code(),
        "command": shlex.join(["python", f"benchmarks/{script.name}", *words]),
        "machine": describe_machine(),
        "figures": figures,
    }


def read_history(name: str) -> list[dict[str, Any]]:
    """Return the entries of a benchmark, oldest first; none where it was never kept."""
    path = HISTORY / f"{name}.json"
    return list(json.loads(path.read_text())) if path.exists() else []


def append(name: str, entry: dict[str, Any]) -> None:
    """Keep an entry."""
    HISTORY.mkdir(parents=True, exist_ok=True)
    write_atomically(HISTORY / f"{name}.json", json.dumps([*read_history(name), entry], indent=1) + "\n")


def draw(name: str, entries: list[dict[str, Any]], path: Path) -> None:
    """Draw a file: figures over entries, as SVG (or whatever the ending says)."""
    import altair as alt

    rows = [
        {"entry": f"{number + 1}: {entry['commit']}, {entry['date']}", "figure": figure, "value": value,
         "where": f"{entry['machine']['gpu'] or entry['machine']['cpu']}, {entry['machine']['cores']} cores",
         "command": entry["command"]}
        for number, entry in enumerate(entries) for figure, value in entry["figures"].items()
    ]  # fmt: skip
    lines = alt.Chart(alt.Data(values=rows), width=420, height=90).mark_line(point=True)
    lines = lines.encode(
        x=alt.X("entry:N", sort=None, title=None),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=True)),
        color=alt.Color("where:N", title=None, legend=alt.Legend(orient="top", labelLimit=0)),
        detail="command:N",
    )
    facets = lines.facet(row=alt.Row("figure:N", sort=None, title=None, header=alt.Header(labelAngle=0, labelLimit=0)))
    facets.resolve_scale(y="independent").properties(title=name).save(str(path))


def write_table(page: Path) -> None:
    """Write the latest figures of every command into the page, between its two marks."""
    lines = ["| command | figure | value | machine | date, commit |", "|---|---|---|---|---|"]
    for path in sorted(HISTORY.glob("*.json")):
        latest = {entry["command"]: entry for entry in read_history(path.stem)}
        for entry in latest.values():
            machine = entry["machine"]
            where = f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores"
            when = f"{entry['date']}, {entry['commit']}{' with changes' if entry['changed'] else ''}"
            command = f"`{entry['command']}`"
            for figure, value in entry["figures"].items():
                lines.append(f"| {command} | {figure} | {value:,g} | {where} | {when} |")
                command = where = when = ""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    table = "\n".join(line.replace("|  |", "| |").replace("|  |", "| |") for line in lines)
    write_atomically(page, f"{before}{BEGIN}\n{table}\n\n{END}{rest.split(END)[1]}")


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chart", type=Path, help="draw the kept figures instead")
    parser.add_argument("--table", action="store_true", help="write docs/performance.md instead")
    parser.add_argument("benchmark", nargs="?", help="name of a file in benchmarks/, without .py")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="for the benchmark")
    given = parser.parse_args()
    if given.table:
        write_table(PAGE)
    elif given.benchmark is None:
        parser.error("expected the name of a benchmark, or --table")
    elif given.chart is None:
        append(given.benchmark, measure(given.benchmark, given.words))
    elif entries := read_history(given.benchmark):
        draw(given.benchmark, entries, given.chart)
    else:
        raise SystemExit(f"no figures of '{given.benchmark}' in {HISTORY.relative_to(HERE.parent)}: measure them first")


if __name__ == "__main__":
    main()
