"""The whole evaluation with toy plugins: numbers against a literal evaluation, resume, failures, hooks, secrecy."""

from __future__ import annotations

import gc
import json
import re
import threading
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.decoding.strategies import HONEST
from blemore_harness.drawing.tables import draw_next_steps
from blemore_harness.errors import BlemoreError, ConfigError, DataError, MediaError, UnknownName
from blemore_harness.files.runs import read_record
from blemore_harness.hookspecs import Fusion
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.protocol.thresholds import official
from blemore_harness.scoring.intervals import short
from blemore_harness.systems.submission import Submission, from_plugins
from builders import label_of, put, rows_of, write_download
from golden import literal_protocol
from toys import Bench, Noisy, NoisyModel, Seeing, offer, open_bench, system

GRID = np.linspace(0.05, 0.95, 20)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return open_bench(tmp_path, actors=6, tests=4)


def literal_choice(rows: list[list[float]], truth: list[list[int]]) -> tuple[float, float]:
    """The official grid search, one decoding after the other."""
    best = (-1.0, 0.0, 0.0)
    for alpha in GRID:
        for beta in GRID:
            presence, salience = literal_scores(rows, truth, float(alpha), float(beta))
            score = 0.5 * presence + 0.5 * salience
            if score > best[0]:
                best = (score, float(alpha), float(beta))
    return best[1], best[2]


def literal_scores(rows: list[list[float]], truth: list[list[int]], alpha: float, beta: float) -> tuple[float, float]:
    decoded = [literal_protocol.decode_row(row, alpha, beta) for row in rows]
    named = [
        {name: share for name, share in zip(literal_protocol.EMOTIONS, label, strict=True) if share} for label in truth
    ]
    return literal_protocol.presence(named, decoded), literal_protocol.salience(named, decoded)


