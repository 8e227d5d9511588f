"""Kept models answer for new clips: for test clips the bits of the leaderboard file, else a label or a plain reason."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.cli import models as models_command
from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.decoding.strategies import STRATEGIES
from blemore_harness.disk import read_json, write_json
from blemore_harness.errors import DataError, MediaError, PluginFailed, RunError
from blemore_harness.files.leaderboard import read_submission
from blemore_harness.files.prediction_files import read_probabilities
from blemore_harness.files.runs import read_record
from blemore_harness.heads.options import HeadOptions
from blemore_harness.hookspecs import Encoder
from blemore_harness.pipeline import evaluate
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.running.kept_models import open_models, open_scratch
from blemore_harness.running.new_clips import BLOCK, ClipAnswer, KeptModels, list_clips
from blemore_harness.running.run import open_run
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.plugins import Plugins, register
from blemore_harness.systems.submission import Submission
from blemore_plugins import best_of, means, rank_aware, stack, structured, weighted
from builders import put
from toys import Bench, Noisy, NoisyModel, Silent, offer, open_bench

CLIPS = BLOCK + 7
"""Test clips: more than are predicted together."""


@dataclass(frozen=True)
class ReaderOptions:
    source: str = "auto"


@dataclass(frozen=True)
class SavedModel(NoisyModel):
    """Noise that can be saved."""

    seen: list[Any] = field(default_factory=list)

    def predict(self, clips: Clips, context: Context) -> Probabilities:
        self.seen.append((clips, context))
        return super().predict(clips, context)

    def save(self, folder: Path) -> None:
        write_json(folder / "prior.json", {"prior": self.prior.tolist(), "sharpness": self.sharpness})


class Kept(Noisy):
    """An encoder of which models are kept; clips whose file begins with a word of its own are broken for it."""

    def __init__(self, name: str, broken: bytes = b"broken") -> None:
        super().__init__(name, 2.0)
        self.broken = broken
        self.seen: list[Any] = []

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        super().prepare(clips, options, context)
        self.seen.append((clips, context))
        for clip in clips:
            if clip.video.read_bytes().startswith((self.broken, b"broken")):
                raise MediaError(f"clip {clip.id}: nothing to hear", clip.id)

    def fit(self, fold: Fold, options: Any, context: Context) -> SavedModel:
        model = super().fit(fold, options, context)
        return SavedModel(model.prior, model.sharpness, self.seen)

    def load(self, folder: Path, options: Any, context: Context) -> SavedModel:
        facts = read_json(folder / "prior.json")
        return SavedModel(np.array(facts["prior"]), facts["sharpness"], self.seen)


def plugins_of(*encoders: Encoder) -> Plugins:
    plugins, _ = offer(*encoders)
    for module in (means, weighted, stack, structured, best_of, rank_aware):
        register(plugins, module, module.__name__, Distribution("blemore-harness", "1"))
    return plugins


def run(
    bench: Bench, plugins: Plugins, fusion: str | None, encoders: Sequence[str] = ("one", "two"),
    options: Mapping[str, Any] | None = None, thresholds: str | None = None, **more: Any,
) -> Path:  # fmt: skip
    known = {name: given for name, given in (options or {}).items() if name in (*encoders, fusion)}
    submission = Submission("toys", tuple(encoders), fusion, options=known, thresholds=thresholds)
    where = (bench.root / "runs", bench.root / "cache", bench.reporter)
    _, folder = evaluate(open_run(submission, plugins, bench.dataset, bench.blinded, *where, **more))
    return folder


@contextmanager
def opened(folder: Path, plugins: Plugins, system: str | None = None) -> Iterator[KeptModels]:
    with open_scratch() as scratch:
        cache = folder.parents[1] / "other-cache"
        yield open_models(folder, read_record(folder), plugins, scratch, cache, "cpu", Silent(), system)


def ask(folder: Path, plugins: Plugins, *clips: Path, system: str | None = None) -> list[ClipAnswer]:
    with opened(folder, plugins, system) as models:
        return list(models.predict(list_clips(clips)))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "home-cache"))
    return tmp_path / "home-cache"


def final(folder: Path, system: str) -> dict[str, np.ndarray]:
    """What the final fit predicted, by clip."""
    [home] = folder.parent.glob(f"systems/{system}-*")
    rows = read_probabilities(home / "final.csv")
    return dict(zip(rows.ids, rows.values, strict=True))


SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "mean": {},
    "logit-mean": {},
    "weighted-logit-mean": {"strengths": (0.1,)},
    "stack": {"strengths": (1.0,)},
    "structured": {"strengths": (1.0,)},
    "late": {"search": "climb"},
    "best-of": {"candidates": ("mean", "logit-mean"), "inner_folds": 2},
}
"""Every fusion of probabilities, quick."""


def test_test_clips_get_the_bits_of_the_leaderboard_file(tmp_path: Path) -> None:
    bench, plugins = open_bench(tmp_path, 6, CLIPS), plugins_of(Kept("one"), Kept("two"))
    for fusion in SETTINGS:
        folder = run(bench, plugins, fusion, options=SETTINGS)
        answers = {each.clip.removesuffix(".mov"): each for each in ask(folder, plugins, tmp_path / "data" / "test")}
        labels = read_submission(folder / "submission.zip")
        assert answers.keys() == labels.keys()
        assert len(labels) == CLIPS
        rows = {name: final(folder, name) for name in ("one", "two", fusion)}
        for clip, answer in answers.items():
            assert answer.label is not None
            assert answer.probabilities is not None
            assert tuple(answer.label) == labels[clip]
            assert answer.probabilities.tobytes() == rows[fusion][clip].tobytes()
            assert {name: values.tobytes() for name, values in answer.base_models.items()} == {
                name: rows[name][clip].tobytes() for name in ("one", "two")
            }
            assert answer.remarks == ()


@pytest.mark.encoders
def test_heads_and_fused_embeddings_give_the_bits_of_the_leaderboard_file(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    bench, plugins = open_bench(tmp_path, 6, CLIPS), plugins_of(Headed("one"), Headed("two"))
    options = {name: {"epochs": 3, "patience": 3, "hidden": "8"} for name in ("one", "two")}
    options["rank-aware"] = {"width": 16, "epochs": 3, "patience": 3, "batch_size": 16}
    for fusion in (None, "best-of", "rank-aware"):
        folder = run(bench, plugins, fusion, ("one", "two")[: 2 if fusion else 1], options=options)
        labels = read_submission(folder / "submission.zip")
        rows = final(folder, fusion or "one")
        for answer in ask(folder, plugins, tmp_path / "data" / "test"):
            clip = answer.clip.removesuffix(".mov")
            assert answer.probabilities is not None
            assert answer.probabilities.tobytes() == rows[clip].tobytes()
            assert answer.label is not None
            assert tuple(answer.label) == labels[clip]


class Headed(Encoder):
    """Embeddings of noise, with the harness's own head."""

    summary, modality = "noise", "audio"
    Options = HeadOptions

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc]

    def embed(self, clips: Clips, options: Any, context: Context) -> Embeddings:
        context.log(f"{self.name} embeds {len(clips)} clips")  # asked for in every block
        draws = [
            np.random.default_rng([*self.name.encode(), int(clip.content[:8], 16)]).normal(size=5) for clip in clips
        ]
        return Embeddings(clips.ids, np.array(draws, dtype=np.float32).reshape(-1, 5))


