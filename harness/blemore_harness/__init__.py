"""The evaluation harness for the BLEMORE challenge: blended emotions with relative salience, from video and audio.

    import blemore_harness as bh

    run = bh.run(plugins=["prosody", "trivial-single"])
    run.table()
    run.predict("elsewhere.mp4")

Everything below is imported when it is first used. Functions of commands of installed packages, such as `bh.report`
and `bh.leaderboard`, are found by their entry points.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blemore_harness.api.evaluation import diagnose, prepare, run
    from blemore_harness.api.listing import (
        check_data,
        check_plugin,
        check_submissions,
        clean_runs,
        new_plugin,
        plugin,
        plugins,
        remove_runs,
        submissions,
        write_demo,
    )
    from blemore_harness.api.opening import load_dataset
    from blemore_harness.api.run import Run, load_run, predict, runs
    from blemore_harness.api.scores import compare, score
    from blemore_harness.api.seeds import run_seeds
    from blemore_harness.api.watching import watch_run
    from blemore_harness.clips import EMOTIONS, Clip, Clips, Fold
    from blemore_harness.context import Context
    from blemore_harness.data.download import Dataset
    from blemore_harness.errors import BlemoreError
    from blemore_harness.estimators import SklearnEncoder, TorchEncoder
    from blemore_harness.hookspecs import Encoder, Fusion
    from blemore_harness.predictions import Embeddings, Probabilities

__version__ = "0.1.0"

__all__ = [
    "EMOTIONS", "BlemoreError", "Clip", "Clips", "Context", "Dataset", "Embeddings", "Encoder", "Fold", "Fusion",
    "Probabilities", "Run", "SklearnEncoder", "TorchEncoder", "check_data", "check_plugin", "check_submissions",
    "clean_runs", "compare", "diagnose", "load_dataset", "load_run", "new_plugin", "plugin", "plugins", "predict",
    "prepare", "remove_runs", "run", "run_seeds", "runs", "score", "submissions", "watch_run",
    "write_demo",
]  # fmt: skip

_PLACES = {
    "api.evaluation": ("diagnose", "prepare", "run"),
    "api.listing": (
        "check_data", "check_plugin", "check_submissions", "clean_runs", "new_plugin", "plugin", "plugins",
        "remove_runs", "submissions", "write_demo",
    ),
    "api.opening": ("load_dataset",),
    "api.run": ("Run", "load_run", "predict", "runs"),
    "api.scores": ("compare", "score"),
    "api.seeds": ("run_seeds",),
    "api.watching": ("watch_run",),
    "clips": ("EMOTIONS", "Clip", "Clips", "Fold"),
    "context": ("Context",),
    "data.download": ("Dataset",),
    "errors": ("BlemoreError",),
    "estimators": ("SklearnEncoder", "TorchEncoder"),
    "hookspecs": ("Encoder", "Fusion"),
    "predictions": ("Embeddings", "Probabilities"),
}  # fmt: skip
"""Where each name is defined, by module."""


def __getattr__(name: str) -> Any:
    """Import what a name stands for when it is first used; else look for a function of an installed package."""
    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    if not name.startswith("_") and not _is_module(name):
        from blemore_harness.api.functions import find_function

        found = find_function(name)
        if found is not None:
            return found
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    """List what there is, functions of installed packages included."""
    from blemore_harness.api.functions import list_functions

    return sorted({*__all__, *list_functions(), *globals()})


def _is_module(name: str) -> bool:
    """Return whether a name is that of a module or package in here."""
    from pathlib import Path

    return any(Path(folder, name).is_dir() or Path(folder, f"{name}.py").is_file() for folder in __path__)
