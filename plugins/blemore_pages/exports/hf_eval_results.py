"""Results for a model repository of the Hugging Face Hub: a YAML file for out-of-sample and one for official numbers.

Strings are written as JSON writes them, which YAML reads.
"""

from __future__ import annotations

import json
import re

from blemore_harness.errors import ConfigError
from blemore_harness.record.types import FinishedSystem, Record
from blemore_pages.exports.facts import KINDS, list_caveats, list_results

FOLDER = ".eval_results"

DATASET = re.compile(r"[\w.-]+/[\w.-]+")


def check_dataset(dataset: str | None) -> str:
    """Return the id of a dataset on the Hub.

    Raises:
        ConfigError: none, or one that is no OWNER/NAME.
    """
    if dataset is None or not DATASET.fullmatch(dataset):
        raise ConfigError(
            f"hf-eval-results need the benchmark's dataset on the Hugging Face Hub: expected --dataset OWNER/NAME, "
            f"found {dataset or 'none'}"
        )
    return dataset


def render_results(record: Record, system: FinishedSystem, dataset: str) -> dict[str, str]:
    """Return the files of a system by path.

    Args:
        record: of the run.
        system: one of its scored systems.
        dataset: id of the benchmark's dataset on the Hub.
    """
    caveats = list_caveats(record, system)
    date = (record.execution.finished or record.execution.started)[:10]
    files = {}
    for kind, meaning in KINDS.items():
        lines = []
        for result in list_results(system):
            if result.kind == kind:
                ends = f"; 95 % CI {result.interval[0]:.4f} to {result.interval[1]:.4f}" if result.interval else ""
                notes = f"{record.data.folds}-fold validation; {meaning}{ends}"
                if caveats:
                    notes += f"; caveats: {'; '.join(caveats)}"
                lines += [
                    "- dataset:",
                    f"    id: {json.dumps(dataset)}",
                    f"    task_id: {json.dumps(f'validation_{result.measure}')}",
                    f"  value: {result.value.mean:.6f}",
                    f"  date: {json.dumps(date)}",
                    f"  notes: {json.dumps(notes)}",
                ]
        files[f"{FOLDER}/blemore_{kind.replace('-', '_')}.yaml"] = "\n".join(lines) + "\n"
    return files