def write_clips(folder: Path, **contents: str) -> Path:
    for name, content in contents.items():
        put(folder / f"{name}.mp4", content)
    return folder


def test_a_broken_clip_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    bench, plugins = open_bench(tmp_path, 6, 3), plugins_of(Kept("one", b"mute"), Kept("two", b"black"))
    new = write_clips(tmp_path / "new", a="fine", b="mute", c="black", d="broken", e="also fine")
    (new / "e.mp4").rename(new / "E.MOV")
    (new / "notes.txt").write_text("no clip")
    for name in SETTINGS:
        folder = run(bench, plugins, name, options=SETTINGS)
        answers = {each.clip: each for each in ask(folder, plugins, new)}
        assert sorted(answers) == ["E.MOV", "a.mp4", "b.mp4", "c.mp4", "d.mp4"]
        for whole in ("a.mp4", "E.MOV"):
            assert answers[whole].remarks == ()
            assert set(answers[whole].base_models) == {"one", "two"}
        nothing = answers["d.mp4"]
        assert (nothing.label, nothing.probabilities, nothing.base_models) == (None, None, {})
        assert "one is missing: clip d.mp4: nothing to hear" in nothing.remarks
        for clip, lacks, there in (("b.mp4", "one", "two"), ("c.mp4", "two", "one")):
            answer = answers[clip]
            assert set(answer.base_models) == {there}
            assert answer.remarks[0] == f"{lacks} is missing: clip {clip}: nothing to hear"
            if name in ("mean", "logit-mean", "weighted-logit-mean"):
                assert answer.probabilities is not None
                np.testing.assert_allclose(answer.probabilities, answer.base_models[there], atol=1e-4)
                assert len(answer.remarks) == 1
            elif name in ("stack", "structured"):
                assert answer.label is None
                assert lacks in answer.remarks[1]
                assert name in answer.remarks[1]
                assert "traceback" not in answer.remarks[1]


