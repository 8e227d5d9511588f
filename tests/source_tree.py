"""The sources of the project as data: files, syntax trees, imports."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


CORE = ROOT / "harness" / "blemore_harness"


OURS = ROOT / "plugins"


def sources(*roots: Path) -> list[Path]:
    return sorted(path for root in roots for path in root.rglob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    parts = path.relative_to(CORE.parent if CORE in path.parents else OURS).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, known: set[str]) -> set[str]:
    """The modules of `known` (and any other top-level package) that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (whole & known) or {str(node.module)}
    return found


def core_graph() -> dict[str, set[str]]:
    known = {name_of(path) for path in sources(CORE)}
    return {name_of(path): imports_of(path, known) & known - {name_of(path)} for path in sources(CORE)}
