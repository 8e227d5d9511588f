"""What the command `simulate` does, as a function for Python: `bh.simulate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blemore_harness.api.opening import data_folder, open_dataset
from blemore_harness.api.reporting import keep_stdout, open_reporter
from blemore_harness.context import Reporter
from blemore_harness.networks import usable_cpus
from blemore_harness.systems.plugins import load_plugins
from blemore_lab import study as studies
from blemore_lab.labels import demo_table, table_of
from blemore_lab.methods import DEFAULT_FUSIONS
from blemore_lab.results import ResultsFile
from blemore_lab.worlds import find_worlds


def simulate(
    worlds: str | Sequence[str] = "logits",
    *,
    replicates: int = 20,
    encoders: Sequence[str] | None = None,
    fusions: Sequence[str] | None = None,
    settings: Mapping[str, Mapping[str, object]] | None = None,
    seed: int = 0,
    test_actors: int = 11,
    workers: int | None = None,
    results: str | Path | None = None,
    data: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Compare fusions and thresholds on simulated encoders.

    Args:
        worlds: logits, embeddings, weak, styles, identity, twins or pair; `all` for all.
        replicates: of each world; 0 returns what `results` holds.
        encoders: whose published accuracies to simulate; None takes those of the world.
        fusions: to compare; None takes the default ones.
        settings: options by fusion, and of `head` and `world`.
        seed: base seed of everything random.
        test_actors: unseen actors of a replicate.
        workers: processes; None takes one per CPU.
        results: file that keeps every replicate.
        data: whose label table; None takes `BLEMORE_DATA`, else that of the demo dataset.

    Returns:
        A record per world, as of `blemore-harness simulate --json`; no number is a result on BLEMORE.
    """
    named = worlds if isinstance(worlds, str) else ",".join(worlds)
    return carry_out(
        named, replicates, tuple(encoders) if encoders else None, tuple(fusions) if fusions else None,
        {name: dict(values) for name, values in (settings or {}).items()}, seed, test_actors, workers,
        None if results is None else Path(results), data_folder(data), open_reporter(),
    )  # fmt: skip


def carry_out(
    worlds: str,
    replicates: int,
    encoders: tuple[str, ...] | None,
    fusions: tuple[str, ...] | None,
    settings: Mapping[str, Mapping[str, object]],
    seed: int,
    test_actors: int,
    workers: int | None,
    results: Path | None,
    data: Path | None,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """Simulate worlds, separated by commas; the others as of `simulate`."""
    given = dict(settings)
    parameters, heads = given.pop("world", {}), given.pop("head", {})
    listed = [
        studies.Study(replicates, world, fusions or DEFAULT_FUSIONS, given, heads, test_actors, seed)
        for world in find_worlds(worlds, parameters, encoders)
    ]
    kept = ResultsFile(results)
    with keep_stdout():
        plugins = load_plugins()
    for study in listed:
        study.methods(plugins)  # a misspelt name fails before anything is read
    if not replicates:
        return studies.read_records(kept)
    if data is None:
        reporter.warn("No dataset is named (--data): using the label table of the generated DEMO dataset, with few "
                      "actors.")  # fmt: skip
    table = demo_table() if data is None else table_of(open_dataset(data, reporter))
    with keep_stdout():
        return [studies.simulate(study, table, plugins, reporter, workers or usable_cpus(), kept) for study in listed]
