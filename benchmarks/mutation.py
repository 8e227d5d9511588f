"""Whether the tests of the modules that make numbers notice a wrong number: small changes at random, one at a time.

    OMP_NUM_THREADS=1 python benchmarks/mutation.py                    # 300 changes
    OMP_NUM_THREADS=1 python benchmarks/mutation.py --seed 2 exact blinded --sample 50

A change flips a comparison, swaps + and -, max and min, `and` and `or`, an axis or a side, moves a constant, turns a
condition round, or leaves a statement out. Each is made in a copy of the repository, where the tests that belong to the
module run until one fails. A change that no test notices is printed, unless `equivalent_mutants.toml` names it with the
reason why no test can: the answer is the same. The exit status is 1 where any other is left.

mutmut 3.8 makes changes of this kind too, and wants one source folder. It leaves out compiled functions, properties and
axes, does not swap max and min, and changes the wording of messages, which tests here do not hold.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.util
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")

CORE, PLUGINS = "harness/blemore_harness", "plugins/blemore_plugins"

STRATEGIES = ("test_right_decoding.py", "test_strategies.py")

LATE = ("test_right_fusions.py", "test_late.py", "test_late_search.py", "test_late_together.py")

TESTS: dict[str, tuple[str, ...]] = {
    f"{CORE}/scoring/paired_tests.py": ("test_right_statistics.py", "test_paired_tests.py"),
    f"{CORE}/scoring/intervals.py": ("test_right_statistics.py", "test_intervals.py"),
    f"{CORE}/scoring/sensitivity.py": ("test_right_statistics.py", "test_sensitivity.py"),
    f"{CORE}/scoring/breakdown.py": ("test_right_statistics.py", "test_breakdown.py"),
    f"{CORE}/scoring/calibration.py": ("test_right_statistics.py", "test_breakdown.py"),
    f"{CORE}/decoding/decoders.py": STRATEGIES,
    f"{CORE}/decoding/strategies.py": STRATEGIES,
    f"{CORE}/decoding/exact.py": STRATEGIES,
    f"{CORE}/decoding/label_model.py": STRATEGIES,
    f"{CORE}/protocol/grid.py": ("test_thresholds.py",),
    f"{CORE}/protocol/thresholds.py": ("test_thresholds.py",),
    f"{CORE}/decoding/actors.py": ("test_right_decoding.py", "test_actors.py"),
    f"{CORE}/protocol/rules.py": ("test_protocol.py",),
    f"{CORE}/heads/judging.py": ("test_judging.py",),
    f"{CORE}/heads/scaling.py": ("test_scaling.py",),
    f"{CORE}/heads/identity.py": ("test_actor_directions.py",),
    f"{CORE}/files/leaderboard.py": ("test_right_files.py", "test_leaderboard.py"),
    f"{CORE}/files/scoring.py": ("test_right_files.py", "test_cli_score.py"),
    f"{CORE}/files/prediction_files.py": ("test_right_files.py", "test_prediction_files.py"),
    f"{CORE}/data/blinded.py": ("test_released.py", "test_views.py"),
    f"{PLUGINS}/late/kernel.py": ("test_late_decoding.py", "test_right_fusions.py"),
    f"{PLUGINS}/late/search.py": LATE,
    f"{PLUGINS}/late/scorers.py": LATE,
    f"{PLUGINS}/late/space.py": LATE,
    f"{PLUGINS}/structured.py": ("test_right_fusions.py", "test_structured.py"),
    f"{PLUGINS}/means.py": ("test_right_fusions.py", "test_average.py"),
    f"{PLUGINS}/stack.py": ("test_right_fusions.py", "test_stack.py"),
    f"{PLUGINS}/logistic.py": ("test_right_fusions.py", "test_stack.py"),
    f"{PLUGINS}/regularisation.py": ("test_right_fusions.py", "test_stack.py"),
}
"""The modules, and the tests that are meant for each."""

SLOW = (
    "hold_the_truth", "uniform", "installed_command", "every_process", "compiled", "numba", "on_threads", "and_threads",
    "memory",
)  # fmt: skip
"""Parts of names of tests that are left out: studies of simulated systems, processes of their own, what compiles."""

PRELOADED = ("numpy", "pandas", "scipy.optimize", "scipy.cluster.hierarchy", "torch", "numba", "rich")
"""Imported once, and shared by all processes that try a change."""

SWAPPED: dict[type[ast.AST], tuple[type[Any], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.And: (ast.Or,), ast.Or: (ast.And,),
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.Mult,), ast.Pow: (ast.Mult,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
}  # fmt: skip

RENAMED = {
    "max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum", "argmax": "argmin", "argmin": "argmax",
    "any": "all", "all": "any", "floor": "ceil", "ceil": "floor", "mean": "sum",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    Attributes:
        module: path below the root.
        line: number of the first line that changes.
        start, end: the bytes that are replaced.
        text: by what.
        old, new: the lines before and after, for people.
    """

    module: str
    line: int
    start: int
    end: int
    text: bytes
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}\n  - {self.old}\n  + {self.new}"


