"""What authors of plugins get wrong: the culprit is named, and what to do; what they print never spoils an answer."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.errors import DataError, HarnessError, InvalidOption, MediaError, PluginFailed, RunError
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.plugins import register
from blemore_harness.systems.submission import DEFAULT_FUSION, from_plugins
from builders import rows_of, write_download
from installed_plugins import make_site
from toys import Bench, offer, open_bench, system

MISTAKES = """
import numpy as np
from blemore_harness.predictions import Embeddings, Probabilities

print("\x1b[31mat import")


class Model:
    def predict(self, clips, context):
        print("debug", len(clips))
        return Probabilities(clips.ids, np.full((len(clips), 6), 1 / 6))


class Bad(Toy):
    Options = Toy.Options

    def fit(self, fold, options, context):
        from blemore_harness.predictions import embeddings_of  # as a head does, without torch
        embeddings_of(self.embed(fold.train, options, context), fold.train.ids)
        return Model()


def bad(name, embed):
    return type(name, (Bad,), {"name": name, "embed": embed})()


def noisy(name, **body):
    return type(name, (Toy,), {"name": name, **body})()


def ones(clips):
    return np.ones((len(clips), 3), dtype=np.float32)


@hookimpl
def blemore_encoders():
    return [
        bad("array", lambda self, clips, options, context: ones(clips)),
        bad("few", lambda self, clips, options, context: Embeddings(clips.ids[1:], ones(clips)[1:])),
        bad("nan", lambda self, clips, options, context: Embeddings(clips.ids, ones(clips) * np.nan)),
        bad("flat", lambda self, clips, options, context: Embeddings(clips.ids, ones(clips)[:, 0])),
        noisy("printing", fit=lambda self, fold, options, context: Model()),
    ]
"""

EXPECTED = {
    "array": "array (fold-0): expected `embed` to return Embeddings(ids, values), found ndarray",
    "few": "few (fold-0): `embed` returned no embedding for 1 clip (first: 'A",
    "nan": "nan (fold-0): NaN or infinite embedding in ",
    "flat": "flat (fold-0): expected one embedding per clip (",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("mistakes")
    write_download(home / "data", rows_of(actors=6, folds=3))
    with make_site(home / "site") as packages:
        packages.install("mistakes", MISTAKES)
    return home


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "PYTHONPATH": str(home / "site"), "BLEMORE_CACHE": str(home / "cache"),
        "BLEMORE_PLUGINS": "mistakes,means",
    }  # fmt: skip
    command = [sys.executable, "-c", "from blemore_harness.cli import main; main()", *words]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_vectors_that_are_none_are_the_plugin_s_failure_and_a_row(home: Path) -> None:
    done = run(
        home, "run", "--plugin", ",".join([*EXPECTED, "printing"]), "--fusion", "mean", "--data", "data", "--json"
    )
    assert done.returncode == 3, done.stderr
    record = json.loads(done.stdout)
    rows = {row["name"]: row for row in record["systems"]}
    assert rows["printing"]["status"] == "finished"
    for name, words in EXPECTED.items():
        assert rows[name]["status"] == "failed"
        assert rows[name]["error"]["message"].startswith(words)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("run", "--plugin", "printing", "--data", "data"), ("plugins",)])
def test_what_plugins_print_goes_to_stderr(home: Path, words: tuple[str, ...]) -> None:
    done = run(home, *words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert "at import" in done.stderr


@pytest.mark.slow
@pytest.mark.encoders
def test_the_check_finds_what_is_printed(home: Path) -> None:
    pytest.importorskip("av")
    pytest.importorskip("PIL")
    done = run(home, "check", "printing", "--only", "writes", "--json")
    [row] = json.loads(done.stdout)
    assert row["status"] == "failed"
    assert "'debug " in row["reason"]
    assert "say things with `context.log`" in row["reason"]


# --- whatever it raises, wherever: its own failure -----------------------------------------------------------------


class Own(BaseException):
    """Not even an `Exception`."""


class Model:
    """Rows that depend on the clip alone; predicts or stumbles."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def predict(self, clips: Clips, *rest: Any) -> Probabilities:
        self.owner.stumble("predict")
        rows = [np.random.default_rng(int(clip.content[:8], 16)).dirichlet(np.ones(6)) for clip in clips]
        return Probabilities(clips.ids, np.array(rows).reshape(-1, 6))


