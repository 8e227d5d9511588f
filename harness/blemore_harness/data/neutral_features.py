"""Released features as plugins may see them: a neutral file per clip, and a digest of what is in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from blemore_harness.data.aggregates import Aggregate, read_aggregate
from blemore_harness.data.contents import digest_files
from blemore_harness.data.download import Dataset
from blemore_harness.data.neutral_files import hand_out
from blemore_harness.disk import atomic_file, digest_of, write_atomically
from blemore_harness.errors import DataError

ROWS_FILE = "rows.json"
"""Says from which aggregated files the rows beside it were written, and their digests; written last, so complete."""


class StoreDigests(NamedTuple):
    """Hex digests of one kind of released features: of the training clips, of the test clips."""

    train: str
    test: str


def feature_file(home: Path, store: str, opaque: str, real: Path) -> Path:
    """Name the neutral file of a clip's features."""
    return home / store / f"{opaque}{real.suffix.lower()}"


def publish_feature_set(
    dataset: Dataset,
    names: Mapping[str, str],
    home: Path,
    memo: Path,
    log: Callable[[str], None] | None,
    store: str,
) -> StoreDigests:
    """Digest the released features of a store clip by clip, and put its files where clips name them.

    Args:
        dataset: as read from disk.
        names: opaque id by real clip id.
        home: folder of the dataset's neutral files.
        memo: where digests of files are remembered.
        log: told how much has to be copied.
        store: folders, such as `WavLM_large`, or aggregated files, such as `wavlm_static_features`.

    Raises:
        DataError: no such features, damaged ones, or no room for copies where files cannot be linked.
    """
    if store not in dataset.feature_sets:
        there = ", ".join(sorted(dataset.feature_sets)) or "none"
        where = (
            f"a file {store}.npz with the keys X and filenames is expected at any depth"
            if store.endswith("_static_features")
            else "they are expected in pre_extracted_train_data and pre_extracted_test_data beside the metadata"
        )
        raise DataError(f"no released features '{store}' below {dataset.root} (there: {there}): {where}")
    if store in dataset.features:
        files = {name: path for name, path in dataset.features[store].items() if name in names}
        hand_out({feature_file(home, store, names[name], path): path for name, path in files.items()}, home, memo, log)
        contents = digest_files(list(files.values()), memo)
        found = {name: contents[path] for name, path in files.items()}
    else:
        found = _write_rows(dataset.aggregates[store], names, memo, home / store)
    parts = ([[name, found[name]] for name in sorted(ids) if name in found] for ids in (dataset.ids, dataset.test_ids))
    return StoreDigests(*map(digest_of, parts))


def _write_rows(aggregate: Aggregate, names: Mapping[str, str], memo: Path, folder: Path) -> dict[str, str]:
    """Write the row of each clip to a file with a neutral name, unless that was done from files of this content.

    Gives the digests of the rows by real clip name.
    """
    if aggregate.trouble:
        raise DataError(aggregate.trouble)
    files = digest_of(sorted(digest_files(aggregate.files, memo).values()))
    paths = {name: folder / f"{names[name]}.npy" for name in aggregate.places}
    done = folder / ROWS_FILE
    written = _read_written(done, files)
    if any(names[name] not in written or not path.exists() for name, path in paths.items()):
        vectors = read_aggregate(aggregate)
        done.unlink(missing_ok=True)
        written = {}
        for name, path in paths.items():
            with atomic_file(path) as file:
                np.save(file, vectors[name], allow_pickle=False)
            written[names[name]] = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
        write_atomically(done, json.dumps({"files": files, "rows": written}))
    return {name: written[names[name]] for name in paths}


def _read_written(done: Path, files: str) -> dict[str, str]:
    """Return the digests of rows by opaque id; none where they were not written, or from files of another content."""
    try:
        found = json.loads(done.read_text(encoding="utf-8"))
        return dict(found["rows"]) if found["files"] == files else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
