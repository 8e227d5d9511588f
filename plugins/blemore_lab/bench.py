"""Many simulated challenges and what they add up to: a record of JSON types."""

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
from blemore_lab.challenge import ChallengeResult, draw_challenge, play_challenge
from blemore_lab.contestants import DEFAULT_FUSIONS, Contestant, find_contestants
from blemore_lab.encoders import DEFAULT_ENCODERS, PUBLISHED, World, check_encoders
from blemore_lab.labels import LabelTable
from blemore_lab.summary import describe_rows, describe_spread
from blemore_lab.workers import play_all

NOTICE = (
    "SIMULATION: rows of simulated encoders, not of real ones. No number here is a result on BLEMORE; what carries "
    "over, if anything, is which way of fusing and decoding does better."
)
"""Stands over every table and in every record of a simulation."""

_STRENGTHS = "0.03,0.1,0.3"

FAST: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {"stack": {"strengths": _STRENGTHS}, "structured": {"strengths": _STRENGTHS}}
)
"""Settings for the simulation where the defaults search longer: on these rows nearly always one of these is chosen."""

MOST_TEST_ACTORS = 1000
"""New actors at most: more only make the numbers of a challenge less noisy than any challenge can be."""


@dataclass(frozen=True)
class Bench:
    """What is simulated.

    Attributes:
        challenges: how many.
        encoders: whose published accuracies the simulated encoders have.
        fusions: what is compared besides the papers' recipe and the best single encoder.
        settings: option values by fusion, which win over `FAST`.
        test_actors: new actors of a challenge; BLEMORE's test clips have 11.
        seed: base seed.
        world: how actors and encoders err.
    """

    challenges: int = 20
    encoders: tuple[str, ...] = DEFAULT_ENCODERS
    fusions: tuple[str, ...] = DEFAULT_FUSIONS
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    test_actors: int = 11
    seed: int = 0
    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        check_encoders(self.encoders)
        for name, value, highest in (
            ("challenges", self.challenges, 100_000),
            ("test-actors", self.test_actors, MOST_TEST_ACTORS),
        ):
            if not 1 <= value <= highest:
                raise InvalidOption(f"{name}: expected a number from 1 to {highest}, found {value}")
        if self.seed < 0:
            raise InvalidOption(f"seed: expected a number from 0, found {self.seed}")

    @property
    def options(self) -> dict[str, dict[str, object]]:
        """Option values by fusion that differ from the fusions' own, `FAST` and `settings` together."""
        named = {*self.fusions, *self.settings}
        options = {name: {**FAST.get(name, {}), **self.settings.get(name, {})} for name in sorted(named)}
        return {name: given for name, given in options.items() if given}

    def contestants(self, plugins: Plugins) -> tuple[Contestant, ...]:
        """Look up what is compared; errors as of `find_contestants`."""
        return find_contestants(self.fusions, plugins, self.options)


def simulate(bench: Bench, table: LabelTable, plugins: Plugins, reporter: Reporter, workers: int = 1) -> dict[str, Any]:
    """Run the bench.

    Args:
        bench: what is simulated.
        table: labels, actors and folds of the training clips.
        plugins: where fusions are looked up.
        reporter: shows the challenges done.
        workers: processes that simulate; the record does not depend on their number.

    Returns:
        the record: JSON types, with the notice that it is a simulation.

    Raises:
        UnknownName, ConfigError: a fusion or an option that there is not.
        PluginFailed: a fusion that crashed.
    """
    contestants = bench.contestants(plugins)
    with reporter.progress("calibrating encoders", len(bench.encoders)) as bar:
        encoders: list[Calibrated] = []
        for name in bench.encoders:
            encoders += calibrate([name], table, bench.world)
            bar.advance()
    if missed := explain_misses(encoders):
        reporter.warn(missed)
    with reporter.progress("simulated challenges", bench.challenges) as bar:
        results = []
        play = partial(play_number, bench=bench, encoders=tuple(encoders), contestants=contestants, table=table)
        for result in play_all(play, bench.challenges, workers):
            results.append(result)
            bar.advance()
    return {
        "simulation": True,
        "notice": NOTICE,
        "settings": {
            "challenges": bench.challenges, "test_actors": bench.test_actors, "seed": bench.seed, **asdict(bench.world),
            "options": bench.options,
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


def play_number(
    number: int, bench: Bench, encoders: Sequence[Calibrated], contestants: Sequence[Contestant], table: LabelTable
) -> ChallengeResult:
    """Draw and play one challenge; the same whichever others are played, and where."""
    material, new = draw_challenge(encoders, table, bench.world, bench.test_actors, (bench.seed, number))
    return play_challenge(contestants, material, table, new, bench.seed)


def _describe(encoder: Calibrated, results: Sequence[ChallengeResult]) -> dict[str, Any]:
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
