"""Throws changed files at the readers of what people hand in: any bytes must give a valid object or a `BlemoreError`.

    python tests/fuzz/readers.py --seconds 60 [--seed N] [--only submission]

Needs nothing but the core. A finding is kept in the folder that is printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from blemore_harness.data.aggregates import index_aggregate, read_aggregate
from blemore_harness.data.metadata import read_metadata
from blemore_harness.errors import BlemoreError
from blemore_harness.files.leaderboard import INNER_NAME, check_submission, read_upload
from blemore_harness.files.prediction_files import read_predictions, read_probabilities
from blemore_harness.protocol.rules import official_test_ids
from builders import COLUMNS, EMOTIONS, rows_of

SLOW = 5.0
"""Seconds that no file of a few kilobytes may take."""

TOKENS = (
    b"{", b"}", b"[", b"]", b'"', b",", b";", b":", b"\n", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"NaN",
    b"Infinity",
    b"-1", b"1e999", b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"[" * 940 + b"]" * 940,
    b"null", b"true", b"=cmd|' /C calc'!A0", b"neu", b"ang",
    b"70", b"30", b"100.0", b"\\ud800", b"\x1b[31m", b"'''", b"= [", b"\x80\x04", b"PK\x03\x04", b"\x93NUMPY",
    "é😀".encode(),
)  # fmt: skip
"""What is put in: punctuation, marks, numbers at the edges, deep nesting, beginnings of other formats."""

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
"""Every way in which zips are compressed: each has errors of its own."""

Reader = Callable[[Path], object]
Target = tuple[str, list[bytes], Reader]


def csv_of(rows: list[dict[str, str]]) -> bytes:
    return "\n".join([",".join(COLUMNS), *(",".join(row[name] for name in COLUMNS) for row in rows), ""]).encode()


def labels_of(count: int) -> bytes:
    label = [{"emotion": "ang", "salience": 70}, {"emotion": "fea", "salience": 30}]
    return json.dumps({"predictions": {f"{name}.mov": label for name in official_test_ids()[:count]}}).encode()


def zip_of(name: str, data: bytes, method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(name, data)
    return file.getvalue()


def npz_of(names: np.ndarray, values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, filenames=names, probabilities=values)
    return file.getvalue()


def rezipped(data: bytes, method: int) -> bytes:
    """An archive with the same base models, compressed in another way."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as given, zipfile.ZipFile(file, "w", method) as archive:
        for name in given.namelist():
            archive.writestr(name, given.read(name))
    return file.getvalue()


def aggregate_of(rows: int) -> bytes:
    file = io.BytesIO()
    np.savez(file, X=np.ones((rows, 14), dtype=np.float32), filenames=np.array([f"a{k}.npy" for k in range(rows)]))
    return file.getvalue()


def targets() -> dict[str, Target]:
    """Return by name: the ending of the file, valid files to begin with, and the reader."""
    table = "\n".join([f"filename,{','.join(EMOTIONS)}", *(f"a{k},0.5,0.5,0,0,0,0" for k in range(4)), ""]).encode()
    zips = [zip_of(INNER_NAME, labels_of(5), method) for method in METHODS]
    arrays = npz_of(np.array(["a", "b"]), np.full((2, 6), 1 / 6))
    return {
        "metadata": (".csv", [csv_of(rows_of(3)), csv_of(rows_of(2)[:3])], read_metadata),
        "submission": (".zip", [*zips, zip_of("a/" + INNER_NAME, labels_of(2), 0)], check_zip),
        "upload": (".zip", [*zips, zip_of("a/" + INNER_NAME, labels_of(2), 0)], read_upload),
        "labels": (".json", [labels_of(3), b'{"predictions": {}}'], check_json),
        "csv": (".csv", [table], read_probabilities),
        "npz": (".npz", [rezipped(arrays, method) for method in METHODS], read_probabilities),
        "aggregate": (".npz", [rezipped(aggregate_of(3), method) for method in METHODS], read_all_rows),
    }


def check_zip(path: Path) -> object:
    return [str(problem) for problem in check_submission(path, official_test_ids()[:5])]


def read_all_rows(path: Path) -> object:
    return read_aggregate(index_aggregate([path], bool))


def check_json(path: Path) -> object:
    check_zip(path)
    return read_predictions(path)


def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Change a file in one to four places."""
    for _ in range(rng.randint(1, 4)):
        at, end = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
        end = min(end, at + 40)
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:at] + rng.choice(TOKENS) + data[at:]
        elif kind == 1:
            data = data[:at] + rng.choice(TOKENS) + data[end:]
        elif kind == 2:
            data = data[:at] + data[end:]
        elif kind == 3:
            data = data[:end] + data[at:end] * rng.randint(1, 50) + data[end:]
        elif kind == 4 and data:
            where = rng.randrange(len(data))
            data = data[:where] + bytes([data[where] ^ (1 << rng.randrange(8))]) + data[where + 1 :]
        else:
            other = rng.choice(others)
            data = data[:at] + other[rng.randint(0, len(other)) :]
    return data


def run(
    seconds: float, seed: int, only: str | None, folder: Path, most: int | None = None
) -> tuple[dict[str, int], list[str]]:
    """Fuzz until the time is over; returns executions by target, and what was found."""
    rng, chosen = random.Random(seed), {n: t for n, t in targets().items() if only in (None, n)}
    counts, refused, findings = dict.fromkeys(chosen, 0), 0, []
    end = time.monotonic() + seconds
    while time.monotonic() < end and (most is None or sum(counts.values()) < most):
        for name, (ending, corpus, read) in chosen.items():
            data = mutate(rng.choice(corpus), corpus, rng)
            if name in ("submission", "upload") and rng.random() < 0.5:  # a whole zip around a changed text
                data = zip_of(INNER_NAME, mutate(labels_of(3), [labels_of(2)], rng), rng.choice((0, 8)))
            path = folder / f"case{ending}"
            path.write_bytes(data)
            counts[name] += 1
            before = time.process_time()
            try:
                read(path)
            except BlemoreError as error:
                refused += 1
                if not str(error):
                    findings.append(f"{name}: an error without words")
            except Exception:
                findings.append(f"{name}: {traceback.format_exc()}")
                path.rename(folder / f"finding-{len(findings)}{ending}")
            if (spent := time.process_time() - before) > SLOW:
                findings.append(f"{name}: slow, {spent:.1f} s")
    counts["refused"] = refused
    return counts, findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(targets()))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="blemore-fuzz-"))
    counts, findings = run(given.seconds, given.seed, given.only, folder)
    where = f", kept in {folder}" if findings else ""
    lines = [f"executions: {counts}", *dict.fromkeys(findings), f"{len(findings)} findings{where}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