def test_one_encoder_alone_says_what_it_cannot_use(tmp_path: Path) -> None:
    bench, plugins = open_bench(tmp_path, 6, 3), plugins_of(Kept("one"))
    folder = run(bench, plugins, None, ("one",))
    new = write_clips(tmp_path / "new", a="fine", b="broken", c="no more")
    (new / "c.mp4").unlink()
    with opened(folder, plugins) as models:
        answers = list(models.predict({"a": new / "a.mp4", "b": new / "b.mp4", "c": new / "c.mp4"}))
    assert [each.label is None for each in answers] == [False, True, True]
    assert answers[0].base_models == {}
    assert "nothing to hear" in answers[1].remarks[0]
    assert "c.mp4" in answers[2].remarks[0]


def test_a_plugin_that_breaks_otherwise_ends_the_prediction(tmp_path: Path) -> None:
    one = Kept("one")
    bench, plugins = open_bench(tmp_path, 6, 3), plugins_of(one, Kept("two"))
    folder = run(bench, plugins, "mean")
    one.trouble["prepare"] = ValueError("no key")
    with pytest.raises(PluginFailed, match=r"one crashed.*no key") as caught:
        ask(folder, plugins, tmp_path / "data" / "test")
    assert "home-cache" not in str(caught.value)


def test_answers_come_block_by_block_and_nothing_is_left(tmp_path: Path, cache: Path) -> None:
    one = Kept("one")
    bench, plugins = open_bench(tmp_path, 6, CLIPS), plugins_of(one)
    folder = run(bench, plugins, None, ("one",))
    one.calls.clear()
    with opened(folder, plugins) as models:
        answers = models.predict(list_clips([tmp_path / "data" / "test"]))
        for _ in range(BLOCK):
            next(answers)
        assert one.calls == ["prepare"]
        assert list(models.scratch.rglob("*.mov")) == []
        next(answers)
        assert one.calls == ["prepare", "prepare"]
        # A folder that a process holds stays, and one of a killed process goes.
        left = cache / "new-clips" / "left"
        put(left / ".lock", b"\n")
        put(left / "links" / "c.mov")
        os.utime(left, (1, 1))
        os.utime(models.scratch, (1, 1))
        with open_scratch():
            assert models.scratch.is_dir()
            assert not left.exists()
        assert len(list(answers)) == CLIPS - BLOCK - 1
    assert list((cache / "new-clips").iterdir()) == []
    assert list(cache.rglob("*.mov")) == []


@pytest.mark.parametrize("write", [models_command._write_csv, models_command._write_json])
def test_what_was_answered_is_in_the_file_before_the_next_block(tmp_path: Path, write: Any) -> None:
    bench, plugins = open_bench(tmp_path, 6, CLIPS), plugins_of(Kept("one"))
    folder = run(bench, plugins, None, ("one",))
    with opened(folder, plugins) as models, (tmp_path / "answers").open("w") as file:
        written = write(file, models, models.predict(list_clips([tmp_path / "data" / "test"])))
        for number in range(1, BLOCK + 1):
            next(written)
            text = (tmp_path / "answers").read_text()
            assert [f"test_{k:04d}.mov" in text for k in range(1, CLIPS + 1)] == [True] * number + [False] * (
                CLIPS - number
            )


def test_names_of_new_clips_never_reach_a_plugin(tmp_path: Path) -> None:
    one = Kept("one")
    bench, plugins = open_bench(tmp_path, 6, 3), plugins_of(one, Kept("two"))
    folder = run(bench, plugins, "mean")
    one.seen.clear()
    new = write_clips(tmp_path / "secretfolder", A7_mix_secretname="fine", A8_secretname="fine, too")
    assert [each.clip for each in ask(folder, plugins, new)] == ["A7_mix_secretname.mp4", "A8_secretname.mp4"]
    assert len(one.seen) == 2
    for clips, context in one.seen:
        assert clips.actors is None
        assert clips.truth is None
        texts = [repr(clips), str(context.workspace), str(context.cache.root), *(str(c.video.resolve()) for c in clips)]
        assert "secret" not in " ".join(texts)


def test_a_kept_model_holds_no_name_of_a_clip_or_an_actor(tmp_path: Path) -> None:
    bench, plugins = open_bench(tmp_path, 6, 3), plugins_of(Kept("one"), Kept("two"))
    run(bench, plugins, "stack", keep_models="all")
    files = list(tmp_path.glob("runs/systems/*/*-model/*"))
    assert len(files) == 3 * 4
    for path in files:
        text = path.read_text()
        assert [name for name in (*bench.dataset.ids, *bench.blinded.real) if name in text] == []