class Stumbling:
    """Raises an error in one of its methods."""

    summary = "stumbles"

    def __init__(self, name: str, where: str = "", error: BaseException | None = None) -> None:
        self.name, self.where, self.error = name, where, error  # type: ignore[misc]

    def stumble(self, where: str) -> None:
        if where == self.where and self.error is not None:
            raise self.error

    def caveat(self, options: Any) -> str | None:
        self.stumble("caveat")
        return None

    def identify(self, options: Any) -> dict[str, object]:
        self.stumble("identify")
        return {}


class StumblingEncoder(Stumbling, Encoder):
    modality = "audio"

    def resolve_options(self, options: Any, feature_sets: frozenset[str]) -> Any:
        self.stumble("resolve_options")
        return options

    def feature_sets(self, options: Any) -> tuple[str, ...]:
        self.stumble("feature_sets")
        return ()

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        self.stumble("prepare")

    def embed(self, clips: Clips, options: Any, context: Context) -> Embeddings:
        self.stumble("embed")
        return Embeddings(clips.ids, np.ones((len(clips), 2), dtype=np.float32))

    def fit(self, fold: Fold, options: Any, context: Context) -> Any:
        self.stumble("fit")
        if self.where == "labels":
            _ = fold.held_out.labels
        return Model(self)

    def fit_folds(self, folds: Any, options: Any, contexts: Any) -> Any:
        self.stumble("fit_folds")
        return super().fit_folds(folds, options, contexts)


class StumblingFusion(Stumbling, Fusion):
    def fit(self, fold: Fold, base_models: Any, options: Any, context: Context) -> Any:
        self.stumble("fit")
        return Model(self)

    def fit_folds(self, folds: Any, base_models: Any, options: Any, contexts: Any) -> Any:
        self.stumble("fit_folds")
        return super().fit_folds(folds, base_models, options, contexts)


class VectorFusion(StumblingFusion):
    takes = "embeddings"


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return open_bench(tmp_path_factory.mktemp("toys"), actors=6, tests=2)


ERRORS = (
    DataError("these clips carry no labels"), HarnessError("from a plugin"), PluginFailed("of another", "another"),
    RunError("no such run"), MediaError("no audio"), ZeroDivisionError("division"), SystemExit(3), Own("own"),
)  # fmt: skip
STEPS = (
    "resolve_options", "feature_sets", "identify", "caveat", "prepare", "fit", "fit_folds", "predict",
)  # fmt: skip


def without_times(row: Any) -> Any:
    if isinstance(row, dict):
        return {key: without_times(value) for key, value in row.items() if key != "seconds"}
    return [without_times(value) for value in row] if isinstance(row, list) else row


