"""Trackers: switched on by name, told of everything, harmless where they fail; and what the real libraries kept."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import blemore_harness as bh
from blemore_harness.clips import Fold
from blemore_harness.context import Context
from blemore_harness.errors import ConfigError, ExtraMissing, UnknownName
from blemore_harness.hookspecs import Encoder, FoldFinished, RunStarted, Tracker, hookimpl
from blemore_harness.record.types import Record
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.plugins import Plugins, load_plugins, register
from blemore_harness.systems.submission import from_plugins
from blemore_trackers import facts, trackers
from blemore_trackers.wandb import _is_set_up
from builders import rows_of, write_download
from toys import Noisy, NoisyModel, offer, open_bench

NAMES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb", "trackio": "trackio"}
"""Trackers with the packages that they need."""

FILES = {"record.json", "table.txt", "submission.zip"}


class Curved(Noisy):
    """Notes a training curve and a number."""

    def fit(self, fold: Fold, options: Any, context: Context) -> NoisyModel:
        context.note_curve("training loss", [1, 2, 3], [0.9, 0.5, 0.25])
        context.note("best epoch", 3)
        return super().fit(fold, options, context)


class Toy(Tracker):
    """Keeps what it hears of; it can fail in every way."""

    name = "toy"
    summary = "a toy"

    def __init__(self, trouble: BaseException | None = None, unusable: Exception | None = None) -> None:
        self.heard: list[str] = []
        self.systems: list[str] = []
        self._trouble, self._unusable = trouble, unusable

    def connect(self) -> object:
        if self._unusable:
            raise self._unusable
        return self

    @hookimpl
    def blemore_run_started(self, event: RunStarted) -> None:
        self.systems = [system.name for system in event.systems]
        self._hear("started")

    @hookimpl
    def blemore_fold_finished(self, event: FoldFinished) -> None:
        self._hear(f"{event.system} {event.fold}")

    @hookimpl
    def blemore_run_finished(self) -> None:
        self._hear("finished")

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if self._trouble:
            raise self._trouble


class Offering:
    """A plugin that offers trackers."""

    def __init__(self, *offered: object) -> None:
        self._offered = offered

    @hookimpl
    def blemore_experiment_trackers(self) -> tuple[object, ...]:
        return self._offered


def with_trackers(*encoders: Encoder, offered: tuple[object, ...]) -> Plugins:
    plugins, _ = offer(*encoders)
    register(plugins, Offering(*offered), "offering", Distribution("t", "1"))
    return plugins


def test_trackers_are_told_where_they_are_asked_for(tmp_path: Path) -> None:
    asked, other = Toy(), Toy()
    other.name = "other"  # type: ignore[misc]
    plugins = with_trackers(Noisy("one"), offered=(asked, other))
    plugins.track(["toy"])
    plugins.track(["toy"])
    record, _ = open_bench(tmp_path, actors=6, tests=3).run(plugins, from_plugins(("one",), "late"))
    assert record["status"] == "finished"
    assert asked.heard == ["started", "one 0", "one 1", "one 2", "one None", "finished"]
    assert asked.systems == ["one"]
    assert other.heard == []


@pytest.mark.parametrize("trouble", [RuntimeError("server is gone"), SystemExit(3)])
def test_a_tracker_that_fails_is_a_warning_said_once(tmp_path: Path, trouble: BaseException) -> None:
    toy = Toy(trouble)
    plugins = with_trackers(Noisy("one"), offered=(toy,))
    plugins.track(["toy"])
    record, _ = open_bench(tmp_path, actors=6, tests=0).run(plugins, from_plugins(("one",), "late"))
    assert record["status"] == "finished"
    assert len(toy.heard) == 5
    told = [text for text in record["warnings"] if "toy" in text]
    assert len(told) == 3, "one for each hook"
    assert all(type(trouble).__name__ in text for text in told)


def test_unknown_and_unusable_trackers_end_the_command() -> None:
    plugins = with_trackers(offered=(Toy(unusable=OSError("no such disk")),))
    with pytest.raises(UnknownName, match=r"'tay'.*toy"):
        plugins.track(["tay"])
    with pytest.raises(ConfigError, match=r"toy.*no such disk"):
        plugins.track(["toy"])


def test_python_users_name_trackers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "cache"))
    data = write_download(tmp_path / "data", rows_of(actors=6, folds=3))
    with pytest.raises(UnknownName, match=r"'nobody'.*mlflow"):
        bh.run(plugins=["trivial-single"], data=data, runs=tmp_path / "runs", device="cpu", track=["nobody"])


def test_bundled_trackers_are_offered_and_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = load_plugins({"BLEMORE_PLUGINS": "trackers"})
    assert set(plugins.trackers) == set(NAMES)
    assert {row.name for row in plugins.rows() if row.kind == "tracker"} == set(NAMES)
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    for name in NAMES:
        with pytest.raises(ExtraMissing, match=rf"blemore-harness\[{name}\]"):
            plugins.track([name])


def test_wandb_is_offline_until_the_user_sets_it_up(tmp_path: Path) -> None:
    login = tmp_path / "netrc"
    unset = {"NETRC": str(login)}
    assert not _is_set_up(unset)
    login.write_text("machine elsewhere.example login user password secret\n")
    login.chmod(0o600)
    assert not _is_set_up(unset)
    assert _is_set_up({**unset, "WANDB_BASE_URL": "https://elsewhere.example"})
    assert _is_set_up({**unset, "WANDB_MODE": "online"})
    assert _is_set_up({**unset, "WANDB_API_KEY": "k" * 40})


def real(test: Any) -> Any:
    """Mark a test of the real libraries, whose warnings are not ours."""
    return pytest.mark.encoders(pytest.mark.filterwarnings("ignore")(test))


@dataclass
class Tracked:
    """A finished run that all four trackers were told of."""

    record: Record
    folder: Path
    place: Path
    looked_up: set[str]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracked]:
    missing = [package for package in NAMES.values() if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    place = tmp_path_factory.mktemp("tracked")
    looked_up: set[str] = set()
    look_up = socket.getaddrinfo

    def watch(host: Any, *arguments: Any, **named: Any) -> Any:
        looked_up.add(str(host))
        return look_up(host, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        for variable in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_"))]:
            patch.delenv(variable)
        patch.setenv("NETRC", str(place / "netrc"))
        patch.setenv("TRACKIO_DIR", str(place / "trackio"))
        patch.setattr(socket, "getaddrinfo", watch)
        patch.setattr(facts, "_make_page", cache(facts._make_page))  # the same for all four
        patch.chdir(place)
        plugins, _ = offer(Curved("one"), Noisy("two", 0.2))
        register(plugins, trackers, "trackers", Distribution("t", "1"))
        plugins.track(NAMES)
        content, folder = open_bench(place, actors=6, tests=3).run(plugins, from_plugins(("one", "two@b"), "late"))
        assert content["warnings"] == []
        yield Tracked(Record.from_json(content), folder, place, looked_up)


def expected_metrics(record: Record) -> dict[str, float]:
    return {f"{system.name}/score": system.cross_fitted.score.mean for system in record.finished} | {
        f"{system.name}/official_acc_presence": system.official.acc_presence.mean for system in record.finished
    }


@real
def test_nothing_is_looked_up_in_a_network(tracked: Tracked) -> None:
    assert tracked.looked_up <= {"localhost", "127.0.0.1", "::1", "None"}


@real
def test_tensorboard_reads_scores_curves_parameters_and_the_table(tracked: Tracked) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read(place: str) -> Any:
        found = EventAccumulator(str(tracked.folder / "tensorboard" / place))
        found.Reload()
        return found

    def scalars(place: str, tag: str) -> list[tuple[int, float]]:
        return [(event.step, float(event.tensor_proto.float_val[0])) for event in read(place).Tensors(tag)]

    one = tracked.record.finished[0]
    assert scalars("one", "score") == [(0, pytest.approx(one.cross_fitted.score.mean))]
    assert scalars("one", "fold/score") == [(fold.fold, pytest.approx(fold.cross_fitted.score)) for fold in one.folds]
    assert scalars("one", "fold/best epoch") == [(0, 3.0), (1, 3.0), (2, 3.0)]
    for part in ("fold 0", "fold 2", "final fit"):
        assert scalars(f"one/{part}", "training loss") == [(1, pytest.approx(0.9)), (2, 0.5), (3, 0.25)]
    texts = {tag: read("").Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in ("table", "status", "run")}
    table = (tracked.folder / "table.txt").read_text()
    assert [line.strip() for line in texts["table"].splitlines()] == [line.strip() for line in table.splitlines()]
    assert texts["status"] == "finished"
    assert "| seed | 0 |" in texts["run"]
    assert "_hparams_/session_start_info" in read("late").Tags()["tensors"]


@real
def test_mlflow_keeps_parameters_tags_metrics_curves_and_files(tracked: Tracked, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tracked.place / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("blemore")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    record = tracked.record
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "0"
    assert run.data.params["data.clips"] == str(record.data.clips)
    assert run.data.tags["identity"] == record.identity
    for name, value in expected_metrics(record).items():
        assert run.data.metrics[name.replace("@", "_")] == pytest.approx(value)
    history = client.get_metric_history(run.info.run_id, "one/fold/score")
    assert {(m.step, m.value) for m in history} == {(f.fold, f.cross_fitted.score) for f in record.finished[0].folds}
    curve = client.get_metric_history(run.info.run_id, "one/training loss/fold 1")
    assert sorted((point.step, point.value) for point in curve) == [(1, 0.9), (2, 0.5), (3, 0.25)]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= FILES
    kept = Path(client.download_artifacts(run.info.run_id, "submission.zip", str(tmp_path)))
    assert kept.read_bytes() == (tracked.folder / "submission.zip").read_bytes()


@real
def test_a_report_page_is_among_the_files(tracked: Tracked, tmp_path: Path) -> None:
    for package in ("altair", "jinja2", "vl_convert"):
        pytest.importorskip(package)
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tracked.place / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("blemore").experiment_id])
    page = Path(client.download_artifacts(run.info.run_id, "report.html", str(tmp_path))).read_text()
    assert "two@b" in page
    assert not (tracked.folder / "report.html").exists(), "the user's own page is left alone"


def read_log(content: bytes) -> Iterator[bytes]:
    """Give the messages of a `.wandb` file: blocks of 32 KiB with pieces, each behind checksum, length and kind."""
    place, message = 7, b""  # behind the file's own header
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        message += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield message
            message = b""


@real
def test_wandb_keeps_an_offline_run(tracked: Tracked) -> None:
    from wandb.proto.wandb_internal_pb2 import Record as Message

    [path] = (tracked.place / "wandb").glob("offline-run-*/*.wandb")
    history, summary, config, tags, files = [], {}, {}, set(), set()
    for data in read_log(path.read_bytes()):
        message = Message()
        message.ParseFromString(data)
        kind = message.WhichOneof("record_type")
        if kind == "run":
            tags.update(message.run.tags)
            config.update({item.key: json.loads(item.value_json) for item in message.run.config.update})
        elif kind == "history":
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in message.history.item}
            history.append(row)
        elif kind == "summary":
            summary.update(
                {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in message.summary.update}
            )
        elif kind == "artifact":
            files.update(entry.path for entry in message.artifact.manifest.contents)
    assert config["data.clips"] == tracked.record.data.clips
    assert config["identity"] == tracked.record.identity
    for name, value in expected_metrics(tracked.record).items():
        assert summary[name] == pytest.approx(value)
    curve = [(row["epoch"], row["one/training loss/fold 2"]) for row in history if "one/training loss/fold 2" in row]
    assert curve == [(1, 0.9), (2, 0.5), (3, 0.25)]
    assert [row["fold"] for row in history if "one/fold/score" in row] == [0, 1, 2]
    assert files >= FILES
    assert tags == set(), "nothing is amiss with this run"


@real
def test_trackio_keeps_a_local_run(tracked: Tracked) -> None:
    import sqlite3

    with sqlite3.connect(tracked.place / "trackio" / "blemore.db") as store:
        rows = [(step, json.loads(text)) for step, text in store.execute("select step, metrics from metrics")]
        [config] = [json.loads(text) for (text,) in store.execute("select config from configs")]
        files = {name for (name,) in store.execute("select name from artifacts")}
    kept = {name: value for _, row in rows for name, value in row.items()}
    for name, value in expected_metrics(tracked.record).items():
        assert kept[name] == pytest.approx(value)
    curve = sorted((step, row["one/training loss/fold 2"]) for step, row in rows if "one/training loss/fold 2" in row)
    assert curve == [(1, 0.9), (2, 0.5), (3, 0.25)]
    assert config["data.clips"] == tracked.record.data.clips
    assert kept["status"] == "finished"
    assert files >= FILES
