"""Runs over several base seeds in Python, as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from blemore_harness.api.evaluation import PluginNames, Settings, evaluate_run, open_call, warn_of_failures
from blemore_harness.api.reporting import keep_stdout, open_reporter
from blemore_harness.api.rows import html_table, make_frame
from blemore_harness.api.run import Run
from blemore_harness.data.download import Dataset
from blemore_harness.errors import ConfigError
from blemore_harness.hookspecs import Fusion
from blemore_harness.running.run import Run as EvaluatedRun
from blemore_harness.scoring.seeds import SeedScores, summarise_seeds

if TYPE_CHECKING:
    import pandas as pd


MOST_SEEDS = 100
"""Runs of a group: more tell nothing new of the spread between seeds."""

SEEDS_EXPECTED = f"a number from 2 to {MOST_SEEDS}, or as many different seeds of at least 0 such as 0,1,7"


@dataclass(frozen=True)
class SeedRuns:
    """Runs that differ in the base seed alone.

    Attributes:
        runs: by base seed.
        average: the run of the mean probabilities over seeds; None where it was not asked for.
    """

    runs: Mapping[int, Run]
    average: Run | None = None

    def scores(self) -> tuple[SeedScores, ...]:
        """Return means over seeds and deviations between them, by system, the best first."""
        return summarise_seeds({seed: run.record for seed, run in self.runs.items()})

    def table(self) -> pd.DataFrame:
        """Return `scores()` as a frame: `system`, `seeds`, and for both ways mean and `_sd` of each measure."""
        rows: list[dict[str, Any]] = []
        for each in self.scores():
            row: dict[str, Any] = {"system": each.name, "seeds": len(each.seeds)}
            for way, means in (("cross_fitted", each.cross_fitted), ("official", each.official)):
                for measure, mean in means.by_measure().items():
                    row |= {f"{way}_{measure}": mean and mean.mean, f"{way}_{measure}_sd": mean and mean.sd}
            rows.append(row)
        return make_frame(rows)

    def _repr_html_(self) -> str:
        from blemore_harness.scoring.measures import show_mean

        rows = [
            [each.name, len(each.seeds), *(show_mean(m) for m in
             (each.cross_fitted.score, each.cross_fitted.acc_presence, each.cross_fitted.acc_salience))]
            for each in self.scores()
        ]  # fmt: skip
        caveats = dict.fromkeys(run.record.caveat for run in self.runs.values() if run.record.caveat)
        heads = ["system", "seeds", "cross-fitted Score ± sd between seeds", "ACC_P ± sd", "ACC_S ± sd"]
        return html_table(["caveat"], [[text] for text in caveats]) * bool(caveats) + html_table(heads, rows)


def run_seeds(
    seeds: int | Sequence[int],
    submission: str | None = None,
    *,
    average: bool = False,
    plugins: PluginNames | None = None,
    fusion: str | Fusion | None = None,
    settings: Settings | None = None,
    data: str | Path | Dataset | None = None,
    runs: str | Path | None = None,
    seed: int | None = None,
    thresholds: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    fold_seed: int = 0,
    track: str | Sequence[str] = (),
    extra_train: str | Path | Sequence[str | Path] = (),
    **more: Any,
) -> SeedRuns:
    """Run a submission or plugins with several base seeds; the command is `run --seeds`.

    Args:
        seeds: how many, counted from the base seed, or which.
        average: also score the mean of an encoder's probabilities over the seeds.
        more, and the others: as of `run`.

    Raises:
        ConfigError: fewer than two different seeds. Others as of `run`.
    """
    reporter = open_reporter()
    named = {"seeds": seeds, "submission": submission, "plugins": plugins, "fusion": fusion, "settings": settings,
             "seed": seed}  # fmt: skip
    with keep_stdout():
        opened = open_call(
            "run_seeds", named, submission, plugins, fusion, settings, data, runs, seed, thresholds, device, fold_seed,
            reporter, track, extra_train,
        )  # fmt: skip
        chosen = list_seeds(seeds, opened.submission.seed)
        ended = evaluate_seeds(opened, partial(evaluate_run, **more), chosen, average)
    for run in (*ended.runs.values(), *([ended.average] if ended.average else [])):
        warn_of_failures(run, reporter)
    return ended


def list_seeds(seeds: int | Sequence[int], base: int) -> tuple[int, ...]:
    """Return base seeds: so many, counted from one, or those that are listed.

    Raises:
        ConfigError: fewer than two, more than `MOST_SEEDS`, one twice, or one below 0.
    """
    count = seeds if isinstance(seeds, int) else len(seeds)
    found = () if not 2 <= count <= MOST_SEEDS else range(base, base + count) if isinstance(seeds, int) else seeds
    if not found or len(set(found)) < len(found) or min(found) < 0:
        raise ConfigError(f"seeds: expected {SEEDS_EXPECTED}; found {seeds!r}")
    return tuple(found)


def evaluate_seeds(
    opened: EvaluatedRun, work: Callable[[EvaluatedRun], Run], seeds: Sequence[int], average: bool
) -> SeedRuns:
    """Evaluate what `open_evaluation` returns with each of several base seeds.

    Args:
        work: evaluates one.
        average: as of `run_seeds`.

    Raises:
        ConfigError: an encoder with a seed of its own.
    """
    mean = opened.of(opened.submission.averaging(tuple(seeds))) if average else None  # refuses before anything slow
    if len(set(replace(opened, seeds=tuple(seeds)).group().values())) < len(seeds):
        raise ConfigError("--seeds expects encoders without a seed of their own: wavlm, not wavlm@seed1")
    found = {}
    for number, seed in enumerate(seeds, 1):
        opened.reporter.log(f"seed {seed} ({number} of {len(seeds)})")
        found[seed] = work(replace(opened.of(replace(opened.submission, seed=seed)), seeds=tuple(seeds)))
    return SeedRuns(found, None if mean is None else work(mean))
