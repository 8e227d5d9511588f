"""The conformance kit finds what is wrong with a plugin, says so in words, and lets a good one pass."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from blemore_harness.cli import cli
from blemore_harness.clips import Clips
from blemore_harness.errors import ConfigError, UnknownName
from blemore_harness.hookspecs import Encoder, Fusion
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.testing import CHECKS, Session, Subject, Verdict, check_subject, checks_for, exit_code
from blemore_harness.testing.material import Material, make_rows_material
from installed_plugins import HEAD, make_site

MATERIAL = make_rows_material()
TRUTH = {clip.content: MATERIAL.truth[clip.id] for clip in MATERIAL.clips}


class Bare(Session):
    """A session whose encoders get clips without files."""

    def material(self, subject: Subject) -> Material:
        return MATERIAL


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return Bare(tmp_path_factory.mktemp("session"))


def see(clips: Clips) -> np.ndarray:
    """What a toy sees of clips: their labels through noise, float64 (N, 6)."""
    rows = [TRUTH[c.content] + np.random.default_rng(int(c.content, 16)).normal(0, 0.1, 6) for c in clips]
    return np.array(rows)


@dataclass
class Centroids:
    """Rows by distance from the mean of each emotion; a good model."""

    centres: np.ndarray

    def rows(self, clips: Clips) -> np.ndarray:
        powers = np.exp(-4 * ((see(clips)[:, None] - self.centres) ** 2).sum(axis=-1))
        return powers / powers.sum(axis=1, keepdims=True)

    def predict(self, clips: Clips, context: Any) -> Probabilities:
        return Probabilities(clips.ids, self.rows(clips))


class Good(Encoder):
    """Keeps the contract."""

    name = "good"
    summary = "a good one"
    modality = "video"

    def fit(self, fold: Any, options: Any, context: Any) -> Any:
        seen, targets = see(fold.train), fold.train.targets
        weights = targets.sum(axis=0)
        centres = np.where(weights[:, None] > 0, targets.T @ seen / np.maximum(weights, 1e-9)[:, None], 9.0)
        with context.progress("centres", 6) as bar:
            bar.advance(6)
        return self.model(centres, fold, context)

    def model(self, centres: np.ndarray, fold: Any, context: Any) -> Any:
        return Centroids(centres)


class Number:
    """A model that gives a number."""

    def predict(self, clips: Clips, context: Any) -> int:
        return 1


def encoder(**changes: Any) -> Encoder:
    """A good encoder but for what is changed."""
    return type("Changed", (Good,), {"__module__": __name__, **changes})()


def predicting(change: Callable[..., np.ndarray]) -> Encoder:
    """A good encoder whose rows are changed in `predict`: `change(rows, clips, context)`."""

    class Model(Centroids):
        def predict(self, clips: Clips, context: Any) -> Probabilities:
            return Probabilities(clips.ids, change(self.rows(clips), clips, context))

    return encoder(model=lambda self, centres, fold, context: Model(centres))


def fitting(act: Callable[..., object]) -> Encoder:
    """A good encoder that does something else beside fitting: `act(fold, context)`."""

    def model(self: Any, centres: np.ndarray, fold: Any, context: Any) -> Any:
        act(fold, context)
        return Centroids(centres)

    return encoder(model=model)


def place(rows: np.ndarray, clips: Clips, context: Any) -> np.ndarray:
    return mixed(rows, rows + np.arange(len(rows))[:, None] * np.eye(6)[0])


def chance(rows: np.ndarray, clips: Clips, context: Any) -> np.ndarray:
    return mixed(rows, np.random.default_rng().random(rows.shape))


def shared_chance(rows: np.ndarray, clips: Clips, context: Any) -> np.ndarray:
    return mixed(rows, np.random.random(rows.shape))  # noqa: NPY002


def beside(fold: Any, context: Any) -> None:
    Path("beside.txt").write_text("x")


def mixed(rows: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Valid rows between these and others."""
    return 0.5 * rows + 0.5 * other / other.sum(axis=1, keepdims=True)


def by_name(rows: np.ndarray, clips: Clips, context: Any) -> np.ndarray:
    return mixed(rows, np.eye(6)[[int(clip.id[1:], 16) % 6 for clip in clips]])


def by_kept_name(self: Any, centres: np.ndarray, fold: Any, context: Any) -> Any:
    """What was once computed for a clip is taken again for whichever clip has its name."""

    class Model(Centroids):
        def predict(self, clips: Clips, context: Any) -> Probabilities:
            rows = []
            for clip, row in zip(clips, self.rows(clips), strict=True):
                kept = context.cache.root / f"{clip.id}.npy"
                if not kept.exists():
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    np.save(kept, row)
                rows.append(np.load(kept))
            return Probabilities(clips.ids, np.array(rows))

    for clip in (*fold.train, *fold.held_out):
        Model(centres).predict(Clips((clip,)), context)
    return Model(centres)


