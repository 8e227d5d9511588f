"""What a call evaluates: the systems of a submission, or of a list of plugins, on a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from blemore_harness.api.opening import open_dataset
from blemore_harness.context import Reporter
from blemore_harness.data.download import Dataset, is_demo
from blemore_harness.errors import ConfigError
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.record.types import Record
from blemore_harness.running.run import Run, open_run
from blemore_harness.systems.plugins import Plugins, load_plugins
from blemore_harness.systems.resolved import find_systems
from blemore_harness.systems.submission import DEFAULT_FUSION, Submission, find_submission, from_plugins, plain_name
from blemore_harness.systems.unregistered import add_unregistered

PLUGINS_EXAMPLE = "a submission's name, or plugins such as ['s4d', 'wav2vec2']"


def open_submission(
    name: str | None,
    plugins: str | Encoder | Sequence[str | Encoder] | None,
    fusion: str | Fusion | None,
    reporter: Reporter,
) -> tuple[Submission, Plugins]:
    """Return a submission with the plugins that it needs: those that are installed, and objects that are given.

    Args:
        name: of a submission.
        plugins: encoders, by their names or as objects; commas separate names.
        fusion: of several encoders, by its name or as an object; None takes the default one.
        reporter: is told of a local submission in the place of a shipped one.

    Raises:
        ConfigError: neither name nor plugins, or both; a fusion beside a name; as of `find_submission` and
            `add_unregistered`.
    """
    if (name is None) == (not plugins):
        raise ConfigError(f"expected {PLUGINS_EXAMPLE}, found {'neither' if name is None else 'both'}")
    offered = load_plugins()
    if name is not None:
        if fusion is not None:
            raise ConfigError(f"a fusion goes with plugins: the submission '{name}' defines its own")
        submission, remark = find_submission(name, Path.cwd())
        if remark:
            reporter.warn(remark)
        return submission, offered
    listed = [plugins] if isinstance(plugins, str | Encoder) else list(plugins or ())
    objects = [each for each in (*listed, fusion) if each is not None and not isinstance(each, str)]
    add_unregistered(offered, objects)
    fused = DEFAULT_FUSION if fusion is None else fusion if isinstance(fusion, str) else fusion.name
    submission = from_plugins([each if isinstance(each, str) else each.name for each in listed], fused)
    if fusion is not None and submission.fusion is None:
        offered.fusion(plain_name(fused))
        reporter.warn(f"--fusion {fused} is ignored: there is only one encoder")
    return submission, offered


def open_evaluation(
    submission: Submission,
    plugins: Plugins,
    data: Path | Dataset | None,
    runs: Path,
    reporter: Reporter,
    device: str = "auto",
    fold_seed: int = 0,
    command: Sequence[str] = (),
    draw: Callable[[Record], str] | None = None,
    extra: Sequence[str | Path] = (),
    **more: Any,
) -> Run:
    """Look up the systems of a submission, read the dataset, and return what evaluates them.

    Args:
        data: a dataset, or as of `open_dataset`.
        extra: as of `open_dataset`.
        more, and the others: as of `running.run.open_run`.

    Raises:
        BlemoreError: as of `find_systems`, `open_dataset` and `open_run`.
    """
    from blemore_harness.data.opening import open_blinded
    from blemore_harness.disk import cache_root
    from blemore_harness.networks import resolve_device
    from blemore_harness.scoring.test_clips import find_strategy

    if submission.thresholds is not None:
        find_strategy(submission.thresholds)
    # Before anything slow, so that a misspelt name, a wrong value or a missing GPU fails at once.
    found = find_systems(submission, plugins, data.demo if isinstance(data, Dataset) else is_demo(data))
    if device == "cuda":
        resolve_device(device)
    if isinstance(data, Dataset) and extra:
        raise ConfigError("extra_train goes with a folder: a dataset names its own, load_dataset(..., extra_train=...)")
    dataset = data if isinstance(data, Dataset) else open_dataset(data, reporter, fold_seed, extra)
    blinded = open_blinded(dataset, reporter)
    return open_run(
        submission, plugins, dataset, blinded, runs, cache_root() / "arrays", reporter, device, found,
        command=tuple(command), draw=draw, **more,
    )  # fmt: skip


def with_settings(
    submission: Submission,
    settings: Mapping[str, Mapping[str, object]] | None,
    seed: int | None = None,
    thresholds: str | None = None,
) -> Submission:
    """Return a submission with options by plugin, a seed and a threshold strategy of a call.

    Raises:
        ConfigError: settings that are no mapping of mappings, or of a plugin that takes no part.
    """
    for name, values in (settings or {}).items():
        if not isinstance(values, Mapping):
            raise ConfigError(f"settings: expected {{'{name}': {{'option': value}}}}, found {values!r} for '{name}'")
    return submission.with_options(settings or {}, seed, thresholds)