def test_official_and_cross_fitted_numbers_equal_a_literal_evaluation(bench: Bench) -> None:
    plugins, _ = offer(Noisy("one"))
    record, folder = bench.run(plugins, from_plugins(["one"]))
    truth = {row["filename"]: label_of(row) for row in rows_of(actors=6, folds=3)}
    home = folder.parent / "systems" / f"one-{system(record, 'one')['digest']}"
    by_fold: dict[int, tuple[list[list[float]], list[list[int]]]] = {}
    for fold in range(3):
        lines = (home / f"fold-{fold}.csv").read_text().splitlines()
        header = lines[0].split(",")
        cells = [dict(zip(header, line.split(","), strict=True)) for line in lines[1:]]
        rows = [[float(cell[name]) for name in ("ang", "disg", "fea", "hap", "sad", "neu")] for cell in cells]
        by_fold[fold] = rows, [truth[cell["filename"]] for cell in cells]
    official, honest = [], []
    for fold, (rows, labels) in by_fold.items():
        official.append(literal_scores(rows, labels, *literal_choice(rows, labels)))
        others = [other for k, other in by_fold.items() if k != fold]
        pooled = [row for rows_k, _ in others for row in rows_k], [row for _, labels_k in others for row in labels_k]
        honest.append(literal_scores(rows, labels, *literal_choice(*pooled)))
    found = system(record, "one")
    for kind, expected in (("official", official), ("cross_fitted", honest)):
        for column, name in enumerate(("acc_presence", "acc_salience")):
            values = [pair[column] for pair in expected]
            assert found[kind][name]["mean"] == pytest.approx(np.mean(values), abs=1e-12)
            assert found[kind][name]["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)


def test_what_is_finished_is_never_done_again(bench: Bench) -> None:
    one, two = Noisy("one"), Noisy("two")
    first, _ = bench.run(offer(one, two)[0], from_plugins(["one"]))
    assert one.calls == ["prepare", 0, 1, 2, None]
    again, folder = bench.run(offer(one, two)[0], from_plugins(["one,two"], "late"))
    assert one.calls == ["prepare", 0, 1, 2, None], "a run of more encoders trained a finished one again"
    assert two.calls == ["prepare", 0, 1, 2, None]
    assert system(again, "one")["official"] == system(first, "one")["official"]
    rows = {path: path.read_bytes() for path in folder.parent.rglob("*.csv")}
    bench.run(offer(one, two)[0], from_plugins(["one,two"], "late"))
    assert len(one.calls) == len(two.calls) == 5
    assert rows == {path: path.read_bytes() for path in folder.parent.rglob("*.csv")}


def test_another_option_seed_or_dataset_is_another_identity(bench: Bench, tmp_path: Path) -> None:
    plugins, _ = offer(Noisy("one"))
    plain = bench.run(plugins, from_plugins(["one"]))[0]["identity"]
    seeded = bench.run(plugins, from_plugins(["one"]).with_options({}, 7))[0]["identity"]
    other = read_dataset(write_download(tmp_path / "other", rows_of(actors=8, folds=3), tests=4))
    elsewhere = Bench(other, blind_dataset(other, tmp_path / "views"), tmp_path)
    assert len({plain, seeded, elsewhere.run(plugins, from_plugins(["one"]))[0]["identity"]}) == 3


@dataclass(frozen=True)
class Nearest:
    """Answers with the labels of the nearest training clip."""

    vectors: Any
    targets: Any

    def predict(self, clips: Clips, base_models: Mapping[str, Embeddings], context: Context) -> Probabilities:
        (given,) = base_models.values()
        assert given.ids == clips.ids
        distance = np.abs(given.values[:, None] - self.vectors[None]).sum(axis=2)
        return Probabilities(clips.ids, self.targets[distance.argmin(axis=1)])


class ByVectors(Fusion):
    """A fusion of embeddings; remembers for which clips it saw them."""

    name = "nearest"
    summary = "nearest"
    takes = "embeddings"

    def __init__(self) -> None:
        self.saw: dict[Any, tuple[str, ...]] = {}

    def fit(self, fold: Fold, base_models: Mapping[str, Embeddings], options: Any, context: Context) -> Nearest:
        (given,) = base_models.values()
        self.saw[fold.index] = given.ids
        return Nearest(given.values[: len(fold.train)], fold.train.targets)


def test_a_fusion_of_vectors_gets_those_of_both_parts_of_a_fold(bench: Bench) -> None:
    one, two, fusion = Seeing("one"), Seeing("two"), ByVectors()
    submission = Submission("vectors", ("one",), options={})
    object.__setattr__(submission, "fusion", "nearest")
    record, _ = bench.run(offer(one, two, fusions=(fusion,))[0], submission)
    assert record["status"] == "finished"
    for index in (0, 1, 2, None):
        fold = bench.blinded.fold(index)
        assert fusion.saw[index] == (*fold.train.ids, *fold.held_out.ids)
    assert one.calls.count("embed") == 1
    rows = {}
    for index in (0, 1, 2):
        fold = bench.blinded.fold(index)
        vectors = {clip.id: int(clip.content[:6], 16) / 2**24 for clip in bench.blinded.everything()}
        for name in fold.held_out.ids:
            best = min(fold.train.ids, key=lambda other: abs(np.float32(vectors[other]) - np.float32(vectors[name])))
            rows[name] = fold.train.targets[fold.train.ids.index(best)]
    choices = official(
        np.array([rows[name] for name in bench.blinded.train.ids]), bench.blinded.train.labels, bench.blinded.folds
    )
    expected = np.mean([choice.scores.score for choice in choices.values()])
    found = system(record, "nearest")
    assert found["official"]["score"]["mean"] == pytest.approx(expected), "scored on clips that it has not trained"
    bench.run(offer(one, two, fusions=(fusion,))[0], submission)
    assert one.calls.count("embed") == 1, "embeddings were asked for again although every fold was finished"


def test_a_fusion_of_vectors_refuses_members_without(bench: Bench) -> None:
    plugins, _ = offer(Noisy("one"), Seeing("two"), fusions=(ByVectors(),))
    with pytest.raises(ConfigError, match=r"'nearest' fuses embeddings, and 1 base model \(first: 'one'\) gives none"):
        bench.run(plugins, from_plugins(["one,two"], "nearest"))


@pytest.mark.slow
def test_transductive_thresholds_guess_the_actors_and_are_marked(bench: Bench) -> None:
    plugins, _ = offer(Seeing("one"), Noisy("two"))
    plain, folder = bench.run(plugins, from_plugins(["one,two"], "late"))
    assert plain["test"]["strategy"] in HONEST
    assert plain["caveat"] is None
    asked = from_plugins(["one,two"], "late").with_options({}, None, "actor-centred")
    record, _ = bench.run(plugins, asked)
    test = record["test"]
    assert (test["strategy"], test["why"], test["transductive"]) == ("actor-centred", "asked for", True)
    assert -1 <= test["rand_index"] <= 1
    assert test["groups"] >= 1
    assert 0 <= test["score_with_guessed_actors"] <= 1
    assert record["caveat"] == "transductive test labels (actor-centred)"
    table = (folder / "table.txt").read_text()
    assert "transductive test labels (actor-centred)" in table
    assert table.count("oracle actors: no valid submission") == 3 - ("decodes the test clips" in table)
    said = f"Actors are guessed: Score {short(test['score_with_guessed_actors'])}"
    assert said in " ".join(table.split())
    assert "then upload it to Codabench" in str(draw_next_steps(read_record(folder), folder, None))
    with pytest.raises(DataError, match="only where a base model gives embeddings"):
        bench.run(plugins, from_plugins(["two"]).with_options({}, None, "actor-rank"))


@pytest.mark.parametrize(("name", "error"), [("averagd", UnknownName), ("official", ConfigError)])
def test_thresholds_that_cannot_decode_test_clips_are_refused(bench: Bench, name: str, error: type[Exception]) -> None:
    one = Noisy("one")
    with pytest.raises(error, match=r"did you mean 'averaged'|test clips have no labels"):
        bench.run(offer(one)[0], from_plugins(["one"]).with_options({}, None, name))
    assert one.calls == []


def test_thresholds_that_are_asked_for_decode_the_test_clips(bench: Bench) -> None:
    plugins, _ = offer(Noisy("one"))
    record, _ = bench.run(plugins, from_plugins(["one"]).with_options({}, None, "averaged"))
    chosen = [fold["official"] for fold in system(record, "one")["folds"]]
    assert record["test"]["alpha"] == pytest.approx(np.mean([choice["alpha"] for choice in chosen]))
    assert record["test"]["beta"] == pytest.approx(np.mean([choice["beta"] for choice in chosen]))


class Together(Noisy):
    """Learns folds at once, as a GPU likes it."""

    asked: tuple[tuple[int | None, ...], ...] = ()

    def fit_folds(self, folds: Sequence[Fold], options: Any, contexts: Sequence[Context]) -> list[NoisyModel]:
        self.asked += (tuple(fold.index for fold in folds),)
        assert len({context.workspace for context in contexts}) == len(folds)
        models = [self.fit(fold, options, context) for fold, context in zip(folds, contexts, strict=True)]
        for fold, model, context in zip(folds, models, contexts, strict=True):
            if fold.index == 1:
                context.score(model.predict(fold.held_out, context))
        return models[: len(folds) - self.trouble.get("short", 0)]  # type: ignore[call-overload]


def test_folds_learnt_together_are_the_same_folds(bench: Bench) -> None:
    at_once, apart = Together("one"), Noisy("one")
    record, folder = bench.run(offer(at_once)[0], from_plugins(["one"]))
    assert at_once.asked == ((0, 1, 2, None),)
    other = Bench(bench.dataset, bench.blinded, bench.root / "other")
    literal, elsewhere = other.run(offer(apart)[0], from_plugins(["one"]))
    rows = {path.name: path.read_bytes() for path in folder.parent.rglob("*.csv")}
    assert rows == {path.name: path.read_bytes() for path in elsewhere.parent.rglob("*.csv")}
    assert system(record, "one")["official"] == system(literal, "one")["official"]
    assert system(record, "one")["notes"] == system(literal, "one")["notes"]
    assert [fold["times_asked"] for fold in system(record, "one")["folds"]] == [0, 1, 0]


def test_a_system_is_asked_once_what_its_options_mean(bench: Bench) -> None:
    class Asked(Noisy):
        count = 0

        def resolve_options(self, options: Any, feature_sets: frozenset[str]) -> Any:
            Asked.count += 1
            return options

    bench.run(offer(Asked("one"), Noisy("two"))[0], from_plugins(["one,two"], "late"))
    assert Asked.count == 1


def test_only_unfinished_folds_are_learnt_together(bench: Bench) -> None:
    apart = Noisy("one")
    apart.trouble[1] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        bench.run(offer(apart)[0], from_plugins(["one"]))
    at_once = Together("one")
    bench.run(offer(at_once)[0], from_plugins(["one"]))
    assert at_once.asked == ((1, 2, None),)


def test_too_few_models_of_folds_together_is_the_plugin_s_failure(bench: Bench) -> None:
    short = Together("one")
    short.trouble["short"] = 1  # type: ignore[assignment]
    record, _ = bench.run(offer(short)[0], from_plugins(["one"]))
    assert system(record, "one")["status"] == "failed"
    assert "one" in system(record, "one")["error"]["message"]


def test_an_interrupted_run_resumes_at_the_fold(bench: Bench) -> None:
    one = Noisy("one")
    one.trouble[1] = KeyboardInterrupt()
    plugins, watcher = offer(one)
    with pytest.raises(KeyboardInterrupt):
        bench.run(plugins, from_plugins(["one"]))
    [record_file] = (bench.root / "runs").glob("one-*/record.json")
    assert json.loads(record_file.read_text())["status"] == "interrupted"
    assert watcher.heard[-1] == ("finished", "interrupted")
    one.trouble.clear()
    one.calls.clear()
    record, folder = bench.run(plugins, from_plugins(["one"]))
    assert one.calls == ["prepare", 1, 2, None]
    assert record["status"] == "finished"
    assert folder == record_file.parent


def test_a_plugin_that_crashes_is_a_row_and_the_others_go_on(bench: Bench) -> None:
    bad, good = Noisy("bad"), Noisy("good")
    bad.trouble[1] = ZeroDivisionError("no such number")
    plugins, _ = offer(bad, good)
    record, _ = bench.run(plugins, from_plugins(["bad,good"], "late"))
    assert record["status"] == "failed"
    row = system(record, "bad")
    assert row["status"] == "failed"
    assert "bad (fold-1) crashed: ZeroDivisionError: no such number" in row["error"]["message"]
    assert "_stumble" in row["error"]["trace"]
    assert system(record, "good")["status"] == "finished"
    assert system(record, "late")["status"] == "skipped"
    assert record["test"] is None


def test_a_crash_in_prepare_is_a_row_too(bench: Bench) -> None:
    bad, good = Noisy("bad"), Noisy("good")
    bad.trouble["prepare"] = ZeroDivisionError("no such number")
    record, _ = bench.run(offer(bad, good)[0], from_plugins(["bad,good"], "late"))
    assert record["status"] == "failed"
    assert "bad (prepare) crashed: ZeroDivisionError" in system(record, "bad")["error"]["message"]
    assert bad.calls == ["prepare"]
    assert system(record, "good")["status"] == "finished"
    assert system(record, "late")["status"] == "skipped"


def test_what_a_plugin_lacks_fails_it_alone_and_says_what_to_do(bench: Bench) -> None:
    first, second = Noisy("first"), Noisy("second")
    clip = bench.blinded.train.items[0]
    second.trouble["prepare"] = MediaError(f"clip {clip.id} has no audio", clip.id)
    plugins, _ = offer(first, second)
    record, _ = bench.run(plugins, from_plugins(["first,second"], "late"))
    said = system(record, "second")["error"]["message"]
    assert said.startswith(f"second (prepare): clip {bench.blinded.real[clip.id]} has no audio; ")
    assert [system(record, name)["status"] for name in ("first", "late")] == ["finished", "skipped"]
    second.trouble["prepare"] = ModuleNotFoundError("No module named 'whisper'", name="whisper")
    record, _ = bench.run(plugins, from_plugins(["first,second"], "late"))
    assert system(record, "second")["error"]["message"].startswith("second (prepare) needs the package 'whisper': pip")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda ids, rows: (ids, rows * np.nan), "NaN .* 20 clips"),
        (lambda ids, rows: (ids, rows * 5 - 1), "negative .*softmax"),
        (lambda ids, rows: (ids, rows / 2), "0.5 in 20 clips"),
        (lambda ids, rows: (ids[1:], rows[1:]), "1 of 20 .* 0 "),
        (lambda ids, rows: (("stranger", *ids[1:]), rows), "1 of 20 .* 1 "),
        (lambda ids, rows: ((ids[1], *ids[1:]), rows), "1 duplicated clip"),
        (lambda ids, rows: (ids, rows[:, :5]), r"\(20, 6\)"),
    ],
)
def test_rows_that_are_no_probabilities_are_refused_by_name(bench: Bench, spoil: Any, complaint: str) -> None:
    class Spoilt(Noisy):
        def fit(self, fold: Fold, options: Any, context: Context) -> Any:
            class Model:
                def predict(self, clips: Clips, context: Context) -> Probabilities:
                    return Probabilities(*spoil(clips.ids, np.full((len(clips), 6), 1 / 6)))

            return Model()

    plugins, _ = offer(Spoilt("spoilt"))
    record, _ = bench.run(plugins, from_plugins(["spoilt"]))
    message = system(record, "spoilt")["error"]["message"]
    assert message.startswith("spoilt (fold-0): ")
    assert re.search(complaint, message), message
    assert not re.search(r"\bc[0-9a-f]{16}\b", message), "an opaque id reached the user"