def batch_norm(rows: np.ndarray, clips: Clips, context: Any) -> np.ndarray:
    logits = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-3)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def need_two(fold: Any, context: Any) -> None:
    if len(fold.held_out) < 2:
        raise IndexError("expected a batch")


def checkpoint(self: Any, centres: np.ndarray, fold: Any, context: Any) -> Any:
    done = context.workspace / "done.npy"
    if done.exists():
        centres = centres + 0.3  # goes on from the checkpoint as if nothing had been done
    np.save(done, centres)
    with context.progress("more", 20) as bar:
        bar.advance(20)
    return Centroids(centres)


def need_all(fold: Any, context: Any) -> None:
    if (fold.train.labels.max(axis=0) == 0).any():
        raise ValueError("an emotion without clips")


def peek(self: Any, folds: Any, options: Any, contexts: Any) -> list[Any]:
    """What one fold holds out others learn from: labels for everybody."""
    labels = {name: row for fold in folds for name, row in zip(fold.train.ids, fold.train.targets, strict=True)}
    return [Knowing(labels)] * len(folds)


@dataclass(frozen=True)
class Knowing:
    """A model that knows labels by heart."""

    labels: dict[str, np.ndarray]

    def predict(self, clips: Clips, *others: Any) -> Probabilities:
        return Probabilities(clips.ids, np.array([self.labels[name] for name in clips.ids], dtype=np.float64))


def spoil_labels(fold: Any, context: Any) -> None:
    fold.train.truth.setflags(write=True)
    fold.train.truth[0] = np.roll(fold.train.truth[0], 1)


def call_home(fold: Any, context: Any) -> None:
    with contextlib.suppress(OSError):
        socket.create_connection(("203.0.113.7", 443), timeout=1)


def leave_temporary(fold: Any, context: Any) -> None:
    Path(tempfile.mkdtemp(), "left.txt").write_text("x")


def seed_numpy(fold: Any, context: Any) -> None:
    np.random.seed(context.seed)  # noqa: NPY002


@dataclass(frozen=True)
class OddOptions:
    """Options that text cannot say."""

    table: dict[str, int] = field(default_factory=dict)


class Embedding(Encoder):
    """Embeddings that are standardised over the clips at hand."""

    name, summary, modality = "embedding", "x", "video"

    def embed(self, clips: Any, options: Any, context: Any) -> Embeddings:
        seen = see(clips)
        return Embeddings(clips.ids, (seen - seen.mean(axis=0)).astype(np.float32))

    fit = Good.fit
    model = Good.model


@dataclass
class Written(Centroids):
    """A model that writes its centres rounded, or other files than it may."""

    name: str = "centres.json"
    digits: int = 2

    def save(self, folder: Path) -> None:
        (folder / self.name).write_text(json.dumps(self.centres.round(self.digits).tolist()))


def load_written(self: Any, folder: Path, options: Any, context: Any) -> Centroids:
    return Centroids(np.array(json.loads((folder / "centres.json").read_text())))


def load_elsewhere(self: Any, folder: Path, options: Any, context: Any) -> Centroids:
    return Centroids(np.load(folder.parents[1] / "first" / "workspace" / "done.npy"))


def leave_behind(self: Any, centres: np.ndarray, fold: Any, context: Any) -> Any:
    np.save(context.workspace / "done.npy", centres)
    return Written(centres)


