"""Pretrained weights, from the hub or from a local folder, for every encoder the same; and loading them strictly.

A file that was fetched once is taken from the hub's cache without asking again. Where something is missing and cannot
be fetched, one line says what to fetch and which option then names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemore_harness.cache import Cache
from blemore_harness.disk import digest_of
from blemore_harness.errors import DataError, ExtraMissing, WeightsMissing, first_and_count
from blemore_harness.networks import seeded
from blemore_plugins.numbers import refuse_numbers
from blemore_plugins.shards import INDEX_ENDING, TENSOR_ENDINGS, is_index, list_shards, read_index

TIMEOUT = 10.0
"""Seconds to wait for the hub's first answer; there is one attempt, so that an offline machine says so at once."""

HUB_ID = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][\w.-]*/[A-Za-z0-9](?:[\w.-]*\w)?(?<!\.git)", re.ASCII)
"""An owner and a name, as the hub allows them."""

WEIGHT_ENDINGS = (".json", *TENSOR_ENDINGS)
"""Endings of the files of a model's folder that can change what it computes."""


@dataclass(frozen=True)
class Weights:
    """Files of a pretrained model on this machine.

    Attributes:
        files: one path per file that was wanted, in that order; the index of weights that come in shards.
        commit: commit of the hub's repository; None for local files.
    """

    files: tuple[Path, ...]
    commit: str | None

    @property
    def folder(self) -> Path:
        """Where the first file lies."""
        return self.files[0].parent

    def identity(self, cache: Cache) -> dict[str, object]:
        """Report which weights these are, for cache keys and records: the commit, or digests of the local files."""
        if self.commit is not None:
            return {"commit": self.commit}
        shards = [shard for file in self.files if is_index(file) for shard in list_shards(file)]
        return {"files": {path.name: cache.digest_file(path) for path in (*self.files, *shards)}}


def find_weights(
    source: str,
    wanted: Sequence[tuple[str, ...]],
    option: str,
    *,
    revision: str | None = None,
    download: bool = False,
) -> Weights:
    """Find the files of a pretrained model, and fetch them where allowed.

    Weights may come in shards: where `model.safetensors` is wanted, `model.safetensors.index.json` and the files that
    it names are as good; a whole file comes first, as in `from_pretrained`.

    Args:
        source: hub id such as `facebook/wav2vec2-large`; or a local folder; or a local file where one is wanted.
        wanted: what is needed: for each file, the names that it may have, the best first.
        option: how users name the source, such as `wav2vec2.model`.
        revision: branch, tag or commit of a hub id, as the option `revision` beside `option` says; None where there is
            no such option: `main`.
        download: whether the network may be used; only in `prepare`.

    Raises:
        WeightsMissing: a file is neither here nor reachable.
        DataError: an index that is damaged, or names shards outside its folder.
        ExtraMissing: huggingface_hub is not installed, and `source` is not local.
    """
    path = Path(source).expanduser()
    if path.is_file() and len(wanted) == 1:
        return Weights((_with_shards(path, option),), None)
    if path.is_dir():
        return Weights(tuple(_in_folder(path, names, option) for names in wanted), None)
    if not HUB_ID.fullmatch(source):
        raise WeightsMissing(
            f"no weights at '{source}': expected a hub id such as owner/name, or an existing folder with "
            f"{_list(wanted)}; say which with --set {option}=..."
        )
    _require_hub()
    snapshot = _find_snapshot(source, revision or "main")
    kept = [_in_snapshot(snapshot, names) for names in wanted] if snapshot else []
    files = tuple(file for file in kept if file is not None)
    if len(files) < len(wanted):
        try:
            if not download:
                raise _missing(source, wanted, option, "nothing is fetched after `prepare`")
            files = tuple(_download(source, wanted, option, revision or "main"))
        except WeightsMissing as error:
            hint = "" if snapshot else _list_revisions(source, option, revision)
            raise WeightsMissing(f"{error}{hint}", error.source, f"{error.todo}{hint}") from error
    return Weights(files, _commit(files[0]))


