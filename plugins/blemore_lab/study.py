"""Runs many replicates and sums them up in a record of JSON types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby
from types import MappingProxyType
from typing import Any

from blemore_harness.context import Reporter
from blemore_harness.errors import ConfigError, DataError, InvalidOption
from blemore_harness.heads.options import HeadOptions
from blemore_harness.systems.plugins import Plugins
from blemore_lab.calibration import Calibrated, calibrate, calibrate_embeddings, explain_misses
from blemore_lab.encoders import PUBLISHED, Setting
from blemore_lab.labels import LabelTable
from blemore_lab.methods import DEFAULT_FUSIONS, RECIPE_SEARCH, Method, find_methods
from blemore_lab.replicates import ReplicateResult, draw_replicate, score_replicate
from blemore_lab.results import ResultsFile, merge
from blemore_lab.summary import describe_methods, describe_rows, describe_spread
from blemore_lab.training import SMALL, make_head_options
from blemore_lab.workers import run_all
from blemore_lab.worlds import WORLDS, World

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

FEW = 6
"""With more base models than these, weights are not searched on a whole grid (`CLIMB`), which would take minutes."""

CLIMB: Mapping[str, object] = MappingProxyType({"search": "climb"})
"""Setting of the search of weights for many base models."""

MOST_TEST_ACTORS = 1000
"""New actors at most."""


@dataclass(frozen=True)
class Study:
    """What is simulated.

    Attributes:
        replicates: how many; 0 for those that the file of results has.
        world: where probabilities come from.
        fusions: what is compared besides the reference recipe and the best single encoder.
        fusion_options: option values by fusion, which win over `FAST`.
        head_options: option values of heads on embeddings, which win over `training.SMALL`.
        test_actors: new actors of a replicate; BLEMORE's test clips have 11.
        seed: base seed.
    """

    replicates: int = 20
    world: World = WORLDS["logits"]
    fusions: tuple[str, ...] = DEFAULT_FUSIONS
    fusion_options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    head_options: Mapping[str, object] = field(default_factory=dict)
    test_actors: int = 11
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, lowest, highest in (
            ("replicates", self.replicates, 0, 100_000),
            ("test-actors", self.test_actors, 1, MOST_TEST_ACTORS),
        ):
            if not lowest <= value <= highest:
                raise InvalidOption(f"{name}: expected a number from {lowest} to {highest}, found {value}")
        if self.seed < 0:
            raise InvalidOption(f"seed: expected a number from 0, found {self.seed}")
        if self.head_options and self.heads is None:
            raise ConfigError(f"options are set for 'head', and the world '{self.world.name}' trains no heads")

    @property
    def heads(self) -> HeadOptions | None:
        """How heads are trained; None where the world draws probabilities."""
        return None if isinstance(self.world.setting, Setting) else make_head_options(self.head_options)

    @property
    def options(self) -> dict[str, dict[str, object]]:
        """Option values by fusion that differ from the fusions' own, `FAST` and `fusion_options` together."""
        fast = {**FAST, **({RECIPE_SEARCH: CLIMB} if len(self.world.encoders) > FEW else {})}
        named = {*self.fusions, *self.fusion_options, *fast.keys() - FAST}
        options = {
            name: {**fast.get(name.partition("@")[0], {}), **self.fusion_options.get(name, {})}
            for name in sorted(named)
        }
        return {name: given for name, given in options.items() if given}

    def methods(self, plugins: Plugins) -> tuple[Method, ...]:
        """Look up what is compared; errors as of `find_methods`."""
        return find_methods(self.fusions, plugins, self.options, self.heads is not None)

    def describe(self, table: LabelTable) -> dict[str, Any]:
        """Return what every replicate depends on: JSON types."""
        return {
            "seed": self.seed, "test_actors": self.test_actors, "encoders": list(self.world.encoders),
            **asdict(self.world.setting), **({"heads": {**SMALL, **self.head_options}} if self.heads else {}),
            "labels": {
                "source": table.source, "clips": len(table.truth), "actors": table.actor_count,
                "folds": len(set(table.folds.tolist())),
            },
        }  # fmt: skip