@pytest.mark.parametrize("keep", [None, "final"])
def test_models_that_are_missing_are_fitted_again_and_no_others(tmp_path: Path, keep: Any) -> None:
    one = Kept("one")
    bench, plugins = open_bench(tmp_path, 6, 3), plugins_of(one)
    folder = run(bench, plugins, None, ("one",), keep_models="none")
    with pytest.raises(RunError, match="--keep-models final"):
        ask(folder, plugins, tmp_path / "data" / "test")
    rows = {path.name: path.read_bytes() for path in tmp_path.glob("runs/systems/*/*.csv")}
    one.calls.clear()
    assert run(bench, plugins, None, ("one",), keep_models=keep) == folder
    assert one.calls == ["prepare", None]
    assert len(ask(folder, plugins, tmp_path / "data" / "test")) == 3
    one.calls.clear()
    run(bench, plugins, None, ("one",), keep_models="all")
    assert one.calls == ["prepare", 0, 1, 2]
    one.calls.clear()
    run(bench, plugins, None, ("one",), keep_models="all")
    run(bench, plugins, None, ("one",), keep_models="none")
    assert one.calls == []
    assert rows == {path.name: path.read_bytes() for path in tmp_path.glob("runs/systems/*/*.csv")}


@pytest.mark.parametrize("fusion", [None, "stack", "rank-aware"])
def test_without_test_clips_models_are_kept_where_that_is_asked_for(tmp_path: Path, fusion: str | None) -> None:
    kinds = [Kept("one"), Kept("two")]
    options: dict[str, dict[str, object]] = {}
    if fusion == "rank-aware":
        pytest.importorskip("torch")
        kinds = [Headed("one"), Headed("two")]  # type: ignore[list-item]
        options = {name: {"epochs": 2, "patience": 2, "hidden": "8"} for name in ("one", "two")}
        options["rank-aware"] = {"width": 16, "epochs": 2, "patience": 2}
    bench, plugins = open_bench(tmp_path, 6, 0), plugins_of(*kinds)
    new = write_clips(tmp_path / "new", a="fine")
    names = ("one", "two")[: 2 if fusion else 1]
    folder = run(bench, plugins, fusion, names, options=options)
    before = read_record(folder)
    with pytest.raises(RunError, match="--keep-models final"):
        ask(folder, plugins, new)
    for kind in kinds:
        getattr(kind, "calls", []).clear()
    assert run(bench, plugins, fusion, names, options=options, keep_models="final") == folder
    if fusion != "rank-aware":
        assert kinds[0].calls == ["prepare", None]
    after = read_record(folder)
    assert [s.cross_fitted for s in after.finished] == [s.cross_fitted for s in before.finished]
    [answer] = ask(folder, plugins, new)
    assert answer.label is not None


def test_a_transductive_strategy_is_replaced_and_that_is_said(tmp_path: Path) -> None:
    [wanted] = [name for name in STRATEGIES if name == "actor-rank"]
    bench, plugins = open_bench(tmp_path, 6, 0), plugins_of(Kept("one"))
    folder = run(bench, plugins, None, ("one",), thresholds=wanted, keep_models="final")
    with opened(folder, plugins) as models:
        [remark] = models.remarks
        assert wanted in remark
        assert read_json(folder / "decoders.json")["one"]["strategy"] in remark
        assert not STRATEGIES[read_json(folder / "decoders.json")["one"]["strategy"]].transductive
        assert len(list(models.predict(list_clips([write_clips(tmp_path / "new", a="fine")])))) == 1


class Reader(Kept):
    """Reads released features where there are some, and otherwise the clip."""

    Options = ReaderOptions

    def resolve_options(self, options: Any, feature_sets: frozenset[str]) -> Any:
        found = "released" if "WavLM_large" in feature_sets else "media"
        return replace(options, source=found) if options.source == "auto" else options

    def feature_sets(self, options: Any) -> tuple[str, ...]:
        return ("WavLM_large",) if options.source == "released" else ()