def require_packages(name: str, packages: Sequence[str]) -> None:
    """Check that the packages of an encoder are installed, without importing them.

    Raises:
        ExtraMissing: one is not; names all that are missing.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ExtraMissing(f'{name} needs {", ".join(missing)}: pip install "blemore-harness[encoders]"')


def identify_source(source: str, wanted: Sequence[tuple[str, ...]] = ()) -> str:
    """Name weights by what they are and not by where they lie: the digest of a local file or folder, else the hub id.

    A folder counts with its configuration and weight files, and with those that are `wanted` (see `find_weights`) of
    the folders in it.
    """
    place = Path(source).expanduser()
    if not place.exists():
        return source
    files = {place}
    if place.is_dir():
        inside = [next((place / name for name in names if (place / name).is_file()), place) for names in wanted]
        files = {file for file in (*place.iterdir(), *inside) if file.suffix in WEIGHT_ENDINGS}
    for index in filter(is_index, tuple(files)):
        with contextlib.suppress(DataError):  # which is said where the weights are looked for
            files.update(shard for shard in list_shards(index) if shard.is_file())
    digests = []
    for path in sorted(files):
        with path.open("rb") as file:
            digests.append([path.name if place.is_dir() else "", hashlib.file_digest(file, "sha256").hexdigest()])
    return f"sha256:{digest_of(digests)}"


def load_strictly(kind: Any, folder: Path, allowed: re.Pattern[str], *, surplus: bool = False, **settings: Any) -> Any:
    """Load a transformers model, in eval mode, and refuse every undocumented difference between file and network.

    Args:
        kind: a model class of transformers.
        folder: local folder with `config.json` and the weights.
        allowed: names that may be in the file alone or in the network alone; a full match is asked for.
        surplus: whether the file may have any other names besides, such as the head of another task.
        settings: further arguments of `from_pretrained`, such as `num_hidden_layers`.

    Raises:
        DataError: a damaged file; names missing, unexpected or of another shape outside `allowed`; weights like NaN.
    """
    settings |= {"output_loading_info": True, "local_files_only": True, "ignore_mismatched_sizes": True}  # all reported
    try:
        # Seeded: what is in the network alone gets the same fresh values each time, and no other draw is disturbed.
        with quiet_transformers(), seeded(0):
            model, report = kind.from_pretrained(folder, **settings)
    except Exception as error:  # whatever pickle, safetensors and torch make of a damaged file
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise DataError(f"the weights in {folder} cannot be loaded ({reason}): fetch them again") from error
    for what in ("missing", "unexpected", "mismatched"):
        names = [key if isinstance(key, str) else str(key[0]) for key in report[f"{what}_keys"]]
        wrong = sorted(name for name in names if what == "mismatched" or not allowed.fullmatch(name))
        if wrong and not (surplus and what == "unexpected"):
            raise DataError(
                f"the weights in {folder} do not fit {kind.__name__}: {first_and_count(wrong, what + ' key')}; "
                "expected the released layout: fetch the file again, or choose a model of this kind"
            )
    if report.get("error_msgs"):
        raise DataError(f"the weights in {folder} cannot be loaded: {report['error_msgs'][0]}")
    # What the file lacks, and may lack, has no weights: some releases leave such memory as it was.
    absent = {str(key) for key in report["missing_keys"]}
    held = ((name, tensor) for name, tensor in model.named_parameters() if name not in absent)
    refuse_numbers(held, f"the weights in {folder}")
    return model.eval()


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from printing bars and reports: what they say is checked by `load_strictly`."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _in_folder(folder: Path, names: tuple[str, ...], option: str) -> Path:
    for name in _spell(names):
        if (folder / name).is_file():
            return _with_shards(folder / name, option)
    raise WeightsMissing(f"no {' or '.join(names)} in {folder}: put it there, or say where with --set {option}=FOLDER")


def _spell(names: tuple[str, ...]) -> Iterator[str]:
    """Return the names that a file may have, that of an index after that of the whole file."""
    for name in names:
        yield name
        if name.endswith(TENSOR_ENDINGS):
            yield f"{name}{INDEX_ENDING}"


def _with_shards(file: Path, option: str) -> Path:
    """Return a file; an index only where all of its shards are there."""
    missing = [shard.name for shard in list_shards(file) if not shard.is_file()] if is_index(file) else []
    if missing:
        raise WeightsMissing(
            f"{first_and_count(missing, 'shard')} of {file} missing: put what is missing beside it, or name other "
            f"weights with --set {option}=..."
        )
    return file


def _commit(file: Path) -> str:
    """Read the commit off a file in the hub's cache, which keeps it as snapshots/<commit>/<name>."""
    parts = file.parts
    return parts[len(parts) - parts[::-1].index("snapshots")]