def simulate(
    study: Study, table: LabelTable, plugins: Plugins, reporter: Reporter, workers: int = 1,
    results: ResultsFile | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the record of a study in one world.

    Args:
        study: what is simulated.
        table: labels, actors and folds of the training clips.
        plugins: where fusions are looked up.
        reporter: shows the replicates done.
        workers: processes that simulate; the record does not depend on their number.
        results: replicates that are known, and where new ones are kept.

    Returns:
        the record: JSON types, with the notice that it is a simulation.

    Raises:
        UnknownName, ConfigError: a fusion or an option that there is not, or results of other settings.
        PluginFailed: a fusion that crashed.
    """
    methods = study.methods(plugins)
    results = results or ResultsFile(None)
    world, settings = study.world, study.describe(table)
    encoders = results.open_world(world.name, settings)
    options = {
        method.name: study.options.get(RECIPE_SEARCH if method.recipe else method.name, {}) for method in methods
    }
    results.check_options(world.name, options)
    if encoders is None:
        encoders = _calibrate(study, table, reporter)
        results.add_world(world.name, world.summary, settings, encoders)
    if missed := explain_misses(encoders):
        reporter.warn(missed)
    wanted = {
        number: [method for method in methods if not results.has(world.name, number, method.name)]
        for number in range(study.replicates)
    }
    missing = [number for number, some in wanted.items() if some]
    with reporter.progress(f"replicates of {world.name}", len(missing)) as bar:
        run = partial(run_replicate, study=study, encoders=encoders, methods=wanted, table=table)
        for number, result in zip(missing, run_all(run, missing, workers), strict=True):
            results.add(world.name, number, result, options)
            bar.advance()
    return describe_world(world.name, results, study.options)


def describe_world(name: str, results: ResultsFile, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a world of a file of results; `options` are those of fusions."""
    encoders, found = results.encoders(name), results.replicates(name)
    settings = dict(results.worlds[name]["settings"])
    labels = settings.pop("labels")
    del settings["encoders"]
    missed = explain_misses(encoders)
    return {
        "simulation": True,
        "notice": NOTICE,
        "world": {"name": name, "summary": results.worlds[name]["summary"]},
        "settings": {"replicates": len(found), **settings, "options": options},
        "labels": labels,
        "warnings": [missed] if missed else [],
        "encoders": [_describe(encoder, found) for encoder in encoders],
        "spread": describe_spread(found),
        "rows": describe_rows(found),
        "methods": describe_methods(found),
    }


def read_records(results: ResultsFile) -> list[dict[str, Any]]:
    """Return the records of all worlds of a file of results that have a replicate.

    Raises:
        DataError: there is none.
    """
    found = [describe_world(name, results, {}) for name in results.worlds if results.replicates(name)]
    if not found:
        raise DataError("expected a file of results (--results) with at least 1 replicate, found none")
    return found


def run_replicate(
    number: int,
    study: Study,
    encoders: Sequence[Calibrated],
    methods: Mapping[int, Sequence[Method]],
    table: LabelTable,
) -> ReplicateResult:
    """Return the result of one replicate, which does not depend on the others or on the process."""
    result: ReplicateResult | None = None
    for heads, some in groupby(sorted(methods[number], key=_heads_of), key=_heads_of):
        options = make_head_options({**study.head_options, **dict(heads)}) if study.heads else None
        material, new = draw_replicate(
            encoders, table, study.world.setting, study.test_actors, (study.seed, number), options
        )
        result = merge(result, score_replicate(list(some), material, table, new, study.seed))
    assert result is not None
    return result


def _heads_of(method: Method) -> list[tuple[str, object]]:
    return sorted(method.heads.items())


def _calibrate(study: Study, table: LabelTable, reporter: Reporter) -> tuple[Calibrated, ...]:
    setting, names = study.world.setting, study.world.encoders
    with reporter.progress("calibrating encoders", len(names)) as bar:
        if not isinstance(setting, Setting):
            assert study.heads is not None
            # The same encoders whether or not actors are normalised: otherwise its gain would be calibrated away.
            found = calibrate_embeddings(names, table, setting, replace(study.heads, normalise_actors=False))
            bar.advance(len(names))
            return found
        encoders: list[Calibrated] = []
        for name in names:
            encoders += calibrate([name], table, setting)
            bar.advance()
    return tuple(encoders)


def _describe(encoder: Calibrated, results: Sequence[ReplicateResult]) -> dict[str, Any]:
    folds = [scores for result in results for scores in result.encoders[encoder.name]]
    return {
        "name": encoder.name,
        "modality": PUBLISHED[encoder.name].modality,
        "published": {"acc_presence": encoder.wanted.presence, "acc_salience": encoder.wanted.salience},
        "calibrated": {"acc_presence": encoder.reached.presence, "acc_salience": encoder.reached.salience},
        "simulated": {
            "acc_presence": sum(s.presence for s in folds) / len(folds),
            "acc_salience": sum(s.salience for s in folds) / len(folds),
        },
        "skill": asdict(encoder.skill),
    }
