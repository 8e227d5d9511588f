"""One search: trials, each scored on the inner folds of a run, in a study on disk that goes on where it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemore_harness.disk import digest_of
from blemore_harness.errors import ConfigError, PluginFailed
from blemore_harness.options import describe_options
from blemore_harness.protocol.rules import Scores
from blemore_harness.running.nested import cross_fitted_score, fit_submission
from blemore_harness.running.run import Run
from blemore_tuning.extra import load_optuna
from blemore_tuning.spaces import Searched, as_settings, find_defaults

RANDOM_TRIALS = 5
"""Trials at random before what was scored guides the search, and before any is pruned."""

REASON = "reason"
"""Attribute of a trial that failed by itself; one that was interrupted has none, and does not count."""


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        fold: inside of whose training part it searched; None for all training clips.
        trials: how many were looked at.
        pruned: how many of them were given up after some folds.
        failed: how many of them failed.
        default: Score on the inner folds with the options that were there before; None where these are outside of the
            spaces.
        score: best Score on the inner folds, which is optimistic.
        options: those of the best trial, by system.
        reasons: why trials failed, each reason once.
    """

    fold: int | None
    trials: int
    pruned: int
    failed: int
    default: float | None
    score: float
    options: dict[str, dict[str, object]]
    reasons: tuple[str, ...] = ()


def study_name(fold: int | None) -> str:
    """Return the name of a study."""
    return "final" if fold is None else f"fold-{fold}"


def open_storage(file: Path) -> Any:
    """Open the SQLite file of all studies of a tuning, made if need be."""
    optuna = load_optuna()
    file.parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.RDBStorage(f"sqlite:///{file.resolve()}", engine_kwargs={"connect_args": {"timeout": 120}})


def run_study(
    run: Run, fold: int | None, searched: Sequence[Searched], trials: int, file: Path, say: Callable[[str], object]
) -> StudyResult:
    """Look at trials until there are as many as asked for; those that are on disk are not repeated.

    What is suggested depends on the base seed, the number of the trial and the trials before it, and on nothing else:
    an interrupted study goes on as if nothing had happened.

    Args:
        run: on the training part, cut into inner folds.
        fold: as of `StudyResult`.
        trials: how many.
        file: of the studies.
        say: is told of every trial.

    Raises:
        ConfigError: no trial was scored.
    """
    optuna = load_optuna()
    name, storage = study_name(fold), open_storage(file)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=RANDOM_TRIALS, n_warmup_steps=1)
    study = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True, pruner=pruner
    )
    states = optuna.trial.TrialState
    for trial in study.get_trials(states=(states.RUNNING,)):
        study.tell(trial.number, state=states.FAIL)  # of a process that was killed
    defaults = find_defaults(run, searched)
    while (number := len(_counted(study))) < trials:
        seed = int(digest_of([run.submission.seed, name, number])[:8], 16)
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
        if number == 0 and defaults is not None:
            study.enqueue_trial(defaults, skip_if_exists=False)
        said = _try(study, study.ask(), run, searched)
        say(f"{name}: trial {number + 1} of {trials}: {said}")
    study = optuna.load_study(storage=storage, study_name=name)
    return _describe(study, run, fold, searched, defaults)


def _counted(study: Any) -> list[Any]:
    """Return the trials that were looked at."""
    states = load_optuna().trial.TrialState
    done = study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED, states.FAIL))
    return [trial for trial in done if trial.state != states.FAIL or REASON in trial.user_attrs]


def _try(study: Any, trial: Any, run: Run, searched: Sequence[Searched]) -> str:
    """Carry out a trial, and say in a word what came out."""
    optuna = load_optuna()
    states, folds = optuna.trial.TrialState, len(run.dataset.fold_numbers)
    seen: list[float] = []

    def tell(scores: Scores) -> None:
        seen.append(scores.score)
        trial.report(sum(seen) / len(seen), len(seen) - 1)
        if len(seen) < folds and trial.should_prune():
            raise optuna.TrialPruned

    try:
        settings = as_settings({each.name: each.suggest(trial) for each in searched}, searched)
        tried = run.of(run.submission.with_options(settings, None))
        score = cross_fitted_score(fit_submission(tried, tell), tried.blinded)
    except optuna.TrialPruned:
        study.tell(trial, state=states.PRUNED)
        return f"pruned after {len(seen)} of {folds} folds"
    except (PluginFailed, ConfigError) as error:
        trial.set_user_attr(REASON, str(error))
        study.tell(trial, state=states.FAIL)
        return f"failed: {error}"
    except BaseException:
        study.tell(trial, state=states.FAIL)
        raise
    study.tell(trial, score)
    return f"Score {score:.3f} on inner folds"


def _describe(
    study: Any, run: Run, fold: int | None, searched: Sequence[Searched], defaults: dict[str, object] | None
) -> StudyResult:
    states, trials = load_optuna().trial.TrialState, _counted(study)
    reasons = tuple(dict.fromkeys(trial.user_attrs[REASON] for trial in trials if REASON in trial.user_attrs))
    scored = [trial for trial in trials if trial.state == states.COMPLETE]
    if not scored:
        raise ConfigError(
            f"{study.study_name}: none of {len(trials)} trials was scored; the first failed with: "
            f"{reasons[0] if reasons else 'nothing said'}"
        )
    best = max(scored, key=lambda trial: trial.value)  # of equals the first
    default = next((trial.value for trial in scored if trial.params == defaults), None)
    settings = as_settings(best.params, searched)
    tuned = run.of(run.submission.with_options(settings, None))
    values = {each.name: describe_options(each.options) for each in tuned.systems}
    options = {name: {key: values[name][key] for key in given} for name, given in settings.items()}
    counts = [sum(trial.state == state for trial in trials) for state in (states.PRUNED, states.FAIL)]
    return StudyResult(fold, len(trials), counts[0], counts[1], default, best.value, options, reasons)
