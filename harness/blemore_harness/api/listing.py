"""What there is, in Python: plugins, submissions; and what looks after files and runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from blemore_harness.api.opening import data_folder, open_dataset, runs_folder
from blemore_harness.api.reporting import keep_stdout, open_reporter
from blemore_harness.api.rows import Rows
from blemore_harness.context import Reporter
from blemore_harness.errors import ConfigError, first_and_count
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.systems.details import Details, describe_offer
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.systems.submission import list_submissions, plain_name


def plugins() -> Rows:
    """Return a row per encoder and fusion, and per plugin that failed to load: name, kind, modality, package, summary.

    >>> [row["kind"] for row in plugins() if row["name"] == "prosody"]
    ['encoder']
    """
    with keep_stdout():
        return Rows(asdict(row) for row in load_plugins().rows())


def plugin(name: str) -> Details:
    """Return an encoder or a fusion: its card, requirements, and options with defaults, choices and meanings.

    >>> plugin("prosody").modality
    'audio'
    """
    with keep_stdout():
        return describe_offer(load_plugins().find(plain_name(name)))


def submissions() -> Rows:
    """Return a row per named system that ships with the harness: name, encoders, fusion, summary."""
    return Rows(
        {"name": each.name, "encoders": ", ".join(each.encoders), "fusion": each.fusion or "", "summary": each.summary}
        for each in list_submissions()
    )


def check_plugin(
    system: str | Encoder | Fusion,
    *,
    settings: Mapping[str, object] | None = None,
    only: Sequence[str] = (),
    network: bool = False,
    skip: Mapping[str, str] | None = None,
    known: Mapping[str, str] | None = None,
) -> Rows:
    """Check whether an encoder or a fusion keeps the contract, on a few generated clips.

    Args:
        system: its name, or an object.
        settings: options to check it with.
        only: names of checks; empty for all.
        network: whether `prepare` may use the network.
        skip: reason by check that says nothing about this system.
        known: reason by check that is known to fail.

    Returns:
        A row per check: check, status, says (what it looks for), reason, trace.
    """
    from blemore_harness.testing import Session, Subject, check_subject, checks_for

    with keep_stdout(), scratch("blemore-check-") as folder:
        found = load_plugins().find(plain_name(system)).system if isinstance(system, str) else system
        subject = Subject(found, settings or {}, network, skip or {}, known or {})
        says = {check.name: check.says for check in checks_for(subject.is_fusion)}
        rows = Rows()
        with open_reporter().progress(f"checking {found.name}", len(only or says)) as bar:
            for each in check_subject(subject, Session(folder), list(only)):
                rows.append(
                    {"check": each.check, "status": each.status, "says": says[each.check], "reason": each.reason,
                     "trace": each.trace}
                )  # fmt: skip
                bar.advance()
        return rows


def new_plugin(
    name: str, kind: Literal["encoder", "frozen", "fusion"] = "frozen", into: str | Path | None = None
) -> Path:
    """Write a package with a working plugin and its tests; return its folder.

    Args:
        name: of the plugin.
        kind: `frozen` gives embeddings and the harness trains a head, `encoder` trains itself, `fusion` combines base
            models.
        into: where to; None takes the working folder.
    """
    from blemore_harness.scaffold import write_plugin

    return write_plugin(name, kind, Path() if into is None else Path(into), load_plugins().offers)


def check_data(data: str | Path | None = None, *, audio: bool = False, decode: bool = False) -> dict[str, Any]:
    """Report what a download contains and what is missing; the command is `data check`.

    Args:
        data: its folder, or `NAME:FOLDER` of another corpus; None takes `BLEMORE_DATA`.
        audio: decode all audio and report silent and damaged clips.
        decode: decode every clip, frames and audio, and list broken ones.

    Returns:
        JSON types, as of `data.inspection.inspect_dataset`, with `audio` and `decoded` where these are asked for.
    """
    folder = data_folder(data)
    if folder is None:
        raise ConfigError("expected the folder of a download (or BLEMORE_DATA)")
    return inspect(folder, audio, decode, open_reporter())


def inspect(folder: Path, audio: bool, decode: bool, reporter: Reporter) -> dict[str, Any]:
    """Look through a download; arguments as of `check_data`."""
    from blemore_harness.data.inspection import inspect_audio, inspect_dataset, inspect_videos
    from blemore_harness.systems.datasets import read_data

    dataset = read_data(folder)
    found = inspect_dataset(dataset) | ({"audio": inspect_audio(dataset)} if audio else {})
    return found | ({"decoded": inspect_videos(dataset, reporter)} if decode else {})


def write_demo(folder: str | Path, seed: int = 0) -> Path:
    """Write the generated demo dataset into a folder, unless it is there; the command is `data demo`."""
    from blemore_harness.demo.opening import make_demo

    make_demo(Path(folder), open_reporter(), seed)
    return Path(folder)


def check_submissions(files: str | Path | Sequence[str | Path], data: str | Path | None = None) -> dict[str, list[str]]:
    """Return every reason why Codabench would reject leaderboard files, by file; the command is `submit --check`.

    Args:
        data: a dataset whose missing test clips may explain it.
    """
    from blemore_harness.files.leaderboard import check_submission
    from blemore_harness.protocol.rules import official_test_ids

    gap = [] if data is None else _describe_gap(Path(data))
    ids = official_test_ids()
    listed = [files] if isinstance(files, str | Path) else files
    found = {str(file): [*map(str, check_submission(Path(file), ids))] for file in listed}
    return {file: [*reasons, *gap] if reasons else [] for file, reasons in found.items()}


def _describe_gap(data: Path) -> list[str]:
    """Return how the test clips of a dataset explain an invalid leaderboard file."""
    from blemore_harness.data.inspection import find_missing_test_clips

    dataset = open_dataset(data, open_reporter())
    missing = find_missing_test_clips(dataset)
    if dataset.demo:
        return [f"{data} is the generated demo dataset: Codabench does not know its clips"]
    return [f"{data} lacks {first_and_count(missing, 'test clip')}: download the missing files"] if missing else []


def remove_runs(names: str | Sequence[str], *, runs: str | Path | None = None) -> list[Path]:
    """Delete runs, and systems that no other run uses; return the folders that are gone.

    Raises:
        RunError: no such run, or a process works on one.
    """
    from blemore_harness.files.housekeeping import delete, list_removals
    from blemore_harness.files.runs import Runs

    stored = Runs(runs_folder(runs))
    doomed = list_removals(stored, [stored.find(name) for name in ([names] if isinstance(names, str) else names)])
    left = delete(doomed)
    return [each.folder for each in doomed if each not in left]


def clean_runs(*, runs: str | Path | None = None) -> list[Path]:
    """Delete what no run needs: unused systems, runs that failed without a result; return the folders that are gone."""
    from blemore_harness.files.housekeeping import delete, list_rubbish, sweep
    from blemore_harness.files.runs import Runs

    stored = Runs(runs_folder(runs))
    sweep(stored)
    doomed = list_rubbish(stored)
    left = delete(doomed)
    return [each.folder for each in doomed if each not in left]


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Return a folder that is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield Path(folder)
