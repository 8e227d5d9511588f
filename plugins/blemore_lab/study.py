"""Runs many replicates and sums them up in a record of JSON types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

from blemore_harness.context import Reporter
from blemore_harness.errors import InvalidOption
from blemore_harness.systems.plugins import Plugins
from blemore_lab.calibration import Calibrated, calibrate, explain_misses
from blemore_lab.encoders import DEFAULT_ENCODERS, PUBLISHED, Setting, check_encoders
from blemore_lab.labels import LabelTable
from blemore_lab.methods import DEFAULT_FUSIONS, Method, find_methods
from blemore_lab.replicates import ReplicateResult, draw_replicate, score_replicate
from blemore_lab.summary import describe_rows, describe_spread
from blemore_lab.workers import run_all

NOTICE = (
    "SIMULATION: probabilities of simulated encoders, not of real ones. No number here is a result on BLEMORE; what "
    "may carry over is which fusion and which thresholds do better."
)
"""Stands over every table and in every record of a simulation."""

_STRENGTHS = "0.03,0.1,0.3"

FAST: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {"stack": {"strengths": _STRENGTHS}, "structured": {"strengths": _STRENGTHS}}
)
"""Settings for the simulation where the defaults search longer: on these rows nearly always one of these is chosen."""

MOST_TEST_ACTORS = 1000
"""New actors at most."""


@dataclass(frozen=True)
class Study:
    """What is simulated.

    Attributes:
        replicates: how many.
        encoders: whose published accuracies the simulated encoders have.
        fusions: what is compared besides the reference recipe and the best single encoder.
        fusion_options: option values by fusion, which win over `FAST`.
        test_actors: new actors of a replicate; BLEMORE's test clips have 11.
        seed: base seed.
        setting: how actors and encoders err.
    """

    replicates: int = 20
    encoders: tuple[str, ...] = DEFAULT_ENCODERS
    fusions: tuple[str, ...] = DEFAULT_FUSIONS
    fusion_options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    test_actors: int = 11
    seed: int = 0
    setting: Setting = field(default_factory=Setting)

    def __post_init__(self) -> None:
        check_encoders(self.encoders)
        for name, value, highest in (
            ("replicates", self.replicates, 100_000),
            ("test-actors", self.test_actors, MOST_TEST_ACTORS),
        ):
            if not 1 <= value <= highest:
                raise InvalidOption(f"{name}: expected a number from 1 to {highest}, found {value}")
        if self.seed < 0:
            raise InvalidOption(f"seed: expected a number from 0, found {self.seed}")

    @property
    def options(self) -> dict[str, dict[str, object]]:
        """Option values by fusion that differ from the fusions' own, `FAST` and `fusion_options` together."""
        named = {*self.fusions, *self.fusion_options}
        options = {name: {**FAST.get(name, {}), **self.fusion_options.get(name, {})} for name in sorted(named)}
        return {name: given for name, given in options.items() if given}

    def methods(self, plugins: Plugins) -> tuple[Method, ...]:
        """Look up what is compared; errors as of `find_methods`."""
        return find_methods(self.fusions, plugins, self.options)


def simulate(study: Study, table: LabelTable, plugins: Plugins, reporter: Reporter, workers: int = 1) -> dict[str, Any]:
    """Return the record of a study.

    Args:
        study: what is simulated.
        table: labels, actors and folds of the training clips.
        plugins: where fusions are looked up.
        reporter: shows the replicates done.
        workers: processes that simulate; the record does not depend on their number.

    Returns:
        the record: JSON types, with the notice that it is a simulation.

    Raises:
        UnknownName, ConfigError: a fusion or an option that there is not.
        PluginFailed: a fusion that crashed.
    """
    methods = study.methods(plugins)
    with reporter.progress("calibrating encoders", len(study.encoders)) as bar:
        encoders: list[Calibrated] = []
        for name in study.encoders:
            encoders += calibrate([name], table, study.setting)
            bar.advance()
    if missed := explain_misses(encoders):
        reporter.warn(missed)
    with reporter.progress("simulated replicates", study.replicates) as bar:
        results = []
        run = partial(run_replicate, study=study, encoders=tuple(encoders), methods=methods, table=table)
        for result in run_all(run, study.replicates, workers):
            results.append(result)
            bar.advance()
    return {
        "simulation": True,
        "notice": NOTICE,
        "settings": {
            "replicates": study.replicates, "test_actors": study.test_actors, "seed": study.seed,
            **asdict(study.setting), "options": study.options,
        },
        "labels": {
            "source": table.source, "clips": len(table.truth), "actors": table.actor_count,
            "folds": len(set(table.folds.tolist())),
        },
        "warnings": [missed] if missed else [],
        "encoders": [_describe(encoder, results) for encoder in encoders],
        "spread": describe_spread(results),
        "rows": describe_rows(results),
    }  # fmt: skip


def run_replicate(
    number: int, study: Study, encoders: Sequence[Calibrated], methods: Sequence[Method], table: LabelTable
) -> ReplicateResult:
    """Return the result of one replicate, which does not depend on the others or on the process."""
    material, new = draw_replicate(encoders, table, study.setting, study.test_actors, (study.seed, number))
    return score_replicate(methods, material, table, new, study.seed)


def _describe(encoder: Calibrated, results: Sequence[ReplicateResult]) -> dict[str, Any]:
    wanted = PUBLISHED[encoder.name]
    folds = [scores for result in results for scores in result.encoders[encoder.name]]
    return {
        "name": encoder.name,
        "modality": wanted.modality,
        "published": {"acc_presence": wanted.presence, "acc_salience": wanted.salience},
        "calibrated": {"acc_presence": encoder.reached.presence, "acc_salience": encoder.reached.salience},
        "simulated": {
            "acc_presence": sum(s.presence for s in folds) / len(folds),
            "acc_salience": sum(s.salience for s in folds) / len(folds),
        },
        "skill": asdict(encoder.skill),
    }
