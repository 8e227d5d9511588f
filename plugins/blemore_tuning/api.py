"""What the command `tune` does, as a function for Python: `bh.tune`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from blemore_harness.api.opening import data_folder, runs_folder
from blemore_harness.api.reporting import keep_stdout, open_reporter
from blemore_harness.api.submissions import open_evaluation, open_submission, with_settings
from blemore_harness.context import Reporter
from blemore_harness.disk import hold, write_atomically, write_json
from blemore_harness.errors import ConfigError, UnknownName
from blemore_harness.files.runs import Runs
from blemore_harness.running.run import Run
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.systems.submission import find_submission
from blemore_tuning import report, tuning
from blemore_tuning.extra import load_optuna
from blemore_tuning.spaces import find_spaces


def tune(
    name: str | None = None,
    *,
    plugins: str | Sequence[str] | None = None,
    fusion: str | None = None,
    settings: Mapping[str, Mapping[str, object]] | None = None,
    spaces: Mapping[str, str] | None = None,
    only: Collection[str] = (),
    trials: int = 20,
    inner_folds: int = 3,
    jobs: int = 1,
    seed: int | None = None,
    device: str = "auto",
    fold_seed: int = 0,
    output: str | Path | None = None,
    data: str | Path | None = None,
    runs: str | Path | None = None,
) -> dict[str, Any]:
    """Search the options of a submission or of installed plugins, inside the training part of every fold.

    Args:
        name: of a submission or of an encoder; or give `plugins`.
        spaces: values to try by option: `{"prosody.epochs": "10:40"}`; None takes those that plugins declare.
        only: systems whose declared values are searched; empty for all.
        trials: of each study.
        inner_folds: folds inside the training part of a fold.
        jobs: processes; the result does not depend on it.
        output: file of the submission that comes out; None takes `NAME-tuned.toml` here.
        plugins, and the others: as of `run`.

    Returns:
        JSON types, as of `blemore-harness tune --json`: the out-of-sample number, what was found, and `file`.

    Raises:
        ExtraMissing: Optuna is not installed.
        ConfigError: an unknown system or option, a space that is none, nothing to search, or clips without blends.
    """
    load_optuna()
    reporter = open_reporter()
    if name is not None and not plugins and is_encoder(name):
        plugins, name = (name,), None
    with keep_stdout():
        found, offered = open_submission(name, plugins, fusion, reporter)
        run = open_evaluation(
            with_settings(found, settings, seed), offered, data_folder(data), runs_folder(runs), reporter, device,
            fold_seed, ("blemore_harness.tune",), show=reporter.show,
        )  # fmt: skip
        texts = [f"{name}={values}" for name, values in (spaces or {}).items()]
        file = None if output is None else Path(output)
        return search(run, texts, only, trials, inner_folds, jobs, fold_seed, file, reporter)[2]


def search(
    run: Run, spaces: Sequence[str], only: Collection[str], trials: int, inner_folds: int, jobs: int, fold_seed: int,
    output: Path | None, reporter: Reporter,
) -> tuple[tuning.Plan, tuning.Tuned, dict[str, Any]]:  # fmt: skip
    """Search the options of the systems of a run, and write the submission that comes out.

    Args:
        spaces: `NAME.OPTION=VALUES` each.
        run, and the others: as of `tune`.

    Returns:
        The plan, what was found, and what `tune` returns.
    """
    if not run.dataset.blends.any():
        raise ConfigError("`tune` searches by the Score, which is not defined without blends: give a BLEMORE download")
    searched = find_spaces(run, spaces, only)
    file = output or Path(f"{run.submission.name.replace(',', '-')}-tuned.toml")
    if file.suffix != ".toml" or not file.absolute().parent.is_dir():
        raise ConfigError(f"--output expects a .toml file in a folder that exists, found {file}")
    if file.exists() and not file.read_text(encoding="utf-8", errors="replace").startswith(report.HEAD):
        raise ConfigError(f"{file} exists and was not written by tune: choose another file with --output")
    folder = tuning.plan_folder(run.runs.root, run, searched, inner_folds)
    run = replace(run, runs=Runs(folder), keep_models="none")
    plan = tuning.Plan(
        run.submission, searched, trials, inner_folds, folder, run.dataset.root, fold_seed, run.device.resolve()
    )
    with hold(folder, reporter.log):
        found = tuning.tune(run, plan, jobs, reporter.log)
    facts = report.describe(plan, found)
    write_json(folder / "result.json", facts)
    write_atomically(file, report.write_submission(run.submission, found))
    return plan, found, {**facts, "file": str(file)}


def is_encoder(name: str) -> bool:
    """Return whether a name is that of an encoder, and of no submission.

    Raises:
        UnknownName: it is neither.
    """
    try:
        find_submission(name, Path.cwd())
    except UnknownName as error:
        if name.partition("@")[0] in load_plugins().offers:
            return True
        raise UnknownName(f"{error}; no encoder has this name either, see `blemore-harness plugins`") from error
    return False