def test_weights_are_never_chosen_on_the_clips_that_they_are_scored_on(bench: Bench) -> None:
    """The fused rows of fold k must not depend on the labels of fold k."""
    seen: dict[Any, Any] = {}

    @dataclass(frozen=True)
    class Mean:
        def predict(self, clips: Clips, base_models: Mapping[str, Probabilities], context: Context) -> Probabilities:
            assert all(rows.ids == clips.ids for rows in base_models.values())
            return Probabilities(clips.ids, np.mean([rows.values for rows in base_models.values()], axis=0))

    class Looking(Fusion):
        name = "looking"
        summary = "remembers what it was given"

        def fit(self, fold: Fold, base_models: Mapping[str, Probabilities], options: Any, context: Context) -> Mean:
            seen[fold.index] = fold, {name: rows.ids for name, rows in base_models.items()}
            return Mean()

    plugins, _ = offer(Noisy("one"), Noisy("two"), fusions=(Looking(),))
    record, _ = bench.run(plugins, from_plugins(["one", "two"], "looking"))
    assert list(seen) == [0, 1, 2, None]
    for index, (fold, ids) in seen.items():
        assert fold.held_out.truth is None
        assert set(ids) == {"one", "two"}
        assert all(rows == fold.train.ids for rows in ids.values())
        inside = {bench.blinded.train.ids[i] for i in np.flatnonzero(bench.blinded.folds == index)}
        assert not inside & set(fold.train.ids)
    assert len(seen[None][0].train) == 60
    assert record["test"]["clips"] == 4
    assert record["test"]["system"] == "looking"


