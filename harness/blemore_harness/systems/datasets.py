"""Datasets as users name them: the folder of a BLEMORE download, or a corpus that a plugin reads, `NAME:FOLDER`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blemore_harness.data.corpora import read_corpus, with_extra
from blemore_harness.data.download import Dataset, read_dataset
from blemore_harness.errors import BlemoreError, ConfigError, PluginFailed, UnknownName

if TYPE_CHECKING:
    from blemore_harness.systems.plugins import Plugins

NAMED = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*):(.*)", re.DOTALL)
"""A corpus and its folder, as typed."""


def read_data(
    data: str | Path, fold_seed: int = 0, extra: Sequence[str | Path] = (), plugins: Plugins | None = None
) -> Dataset:
    """Read a dataset, with the clips of other corpora to train on.

    Args:
        data: folder of a BLEMORE download, its metadata file, or `NAME:FOLDER` of another corpus.
        fold_seed: seed of the folds where the dataset has none.
        extra: other corpora as `NAME:FOLDER`, which every fold is trained on.
        plugins: who reads other corpora; None loads what is installed.

    Raises:
        DataError: nothing there, or a dataset that contradicts itself.
        UnknownName: nobody reads a corpus of that name.
        ConfigError: `extra` that names no corpus, one twice, or the one that is scored.
        PluginFailed: the adapter of a corpus failed.
    """
    others = []
    for each in extra:
        if is_folder(each):
            raise ConfigError(f"--extra-train: expected a corpus and its folder, NAME:FOLDER, found {each}")
        others.append(_read_named(each, None, plugins))
    dataset = read_dataset(Path(data), fold_seed) if is_folder(data) else _read_named(data, fold_seed, plugins)
    return with_extra(dataset, others)


def is_folder(data: str | Path) -> bool:
    """Return whether a dataset is a BLEMORE download: something that exists, or is not written as `NAME:FOLDER`."""
    return NAMED.fullmatch(str(data)) is None or Path(data).exists()


def _read_named(data: str | Path, fold_seed: int | None, plugins: Plugins | None) -> Dataset:
    from blemore_harness.systems.plugins import load_plugins

    found = NAMED.fullmatch(str(data))
    assert found is not None
    name, folder = found.groups()
    corpora = (load_plugins() if plugins is None else plugins).corpora
    if name not in corpora:
        raise UnknownName.among("corpus", name, corpora)
    if not folder:
        raise ConfigError(f"expected the folder of the corpus behind its name, as in {name}:FOLDER")
    try:
        return read_corpus(corpora[name][0], Path(folder).expanduser(), fold_seed)
    except BlemoreError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot read {folder}: {error.strerror}") from error
    except Exception as error:
        raise PluginFailed(
            f"the adapter of the corpus '{name}' failed: {type(error).__name__}: {error}", name
        ) from error