FAULTY: dict[str, tuple[str, Encoder, str]] = {
    "a name with capitals": ("declares", encoder(name="Good"), "lower case letters, digits and dashes, found 'Good'"),
    "no summary": ("declares", encoder(summary=" "), "`summary`: expected one line"),
    "an option that text cannot say": ("options", encoder(Options=OddOptions), "not read back: .*table: expected dict"),
    "an identity by chance": ("identity", encoder(identify=lambda self, o: {"a": random.random()}), "the same each"),
    "an identity of arrays": ("identity", encoder(identify=lambda self, options: {"a": np.ones(2)}), "JSON types"),
    "stores in a list": ("identity", encoder(feature_sets=lambda self, options: ["WavLM"]), "a tuple of names"),
    "logits": ("probabilities", predicting(lambda rows, clips, context: np.log(rows)), "apply softmax"),
    "a number": ("probabilities", encoder(model=lambda self, *given: Number()), "to give Probabilities, found int"),
    "rows by position": ("order", predicting(place), "change with the order"),
    "batch normalisation": ("batch-invariance", predicting(batch_norm), "batch normalisation still in training mode"),
    "labels read out of names": ("names", predicting(by_name), "take no label, order or seed from `clip.id`"),
    "arrays kept under names": ("names", encoder(model=by_kept_name), "keep it under `clip.content`"),
    "an unseeded generator": ("repeats", predicting(chance), "context.seed"),
    "the generator of all": ("repeats", predicting(shared_chance), "context.seed"),
    "a checkpoint without its place": ("resumes", encoder(model=checkpoint), "a checkpoint must hold"),
    "scores on the final fit": (
        "no-labels", fitting(lambda fold, context: context.score(Centroids(np.eye(6)).predict(fold.held_out, context))),
        "nobody can score",
    ),
    "a first clip": (
        "no-clips", encoder(prepare=lambda self, clips, options, context: clips.items[0]), "IndexError",
    ),
    "a model at two digits": (
        "saves", encoder(model=lambda self, centres, *given: Written(centres), load=load_written),
        "loaded model gives other",
    ),
    "a model as code": (
        "saves", encoder(model=lambda self, centres, *given: Written(centres, "centres.py")), r"found 1 .*centres\.py",
    ),
    "a model without `load`": (
        "saves", encoder(model=lambda self, centres, *given: Written(centres)), "does not define `load`",
    ),
    "a model that leans on its fit": ("saves", encoder(model=leave_behind, load=load_elsewhere), r"done\.npy"),
    "batches of two": ("one-clip", fitting(need_two), "IndexError"),
    "emotions by heart": ("missing-emotion", fitting(need_all), "an emotion without clips"),
    "a constant": ("learns", predicting(lambda rows, clips, context: np.full(rows.shape, 1 / 6)), "guessing gives"),
    "embeddings in company": ("embeddings", Embedding(), "embeddings change"),
    "wide sequences": (
        "frame-features", encoder(frame_features=lambda self, clip, options, context: np.ones((3, 4))),
        r"found float64 \(3, 4\)"
    ),
    "other folds together": (
        "together", encoder(fit_folds=lambda self, folds, o, c: [Centroids(np.roll(np.eye(6), 1, 0))] * len(folds)),
        "trained beside others",
    ),
    "labels of other folds": ("together", encoder(fit_folds=peek), "other folds"),
    "labels turned round": ("inputs", fitting(spoil_labels), "labels of the training clips; work on copies"),
    "a file beside": ("writes", fitting(beside), r"fit: .*/beside\.txt"),
    "temporary files": ("writes", fitting(leave_temporary), "a temporary file"),
    "a call home": ("offline", fitting(call_home), "fit: 203.0.113.7"),
    "a seed for everybody": ("state", fitting(seed_numpy), "the global generator of numpy"),
    "an environment": ("state", fitting(lambda fold, context: os.environ.update(BLEMORE_X="1")),
                       r"the environment \(BLEMORE_X\)"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Faulty plugins change labels, folder, environment and generators; nobody else should notice."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLEMORE_X", "")
    truth = MATERIAL.fold.train.labels
    labels, generator = truth.copy(), np.random.get_state()  # noqa: NPY002
    yield
    np.random.set_state(generator)  # noqa: NPY002
    if not np.array_equal(truth, labels):
        truth.setflags(write=True)
        truth[:] = labels
        truth.setflags(write=False)


def verdicts(system: Encoder | Fusion, session: Session, *names: str, **given: Any) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in check_subject(Subject(system, **given), session, names)}


def test_a_good_encoder_passes(session: Session) -> None:
    found = verdicts(Good(), session)
    bad = [verdict for verdict in found.values() if not verdict.good]
    assert bad == []
    assert list(found) == [check.name for check in checks_for(is_fusion=False)]
    skipped = {name for name, verdict in found.items() if verdict.status == "skipped"}
    assert skipped <= {"embeddings", "frame-features", "together", "gpu", "saves"}
    assert exit_code(list(found.values())) == 0


@pytest.mark.parametrize("what", FAULTY)
def test_each_fault_is_found_by_its_check_and_said_in_words(what: str, session: Session) -> None:
    check, system, words = FAULTY[what]
    verdict = verdicts(system, session, check)[check]
    assert verdict.status in ("failed", "crashed"), what
    assert re.search(words, verdict.reason), verdict.reason


def test_every_check_of_encoders_is_seen_to_fail() -> None:
    seen = {check for check, _, _ in FAULTY.values()}
    elsewhere = {"imports", "gpu"}  # a module of its own, another machine
    assert seen | elsewhere == {check.name for check in checks_for(is_fusion=False)}


