"""What runs take on the disk, and what can be deleted without a loss to any other run.

A system's folder belongs to all runs that use it. Which these are is read from their records, and for a run without its
final record from what it was asked for: its finished folds are there to be resumed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemore_harness.disk import LOCK_FILE, sweep_leftovers
from blemore_harness.errors import RunError
from blemore_harness.files.runs import RECORD_FILE, Runs, StoredRun, folder_name, folder_stem


@dataclass(frozen=True)
class Doomed:
    """A folder that can be deleted.

    Attributes:
        folder: its path.
        why: the reason.
        size: bytes.
    """

    folder: Path
    why: str
    size: int


def is_held(folder: Path) -> bool:
    """Return whether a process works on a folder."""
    with _lock(folder, fcntl.LOCK_SH) as free:
        return not free


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder; files that vanish meanwhile count as 0."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size if not path.is_dir() else 0
    return total


def system_folders(run: StoredRun) -> list[Path]:
    """Return the folders of results that a run uses and that exist."""
    content = _read_loosely(run)
    if content is None:
        return []
    home = run.folder.parent / "systems"
    systems = [system for system in content.get("systems", ()) if isinstance(system, dict)]
    systems += [part for system in systems for part in system.get("parts", ()) if isinstance(part, dict)]
    used = [home / folder_name(str(each.get("name")), str(each.get("digest"))) for each in systems]
    if content.get("status") != "finished":
        used += [folder for folder in _folders(home) if folder.name.rpartition("-")[0] in _asked_for(content)]
    return [folder for folder in dict.fromkeys(used) if folder.is_dir()]


def list_removals(runs: Runs, names: Iterable[Path]) -> list[Doomed]:
    """Return what deleting some runs deletes: their folders, and those of systems that no other run uses.

    Args:
        names: folders of the runs.

    Raises:
        RunError: one is in another folder, a process works on one, or which systems another run uses cannot be told.
    """
    chosen = list(dict.fromkeys(path.resolve() for path in names))
    stored = runs.stored()
    mine = [run for run in stored if run.folder.resolve() in chosen]
    for path in chosen:
        if path not in {run.folder.resolve() for run in mine}:
            raise RunError(f"{path} is no run in {runs.root}: name the folder that it is in with --runs")
    others = [run for run in stored if run.folder.resolve() not in chosen]
    kept = _used(others)
    theirs = dict.fromkeys(folder for run in mine for folder in system_folders(run) if folder not in kept)
    found = [Doomed(run.folder, "run", size_of(run.folder)) for run in mine]
    found += [Doomed(folder, "system of no other run", size_of(folder)) for folder in theirs]
    for each in found:
        if is_held(each.folder):
            raise RunError(f"a process works on {each.folder}: wait for it, or stop it first")
    return found


def list_rubbish(runs: Runs) -> list[Doomed]:
    """Return what no run needs: systems that none uses, and runs that failed without any result.

    Folders that a process works on are left out.

    Raises:
        RunError: which systems a run uses cannot be told.
    """
    stored = runs.stored()
    failed = [run for run in stored if run.record and run.record.status == "failed" and not run.record.finished]
    kept = _used([run for run in stored if run not in failed])
    found = [Doomed(run.folder, "failed without a result", size_of(run.folder)) for run in failed]
    for folder in _folders(runs.root / "systems"):
        if folder not in kept:
            found.append(Doomed(folder, "system of no run", size_of(folder)))
    return [each for each in found if not is_held(each.folder)]


def delete(doomed: Iterable[Doomed]) -> list[Doomed]:
    """Delete folders; returns those that a process took meanwhile, which are left alone."""
    left = []
    for each in doomed:
        with _lock(each.folder) as free:
            if not free:
                left.append(each)
                continue
            # A run without its record is none: what an interruption leaves of it is found as rubbish.
            (each.folder / RECORD_FILE).unlink(missing_ok=True)
            shutil.rmtree(each.folder)
    return left


def sweep(runs: Runs) -> int:
    """Delete temporary files below the folder of runs whose writer was killed; returns how many."""
    return sweep_leftovers(runs.root, alone=False)


def _used(stored: Iterable[StoredRun]) -> set[Path]:
    """Return the folders of results that runs use.

    Raises:
        RunError: a record that is no JSON.
    """
    found: set[Path] = set()
    for run in stored:
        if _read_loosely(run) is None:
            raise RunError(
                f"which systems {run.folder.name} uses cannot be told, since its record is damaged: remove it first, "
                f"or mend it ({run.problem})"
            )
        found |= set(system_folders(run))
    return found


def _read_loosely(run: StoredRun) -> dict[str, Any] | None:
    """Return the content of a record of any version; None where it is no JSON object."""
    if run.record is not None:
        return run.record.to_json()
    try:
        content = json.loads((run.folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _asked_for(content: dict[str, Any]) -> set[str]:
    """Return the names of the systems that a run was asked for, as folders have them."""
    submission = content.get("submission") or {}
    names = [*submission.get("encoders", ()), submission.get("fusion") or ""]
    return {folder_stem(str(name)) for name in names}


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*") if path.is_dir() and not path.is_symlink())


@contextlib.contextmanager
def _lock(folder: Path, kind: int = fcntl.LOCK_EX) -> Iterator[bool]:
    """Hold a folder's lock if nobody has it; gives whether it is held now. A folder without a lock is free.

    Args:
        kind: LOCK_SH only looks: NFS grants it to those who may not write, too, and several may look at once.
    """
    with contextlib.ExitStack() as stack:
        try:
            # NFS grants LOCK_EX only where a file is open for writing.
            file = stack.enter_context((folder / LOCK_FILE).open("rb" if kind == fcntl.LOCK_SH else "r+b"))
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            free = True
        except FileNotFoundError:
            free = True
        except OSError:  # somebody has it, or there are no locks here
            free = False
        yield free
