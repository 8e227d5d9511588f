"""Runs on other corpora, and runs that are trained on them too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clips, Fold
from blemore_harness.context import Context
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.errors import ConfigError, DataError
from blemore_harness.hookspecs import Fusion
from blemore_harness.predictions import Embeddings, Probabilities
from blemore_harness.protocol.rules import acc_presence
from blemore_harness.running.nested import open_inner
from blemore_harness.running.run import open_run
from blemore_harness.scoring.reading import load_system
from blemore_harness.systems.datasets import read_data
from blemore_harness.systems.submission import Submission
from builders import rows_of, write_download
from corpus_files import write_crema, write_ravdess
from toys import Bench, Noisy, NoisyModel, offer, system


@pytest.fixture
def crema(tmp_path: Path) -> str:
    return f"crema-d:{write_crema(tmp_path / 'crema', actors=8)}"


def bench_on(root: Path, data: str | Path, extra: list[str] | None = None) -> Bench:
    dataset = read_data(data, extra=extra or [])
    return Bench(dataset, blind_dataset(dataset, root / "views"), root)


def download(root: Path, actors: int = 6) -> Path:
    return write_download(root / "data", rows_of(actors=actors, folds=3), tests=2)


def numbers_in(value: Any, keys: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        return [each for key, inner in value.items() for each in numbers_in(inner, (*keys, key))]
    if isinstance(value, list):
        return [each for inner in value for each in numbers_in(inner, keys)]
    return [(keys, value)]


def test_singles_have_no_salience_and_no_score(tmp_path: Path, crema: str) -> None:
    """ACC_P is right by its definition; what needs blends is null, never 0; and tables say so."""
    bench = bench_on(tmp_path, crema)
    plugins, _ = offer(Noisy("a"), Noisy("b", 0.2))
    record, folder = bench.run(plugins, Submission("both", ("a", "b"), fusion="late"))
    assert record["data"]["corpus"] == "crema-d"
    assert record["status"] == "finished"
    undefined = [
        value
        for keys, value in numbers_in(record["systems"])
        if {"acc_salience", "score"} & set(keys) and "notes" not in keys
    ]
    assert undefined
    assert set(undefined) == {None}
    mine = load_system(tmp_path / "runs", str(folder), "a")
    labels = mine.answers("other-folds").labels
    folds = [mine.sample.folds == fold for fold in range(5)]
    expected = np.mean([acc_presence(mine.sample.truth[fold], labels[fold]) for fold in folds])
    found = system(record, "a")["cross_fitted"]["acc_presence"]["mean"]
    assert found == pytest.approx(expected)
    # The difference of the best two is one of ACC_P, not of half of it.
    ranked = sorted((s["cross_fitted"]["acc_presence"]["mean"] for s in record["systems"]), reverse=True)
    assert record["difference"]["difference"] == pytest.approx(ranked[0] - ranked[1])
    official, honest = (system(record, "a")[way]["acc_presence"]["mean"] for way in ("official", "cross_fitted"))
    assert system(record, "a")["sensitivity"]["drop"]["difference"] == pytest.approx(official - honest)
    table = (folder / "table.txt").read_text()
    assert "not defined" in table
    assert "crema-d" in table
    assert "nan" not in table.lower()
    assert "predicts the leaderboard" not in table


def test_thresholds_are_chosen_by_presence(tmp_path: Path, crema: str) -> None:
    bench = bench_on(tmp_path, crema)
    plugins, _ = offer(Noisy("a"))
    record, folder = bench.run(plugins, Submission("one", ("a",)))
    mine = load_system(tmp_path / "runs", str(folder), "a").sample
    for fold in system(record, "a")["folds"]:
        best = mine.grids.per_fold()[fold["fold"]].presence.max() / fold["clips"]
        assert fold["official"]["acc_presence"] == best


class Recalling(Noisy):
    """Keeps what it was trained on and what it was prepared for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.folds: dict[int | None, Fold] = {}
        self.prepared: Clips | None = None

    def prepare(self, clips: Clips, options: Any, context: Context) -> None:
        super().prepare(clips, options, context)
        self.prepared = clips

    def fit(self, fold: Fold, options: Any, context: Context) -> NoisyModel:
        self.folds[fold.index] = fold
        return super().fit(fold, options, context)

    def embed(self, clips: Clips, options: Any, context: Context) -> Embeddings:
        return Embeddings(clips.ids, np.array([[int(clip.content[:6], 16) / 2**24] for clip in clips], np.float32))


class Joining(Fusion):
    """Keeps the clips that it is trained on."""

    summary = "keeps its clips"

    def __init__(self, name: str, takes: str) -> None:
        self.name, self.takes = name, takes  # type: ignore[misc,assignment]
        self.folds: dict[int | None, Fold] = {}

    def fit(self, fold: Fold, base_models: Any, options: Any, context: Context) -> Any:
        self.folds[fold.index] = fold
        for given in base_models.values():
            assert set(given.ids) >= set(fold.train.ids)
        return self

    def predict(self, clips: Clips, base_models: Any, context: Context) -> Probabilities:
        return Probabilities(clips.ids, np.full((len(clips), 6), 1 / 6))