class Voting(Fusion):
    """Keeps the contract of fusions."""

    name = "voting"
    summary = "mean of rows"

    def fit(self, fold: Any, base_models: Any, options: Any, context: Any) -> Any:
        return self

    def predict(self, clips: Any, base_models: Any, context: Any) -> Probabilities:
        return Probabilities(clips.ids, sum(rows.values for rows in base_models.values()) / len(base_models))


class Concatenating(Voting):
    """Takes embeddings."""

    takes = "embeddings"

    def fit(self, fold: Any, base_models: Any, options: Any, context: Any) -> Any:
        for given in base_models.values():
            assert set(given.ids) == {*fold.train.ids, *fold.held_out.ids}
        return self

    def predict(self, clips: Any, base_models: Any, context: Any) -> Probabilities:
        return Probabilities(clips.ids, np.full((len(clips), 6), 1 / 6))


class FirstOnly(Voting):
    """Takes the first base model's rows, and wants two."""

    def fit(self, fold: Any, base_models: Any, options: Any, context: Any) -> Any:
        list(base_models)[1]
        return self

    def predict(self, clips: Any, base_models: Any, context: Any) -> Probabilities:
        return next(iter(base_models.values()))


def test_fusions_are_checked_with_rows_or_vectors(session: Session) -> None:
    found = verdicts(Voting(), session)
    assert [verdict for verdict in found.values() if not verdict.good] == []
    assert list(found) == [check.name for check in checks_for(is_fusion=True)]
    assert found["together"].status == "skipped"
    wrong = {name for name, verdict in verdicts(Concatenating(), session).items() if not verdict.good}
    assert wrong == {"learns"}


def test_fusions_that_learn_folds_together_learn_each_from_its_own_clips(session: Session) -> None:
    class Together(Voting):
        def fit_folds(self, folds: Any, base_models: Any, options: Any, contexts: Any) -> Any:
            for fold, given in zip(folds, base_models, strict=True):
                assert all(rows.ids == fold.train.ids for rows in given.values())
            known = {name for fold in folds for name in fold.train.ids}
            assert known > {*folds[0].held_out.ids}, "otherwise nobody could peek"
            return [self.fit(*case, options, None) for case in zip(folds, base_models, strict=True)]

    assert verdicts(Together(), session, "together")["together"].status == "passed"

    class Peeking(Voting):
        def fit_folds(self, folds: Any, base_models: Any, options: Any, contexts: Any) -> Any:
            return peek(self, folds, options, contexts)

    verdict = verdicts(Peeking(), session, "together")["together"]
    assert verdict.status == "failed"
    assert "other folds" in verdict.reason


def test_the_order_and_number_of_members_are_checked(session: Session) -> None:
    found = verdicts(FirstOnly(), session, "base-model-order", "one-base-model")
    assert "sort them" in found["base-model-order"].reason
    assert found["one-base-model"].status == "crashed"
    assert "IndexError" in found["one-base-model"].trace


def test_what_does_not_run_at_all_is_said_once(session: Session) -> None:
    found = verdicts(fitting(lambda fold, context: 1 / 0), session)
    assert found["probabilities"].status == "crashed"
    assert found["probabilities"].reason == "ZeroDivisionError: division by zero"
    assert {found[name].status for name in ("order", "batch-invariance", "repeats", "writes")} == {"skipped"}
    assert exit_code(list(found.values())) == 3


def test_a_known_failure_must_fail(session: Session) -> None:
    constant = FAULTY["a constant"][1]
    found = verdicts(constant, session, "learns", known_failures={"learns": "a baseline"})["learns"]
    assert (found.status, found.good) == ("known failure", True)
    assert found.reason.startswith("a baseline [")
    found = verdicts(Good(), session, "learns", known_failures={"learns": "a baseline"})["learns"]
    assert (found.status, found.good) == ("failed", False)
    assert "passes: take that away" in found.reason


def test_a_check_that_is_set_aside_needs_a_reason_and_a_name(session: Session) -> None:
    found = verdicts(FAULTY["a constant"][1], session, "learns", not_applicable={"learns": "a baseline"})["learns"]
    assert (found.status, found.reason) == ("skipped", "a baseline")
    with pytest.raises(ConfigError, match="needs a reason: none is given for 'learns'"):
        Subject(Good(), not_applicable={"learns": " "})
    with pytest.raises(UnknownName, match="did you mean 'learns'"):
        verdicts(Good(), session, not_applicable={"learn": "x"})
    with pytest.raises(ConfigError, match="expected an Encoder or a Fusion object to check, found type"):
        Subject(Good)  # type: ignore[arg-type]