def test_an_encoder_of_released_features_takes_the_clip_itself_where_it_can(tmp_path: Path) -> None:
    bench, plugins = open_bench(tmp_path, 6, 3), plugins_of(Reader("one"), Kept("two"))
    new = write_clips(tmp_path / "new", a="fine")
    with opened(run(bench, plugins, "mean"), plugins) as models:
        assert models.remarks == ("one was trained with source=released, and takes source=media here",)
        [answer] = models.predict(list_clips([new]))
    assert set(answer.base_models) == {"one", "two"}
    only = {"one": {"source": "released"}}
    [answer] = ask(run(bench, plugins, "mean", options=only), plugins, new)
    assert answer.label is not None
    assert set(answer.base_models) == {"two"}
    assert "WavLM_large" in answer.remarks[0]
    with pytest.raises(RunError, match=r"one.*WavLM_large"):
        ask(run(bench, plugins, None, ("one",), options=only), plugins, new)


def test_a_model_that_was_changed_is_refused(tmp_path: Path) -> None:
    bench, plugins = open_bench(tmp_path, 6, 3), plugins_of(Kept("one"))
    folder = run(bench, plugins, None, ("one",))
    [file] = tmp_path.glob("runs/systems/*/final-model/prior.json")
    file.write_text(file.read_text().replace("0", "1", 1))
    with pytest.raises(RunError, match=r"final-model.*changed or damaged"):
        ask(folder, plugins, tmp_path / "data" / "test")


def test_a_plugin_that_cannot_save_says_so(tmp_path: Path) -> None:
    bench, plugins = open_bench(tmp_path, 6, 3), plugins_of(Noisy("one"))
    folder = run(bench, plugins, None, ("one",))
    with pytest.raises(RunError, match=r"one-.*does not save"):
        ask(folder, plugins, tmp_path / "data" / "test")


def test_a_full_disk_while_a_model_is_saved_stops_the_run_which_then_goes_on(tmp_path: Path) -> None:
    full = [True]

    class Filling(Kept):
        def fit(self, fold: Fold, options: Any, context: Context) -> Any:
            model = super().fit(fold, options, context)

            class Heavy(SavedModel):
                def save(self, folder: Path) -> None:
                    if full[0]:
                        raise OSError(errno.ENOSPC, "No space left on device")
                    super().save(folder)

            return Heavy(model.prior, model.sharpness)

    one = Filling("one")
    bench, plugins = open_bench(tmp_path, 6, 3), plugins_of(one)
    with pytest.raises(RunError, match=r"one \(final\).*disk is full"):
        run(bench, plugins, None, ("one",))
    full[0] = False
    one.calls.clear()
    folder = run(bench, plugins, None, ("one",))
    assert one.calls == ["prepare", None]
    assert len(ask(folder, plugins, tmp_path / "data" / "test")) == 3


def test_a_model_that_cannot_be_saved_loses_no_prediction(tmp_path: Path) -> None:
    class Pickled(Kept):
        def fit(self, fold: Fold, options: Any, context: Context) -> Any:
            model = super().fit(fold, options, context)

            class Bad(type(model)):  # type: ignore[misc]
                def save(self, folder: Path) -> None:
                    (folder / "model.pkl").write_bytes(b"code")

            return Bad(model.prior, model.sharpness)

    bench, plugins = open_bench(tmp_path, 6, 3), plugins_of(Pickled("one"))
    folder = run(bench, plugins, None, ("one",))
    record = read_record(folder)
    assert record.status == "finished"
    assert [text for text in record.finished[0].warnings if "not kept" in text and "model.pkl" in text]
    assert list(tmp_path.rglob("model.pkl")) == []


@pytest.mark.parametrize(
    ("named", "says"),
    [
        (["nowhere"], "nowhere"),
        (["empty"], "empty"),
        (["face.png"], "face.png"),
        (["a/x.mp4", "b/x.mp4"], "x.mp4"),
        (["a", "b"], "x.mp4"),
    ],
)
def test_what_is_no_clip_is_named(tmp_path: Path, named: list[str], says: str) -> None:
    (tmp_path / "empty").mkdir()
    put(tmp_path / "face.png")
    put(tmp_path / "a" / "x.mp4")
    put(tmp_path / "b" / "x.mp4")
    with pytest.raises(DataError, match=says):
        list_clips([tmp_path / name for name in named])


def test_a_run_or_system_that_is_not_finished_is_named(tmp_path: Path) -> None:
    two = Kept("two")
    two.trouble[1] = ValueError("broken")
    bench, plugins = open_bench(tmp_path, 6, 3), plugins_of(Kept("one"), two)
    folder = run(bench, plugins, "mean")
    with pytest.raises(RunError, match=r"'two'.*finished: one"):
        ask(folder, plugins, tmp_path / "data" / "test", system="two")
    [*_, answer] = ask(folder, plugins, tmp_path / "data" / "test")
    assert answer.label is not None
    assert json.loads((folder / "record.json").read_text())["status"] == "failed"