@pytest.mark.parametrize("takes", ["probabilities", "embeddings"])
def test_extra_clips_are_trained_on_and_never_held_out(tmp_path: Path, crema: str, takes: str) -> None:
    bench = bench_on(tmp_path, download(tmp_path), [crema])
    encoder, other, fusion = Recalling("a"), Recalling("b"), Joining("join", takes)
    plugins, _ = offer(encoder, other, fusions=(fusion,))
    record, _ = bench.run(plugins, Submission("both", ("a", "b"), fusion="join"))
    assert record["status"] == "finished", record
    own, extra = set(bench.blinded.train.ids), set(bench.blinded.extra.ids)
    assert (len(own), len(extra)) == (60, 48)
    assert set(encoder.folds) == {0, 1, 2, None}
    for index, fold in encoder.folds.items():
        assert extra < set(fold.train.ids)
        assert not extra & set(fold.held_out.ids)
        assert fold.train.ids == tuple(sorted(fold.train.ids))  # an order that says nothing
        assert fold.train.actors is not None
        by_actor = dict(zip(fold.train.ids, fold.train.actors, strict=True))
        assert {by_actor[name] for name in extra} == {f"crema-d:{number}" for number in range(1001, 1009)}
        assert (fold.train.targets.sum(axis=1) == 1).all()
        trained = fusion.folds[index].train.ids
        assert set(trained) & extra == (extra if takes == "embeddings" else set())
    assert encoder.prepared is not None
    assert extra < set(encoder.prepared.ids)
    # Scored are the clips of BLEMORE alone.
    assert sum(fold["clips"] for fold in system(record, "a")["folds"]) == 60
    for clip in bench.blinded.extra:
        assert clip.video.stem == clip.id
        assert clip.video.suffix == ".flv"


class Untrained(Recalling):
    def is_trained(self, options: Any) -> bool:
        return False


def test_what_is_not_trained_is_not_prepared_for_extra_clips(tmp_path: Path, crema: str) -> None:
    """Nothing is predicted for them, and a service would be paid for each."""
    bench = bench_on(tmp_path, download(tmp_path), [crema])
    encoder = Untrained("a")
    record, _ = bench.run(offer(encoder)[0], Submission("one", ("a",)))
    assert record["status"] == "finished", record
    assert encoder.prepared is not None
    assert encoder.prepared.ids == bench.blinded.everything(extra=False).ids
    assert len(encoder.prepared) == 60 + 2


def test_extra_clips_carry_the_labels_of_their_corpus(tmp_path: Path, crema: str) -> None:
    bench = bench_on(tmp_path, download(tmp_path), [crema])
    corpus = bench.dataset.extra[0]
    truth = dict(zip(corpus.ids, corpus.truth.tolist(), strict=True))
    extra = bench.blinded.extra
    for clip, label in zip(extra, extra.labels.tolist(), strict=True):
        name = bench.blinded.real[clip.id].removeprefix("crema-d:")
        assert truth[name] == label
        assert clip.video.read_bytes() == corpus.videos[name].read_bytes()
    fold = bench.blinded.fold(0)
    inside = dict(zip(fold.train.ids, fold.train.labels.tolist(), strict=True))
    assert all(inside[clip.id] == label for clip, label in zip(extra, extra.labels.tolist(), strict=True))


def test_external_data_is_named_and_part_of_the_identity(tmp_path: Path, crema: str) -> None:
    """In record, table, caveats; the data that is scored stays the same, so that both runs can be compared."""
    home = download(tmp_path)
    records = []
    for extra in ([], [crema], [crema, f"ravdess:{write_ravdess(tmp_path / 'ravdess')}"]):
        bench = bench_on(tmp_path, home, extra)
        plugins, _ = offer(Noisy("a"))
        record, folder = bench.run(plugins, Submission("one", ("a",)))
        records.append(record)
    plain, one, two = records
    assert len({record["identity"] for record in records}) == 3
    assert len({record["data"]["digest"] for record in records}) == 1
    assert plain["caveat"] is None
    assert one["data"]["extra"][0] | {"digest": ""} == {
        "corpus": "crema-d", "root": crema, "digest": "", "clips": 48, "actors": 8, "left_out": {},
    }  # fmt: skip
    assert [each["corpus"] for each in two["data"]["extra"]] == ["crema-d", "ravdess"]
    assert "external data" in one["caveat"]
    table = (folder / "table.txt").read_text()
    assert "crema-d and ravdess" in table
    # Another label or another file makes another system.
    file = next(Path(crema.removeprefix("crema-d:")).rglob("1001_DFA_ANG_XX.flv"))
    file.write_bytes(b"another content")
    changed = bench_on(tmp_path, home, [crema])
    assert changed.blinded.extra_digests["crema-d"] != one["data"]["extra"][0]["digest"]
    assert changed.blinded.digest == one["data"]["digest"]