def _cached_snapshots(source: str) -> Path:
    """Report where the hub's cache keeps the revisions of a model, a folder for each."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=source, repo_type="model") / "snapshots"


def _find_snapshot(source: str, revision: str) -> Path | None:
    """Find a revision in the hub's cache.

    A copied or hand-made cache may not say which revision `main` is: then the only one there is taken.
    """
    snapshots = _cached_snapshots(source)
    reference = snapshots.parent / "refs" / revision
    known = reference.is_file()
    named = snapshots / (reference.read_text(encoding="utf-8").strip() if known else revision)
    if named.is_dir():
        return named
    there = [] if known or revision != "main" else _folders(snapshots)
    return there[0] if len(there) == 1 else None


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


def _list_revisions(source: str, option: str, revision: str | None) -> str:
    """Report which revisions the hub's cache has, where it has any, and how to name one of them."""
    there = _folders(_cached_snapshots(source))
    if not there:
        return ""
    names = ", ".join(path.name for path in there[:10]) + f" and {len(there) - 10} more" * (len(there) > 10)
    named = f"{option}={there[0]}" if revision is None else f"{option.rpartition('.')[0]}.revision={there[0].name}"
    return (
        f"; the hub's cache here has {names} and does not say which of them is '{revision or 'main'}': take one by its "
        f"name, as in --set {named}"
    )


def _in_snapshot(snapshot: Path, names: tuple[str, ...]) -> Path | None:
    for name in _spell(names):
        file = snapshot / name
        if file.is_file():
            return file if not is_index(file) or all(shard.is_file() for shard in list_shards(file)) else None
    return None


def _download(source: str, wanted: Sequence[tuple[str, ...]], option: str, revision: str) -> Iterator[Path]:
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        raise _missing(source, wanted, option, "HF_HUB_OFFLINE is set", fetchable=True)
    try:
        # Asked first because it makes one attempt; a download by itself retries for minutes.
        offered = {entry.rfilename for entry in HfApi().model_info(source, revision=revision, timeout=TIMEOUT).siblings}
        for names in wanted:
            there = [name for name in _spell(names) if name in offered]
            if not there:
                raise _missing(source, wanted, option, f"the repository has no {' or '.join(names)}")
            file = Path(hf_hub_download(source, there[0], revision=revision, etag_timeout=TIMEOUT))
            beside = there[0].rpartition("/")[0]
            shards = sorted(set(read_index(file).values())) if is_index(file) else []
            shards = [f"{beside}/{shard}" if beside else shard for shard in shards]
            if missing := [shard for shard in shards if shard not in offered]:
                raise _missing(source, wanted, option, f"the repository lacks {first_and_count(missing, 'shard')}")
            for shard in shards:
                hf_hub_download(source, shard, revision=revision, etag_timeout=TIMEOUT)
            yield file
    except (WeightsMissing, DataError):
        raise
    except Exception as error:  # whatever networks, proxies, disks and the hub can do
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        fetchable = not isinstance(error, HfHubHTTPError)  # which is an answer, and it was no
        raise _missing(source, wanted, option, f"the hub says: {reason}", fetchable) from error


def _missing(
    source: str, wanted: Sequence[tuple[str, ...]], option: str, why: str, fetchable: bool = False
) -> WeightsMissing:
    todo = (
        f"fetch {_list(wanted)} of {source} from the Hugging Face hub where there is a network, put them in a folder "
        f"here, and say --set {option}={'FOLDER' if len(wanted) > 1 else 'FILE'}"
    )
    return WeightsMissing(
        f"the weights '{source}' are not on this machine ({why}): {todo}", source if fetchable else None, todo
    )


def _list(wanted: Sequence[tuple[str, ...]]) -> str:
    return " and ".join(" or ".join(names) for names in wanted)


def _require_hub() -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise ExtraMissing(
            f'weights from the hub need huggingface_hub ({error}): pip install "blemore-harness[encoders]"'
        ) from error