@pytest.mark.parametrize("where", STEPS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_encoder_that_raises_is_failed_and_the_others_are_what_they_are(
    toys: Bench, where: str, error: BaseException
) -> None:
    name = f"bad-{where.replace('_', '-')}-{ERRORS.index(error)}"
    plugins, _ = offer(StumblingEncoder(name, where, error), StumblingEncoder("good"))
    record, folder = toys.run(plugins, from_plugins([f"{name},good"], "late"))
    alone, _ = toys.run(offer(StumblingEncoder("good"))[0], from_plugins(["good"]))
    assert without_times(system(record, "good")) == without_times(system(alone, "good"))
    assert (record["status"], record["error"]) == ("failed", None)
    row = system(record, name)
    assert (row["status"], system(record, "late")["status"]) == ("failed", "skipped")
    message = row["error"]["message"]
    assert message.startswith(f"{name} (")
    assert str(error) in message
    place = re.search(r"\(at test_plugin_mistakes\.py:(\d+); traceback: (.*)\)$", message)
    assert place is not None, message
    [trace] = folder.parent.glob(f"systems/{name}-*/*-traceback.txt")
    assert place[2] == str(trace)
    assert f"line {place[1]}, in stumble" in trace.read_text()
    assert f"in {where}\n" in trace.read_text()


@pytest.mark.parametrize("where", ["identify", "caveat", "fit", "fit_folds", "predict"])
@pytest.mark.parametrize("error", ERRORS[:1] + ERRORS[5:7], ids=lambda error: type(error).__name__)
def test_a_fusion_that_raises_is_failed_and_its_encoders_stay(toys: Bench, where: str, error: BaseException) -> None:
    fusion = StumblingFusion(f"fused-{where.replace('_', '-')}-{ERRORS.index(error)}", where, error)
    plugins, _ = offer(StumblingEncoder("good"), StumblingEncoder("second"), fusions=(fusion,))
    record, _ = toys.run(plugins, from_plugins(["good,second"], fusion.name))
    assert [row["status"] for row in record["systems"]] == ["failed", "finished", "finished"]
    assert record["systems"][0]["error"]["message"].startswith(f"{fusion.name} (")


def test_embeddings_that_a_fusion_needs_and_does_not_get_are_a_failed_row(toys: Bench) -> None:
    bad = StumblingEncoder("no-vectors", "embed", DataError("none"))
    plugins, _ = offer(bad, StumblingEncoder("good"), fusions=(VectorFusion("of-vectors"),))
    record, _ = toys.run(plugins, from_plugins(["no-vectors,good"], "of-vectors"))
    assert {row["name"]: row["status"] for row in record["systems"]} == {
        "no-vectors": "finished", "good": "finished", "of-vectors": "failed",
    }  # fmt: skip
    assert "no-vectors (embed): none" in system(record, "of-vectors")["error"]["message"]


def test_a_part_that_raises_fails_the_concatenation_by_its_own_line(toys: Bench) -> None:
    plugins, _ = offer(
        StumblingEncoder("part", "prepare", KeyError("x")), StumblingEncoder("unset", "resolve_options", KeyError("y")),
        StumblingEncoder("good"),
    )  # fmt: skip
    for name in ("part+good", "good+unset"):
        record, _ = toys.run(plugins, from_plugins([f"{name},good"], "late"))
        assert system(record, name)["status"] == "failed"
        assert "(at test_plugin_mistakes.py:" in system(record, name)["error"]["message"]
        assert system(record, "good")["status"] == "finished"


def test_reading_labels_of_held_out_clips_fails_the_reader_alone(toys: Bench) -> None:
    plugins, _ = offer(StumblingEncoder("peeping", "labels"), StumblingEncoder("good"))
    record, _ = toys.run(plugins, from_plugins(["peeping,good"], "late"))
    message = system(record, "peeping")["error"]["message"]
    assert re.search(r"\(at test_plugin_mistakes\.py:\d+;", message), message
    assert system(record, "good")["status"] == "finished"


def test_an_option_that_a_plugin_refuses_is_the_user_s_to_mend(toys: Bench) -> None:
    plugins, _ = offer(StumblingEncoder("picky", "resolve_options", InvalidOption("rate: expected more")))
    with pytest.raises(InvalidOption, match="rate: expected more"):
        toys.run(plugins, from_plugins(["picky"]))


def test_ctrl_c_stays_the_user_s(toys: Bench) -> None:
    plugins, _ = offer(StumblingEncoder("stopped", "fit", KeyboardInterrupt()), StumblingEncoder("good"))
    with pytest.raises(KeyboardInterrupt):
        toys.run(plugins, from_plugins(["stopped,good"], "late"))


def test_a_traceback_is_gone_once_the_call_succeeds_and_names_real_clips(toys: Bench) -> None:
    opaque, real = next(iter(toys.blinded.real.items()))
    toy = StumblingEncoder("mending", "fit", RuntimeError(f"bad {opaque}"))
    record, folder = toys.run(offer(toy)[0], from_plugins(["mending"]))
    [trace] = folder.parent.glob("systems/mending-*/*-traceback.txt")
    assert real in trace.read_text()
    assert opaque not in trace.read_text() + json.dumps(record)
    toy.error = None
    record, _ = toys.run(offer(toy)[0], from_plugins(["mending"]))
    assert record["status"] == "finished"
    assert not trace.exists()


def fit_none(self: Any, fold: Fold, options: Any, context: Context) -> Any:
    return None


def fit_folds_none(self: Any, folds: Any, options: Any, contexts: Any) -> Any:
    return [None for _ in folds]


def fit_folds_nothing(self: Any, folds: Any, options: Any, contexts: Any) -> Any:
    return None


def fit_folds_few(self: Any, folds: Any, options: Any, contexts: Any) -> Any:
    yield self.fit(folds[0], options, contexts[0])


def fit_by_name(self: Any, fold: Fold, options: Any, context: Context) -> Any:
    return int(fold.train.items[0].id.split("_")[2])


def fit_by_part_of_a_name(self: Any, fold: Fold, options: Any, context: Context) -> Any:
    parts = fold.train.ids[0].split("_")
    return parts[1]


def fit_online(self: Any, fold: Fold, options: Any, context: Context) -> Any:
    try:
        raise socket.gaierror("Name or service not known")
    except OSError as error:
        raise RuntimeError("no weights") from error


def fit_few(self: Any, fold: Fold, options: Any, context: Context) -> Any:
    model = Model(self)
    model.predict = lambda clips, *rest: Model.predict(model, clips.take(np.arange(len(clips)) > 0))  # type: ignore[method-assign]
    return model


HINTS = {
    "fit": {
        fit_none: "expected `fit` to return a model with a method `predict`, found NoneType: end `fit` with",
        fit_by_name: "labels are in `fold.train.labels`",
        fit_by_part_of_a_name: "labels are in `fold.train.labels`",
        fit_online: "only `prepare` may use the network",
        fit_few: "`predict` must give a row for each clip that it is called with",
    },
    "fit_folds": {
        fit_folds_none: "expected `fit_folds` to return a model with a method `predict`",
        fit_folds_nothing: "expected `fit_folds` to return a model per fold, found NoneType",
        fit_folds_few: "expected 4 models of `fit_folds`, found 1",
    },
}


@pytest.mark.parametrize(
    ("method", "function", "words"),
    [(method, function, words) for method, found in HINTS.items() for function, words in found.items()],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_common_mistakes_are_answered_with_what_to_change(toys: Bench, method: str, function: Any, words: str) -> None:
    kind = type("Wrong", (StumblingEncoder,), {method: function})
    record, _ = toys.run(
        offer(kind(function.__name__.replace("_", "-")))[0], from_plugins([function.__name__.replace("_", "-")])
    )
    message = record["systems"][0]["error"]["message"]
    assert words in message
    first = function.__code__.co_firstlineno
    place = re.search(r"\(at test_plugin_mistakes\.py:(\d+); traceback: ", message)
    assert place is not None, message
    assert first <= int(place[1]) <= first + 4


@pytest.mark.parametrize("actors", [2, 4])
def test_folds_of_one_and_of_two_actors_are_fused_by_default(tmp_path: Path, actors: int) -> None:
    dataset = read_dataset(write_download(tmp_path / "data", rows_of(actors=actors, folds=2), tests=2))
    bench = Bench(dataset, blind_dataset(dataset, tmp_path / "views"), tmp_path)
    toys = [StumblingEncoder("one"), StumblingEncoder("two")]
    from blemore_plugins import best_of, stack, structured

    plugins, _ = offer(*toys)
    for module in (best_of, stack, structured):
        register(plugins, module, module.__name__.rpartition(".")[2], Distribution("blemore-harness", "1"))
    for fusion in (DEFAULT_FUSION, "stack", "structured"):
        record, _ = bench.run(plugins, from_plugins(["one,two"], fusion))
        assert [row["status"] for row in record["systems"]] == ["finished"] * 3, record["systems"]
        fused = system(record, fusion)
        if fusion == DEFAULT_FUSION:
            told = [note for note in fused["notes"] if note["fold"] is not None]
            assert [note["chosen"] for note in told] == ["logit-mean", "logit-mean"]
            assert all(str(actors // 2) in note["reason"] for note in told)
            assert fused["warnings"] == []
        elif actors == 2:
            assert len(fused["warnings"]) == 1
