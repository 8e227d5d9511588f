"""The folders of results: one per system with a result per fold, and one per run with its record.

    RUNS/systems/NAME-DIGEST/   identity.json, prepare.json, fold-0.csv + fold-0.json, ..., final.csv + final.json;
                                scores.json, fold-1-traceback.txt for a failed fold; final-model/ with the kept model
    RUNS/NAME-DIGEST/           record.json, table.txt, submission.zip, decoders.json, log.txt

A system's folder is shared by all runs that use it. Files are written atomically; the `.json` of a fold is written
last, so if it exists the fold is finished.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemore_harness.disk import (
    LOCK_FILE,
    cut_name,
    lock_soon,
    read_json,
    split_seed,
    write_atomically,
    write_json,
)
from blemore_harness.errors import RunError, first_and_count, suggest
from blemore_harness.files.prediction_files import read_probabilities, write_probabilities
from blemore_harness.predictions import Probabilities
from blemore_harness.record.types import Record

RECORD_FILE = "record.json"
PREPARED_FILE = "prepare.json"
DECODERS_FILE = "decoders.json"
SCORES_FILE = "scores.json"


@dataclass(frozen=True)
class FoldResult:
    """A finished fold: probabilities under real clip ids, and the notes of the harness and the plugin."""

    probabilities: Probabilities
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class SystemFolder:
    """The folder of a system with its results per fold."""

    path: Path

    def workspace(self, part: str) -> Path:
        """Return the plugin's private folder for a fold, created if it does not exist."""
        folder = self.path / "work" / part
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def drop_workspace(self, part: str) -> None:
        """Delete the plugin's private folder of a finished fold."""
        shutil.rmtree(self.path / "work" / part, ignore_errors=True)

    def traceback(self, part: str) -> Path:
        """Return the path of the traceback of a failed call."""
        return self.path / f"{part}-traceback.txt"

    def keep_traceback(self, part: str, text: str) -> Path:
        """Write the traceback of a failed call, which is deleted once the call succeeds; return the path."""
        write_atomically(self.traceback(part), text)
        return self.traceback(part)

    def log(self, part: str) -> Path:
        """Return the path of the output of worker processes."""
        return self.path / f"{part}.log"

    def prepared(self) -> dict[str, Any] | None:
        """Return the facts of the preparation (notes, warnings, seconds); None before the first preparation."""
        file = self.path / PREPARED_FILE
        return read_json(file) if file.exists() else None

    def keep_prepared(self, facts: Mapping[str, Any]) -> None:
        """Write the facts of the preparation."""
        write_json(self.path / PREPARED_FILE, facts)

    def finished(self, part: str) -> FoldResult | None:
        """Return a fold's result, or None if it is not finished.

        Raises:
            RunError: the result was changed or damaged after it was written.
        """
        facts_file, rows_file = self.path / f"{part}.json", self.path / f"{part}.csv"
        if not facts_file.exists():
            return None
        facts = read_json(facts_file)
        try:
            data = rows_file.read_bytes()
        except OSError as error:
            raise RunError(
                f"cannot read {rows_file}: {error.strerror}; delete {facts_file} to compute the fold again"
            ) from error
        if hashlib.sha256(data).hexdigest() != facts.get("sha256"):
            raise RunError(f"{rows_file} was changed or damaged; delete {facts_file} to compute the fold again")
        return FoldResult(read_probabilities(rows_file), facts)

    def model(self, part: str) -> Path:
        """Return the folder of a fold's kept model, which need not be there."""
        return self.path / f"{part}-model"

    def models(self) -> list[Path]:
        """Return the folders of all kept models."""
        return [path for path in sorted(self.path.glob("*-model")) if path.is_dir()]

    def keep_model(self, part: str, name: str) -> dict[str, str] | None:
        """Take a model out of the private folder of a fold; SHA-256 by file name, None where there is no model."""
        made, kept = self.workspace(part) / name, self.model(part)
        shutil.rmtree(kept, ignore_errors=True)
        if not made.is_dir():
            return None
        made.replace(kept)
        return digest_model(kept)

    def keeps(self, part: str) -> bool:
        """Return whether a model is kept with a fold."""
        file = self.path / f"{part}.json"
        return file.exists() and read_json(file).get("model") is not None

    def read_model(self, part: str) -> Path:
        """Return the folder of a fold's kept model, after a look at its contents.

        Raises:
            RunError: no model was kept, or its files were changed or damaged.
        """
        facts_file = self.path / f"{part}.json"
        facts = read_json(facts_file) if facts_file.exists() else {}
        if "model" not in facts:
            raise RunError(
                f"no model is kept in {self.path}: give the command of the run again with --keep-models final, "
                "which trains again only what is missing"
            )
        kept = facts["model"]
        if kept is None:
            raise RunError(
                f"no model is kept in {self.path}: the plugin does not save it, or failed to (the table of the run has "
                f"the warning; delete {facts_file} to train it again)"
            )
        if not self.model(part).is_dir() or digest_model(self.model(part)) != kept:
            raise RunError(f"{self.model(part)} was changed or damaged; delete {facts_file} to compute it again")
        return self.model(part)

    def keep(self, part: str, probabilities: Probabilities, facts: Mapping[str, Any]) -> FoldResult:
        """Write a fold's result and delete the plugin's private folder for it."""
        rows_file = self.path / f"{part}.csv"
        (self.path / f"{part}.json").unlink(missing_ok=True)  # from a final fit for other test clips
        write_probabilities(rows_file, probabilities)
        digest = hashlib.sha256(rows_file.read_bytes()).hexdigest()
        write_json(self.path / f"{part}.json", {**facts, "sha256": digest})
        self.drop_workspace(part)
        if facts.get("model") is None:  # one of an earlier fit would be of other predictions
            shutil.rmtree(self.model(part), ignore_errors=True)
        self.traceback(part).unlink(missing_ok=True)
        return FoldResult(probabilities, {**facts, "sha256": digest})


