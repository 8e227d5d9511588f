"""Archives that no tool of the challenge writes: locked, doubled, damaged in every compression, swelling."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from blemore_harness.cli import cli
from blemore_harness.data import aggregates
from blemore_harness.data.aggregates import index_aggregate, read_aggregate
from blemore_harness.errors import BlemoreError, DataError
from blemore_harness.files.leaderboard import INNER_NAME, check_submission, read_upload
from blemore_harness.files.prediction_files import read_probabilities

IDS = [f"test_{number:04d}" for number in range(1, 200)]
LABELS = json.dumps({"predictions": {f"{name}.mov": [{"emotion": "ang", "salience": 100}] for name in IDS}}).encode()
METHODS = {name: getattr(zipfile, f"ZIP_{name.upper()}") for name in ("stored", "deflated", "bzip2", "lzma")}


def zipped(base_models: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in base_models.items():
            archive.writestr(name, data)
    return file.getvalue()


def array(values: np.ndarray, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=allow_pickle)
    return file.getvalue()


def read_rows(path: Path) -> object:
    return read_aggregate(index_aggregate([path], bool))


PROBABILITIES = {"filenames.npy": array(np.array(["a", "b"])), "probabilities.npy": array(np.full((2, 6), 1 / 6))}
ROWS = {"filenames.npy": array(np.array(["a.npy", "b.npy"])), "X.npy": array(np.zeros((2, 14)))}
READERS: dict[str, tuple[str, bytes, Callable[[Path], object]]] = {
    "submission": (".zip", LABELS, lambda path: check_submission(path, IDS)),
    "upload": (".zip", LABELS, read_upload),
    "probabilities": (".npz", b"", read_probabilities),
    "aggregate": (".npz", b"", read_rows),
}


def whole(reader: str, method: int) -> bytes:
    labels = {INNER_NAME: LABELS}
    base_models = {"submission": labels, "upload": labels, "probabilities": PROBABILITIES, "aggregate": ROWS}
    return zipped(base_models[reader], method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reader", READERS)
def test_damage_in_every_compression_is_said_in_words(tmp_path: Path, reader: str, method: str) -> None:
    ending, _, read = READERS[reader]
    data, path = whole(reader, METHODS[method]), tmp_path / f"x{ending}"
    path.write_bytes(data)
    assert read(path) is not None
    rng = np.random.default_rng(0)
    said = 0
    for _ in range(80):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(broken))
        try:
            read(path)
        except BlemoreError as error:
            said += bool(str(error))
    assert reader == "submission" or said > 20


def locked() -> bytes:
    """The flag of a password, in both headers."""
    data = bytearray(zipped({INNER_NAME: LABELS}))
    data[6] |= 1
    at = data.find(b"PK\x01\x02")
    data[at + 8] |= 1
    return bytes(data)


def doubled() -> bytes:
    """One name twice: readers differ in which they take."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(INNER_NAME, LABELS)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(INNER_NAME, b"{}")
    return file.getvalue()


def unknown_method() -> bytes:
    data = bytearray(zipped({INNER_NAME: LABELS}))
    for caveat, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", data, data.find(caveat) + offset, 9)
    return bytes(data)


def large() -> bytes:
    """Fields of 64 bits, as archives beyond 4 GB have them; a small one with them is fine."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, archive.open(INNER_NAME, "w", force_zip64=True) as base_model:
        base_model.write(LABELS)
    return file.getvalue()


@pytest.mark.parametrize(
    ("make", "expected"),
    [(locked, ["zip"]), (doubled, ["files"]), (unknown_method, ["zip"]), (large, [])],
    ids=lambda made: getattr(made, "__name__", ""),
)
def test_unusual_archives_of_a_submission(tmp_path: Path, make: Callable[[], bytes], expected: list[str]) -> None:
    path = tmp_path / "s.zip"
    path.write_bytes(make())
    assert [problem.kind for problem in check_submission(path, IDS)] == expected


def test_names_in_an_archive_are_written_out(tmp_path: Path) -> None:
    path = tmp_path / "s.zip"
    path.write_bytes(zipped({"\x1b[31mred.json": LABELS}))
    done = CliRunner().invoke(cli, ["submit", "--check", str(path)])
    assert "file is named '\\x1b[31mred.json'" in done.stdout
    assert all(line.isprintable() for line in done.stdout.splitlines())


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    objects = array(np.array(["a", {"b": 1}], dtype=object), allow_pickle=True)
    for key, base_models in (("filenames.npy", PROBABILITIES), ("probabilities.npy", PROBABILITIES)):
        path = tmp_path / "p.npz"
        path.write_bytes(zipped({**base_models, key: objects}))
        with pytest.raises(BlemoreError, match="plain arrays"):
            read_probabilities(path)
    path.write_bytes(zipped({**ROWS, "X.npy": objects}))
    with pytest.raises(DataError, match="'X'"):
        read_rows(path)


def test_aggregated_features_that_swell_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x_static_features.npz"
    path.write_bytes(zipped({**ROWS, "X.npy": array(np.zeros((10_000, 14)))}))
    monkeypatch.setattr(aggregates, "LARGEST", 1_000_000)
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"'X'.* 0 GB"):
        read_rows(path)
