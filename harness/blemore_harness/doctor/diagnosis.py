"""Checks a machine and a planned run: what works, what does not, and what to do."""

from __future__ import annotations

import os
import platform
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from blemore_harness.data.download import Dataset, is_demo, read_dataset
from blemore_harness.data.inspection import inspect_dataset
from blemore_harness.demo import demo_is_complete
from blemore_harness.demo.opening import demo_folder
from blemore_harness.doctor.dry_run import dry_run_apart, parts_of
from blemore_harness.doctor.surroundings import Finding, Verdict, look_at_disks, look_at_keys, size_of
from blemore_harness.errors import BlemoreError
from blemore_harness.systems.datasets import read_data
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.resolved import find_systems
from blemore_harness.systems.submission import Submission, plain_name

HUB = ("huggingface.co", 443)
HUB_SECONDS = 3.0


def examine(
    submission: Submission | None,
    plugins: Plugins,
    data: Path | None,
    device: str,
    runs: Path,
    dry_run: Callable[[Mapping[str, Any]], dict[str, Any]] = dry_run_apart,
) -> list[Finding]:
    """Return a finding for everything that a run needs.

    Args:
        submission: what is to be run; None looks at the machine only.
        plugins: as loaded.
        data: folder of the download; None for the demo dataset.
        device: as asked for.
        runs: where runs are kept.
        dry_run: tries packages and encoders; another one in tests.

    Raises:
        ConfigError: a system or an option that nobody offers, or a value that it cannot have.
    """
    findings = [Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    findings += [
        Finding(f"plugin {row.name}", "warning", row.summary, "see `blemore-harness plugins`")
        for row in plugins.failures
    ]
    dataset, told = _read(data)
    encoders = parts_of(submission.encoders) if submission else ()
    if submission:
        find_systems(submission, plugins, is_demo(data))  # a misspelt name or option is said at once
    state = dry_run(
        {
            "encoders": encoders,
            "options": {name: dict(values) for name, values in (submission.options if submission else {}).items()},
            "feature_sets": sorted(dataset.feature_sets) if dataset else [],
            "demo": is_demo(data),
        }
    )
    if "crashed" in state:
        todo = "look for the package that ends Python: python -X faulthandler -c 'import torch, av'"
        findings.append(Finding("dry run", "problem", f"ended early: {state['crashed']}", todo))
    else:
        findings += judge_packages(state["packages"])
        findings += [_judge_gpu(state["gpu"], device), _judge_clip(state["clip"])]
        findings += [*_judge_encoders(encoders, plugins, state["encoders"]), look_at_keys(state["keys"])]
    clips = len(dataset.ids) + len(dataset.test_ids) if dataset and encoders else 0
    findings += [*told, *look_at_disks(clips, runs)]
    return findings


def has_problem(findings: Sequence[Finding]) -> bool:
    """Return whether something keeps the run from working."""
    return any(finding.verdict == "problem" for finding in findings)


def judge_packages(packages: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Report which packages are missing, broken, or of a version that is known not to work.

    Args:
        packages: as `dry_run.dry_run` gives them.
    """
    absent = [name for name, state in packages.items() if state["version"] is None]
    there = {name: state for name, state in packages.items() if state["version"] is not None}
    sound = ", ".join(f"{name} {state['version']}" for name, state in there.items() if not state["error"])
    if sound:
        yield Finding("packages", "ok", sound)
    if absent:
        todo = f"where an encoder of the run needs them: {_install(*(packages[name] for name in absent))}"
        yield Finding("packages", "warning", f"not installed: {', '.join(absent)}", todo)
    for name, state in there.items():
        version, least, below = state["version"], state["least"], state["below"]
        if state["error"]:
            todo = state["advice"] or f"pip install --force-reinstall {name}"
            yield Finding(name, "problem", f"{version}: {state['error']}", todo)
        elif least and _numbers(version) < _numbers(least):
            yield Finding(name, "problem", f"{version} is too old: expected {least} or later", _install(state))
        elif below and _numbers(version) >= _numbers(below):
            yield Finding(name, "warning", f"{version} was never tried: expected one before {below}", _install(state))


def _install(*packages: Mapping[str, Any]) -> str:
    """Return the command that installs packages in versions that work."""
    bounds = [[f">={p['least']}"] * bool(p["least"]) + [f"<{p['below']}"] * bool(p["below"]) for p in packages]
    return "pip install " + " ".join(f"'{p['name']}{','.join(b)}'" for p, b in zip(packages, bounds, strict=True))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


def _judge_gpu(gpu: Mapping[str, Any] | None, device: str) -> Finding:
    if gpu is None or "error" in gpu:
        why = f" ({gpu['error']})" if gpu else ""
        if device == "cuda":
            return Finding(
                "gpu", "problem", f"torch sees none{why}", "check the driver with nvidia-smi, or --device cpu"
            )
        return Finding("gpu", "ok", f"none{why}: encoders run on the CPU, which takes hours for large ones")
    kind = "bfloat16" if gpu["bfloat16"] else "no fast bfloat16"
    return Finding("gpu", "ok", f"{gpu['name']}, {size_of(gpu['free'])} of {size_of(gpu['total'])} free, {kind}")


def _judge_clip(found: str) -> Finding:
    if found == "ok":
        return Finding("decoders", "ok", "a generated clip of one second was written and read back")
    verdict: Verdict = "warning" if found.startswith("not tried") else "problem"
    return Finding("decoders", verdict, found, "pip install 'blemore-harness[encoders]'")


def _judge_encoders(
    encoders: Sequence[str], plugins: Plugins, states: Mapping[str, Mapping[str, str]]
) -> Iterator[Finding]:
    """Return whether each encoder can start.

    Weights that can be fetched are a warning only.
    """
    for name in encoders:
        state = states[name]
        if not state["error"]:
            yield Finding(f"encoder {name}", "ok", plugins.encoder(plain_name(name)).system.summary)
        elif state["kind"] == "weights" and "source" in state:
            found = f"the weights '{state['source']}' are not on this machine"
            why = _why_not_fetched()
            if why:
                yield Finding(f"encoder {name}", "problem", f"{found}, and {why}", state["todo"])
            else:
                yield Finding(f"encoder {name}", "warning", found, f"they are fetched by: prepare --plugin {name}")
        else:
            what = "crashed" if state["kind"] == "crash" else "cannot run"
            yield Finding(f"encoder {name}", "problem", what, state["error"])


def _why_not_fetched() -> str:
    """Return why nothing can be fetched from the Hugging Face Hub; empty where it can be reached."""
    if os.environ.get("HF_HUB_OFFLINE"):
        return "HF_HUB_OFFLINE is set"
    try:
        with socket.create_connection(HUB, HUB_SECONDS):
            return ""
    except OSError:
        return f"{HUB[0]} cannot be reached from here"


def _read(data: Path | None) -> tuple[Dataset | None, list[Finding]]:
    if data is None:
        folder = demo_folder()
        there = demo_is_complete(folder)
        found = "the generated demo dataset" + ("" if there else ", which the first run makes (a minute)")
        told = [Finding("dataset", "ok", found, "name your BLEMORE download with --data")]
        return (read_dataset(folder) if there else None), told
    try:
        dataset = read_data(data)
    except BlemoreError as error:
        return None, [Finding("dataset", "problem", f"{data} cannot be used", str(error))]
    facts = inspect_dataset(dataset)
    videos = facts["videos"]
    found = f"{facts['clips']} training and {facts['test_clips']} test clips, {facts['actors']} actors"
    told = [Finding("dataset", "ok", f"{found}; features: {', '.join(facts['features']) or 'none'}")]
    if videos["missing"]:
        what = f"{videos['missing']} of {videos['missing'] + videos['present']} (first: {videos['first_missing'][0]})"
        told.append(Finding("videos", "warning", f"missing: {what}", "encoders without released features need them"))
    told += [Finding("dataset", "warning", text) for text in facts["warnings"]]
    return dataset, told