@dataclass(frozen=True)
class StoredRun:
    """A run's folder, as it is found.

    Attributes:
        folder: its path.
        record: what it holds; None where it cannot be read.
        problem: why it cannot be read; empty where it can.
    """

    folder: Path
    record: Record | None
    problem: str = ""


@dataclass(frozen=True)
class Runs:
    """The folder of all runs and systems."""

    root: Path

    def stored(self) -> list[StoredRun]:
        """Return all runs, the newest first; those whose record cannot be read last, with the reason."""
        found = []
        for path in sorted(self.root.glob(f"*/{RECORD_FILE}")):
            try:
                found.append(StoredRun(path.parent, read_record(path.parent)))
            except RunError as error:
                found.append(StoredRun(path.parent, None, str(error)))
        return sorted(found, key=lambda run: run.record.execution.started if run.record else "", reverse=True)

    def system(self, name: str, identity: Mapping[str, Any], digest: str) -> SystemFolder:
        """Return the folder of a system, created if it does not exist."""
        folder = self.root / "systems" / folder_name(name, digest)
        described = folder / "identity.json"
        folder.mkdir(parents=True, exist_ok=True)
        # Another process that holds the lock has written the file or is about to, so this does not wait for the lock.
        while not described.exists():
            with (folder / LOCK_FILE).open("a+") as file:
                if lock_soon(file):
                    write_json(described, identity)
        return SystemFolder(folder)

    def run(self, name: str, digest: str) -> Path:
        """Return the folder of a run, created if it does not exist."""
        folder = self.root / f"{cut_name(name)}-{digest[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def group(self, record: Record) -> dict[int, Record]:
        """Return the records of a run's group of seeds that are there and can be read, by seed."""
        found = {}
        for seed, digest in record.seeds.items():
            folder = self.root / f"{cut_name(record.submission.name)}-{digest[:12]}"
            with contextlib.suppress(RunError):
                if (folder / RECORD_FILE).exists():
                    found[int(seed)] = read_record(folder)
        return found

    def find(self, run: str) -> Path:
        """Find a run by its folder, else by its name with or without the digest, else by a unique prefix of its name.

        Raises:
            RunError: no run or several runs match.
        """
        direct = Path(run)
        candidate = direct.parent if direct.name == RECORD_FILE else direct
        if os.path.isfile(candidate / RECORD_FILE):  # noqa: PTH113 - a name that is too long is no file
            return candidate
        there = sorted(path.parent for path in self.root.glob(f"*/{RECORD_FILE}"))
        tests: tuple[Callable[[str], bool], ...] = (
            lambda name: name == run,
            lambda name: name.rpartition("-")[0] == cut_name(run),  # a shortened name is also found by its full form
            lambda name: name.startswith(run),
        )
        matching = ([path for path in there if test(path.name)] for test in tests)
        found = next(filter(None, matching), [])
        if len(found) != 1:
            names = [path.name for path in there]
            meant = [path.name for path in found] or names
            listed = ", ".join(meant[:10]) + f", and {len(meant) - 10} more" * (len(meant) > 10)
            what = "several runs match" if found else "no run matches"
            # Suggestions compare names without the digest.
            hint = "" if found else suggest(run, [name.rpartition("-")[0] for name in names])
            raise RunError(f"{what} '{run}' in {self.root} (found: {listed or 'none'}){hint}")
        return found[0]


