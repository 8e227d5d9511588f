"""A system's answers clip by clip, as columns and as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from blemore_harness.clips import EMOTIONS
from blemore_harness.disk import write_atomically
from blemore_harness.errors import ConfigError, RunError
from blemore_harness.protocol.rules import label_text
from blemore_pages.contents import SystemContents
from blemore_pages.extra import load_package

Columns: TypeAlias = Mapping[str, Sequence[Any]]
"""Values by column, of equal lengths; None where there is none. `pandas.DataFrame(columns)` takes them."""

ENDINGS = (".csv", ".json", ".parquet")


def list_predictions(system: SystemContents) -> Columns:
    """Return a row per clip: training clips out of fold, then the test clips.

    Returns:
        `clip`, `part` (`train` or `test`), `actor`, `fold`, `truth`, `answer` (as `ang` or `ang+fea 70/30`),
        `thresholds` (the strategy behind the answer), a probability per emotion, `right_presence` (the set of emotions
        is right) and `right_salience` (the saliences as well; None for clips that are truly no blend). Actor, fold,
        truth and what is right are None for test clips.
    """
    number, test = len(system.ids), system.test
    others = 0 if test is None else len(test.labels)
    none = [None] * others
    salience = [
        bool(right) if blend else None for right, blend in zip(system.right_salience, system.blends, strict=True)
    ]
    values = system.probabilities if test is None else np.concatenate([system.probabilities, test.probabilities.values])
    return {
        "clip": [*system.ids, *(() if test is None else test.probabilities.ids)],
        "part": ["train"] * number + ["test"] * others,
        "actor": [*system.actors, *none],
        "fold": [*system.folds.tolist(), *none],
        "truth": [*map(label_text, system.truth), *none],
        "answer": [*map(label_text, system.labels), *(() if test is None else map(label_text, test.labels))],
        "thresholds": [system.thresholds] * number + ([] if test is None else [test.thresholds] * others),
        **{name: values[:, k].tolist() for k, name in enumerate(EMOTIONS)},
        "right_presence": [*map(bool, system.right_presence), *none],
        "right_salience": [*salience, *none],
    }


def write_predictions(columns: Columns, path: Path) -> None:
    """Write columns as CSV, JSON (a list of objects) or Parquet, as the file's ending says.

    Raises:
        ConfigError: another ending.
        ExtraMissing: pyarrow is not installed, for Parquet.
        RunError: the file cannot be written.
    """
    check_ending(path)
    ending = path.suffix.lower()
    writers: dict[str, Callable[[Columns], str | bytes]] = {".csv": to_csv, ".json": to_json, ".parquet": _to_parquet}
    data = writers[ending](columns)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}") from error


def check_ending(path: Path) -> None:
    """Refuse a file of another kind.

    Raises:
        ConfigError: another ending than `ENDINGS`.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(f"expected a file that ends in {', '.join(ENDINGS)}, found {path.name}")


def to_csv(columns: Columns) -> str:
    """Return columns as CSV; None is an empty cell, and numbers are read back bit for bit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in zip(*columns.values(), strict=True))
    return text.getvalue()


def to_json(columns: Columns) -> str:
    """Return columns as a JSON list with an object per row."""
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n"


def _to_parquet(columns: Columns) -> bytes:

    arrow, parquet = load_package("pyarrow", "Parquet files"), load_package("pyarrow.parquet", "Parquet files")
    # Types are said, since a column of nothing but None has none of its own.
    kinds = {"fold": arrow.int64(), "right_presence": arrow.bool_(), "right_salience": arrow.bool_()}
    kinds |= dict.fromkeys(EMOTIONS, arrow.float64())
    schema = arrow.schema([(name, kinds.get(name, arrow.string())) for name in columns])
    file = io.BytesIO()
    parquet.write_table(arrow.table({name: list(values) for name, values in columns.items()}, schema=schema), file)
    return file.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