def test_the_leaderboard_file_holds_the_test_clips(bench: Bench) -> None:
    from blemore_harness.files.leaderboard import check_submission

    plugins, _ = offer(Noisy("one"), Noisy("two"))
    record, folder = bench.run(plugins, from_plugins(["one", "two"], "late"))
    assert check_submission(folder / record["test"]["file"], bench.dataset.test_ids) == []


def test_hooks_hear_everything_once_and_change_nothing(bench: Bench) -> None:
    plugins, watcher = offer(Noisy("one"))
    record, _ = bench.run(plugins, from_plugins(["one"]))
    folds = [("fold", ("one", k, 20)) for k in range(3)]
    assert watcher.heard == [("started", "started"), *folds, ("fold", ("one", None, 4)), ("finished", "finished")]
    assert record["status"] == "finished"
    assert "by a hook" not in json.dumps(record)


def test_options_of_strangers_and_unknown_ones_are_refused(bench: Bench) -> None:
    plugins, _ = offer(Noisy("one"))
    with pytest.raises(ConfigError, match="unknown option of one 'speed'"):
        bench.run(plugins, from_plugins(["one"]).with_options({"one": {"speed": "3"}}, None))
    with pytest.raises(ConfigError, match=r"unknown encoder 'won'; did you mean 'one'\?"):
        bench.run(plugins, from_plugins(["won"]))