def digest_model(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in the folder of a kept model, by its path in there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_whole(path) for path in files}


def digest_whole(path: Path) -> str:
    """Return the SHA-256 of a file, which need not fit into memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_stem(name: str) -> str:
    """Return what stands before the digest in the name of a system's folder."""
    return cut_name(split_seed(name)[0])


def folder_name(name: str, digest: str) -> str:
    """Return the name of a system's folder; a long one is shortened and remains unique by its digest."""
    return f"{folder_stem(name)}-{digest}"


def read_record(run: Path) -> Record:
    """Read the record in a run's folder.

    Raises:
        RunError: a file that is damaged, of another version of the harness, or not as the harness writes it.
    """
    path = run / RECORD_FILE
    content = read_json(path)
    try:
        return Record.from_json(content)
    except RunError as error:
        raise RunError(f"cannot read {path}: {error}") from error


def keep_decoders(run: Path, decoders: Mapping[str, Mapping[str, object]]) -> None:
    """Write how each system's probabilities become labels, by system."""
    write_json(run / DECODERS_FILE, decoders)


def read_decoder(run: Path, system: str) -> dict[str, Any]:
    """Read what `keep_decoders` wrote about a system.

    Raises:
        RunError: a run of an earlier version, or one that did not score the system.
    """
    path = run / DECODERS_FILE
    found = read_json(path).get(system) if path.exists() else None
    if not isinstance(found, dict):
        raise RunError(f"{run.name} does not say how {system} is decoded: give the command of the run again")
    return found


def copy_submission(run: Path, record: Record, output: Path | None) -> Path:
    """Return a run's leaderboard file, copied to `output` if given.

    Raises:
        RunError: the run is on another corpus, has no predictions of test clips, or its file is missing.
    """
    if record.data.corpus:
        raise RunError(
            f"{run.name} is on {record.data.corpus}, and a leaderboard file holds labels of BLEMORE's test clips: run "
            "on your BLEMORE download, with --extra-train to train on the corpus as well"
        )
    if record.data.left_out:
        raise RunError(
            f"{run.name} left out {first_and_count(record.data.left_out, 'clip')}, but a leaderboard file needs labels "
            "of all test clips from a system trained on all training clips; replace these files and run again without "
            "--skip-bad-clips"
        )
    if record.test is None:
        raise RunError(
            f"{run.name} has no labels of test clips (status: {record.status}); complete the run on a dataset "
            "with test videos or test features"
        )
    source = run / Path(record.test.file).name
    if not source.is_file():
        raise RunError(f"the leaderboard file {source} is missing; run the same command again to write it")
    if output is None:
        return source
    target = output / source.name if output.is_dir() else output
    if target.suffix.lower() != ".zip":
        raise RunError(f"expected a .zip file for Codabench, found {target}")
    try:
        write_atomically(target, source.read_bytes())
    except OSError as error:
        raise RunError(f"cannot write {target}: {error.strerror}") from error
    return target