class _Finder(ast.NodeVisitor):
    """Gathers every change of the functions of a module: pairs of a node and what stands in its place."""

    def __init__(self) -> None:
        self.found: list[tuple[ast.expr | ast.stmt, ast.AST]] = []
        self._inside = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self._inside = self._inside, True
        for part in (*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body):
            self.visit(part)
        self._inside = outer

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg != "strict":  # an assertion about lengths
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        """Leave the wording of messages alone."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Likewise."""

    def visit_Compare(self, node: ast.Compare) -> None:
        zeros = [each for each in node.comparators if isinstance(each, ast.Constant) and each.value == 0]
        self.found += [(node, changed) for changed in _changes(node)] if self._inside else []
        for part in (node.left, *node.comparators):
            if part not in zeros:
                self.visit(part)

    def generic_visit(self, node: ast.AST) -> None:
        if self._inside and isinstance(node, ast.expr | ast.stmt):
            self.found += [(node, changed) for changed in _changes(node)]
        super().generic_visit(node)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """Return what may stand in place of a node."""

    def changed(**fields: Any) -> ast.AST:
        new = copy.copy(node)
        for name, value in fields.items():
            setattr(new, name, value)
        return new

    match node:
        case ast.Compare(ops=[op], comparators=[right]):
            yield from (changed(ops=[other()]) for other in SWAPPED[type(op)])
            if isinstance(right, ast.Constant) and right.value == 0:
                # Not 1: what is compared with 0 here are counts, and shares of a label, which are 0 or at least 30.
                yield changed(comparators=[ast.Constant(-1)])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) | ast.AugAssign(op=op):
            yield from (changed(op=other()) for other in SWAPPED.get(type(op), ()))
        case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool(value)):
            yield changed(value=not value)
        case ast.Constant(value=int(value)):
            yield from (changed(value=value + 1), changed(value=value - 1))
        case ast.Constant(value=float(value)) if value == 0 or value > 1e-6:  # below stand tolerances
            yield changed(value=value * 2 if value else 1.0)
        case ast.Constant(value="left" | "right" as value):
            yield changed(value="left" if value == "right" else "right")
        case ast.Call(func=ast.Name(id=name)) if name in RENAMED:
            yield changed(func=ast.Name(RENAMED[name]))
        case ast.Call(func=ast.Attribute(attr=name, value=value)) if name in RENAMED:
            yield changed(func=ast.Attribute(value, RENAMED[name]))
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
    if isinstance(node, ast.Call):
        for number, keyword in enumerate(node.keywords):
            if keyword.arg in ("axis", "dim", "keepdims"):
                yield changed(keywords=node.keywords[:number] + node.keywords[number + 1 :])
    # Comparisons and `not` are turned round by themselves.
    if isinstance(node, ast.If | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield changed(test=ast.UnaryOp(ast.Not(), node.test))


def find_mutants(module: str) -> list[Mutant]:
    """Return every change of a module."""
    source = (ROOT / module).read_bytes()
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    finder = _Finder()
    finder.visit(ast.parse(source))
    mutants = []
    for node, new in finder.found:
        if isinstance(node, ast.If):  # only its condition is replaced
            node, new = node.test, new.test  # type: ignore[attr-defined]
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[operator]
        text = ast.unparse(ast.fix_missing_locations(new))
        text = f"({text})" if isinstance(new, ast.expr) and not isinstance(new, ast.Constant | ast.Call) else text
        first, last = starts[node.lineno - 1], starts[node.end_lineno]  # type: ignore[index]
        after = source[first:start] + text.encode() + source[end:last]
        old, new_text = (" ".join(each.decode().split()) for each in (source[first:last], after))
        mutants.append(Mutant(module, node.lineno, start, end, text.encode(), old, new_text))
    return list({(m.start, m.end, m.text): m for m in mutants}.values())


def read_equivalent() -> dict[tuple[str, str, str], str]:
    """Return the reason of every change that is known to change nothing, by module's name, old and new lines."""
    document = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")) if EQUIVALENT.exists() else {}
    return {
        (entry["module"], entry["old"], new): entry["why"]
        for entry in document.get("equivalent", ())
        for new in entry["new"]
    }


def run_tests(folder: Path, tests: Sequence[str], seconds: float | None) -> int | None:
    """Return pytest's exit status in a process of its own, None where it took longer than it may."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(folder, tests))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


def _run(folder: Path, tests: Sequence[str]) -> None:
    os.chdir(folder)
    paths = [str(folder / name) for name in ("harness", "plugins", "tests")]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths[:2])
    sys.path[:0] = paths
    with (folder / "output.txt").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        # Nobody reads why a test fails, and writing arrays takes longer than most tests.
        quick = ["-x", "-q", "--tb=no", "--assert=plain", "-p", "no:cacheprovider"]
        chosen = " and ".join(f"not {name}" for name in SLOW)
        status = pytest.main([*quick, "-k", chosen, *(f"tests/{name}" for name in tests)])
    os._exit(int(status))


def try_mutant(folder: Path, mutant: Mutant, seconds: float) -> bool:
    """Return whether the tests notice a change."""
    path = folder / mutant.module
    source = path.read_bytes()
    # A compiled file counts as fresh by size and second.
    compiled = Path(importlib.util.cache_from_source(str(path)))
    try:
        compiled.unlink(missing_ok=True)
        path.write_bytes(source[: mutant.start] + mutant.text + source[mutant.end :])
        return run_tests(folder, TESTS[mutant.module], seconds) != 0
    finally:
        path.write_bytes(source)
        compiled.unlink(missing_ok=True)


def main() -> int:
    """Try the changes and print those that nobody noticed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", help="parts of paths; by default all modules that make numbers")
    parser.add_argument("--sample", type=int, default=300, help="how many changes are tried; 0 tries all")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chosen = [m for m in TESTS if not given.modules or any(part in m for part in given.modules)]
    mutants = [mutant for module in chosen for mutant in find_mutants(module)]
    print(f"{len(mutants)} changes are possible in {len(chosen)} modules", flush=True)
    random.Random(given.seed).shuffle(mutants)
    mutants = mutants[: given.sample or None]
    known = read_equivalent()
    for name in PRELOADED:
        importlib.import_module(name)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "copy"
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".git", ".*_cache", "__pycache__", ".hypothesis"))
        limits: dict[tuple[str, ...], float] = {}
        for mutant in mutants:
            if (Path(mutant.module).stem, mutant.old, mutant.new) in known:
                counts["equivalent"] += 1
                continue
            tests = TESTS[mutant.module]
            if tests not in limits:
                begun = time.monotonic()
                if status := run_tests(folder, tests, None):
                    sys.exit(
                        f"without any change: pytest tests/{' tests/'.join(tests)} gives exit status {status}\n"
                        + (folder / "output.txt").read_text()[-3000:]
                    )
                limits[tests] = 30 + 5 * (time.monotonic() - begun)
            noticed = try_mutant(folder, mutant, limits[tests])
            counts["noticed" if noticed else "missed"] += 1
            if not noticed:
                print(mutant, flush=True)
            print(f"{sum(counts.values())} of {len(mutants)}", file=sys.stderr, end="\r")
    found = 1 - counts["missed"] / max(1, len(mutants) - counts["equivalent"])
    print(
        f"{len(mutants)} tried: {counts['noticed']} noticed, {counts['equivalent']} equivalent, "
        f"{counts['missed']} missed ({found:.1%} found)"
    )
    return int(counts["missed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