def test_asking_for_scores_is_counted_and_official(bench: Bench) -> None:
    answers = []

    class Asking(Noisy):
        def fit(self, fold: Fold, options: Any, context: Context) -> NoisyModel:
            model = super().fit(fold, options, context)
            if context.final:
                with pytest.raises(BlemoreError, match="nothing is held out"):
                    context.score(model.predict(fold.held_out, context))
            else:
                answers.append(context.score(model.predict(fold.held_out, context)))
                with pytest.raises(BlemoreError, match="clips missing"):
                    context.score(model.predict(fold.train, context))
            return model

    plugins, _ = offer(Asking("asking"))
    record, _ = bench.run(plugins, from_plugins(["asking"]))
    row = system(record, "asking")
    assert row["times_asked"] == 6
    assert [fold["times_asked"] for fold in row["folds"]] == [2, 2, 2]
    assert [a.presence for a in answers] == [fold["official"]["acc_presence"] for fold in row["folds"]]
    table = (bench.root / "runs" / next(iter((bench.root / "runs").glob("asking-*"))) / "table.txt").read_text()
    assert "chosen on the held-out folds" in table
    assert "optimistic in both columns" in table
    plugins, _ = offer(Asking("asking"), Noisy("silent"))
    _, folder = bench.run(plugins, from_plugins(["asking,silent"], "late"))
    fused = (folder / "table.txt").read_text().split("late", 1)[1]
    assert "base models chosen on the held-out folds" in " ".join(fused.split())