class Reading(Noisy):
    """Reads released features if there are some."""

    seen: frozenset[str] | None = None

    def resolve_options(self, options: Any, feature_sets: frozenset[str]) -> Any:
        self.seen = feature_sets
        return options


class Insisting(Noisy):
    def feature_sets(self, options: Any) -> tuple[str, ...]:
        return ("WavLM_large",)


def test_released_features_are_refused_where_clips_lack_them(tmp_path: Path, crema: str) -> None:
    home = download(tmp_path)
    reading = Reading("a")
    bench = bench_on(tmp_path, home, [crema])
    bench.run(offer(reading)[0], Submission("one", ("a",)))
    assert reading.seen == frozenset()
    with pytest.raises(ConfigError, match=r"'b' reads released features.*crema-d"):
        bench.run(offer(Insisting("b"))[0], Submission("one", ("b",)))
    alone = bench_on(tmp_path, home)
    alone.run(offer(Insisting("b"))[0], Submission("one", ("b",)))


@pytest.mark.parametrize("name", ["A1_ang_int1_ver1", "test_0001"])
def test_external_clips_with_the_contents_of_a_scored_clip_are_not_trained_on(
    tmp_path: Path, crema: str, name: str
) -> None:
    """Their labels would be held-out labels, in every fold that holds the clip out and in nested folds."""
    home = download(tmp_path)
    copy = next(Path(crema.removeprefix("crema-d:")).rglob("1001_DFA_ANG_XX.flv"))
    copy.write_bytes(next(home.rglob(f"{name}.mov")).read_bytes())
    bench = bench_on(tmp_path, home, [crema])
    scored = {clip.content for clip in (*bench.blinded.train, *bench.blinded.test)}
    encoder = Recalling("a")
    plugins, submission = offer(encoder)[0], Submission("one", ("a",))
    where = (tmp_path / "inner", tmp_path / "cache", bench.reporter)
    inner = open_inner(open_run(submission, plugins, bench.dataset, bench.blinded, *where), 0, 2, 0)
    for blinded in (bench.blinded, inner.blinded):
        assert len(blinded.extra) == 47
        assert not scored & {clip.content for clip in blinded.extra}
    record, _ = bench.run(plugins, submission)
    for fold in encoder.folds.values():
        assert not {clip.content for clip in fold.train} & {clip.content for clip in fold.held_out}
    [facts] = record["data"]["extra"]
    assert (facts["clips"], list(facts["left_out"])) == (47, ["1001_DFA_ANG_XX"])
    assert name in facts["left_out"]["1001_DFA_ANG_XX"]
    assert record["data"]["left_out"] == {}
    [warning] = [text for text in record["warnings"] if "1001_DFA_ANG_XX" in text]
    assert "crema-d: 1 clip" in warning
    assert name in warning


def test_a_corpus_of_copies_alone_is_refused(tmp_path: Path) -> None:
    home = download(tmp_path)
    folder = write_crema(tmp_path / "copies", actors=1)
    for path, clip in zip(sorted(folder.rglob("*.flv")), sorted(home.rglob("*.mov")), strict=False):
        path.write_bytes(clip.read_bytes())
    with pytest.raises(DataError, match=r"crema-d: no clip is left.*6 clips"):
        read_data(home, extra=[f"crema-d:{folder}"])


def reachable_texts(start: object) -> set[str]:
    """All texts that attributes, items and closures of an object lead to."""
    seen: set[int] = set()
    texts: set[str] = set()
    stack = [start]
    while stack:
        each = stack.pop()
        if id(each) in seen or isinstance(each, type):
            continue
        seen.add(id(each))
        if isinstance(each, str):
            texts.add(each)
        elif isinstance(each, Path):
            texts.add(str(each))
        elif isinstance(each, dict):
            stack += [*each, *each.values()]
        elif isinstance(each, list | tuple | set | frozenset):
            stack += list(each)
        elif hasattr(each, "__dict__"):
            stack += list(vars(each).values())
        if hasattr(each, "__closure__") and each.__closure__:
            stack += [cell.cell_contents for cell in each.__closure__]
    return texts


def test_a_plugin_reaches_no_real_name_of_extra_clips(tmp_path: Path, crema: str) -> None:
    bench = bench_on(tmp_path, download(tmp_path), [crema])
    encoder = Recalling("a")
    bench.run(offer(encoder)[0], Submission("one", ("a",)))
    for value in (*encoder.folds.values(), encoder.prepared):
        texts = reachable_texts(value)
        assert len(texts) > 50
        assert not [text for text in texts if "_DFA_" in text or "_ver1" in text]
    for fold in encoder.folds.values():
        assert fold.held_out.truth is None
        assert fold.held_out.actors is None