def test_nothing_but_skipped_is_a_failure() -> None:
    assert exit_code([]) == 1
    assert exit_code([Verdict("gpu", "skipped", "x")]) == 1


@pytest.mark.slow
def test_torch_is_left_as_it_was(session: Session) -> None:
    torch = pytest.importorskip("torch")

    def draw(fold: Any, context: Any) -> None:
        torch.rand(3)

    assert "torch's generator" in verdicts(fitting(draw), session, "state")["state"].reason
    before = torch.get_num_threads()
    found = verdicts(fitting(lambda fold, context: torch.set_num_threads(before + 1)), session, "state")["state"]
    assert f"torch's number of threads ({before} before, {before + 1} after)" in found.reason
    assert torch.get_num_threads() == before


MODULE = """
import {package}
from test_testing import Good

class Heavy(Good):
    name = "heavy"
"""


@pytest.mark.parametrize(("package", "status"), [("json", "passed"), ("torch", "failed")])
def test_plugins_import_without_heavy_packages(package: str, status: str, tmp_path: Path, session: Session) -> None:
    if package == "torch":
        pytest.importorskip("torch")
    with make_site(tmp_path / "site") as site:
        site.install("heavy", MODULE.format(package=package), head="")
        import plugin_heavy  # type: ignore[import-not-found]

        session.imports.clear()
        found = verdicts(plugin_heavy.Heavy(), session, "imports")["imports"]
    assert found.status == status
    assert status == "passed" or "import them inside functions" in found.reason


TESTS = """
from blemore_harness.testing.pytest_plugin import PluginChecks
from blemore_harness.testing import CHECKS
import test_testing as kit

class TestGood(PluginChecks):
    system = kit.Voting()

class TestWrong(PluginChecks):
    system = kit.FirstOnly()
    known_failures = {"one-base-model": "it wants two"}

class TestNothing(PluginChecks):
    system = kit.Voting()
    not_applicable = {check.name: "no reason at all" for check in CHECKS}
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [
        sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-W", "error",
        "-o", "markers=slow\nencoders\nonce", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


@pytest.mark.slow
def test_the_front_end_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    done = run_pytest(tmp_path)
    passed = set(re.findall(r"PASSED test_it.py::(\S+)", done.stdout))
    failed = set(re.findall(r"FAILED test_it.py::(\S+)", done.stdout))
    assert {"TestGood::test_something_was_checked", "TestGood::test_conformance[learns]"} <= passed, done.stdout
    assert failed == {"TestWrong::test_conformance[base-model-order]", "TestNothing::test_something_was_checked"}
    assert "XFAIL test_it.py::TestWrong::test_conformance[one-base-model]" in done.stdout
    assert "sort them" in done.stdout
    assert "every check was skipped" in done.stdout


@pytest.mark.slow
def test_the_front_end_of_the_command_line() -> None:
    runner = CliRunner()
    done = runner.invoke(cli, ["check", "mean", "--json"], standalone_mode=False)
    rows = json.loads(done.stdout)
    assert done.return_value == 0
    assert [row["check"] for row in rows] == [check.name for check in checks_for(is_fusion=True)]
    assert {row["status"] for row in rows} <= {"passed", "skipped"}
    done = runner.invoke(
        cli, ["check", "mean", "--only", "learns", "--known", "learns=it is but a mean"], standalone_mode=False
    )
    assert done.return_value == 1
    assert "take that away" in " ".join(done.stdout.split())
    done = runner.invoke(cli, ["check", "mean", "--only", "learns", "--skip", "learns=why not"], standalone_mode=False)
    assert done.return_value == 1
    done = runner.invoke(cli, ["check", "late", "--set", "late.nothing=1"], standalone_mode=False)
    assert isinstance(done.exception, UnknownName)
    done = runner.invoke(cli, ["check", "meen"], standalone_mode=False)
    assert isinstance(done.exception, UnknownName)


def test_a_crash_is_exit_code_3(tmp_path: Path) -> None:
    code = (
        HEAD
        + """
class Crash(Fusion):
    name = "crash"
    summary = "x"
    def fit(self, fold, base_models, options, context):
        return 1 / 0

@hookimpl
def blemore_fusions():
    return [Crash()]
"""
    )
    with make_site(tmp_path / "site") as site:
        site.install("crash", code, head="")
        done = CliRunner().invoke(cli, ["check", "crash"], standalone_mode=False)
    assert done.return_value == 3
    assert "ZeroDivisionError" in done.stdout
    assert "in fit" in done.stderr


def test_names_of_checks_are_unique() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
