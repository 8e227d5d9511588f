"""Files that somebody else made: nothing in them runs, nothing in them fills the memory, every refusal has words."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blemore_harness.cache import Store
from blemore_harness.clips import Clip
from blemore_harness.data import metadata
from blemore_harness.data.aggregates import index_aggregate
from blemore_harness.data.metadata import read_metadata
from blemore_harness.disk import LARGEST_TABLE, MOST_ROWS
from blemore_harness.errors import BlemoreError, ConfigError, DataError, InvalidProbabilities, MetadataError
from blemore_harness.files import prediction_files
from blemore_harness.files.leaderboard import INNER_NAME, check_submission
from blemore_harness.files.prediction_files import read_predictions, read_probabilities, write_probabilities
from blemore_harness.files.submission_format import MAX_BYTES
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.rules import decode, score
from blemore_harness.protocol.thresholds import search_official
from blemore_harness.systems.submission import read_submission
from blemore_plugins.features.reading import read_released, read_statistics
from builders import EMOTIONS, label_of, rows_of, write_metadata, write_probabilities_csv
from fuzz.readers import run as fuzz

FEW = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Payload:
    """What a pickle can hold: unpickling it makes a file."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.witness),)


def pickled(witness: Path) -> bytes:
    return pickle.dumps({"model": Payload(witness)})


def object_array(witness: Path) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Payload(witness)], dtype=object), allow_pickle=True)
    return file.getvalue()


def object_archive(witness: Path) -> bytes:
    file = io.BytesIO()
    np.savez(file, X=np.array([Payload(witness)], dtype=object), filenames=np.array([Payload(witness)], dtype=object),
             probabilities=np.ones((1, 6)) / 6)  # fmt: skip
    return file.getvalue()


def torch_archive(witness: Path) -> bytes:
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    torch.save({"model": Payload(witness), "epoch": 1}, file)
    return file.getvalue()


PAYLOADS = (pickled, object_array, object_archive, torch_archive)


def read_checkpoint(path: Path) -> object:
    pytest.importorskip("torch")
    from blemore_plugins.s4d.checkpoint import read_tensors

    return read_tensors(path)


def read_hicmae(path: Path) -> object:
    pytest.importorskip("torch")
    from blemore_plugins.hicmae.checkpoint import load_network

    return load_network(path, 64)


def read_vision(path: Path) -> object:
    pytest.importorskip("torch")
    from blemore_plugins.vision.loading import read_weights

    return read_weights(path, {"a": 1}, "anything")


def resume_training(path: Path) -> object:
    torch = pytest.importorskip("torch")
    from blemore_harness.training.epochs import Training, read_checkpoint

    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    return read_checkpoint(Training("any", path, network, optimizer, lambda epoch: None, 1, 1))


def load_hub_model(path: Path) -> object:
    transformers = pytest.importorskip("transformers")
    import re

    from blemore_plugins.hub import load_strictly

    path.rename(path.with_name("pytorch_model.bin"))
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    config.save_pretrained(path.parent)
    return load_strictly(transformers.Wav2Vec2Model, path.parent, re.compile("x"))


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "cache": (".npy", lambda path: Store(path.parent).load(Clip("k", content=path.stem))),
    "cache, mapped": (".npy", lambda path: Store(path.parent).load(Clip("k", content=path.stem), mmap=True)),
    "released features": (".npy", lambda path: read_released(Clip("k", None, {"S": path}), "S", None)),
    "statistics": (".npy", lambda path: read_statistics(Clip("k", None, {"S": path}), "S", None)),
    "aggregates": (".npz", lambda path: _refused(index_aggregate([path], bool).trouble)),
    "probabilities": (".npz", read_probabilities),
    "labels": (".json", read_predictions),
    "metadata": (".csv", read_metadata),
    "toml": (".toml", read_submission),
    "s4d": (".pth", read_checkpoint),
    "safetensors": (".safetensors", read_checkpoint),
    "hicmae": (".pth", read_hicmae),
    "vision": (".pt", read_vision),
    "unfinished training": (".pt", resume_training),
    "hub model": (".bin", load_hub_model),
}