def reachable(*roots: Any) -> Iterator[Any]:
    """Walk everything that can be reached from objects, but for modules, classes and the globals of functions."""
    seen: set[int] = set()
    queue = list(roots)
    while queue:
        found = queue.pop()
        if id(found) in seen or isinstance(found, types.ModuleType | type | types.FrameType | threading.Thread):
            continue
        seen.add(id(found))
        yield found
        if isinstance(found, types.FunctionType):
            queue += [found.__closure__, found.__defaults__, found.__kwdefaults__]
        elif isinstance(found, types.MethodType):
            queue += [found.__self__, found.__func__]
        else:
            queue += [thing for thing in gc.get_referents(found) if thing is not type(found)]


def test_no_held_out_label_and_no_real_name_can_be_reached_by_a_plugin(bench: Bench) -> None:
    names = set(bench.dataset.ids) | set(bench.dataset.test_ids)
    truth = bench.blinded.train.labels
    looked: list[Any] = []

    def look(*given: Any, held_out: tuple[str, ...]) -> None:
        position = {name: i for i, name in enumerate(bench.blinded.train.ids)}
        secret = truth[[position[name] for name in held_out if name in position]]
        for thing in reachable(*given):
            if isinstance(thing, str):
                assert not any(name in thing for name in names), thing
            if isinstance(thing, Path):
                assert not any(name in str(thing) for name in names), thing
            if isinstance(thing, np.ndarray) and thing.ndim == 2 and thing.shape[1] == 6 and len(secret):
                assert not (thing.shape == secret.shape and (np.sort(thing, 0) == np.sort(secret, 0)).all())
                assert thing.shape[0] != len(truth), "all labels at once"
        looked.append(held_out)

    class Nosy(Noisy):
        def prepare(self, clips: Clips, options: Any, context: Context) -> None:
            look(self, clips, options, context, held_out=clips.ids)

        def fit(self, fold: Fold, options: Any, context: Context) -> NoisyModel:
            model = super().fit(fold, options, context)
            if not context.final:
                look(fold, options, context, held_out=fold.held_out.ids)
                score = context.score(model.predict(fold.held_out, context))
                try:
                    context.score(model.predict(fold.train, context))
                except BlemoreError as error:
                    look(error, error.__traceback__, held_out=fold.held_out.ids)
                look(fold, options, context, score, held_out=fold.held_out.ids)
            return model

    plugins, _ = offer(Nosy("nosy"))
    record, _ = bench.run(plugins, from_plugins(["nosy"]))
    assert record["status"] == "finished", system(record, "nosy")["error"]
    assert len(looked) == 1 + 3 * 3


def test_released_features_that_are_read_are_part_of_the_identity(bench: Bench) -> None:
    class Reading(Noisy):
        def feature_sets(self, options: Any) -> tuple[str, ...]:
            return ("HiCMAE",)

    def identity() -> Any:
        dataset = read_dataset(bench.dataset.root)
        fresh = Bench(dataset, blind_dataset(dataset, bench.root / "views"), bench.root)
        return fresh.run(offer(Reading("reading"))[0], from_plugins(["reading"]))[0]["identity"]

    with pytest.raises(DataError, match=r"'HiCMAE' .*WavLM_large"):
        identity()
    name = bench.dataset.ids[0]
    put(bench.dataset.root / "pre_extracted_train_data" / "HiCMAE_train" / f"{name}.npy", "one")
    before = identity()
    put(bench.dataset.root / "pre_extracted_train_data" / "WavLM_large_train" / f"{name}.npy", "other")
    assert identity() == before, "features that nobody reads changed the identity"
    put(bench.dataset.root / "pre_extracted_train_data" / "HiCMAE_train" / f"{name}.npy", "two")
    assert identity() != before


def test_missing_videos_are_said_before_training(bench: Bench) -> None:
    for path in sorted(bench.dataset.videos.values())[:2]:
        path.unlink()
    dataset = read_dataset(bench.dataset.root)
    smaller = Bench(dataset, blind_dataset(dataset, bench.root / "views"), bench.root)

    class Watching(Noisy):
        def prepare(self, clips: Clips, options: Any, context: Context) -> None:
            for clip in clips:
                _ = clip.video

    plugins, _ = offer(Watching("watching"))
    record, _ = smaller.run(plugins, from_plugins(["watching"]))
    assert "has no video: expected <clip id>.mov" in system(record, "watching")["error"]["message"]
    assert any("clips have no video below" in line for line in smaller.reporter.said)
