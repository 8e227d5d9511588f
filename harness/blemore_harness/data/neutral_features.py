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
"""Lists the aggregated files from which the rows in its folder were written, and their digests; written last."""


class StoreDigests(NamedTuple):
    """Hex digests of a released feature set: of the training clips and of the test clips."""

    train: str
    test: str


def feature_file(home: Path, store: str, opaque: str, real: Path) -> Path:
    """Return the path of the neutral file of a clip's features."""
    return home / store / f"{opaque}{real.suffix.lower()}"


def publish_feature_set(
    dataset: Dataset,
    names: Mapping[str, str],
    home: Path,
    memo: Path,
    log: Callable[[str], None] | None,
    store: str,
) -> StoreDigests:
    """Digest a released feature set clip by clip, and provide its files under the paths that the clips name.

    Args:
        dataset: as read from disk.
        names: opaque id by real clip id.
        home: folder of the dataset's neutral files.
        memo: folder of stored digests.
        log: called with a message if files have to be copied.
        store: name of the feature set: of folders, such as `WavLM_large`, or of aggregated files, such as
            `wavlm_static_features`.

    Raises:
        DataError: no such features, damaged ones, or not enough disk space for copies where files cannot be linked.
    """
    if store not in dataset.feature_sets:
        there = ", ".join(sorted(dataset.feature_sets)) or "none"
        where = (
            f"expected a file {store}.npz with the arrays X and filenames, at any depth"
            if store.endswith("_static_features")
            else "expected folders in pre_extracted_train_data and pre_extracted_test_data next to the metadata"
        )
        raise DataError(f"no released features '{store}' in {dataset.root} (found: {there}): {where}")
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
    """Write the features of each clip to a file with a neutral name, unless this was done before.

    Returns:
        Digests of the features by real clip name.
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
    """Return the digests of written rows by opaque id; none if they are missing or were written from other files."""
    try:
        found = json.loads(done.read_text(encoding="utf-8"))
        return dict(found["rows"]) if found["files"] == files else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