def _refused(trouble: str) -> None:
    if trouble:
        raise DataError(trouble)


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda made: made.__name__)
@pytest.mark.parametrize("reader", READERS)
def test_nothing_in_a_file_runs(tmp_path: Path, reader: str, payload: Callable[[Path], bytes]) -> None:
    ending, read = READERS[reader]
    witness, folder = tmp_path / "it ran", tmp_path / "given"
    folder.mkdir()
    path = folder / f"abc{ending}"
    path.write_bytes(payload(witness))
    with pytest.raises(BlemoreError) as caught:
        read(path)
    assert str(caught.value)
    assert not witness.exists()


def test_the_payload_would_run(tmp_path: Path) -> None:
    pickle.loads(pickled(tmp_path / "it ran"))
    assert (tmp_path / "it ran").is_dir()


SINGLE_FILES = (read_probabilities, read_metadata, read_predictions)


@pytest.mark.parametrize("ending", [".csv", ".npz", ".json"])
def test_pipes_and_devices_are_refused_at_once(tmp_path: Path, ending: str) -> None:
    pipe = tmp_path / f"pipe{ending}"
    os.mkfifo(pipe)
    (tmp_path / f"zero{ending}").symlink_to("/dev/zero")
    for path in (pipe, tmp_path / f"zero{ending}"):
        for read in SINGLE_FILES[1:] if ending == ".json" else SINGLE_FILES[:2]:
            with pytest.raises(BlemoreError, match="pipe or device"):
                read(path)
        assert "found a pipe or device" in str(check_submission(path, ["test_0001"])[0])


def test_scoring_a_pipe_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.csv")
    data = write_metadata(tmp_path / "data", rows_of()).parent
    command = [
        sys.executable,
        "-c",
        "from blemore_harness.cli import main; main()",
        "score",
        "p.csv",
        "--data",
        str(data),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert "p.csv: expected a regular file" in done.stderr


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize("read", SINGLE_FILES)
def test_giant_files_are_refused_unread(tmp_path: Path, read: Callable[[Path], object]) -> None:
    ending = ".json" if read is read_predictions else ".csv"
    with pytest.raises(BlemoreError, match=r"10000 MB.* \d+ MB"):
        read(sparse(tmp_path / f"giant{ending}", 10_000_000_000))


def allow_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> int:
    """Allow a tenth of the rows, for tests that write as many as are allowed."""
    for module in (metadata, prediction_files):
        monkeypatch.setattr(module, "MOST_ROWS", 100_000)
    return 100_000


@pytest.mark.slow
def test_tables_of_too_many_rows_take_bounded_time_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = allow_fewer_rows(monkeypatch)
    header = "filename,video_id,mix,emotion_1,emotion_2,emotion_1_salience,emotion_2_salience\n"
    table = tmp_path / "rows.csv"
    table.write_text(header + "a\n" * 25_000_000)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(MetadataError, match=f" {few} rows"):
        read_metadata(table)
    with pytest.raises(InvalidProbabilities, match=f" {few} rows"):
        read_probabilities(table)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert time.process_time() - started < 20


def test_as_many_clips_as_are_allowed_are_read_and_not_one_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = allow_fewer_rows(monkeypatch)
    assert few < 1_000_000 <= MOST_ROWS
    header = "filename,video_id,mix,emotion_1,emotion_2,emotion_1_salience,emotion_2_salience,fold\n"
    clips = [f"c{k},A{k % 2},0,ang,,,,{k % 2}\n\n" for k in range(few + 1)]
    table, rows, labels = tmp_path / "train_metadata.csv", tmp_path / "rows.csv", tmp_path / "labels.json"
    table.write_text(header + "".join(clips[:few]))
    assert len(read_metadata(table).ids) == few
    table.write_text(header + "".join(clips))
    with pytest.raises(MetadataError, match=f" {few} rows"):
        read_metadata(table)
    lines = [f"c{k},1,0,0,0,0,0\n,,\n" for k in range(few + 1)]
    rows.write_text("filename,ang,disg,fea,hap,sad,neu\n" + "".join(lines[:few]))
    assert len(read_probabilities(rows).ids) == few
    rows.write_text("filename,ang,disg,fea,hap,sad,neu\n" + "".join(lines))
    with pytest.raises(InvalidProbabilities, match=f" {few} rows"):
        read_probabilities(rows)
    blend = [{"emotion": "ang", "salience": 70}, {"emotion": "disg", "salience": 30}]
    names = [f"A{k:06d}_mix_ang_disg_70_30_ver1.mov" for k in range(few)]
    labels.write_text(json.dumps({"predictions": dict.fromkeys(names, blend)}, indent=4))
    assert labels.stat().st_size > 2 * MAX_BYTES
    assert len(read_predictions(labels)[0]) == few


def zip_with(path: Path, base_models: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in base_models.items():
            archive.writestr(name, data)
    return path


def test_archives_that_climb_swell_or_nest(tmp_path: Path) -> None:
    inner = json.dumps({"predictions": {"test_0001.mov": [{"emotion": "ang", "salience": 100}]}}).encode()
    ids = ["test_0001"]
    assert check_submission(zip_with(tmp_path / "good.zip", {INNER_NAME: inner}), ids) == []
    for name in ("../../etc/x.json", "/etc/x.json", "C:\\x.json", "a/../../x.json"):
        found = {problem.kind for problem in check_submission(zip_with(tmp_path / "a.zip", {name: inner}), ids)}
        assert found & {"climbing", "nesting"}, name
    bomb = zip_with(tmp_path / "b.zip", {INNER_NAME: bytes(MAX_BYTES * 20)})
    assert [problem.kind for problem in check_submission(bomb, ids)] == ["size"]
    nested = zip_with(tmp_path / "c.zip", {INNER_NAME: (tmp_path / "good.zip").read_bytes()})
    assert [problem.kind for problem in check_submission(nested, ids)] == ["format"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "b.zip", "c.zip", "good.zip"]


def test_an_npz_that_swells_is_refused_unread(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**7, 6)})
    names = io.BytesIO()
    np.save(names, np.array(["a"]))
    members = {"filenames.npy": names.getvalue(), "probabilities.npy": header.getvalue() + bytes(LARGEST_TABLE)}
    with pytest.raises(InvalidProbabilities, match=rf" {LARGEST_TABLE // 10**6} MB"):
        read_probabilities(zip_with(tmp_path / "bomb.npz", members))
    claims = {**members, "probabilities.npy": header.getvalue()}
    with pytest.raises(InvalidProbabilities, match="plain arrays"):
        read_probabilities(zip_with(tmp_path / "claims.npz", claims))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('plugins = ["a"]\nplugin = 3\n', "'plugin'; did you mean 'plugins'?"),
        ("plugins = [", "cannot read"),
        ('plugins = ["a"]\nseed = true\n', "'seed' must be a whole number, found True"),
    ],
)
def test_strange_submissions_are_refused_in_words(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_submission(path)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("depth", [100, 900, 920, 940, 960, 980, 3000])
@pytest.mark.parametrize("where", ["emotion", "salience", "label", "all"])
def test_nesting_is_refused_at_every_depth(tmp_path: Path, depth: int, where: str) -> None:
    for nest in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        pair = {"emotion": nest if where == "emotion" else '"ang"', "salience": nest if where == "salience" else "50"}
        entry = f'{{"emotion": {pair["emotion"]}, "salience": {pair["salience"]}}}'
        label = {"label": nest, "all": f"[{nest}]"}.get(where, f"[{entry}, {entry}]")
        path = tmp_path / "n.json"
        path.write_text(f'{{"predictions": {{"test_0001.mov": {label}}}}}')
        assert check_submission(path, ["test_0001"])
        with pytest.raises(BlemoreError):
            read_predictions(path)


def test_rows_of_probabilities_are_joined_by_name_and_each_once(tmp_path: Path) -> None:
    rows = {"b.mov": [1, 0, 0, 0, 0, 0], "a": [0, 0, 0, 0, 0, 1]}
    found = read_probabilities(write_probabilities_csv(tmp_path / "p.csv", rows))
    assert found.aligned(["a", "b"]).values.tolist() == [[0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]]
    with pytest.raises(InvalidProbabilities, match=r"1 of 3 .* 0 .*'c'"):
        found.aligned(["a", "b", "c"])
    with pytest.raises(InvalidProbabilities, match=r"0 of 1 .* 1 .*'b'"):
        found.aligned(["a"])
    (tmp_path / "p.csv").write_text((tmp_path / "p.csv").read_text() + "a.mov,1,0,0,0,0,0\n")
    with pytest.raises(InvalidProbabilities, match=r"\(first: 'a'\)"):
        read_probabilities(tmp_path / "p.csv")


def test_a_bad_number_behind_a_good_row_of_the_same_name(tmp_path: Path) -> None:
    path = write_probabilities_csv(tmp_path / "p.csv", {"a": [1, 0, 0, 0, 0, 0], "a.mov": ["x", 0, 0, 0, 0, 0]})
    path.write_text(path.read_text().replace("a.mov", "a"))
    with pytest.raises(InvalidProbabilities, match=r"'x' .* 1 clip \(first: 'a'\)"):
        read_probabilities(path)


@pytest.mark.parametrize(("reader", "start"), [
    ("metadata", b"filename,video_id\n"), ("labels", b'{"predictions": '), ("toml", b"plugins = "),
    ("probabilities", b"PK\x03\x04"), ("cache", b"\x93NUMPY\x01\x00"), ("released features", b"\x93NUMPY\x01\x00v\x00"),
    ("aggregates", b"PK"),
])  # fmt: skip
@FEW
@given(tail=st.binary(max_size=300))
def test_any_bytes_give_a_value_or_words(reader: str, start: bytes, tail: bytes) -> None:
    ending, read = READERS[reader]
    for data in (tail, start + tail):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"abc{ending}"
            path.write_bytes(data)
            try:
                read(path)
            except BlemoreError as error:
                assert str(error)  # noqa: PT017


def test_fuzzing_finds_nothing(tmp_path: Path) -> None:
    counts, findings = fuzz(math.inf, 7, None, tmp_path, most=350)
    assert findings == []
    assert min(count for count in counts.values()) >= 50


VALUES = st.lists(
    st.lists(st.floats(0, 1), min_size=6, max_size=6).filter(lambda row: sum(row) > 1e-3), min_size=1, max_size=12
)


@FEW
@given(rows=VALUES, alpha=st.floats(0, 1), beta=st.floats(0, 1))
def test_the_protocol_holds_for_any_rows(rows: list[list[float]], alpha: float, beta: float) -> None:
    values = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    labels = decode(values, alpha, beta)
    truth = np.array([label_of(row) for row in rows_of(2)[: len(rows)]], dtype=np.int8)
    assert labels.shape == values.shape == truth.shape
    assert set(labels.sum(axis=1).tolist()) == {100}
    assert ((labels > 0).sum(axis=1) <= 2).all()
    assert not ((labels[:, EMOTIONS.index("neu")] > 0) & ((labels > 0).sum(axis=1) == 2)).any()
    found = score(truth, labels)
    best = search_official(values, truth)
    assert 0 <= found.presence <= best.best_presence + (alpha not in np.linspace(0.05, 0.95, 20))
    assert 0 <= found.score <= 1


@FEW
@given(rows=VALUES)
def test_what_is_written_reads_back_to_the_same_bits(rows: list[list[float]]) -> None:
    values = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    made = Probabilities(tuple(f"é {number}" for number in range(len(rows))), values)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("p.csv", "p.npz"):
            write_probabilities(Path(folder) / name, made)
            found = read_probabilities(Path(folder) / name)
            assert found.ids == made.ids
            assert found.values.tobytes() == made.values.tobytes()
