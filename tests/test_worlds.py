"""Simulated worlds: embeddings as documented, heads as the harness trains them, results kept, causes that add up."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from blemore_harness.cli import cli
from blemore_harness.clips import Clips, Fold
from blemore_harness.errors import ConfigError, DataError, InvalidOption, UnknownName
from blemore_harness.heads.fitting import fit_head
from blemore_harness.predictions import Embeddings, softmax
from blemore_harness.protocol.grid import GridCounter
from blemore_harness.protocol.rules import Scores, score
from blemore_harness.protocol.thresholds import search_official
from blemore_harness.systems.plugins import Plugins, load_plugins
from blemore_lab.calibration import Calibrated, calibrate_embeddings, mean_scores
from blemore_lab.causes import split_causes
from blemore_lab.embeddings import HIDDEN, LATENT, TRAITS, Draws, EmbeddingSetting, Scene, draw_scene, embed
from blemore_lab.encoders import BETWEEN, PUBLISHED, Setting, Skill
from blemore_lab.labels import LabelTable, demo_table, name_clips
from blemore_lab.methods import RECIPE, FusedRows, find_methods
from blemore_lab.replicates import CHOSEN, NewActors, decode_unseen, draw_replicate, score_replicate
from blemore_lab.results import ResultsFile
from blemore_lab.study import Study, describe_world, run_replicate, simulate
from blemore_lab.summary import rank_methods
from blemore_lab.training import make_head_options, train_heads
from blemore_lab.worlds import WORLDS, World, find_worlds
from fakes import RecordingReporter, make_context

PAIR = ("s4d", "wav2vec2")
QUICK = {"late": {"step": "0.5", "refine": "false"}}
HEADS = make_head_options({"epochs": 2, "hidden": "8"})
SKILLED = tuple(Calibrated(name, Skill(1.0, 0.5), Scores(0.3, 0.1)) for name in PAIR)


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


@pytest.fixture(scope="module")
def table() -> LabelTable:
    """Six actors of the demo's labels in three folds."""
    whole = demo_table()
    few = whole.actors < 6
    return LabelTable(whole.truth[few], whole.actors[few], whole.actors[few] % 3, "a test")


# Scenes and embeddings


def test_a_scene_shows_prototypes_of_the_actor_by_salience(table: LabelTable) -> None:
    plain = EmbeddingSetting(style=0, emphasis=0, intensity=0)
    draws = Draws((1,))
    scene = draw_scene(table.truth, table.actors, plain, draws)
    prototypes = draws.normal("prototypes audio", 6, LATENT)
    for clip in (0, int(np.flatnonzero((table.truth == 70).any(axis=1))[0])):
        row = table.truth[clip]
        named = np.flatnonzero(row)
        heights = [1.0] if len(named) == 1 else [plain.height] * 2
        assert scene.present["audio"][clip] == pytest.approx(np.array(heights) @ prototypes[named])
        lean = prototypes[row == 70].sum(axis=0) - prototypes[row == 30].sum(axis=0)
        assert scene.lean["audio"][clip] == pytest.approx(plain.height * lean)
    styled = draw_scene(table.truth, table.actors, dataclasses.replace(plain, style=0.5), draws)
    same = (table.truth == table.truth[0]).all(axis=1)
    shown = [styled.present["video"][same & (table.actors == actor)] for actor in range(6)]
    assert all((own == own[0]).all() for own in shown if len(own))
    assert len({own[0].tobytes() for own in shown if len(own)}) == sum(len(own) > 0 for own in shown)


def test_errors_are_heavy_and_shared_between_modalities_as_they_should_be() -> None:
    truth = np.tile(np.array([[100, 0, 0, 0, 0, 0]], dtype=np.int8), (20_000, 1))
    scene = draw_scene(truth, np.zeros(20_000, dtype=np.int64), EmbeddingSetting(tails=12), Draws((2,)))
    video, audio = (scene.errors[name].ravel() for name in ("video", "audio"))
    assert np.corrcoef(video, audio)[0, 1] == pytest.approx(BETWEEN, abs=0.02)
    assert video.var() == pytest.approx(1, abs=0.03)
    drawn = Draws((3,)).heavy("x", 100_000, 1, 12.0)[:, 0]
    assert np.mean(drawn**4) / np.mean(drawn**2) ** 2 == pytest.approx(3 + 6 / (12 - 4), abs=0.15)


def test_an_embedding_is_the_random_network_that_the_documentation_prints() -> None:
    random = np.random.default_rng(0)
    parts = {name: {m: random.normal(size=(5, LATENT)) for m in ("video", "audio")} for name in ("a", "b", "c")}
    identity = {m: random.normal(size=(5, TRAITS)) for m in ("video", "audio")}
    scene, setting, draws = Scene(parts["a"], parts["b"], parts["c"], identity), EmbeddingSetting(alike=1), Draws((4,))
    for name, modalities in (("wav2vec2", ["audio"]), ("gemini", ["video", "audio"])):
        inputs = np.hstack(
            [
                block
                for m in modalities
                for block in (0.7 * (scene.present[m] + 0.3 * scene.lean[m]) + scene.errors[m], identity[m])
            ]
        )
        inputs /= np.sqrt((inputs**2).mean())
        first = draws.normal(f"first layer {name}", inputs.shape[1], HIDDEN) / np.sqrt(inputs.shape[1])
        second = draws.normal(f"second layer {name}", HIDDEN, 48) / np.sqrt(HIDDEN)
        found = embed(name, Skill(0.7, 0.3), scene, setting, draws)
        assert found.dtype == np.float32
        assert found == pytest.approx(np.tanh(inputs @ first) @ second, abs=1e-6)


def test_encoders_of_a_modality_are_as_alike_as_the_setting_says(table: LabelTable) -> None:
    def likeness(alike: float) -> float:
        setting, draws = EmbeddingSetting(alike=alike), Draws((5,))
        scene = draw_scene(table.truth, table.actors, setting, draws)
        grams = [embed(name, Skill(0.0, 0.0), scene, setting, draws) for name in ("s4d", "clip")]
        centred = [g - g.mean(axis=0) for g in grams]
        one, two = (c @ c.T for c in centred)
        return float((one * two).sum() / np.sqrt((one * one).sum() * (two * two).sum()))

    assert likeness(0.0) < likeness(0.5) < likeness(1.0)


@pytest.mark.parametrize(
    "wrong", [{"style": -1}, {"alike": 1.5}, {"tails": 2}, {"level": 9}, {"dimensions": 1}, {"identity": np.nan}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(wrong))):
        EmbeddingSetting(**wrong)  # type: ignore[arg-type]


# Heads


@pytest.mark.encoders
def test_heads_are_those_that_the_harness_trains(table: LabelTable, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    random = np.random.default_rng(6)
    train, unseen, count = table.clips(), Clips(name_clips(7, "u")), len(table.truth)
    vectors = {name: random.normal(size=(count + 7, 12)).astype(np.float32) for name in PAIR}
    found = train_heads(vectors, train, table.folds, unseen, HEADS, seed=3)
    index = {clip: place for place, clip in enumerate((*train.ids, *unseen.ids))}
    context = make_context(tmp_path, seed=3)
    for name in PAIR:

        def give(clips: Clips, name: str = name) -> Embeddings:
            return Embeddings(clips.ids, vectors[name][[index[clip] for clip in clips.ids]])

        for fold in range(3):
            own = table.folds == fold
            held_out = train.take(own).unlabelled()
            model = fit_head(give, Fold(fold, train.take(~own), held_out), HEADS, context)
            assert found[name].train[own] == pytest.approx(model.predict(held_out, context).values, abs=1e-4)
            assert found[name].by_fold[fold] == pytest.approx(model.predict(unseen, context).values, abs=1e-4)
        final = fit_head(give, Fold(None, train, unseen), HEADS, context)
        assert found[name].unseen == pytest.approx(final.predict(unseen, context).values, abs=1e-4)


@pytest.mark.encoders
def test_labels_of_a_fold_and_of_unseen_actors_change_no_probability_of_theirs(
    table: LabelTable, plugins: Plugins
) -> None:
    pytest.importorskip("torch")
    setting = EmbeddingSetting(dimensions=12)
    material, new = draw_replicate(SKILLED, table, setting, 2, (0, 0), HEADS)
    assert (material.unseen.truth, material.unseen.actors) == (None, None)
    own = np.flatnonzero(table.folds == 1)
    truth = table.truth.copy()
    truth[own] = truth[np.random.default_rng(0).permutation(own)]
    other = train_heads(
        material.vectors, dataclasses.replace(material.train, truth=truth), table.folds, material.unseen, HEADS, 0
    )
    for name in PAIR:
        assert other[name].train[own] == pytest.approx(material.train_rows[name][own], abs=1e-5)
        assert np.abs(other[name].unseen - material.unseen_rows[name]).max() > 1e-3
    methods = find_methods(("mean",), plugins, QUICK, embeddings=True)
    shuffled = NewActors(new.truth[np.random.default_rng(1).permutation(len(new.truth))], new.groups)
    first, second = (score_replicate(methods, material, table, each, 0) for each in (new, shuffled))
    assert (first.official, first.thresholds) == (second.official, second.thresholds)
    for key, outcome in first.outcomes.items():
        assert (outcome.reported, outcome.used) == (second.outcomes[key].reported, second.outcomes[key].used)
    assert any(outcome.unseen != second.outcomes[key].unseen for key, outcome in first.outcomes.items())


@pytest.mark.encoders
def test_published_accuracies_are_reached_by_heads(table: LabelTable) -> None:
    pytest.importorskip("torch")
    setting, heads = EmbeddingSetting(dimensions=32), make_head_options({"hidden": "16", "epochs": 12})
    [encoder] = calibrate_embeddings(["videoswin"], table, setting, heads)
    assert encoder.reached.presence == pytest.approx(PUBLISHED["videoswin"].presence, abs=0.01)
    counter, found = GridCounter(table.truth, table.folds), []
    for seed in range(10):
        draws = Draws((77, seed))
        scene = draw_scene(table.truth, table.actors, setting, draws)
        vectors = {"videoswin": embed("videoswin", encoder.skill, scene, setting, draws)}
        rows = train_heads(vectors, table.clips(), table.folds, None, heads, seed)["videoswin"]
        found.append(mean_scores([grid.choose().scores for grid in counter.per_fold(rows.train).values()]))
    assert mean_scores(found).presence == pytest.approx(PUBLISHED["videoswin"].presence, abs=0.04)
    [weaker] = calibrate_embeddings(["videoswin"], table, dataclasses.replace(setting, level=0.8), heads)
    assert weaker.skill.presence < encoder.skill.presence
    assert weaker.wanted.presence == pytest.approx(0.8 * PUBLISHED["videoswin"].presence)


# Causes


def random_rows(table: LabelTable, truth: np.ndarray, seed: int) -> FusedRows:
    random = np.random.default_rng(seed)

    def near(labels: np.ndarray, size: float) -> np.ndarray:
        return softmax(labels / 50 + size * random.normal(size=labels.shape))

    by_fold = np.stack([near(truth, 1.5) for _ in range(3)])
    return FusedRows(near(table.truth, 0.8), near(table.truth, 0.8), near(truth, 1.0), by_fold)


def test_causes_add_up_and_each_is_what_its_name_says(table: LabelTable) -> None:
    truth = table.truth[table.actors < 2]
    groups = table.actors[table.actors < 2]
    rows = random_rows(table, truth, 0)
    decided = decode_unseen(rows, table, groups)["other-folds"]
    causes = split_causes(rows, decided, table.truth, truth)
    total = causes.seen + causes.mix + causes.fewer_actors + causes.thresholds
    assert total == pytest.approx(decided.reported - score(truth, decided.unseen).score)
    best = [search_official(values, truth).scores.score for values in rows.by_fold]
    assert causes.fewer_actors == pytest.approx(np.mean(best) - search_official(rows.unseen, truth).scores.score)
    assert causes.fewer_actors < 0 < causes.seen
    same = dataclasses.replace(rows, by_fold=np.stack([rows.unseen] * 3))
    assert split_causes(same, decided, table.truth, truth).fewer_actors == pytest.approx(0, abs=1e-12)


def test_the_cause_of_the_label_mix_is_0_for_the_same_mix_and_follows_an_easy_one(table: LabelTable) -> None:
    rows = random_rows(table, table.truth, 1)
    decided = decode_unseen(rows, table, table.actors)["other-folds"]
    assert split_causes(rows, decided, table.truth, table.truth).mix == pytest.approx(0, abs=1e-12)
    single = (table.truth == 100).any(axis=1)
    sure = rows.validation.copy()
    sure[single] = table.truth[single] / 100
    easy = np.concatenate([table.truth, *[table.truth[single]] * 3])
    more = FusedRows(sure, sure, np.full((len(easy), 6), 1 / 6), np.full((3, len(easy), 6), 1 / 6))
    decided = decode_unseen(more, table, np.zeros(len(easy), dtype=np.int64))["other-folds"]
    assert split_causes(more, decided, table.truth, easy).mix < -0.01, (
        "the estimate is too low where more clips are easy"
    )


# The file of results


def known(monkeypatch: pytest.MonkeyPatch) -> None:
    from blemore_lab import study as module

    monkeypatch.setattr(module, "calibrate", lambda names, *_: [e for e in SKILLED if e.name in names])


TWO = World("logits", "two encoders", Setting(), PAIR)


def test_a_study_goes_on_where_it_ended_and_takes_more_methods(
    table: LabelTable, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch)
    path, whole = tmp_path / "results.jsonl", Study(2, TWO, ("mean", "logit-mean"), QUICK, test_actors=2)
    expected = simulate(whole, table, plugins, RecordingReporter())

    def go(replicates: int, fusions: tuple[str, ...]) -> dict[str, object]:
        study = dataclasses.replace(whole, replicates=replicates, fusions=fusions)
        return simulate(study, table, plugins, RecordingReporter(), 1, ResultsFile(path))

    go(1, ("mean",))
    with path.open("ab") as file:
        file.write(b'{"world": "logits", "numb')  # a line that was never finished
    go(2, ("logit-mean",))
    found = go(2, ("mean", "logit-mean"))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(line.get("number"), sorted(line.get("official", {}))) for line in lines] == [
        (None, []),
        (0, ["best single", "mean", RECIPE]),
        (0, ["logit-mean"]),
        (1, ["best single", "logit-mean", RECIPE]),
        (1, ["mean"]),
    ]
    for part in ("rows", "methods", "spread", "encoders", "settings"):
        assert json.loads(json.dumps(found[part])) == json.loads(json.dumps(expected[part])), part
    again = describe_world("logits", ResultsFile(path), {})
    assert again["methods"] == found["methods"]
    with pytest.raises(ConfigError, match=r"seed 0, found 3"):
        simulate(dataclasses.replace(whole, seed=3), table, plugins, RecordingReporter(), 1, ResultsFile(path))
    other = dataclasses.replace(whole, fusion_options={"late": {"step": "1"}})
    with pytest.raises(ConfigError, match=r"'reference recipe' with options .*'0\.5'.*'1'"):
        simulate(other, table, plugins, RecordingReporter(), 1, ResultsFile(path))
    path.write_text(path.read_text(encoding="utf-8") + "[1]\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 6"):
        ResultsFile(path)


def test_methods_are_compared_on_the_replicates_that_both_have(
    table: LabelTable, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(monkeypatch)
    path = tmp_path / "results.jsonl"
    for replicates, fusions in ((3, ("logit-mean",)), (2, ("mean",))):
        study = Study(replicates, TWO, fusions, QUICK, test_actors=2)
        record = simulate(study, table, plugins, RecordingReporter(), 1, ResultsFile(path))
    rows = {row["method"]: row for row in record["methods"]}
    assert {name: row["replicates"] for name, row in rows.items()} == {
        RECIPE: 3,
        "best single": 3,
        "logit-mean": 3,
        "mean": 2,
    }
    results = ResultsFile(path).replicates("logits")
    unseen = [[result.outcomes[name, CHOSEN].unseen.score for result in results[:2]] for name in ("mean", "logit-mean")]
    assert rows["mean"]["differences"]["logit-mean"]["mean"] == pytest.approx(np.mean(unseen[0]) - np.mean(unseen[1]))
    missed = rows["mean"]["missed"]
    assert missed["mean"] == pytest.approx(
        np.mean([result.outcomes["mean", CHOSEN].reported for result in results[:2]]) - np.mean(unseen[0])
    )
    assert missed["mean"] == pytest.approx(
        sum(missed[name] for name in ("seen", "mix", "fewer_actors", "thresholds")), abs=1e-12
    )


@pytest.mark.encoders
def test_variants_of_a_fusion_have_options_and_heads_of_their_own(table: LabelTable, plugins: Plugins) -> None:
    pytest.importorskip("torch")
    world = World("pair", "two encoders", EmbeddingSetting(dimensions=12), PAIR)
    given = {**QUICK, "mean@long": {"head.epochs": "3"}, "logit-mean@flat": {"epsilon": "0.1"}}
    heads = {"epochs": "2", "hidden": "8"}
    study = Study(1, world, ("mean", "mean@long", "logit-mean", "logit-mean@flat"), given, heads, test_actors=2)
    methods = study.methods(plugins)
    found = run_replicate(0, study, SKILLED, {0: methods}, table).outcomes
    assert found["logit-mean", CHOSEN] != found["logit-mean@flat", CHOSEN]
    longer = dataclasses.replace(study, head_options={**heads, "epochs": "3"}, fusions=("mean",), fusion_options=QUICK)
    alone = run_replicate(0, longer, SKILLED, {0: longer.methods(plugins)}, table).outcomes
    assert found["mean@long", CHOSEN] == alone["mean", CHOSEN] != found["mean", CHOSEN]
    with pytest.raises(ConfigError, match="mean@long"):
        Study(fusions=("mean@long",), fusion_options={"mean@long": {"head.epochs": "3"}}).methods(plugins)
    with pytest.raises(UnknownName, match="epoch"):
        Study(1, world, ("mean@x",), {"mean@x": {"head.epoch": "3"}}).methods(plugins)


def test_mean_ranks_are_over_the_methods_that_all_worlds_have() -> None:
    orders = (["a", "x", "b", "c"], ["b", "a", "c"])
    records = [{"methods": [{"method": name} for name in order]} for order in orders]
    assert rank_methods(records) == {"a": 1.5, "b": 1.5, "c": 3.0}


# The command


def test_worlds_are_looked_up_with_parameters_and_encoders() -> None:
    [identity, pair] = find_worlds("identity, pair", {"style": "0.1"}, None)
    assert (identity.setting.style, identity.setting.identity) == (0.1, 3.0)  # type: ignore[union-attr]
    assert pair.encoders == PAIR
    assert find_worlds("all", {}, PAIR)[1] == dataclasses.replace(WORLDS["embeddings"], encoders=PAIR)
    assert len(find_worlds("all", {}, None)) == len(WORLDS)
    with pytest.raises(UnknownName, match="unknown world 'identiy'; did you mean 'identity'"):
        find_worlds("identiy", {}, None)
    with pytest.raises(UnknownName, match="bias"):
        find_worlds("embeddings", {"bias": "1"}, None)
    with pytest.raises(ConfigError, match="'head', and the world 'logits'"):
        Study(head_options={"epochs": "3"})


@pytest.mark.encoders
@pytest.mark.slow
def test_the_command_compares_worlds_and_shows_a_file_again(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    words = ["simulate", "--world", "logits,pair", "--replicates", "1", "--encoders", "s4d,wav2vec2", "--fusions",
             "mean", "--workers", "1", "--test-actors", "2", "--set", "late.step=1",
             "--set", "late.refine=false"]  # fmt: skip
    where = ["--results", str(tmp_path / "r.jsonl")]
    answer = CliRunner().invoke(cli, [*words, *where, "--json"], catch_exceptions=False)
    records = json.loads(answer.stdout)["worlds"]
    assert [record["world"]["name"] for record in records] == ["logits", "pair"]
    again = CliRunner().invoke(cli, ["simulate", "--replicates", "0", *where, "--markdown"], catch_exceptions=False)
    for record in records:
        for row in record["methods"]:
            score_text = f"{row['unseen']['mean']:.3f}"[1:]
            assert f"| {record['world']['name']} | {row['method']} | 1 | {score_text} |" in again.stdout
    assert again.stdout.count("SIMULATED") == 3
    narrow = CliRunner(env={"COLUMNS": "80"}).invoke(
        cli, ["simulate", "--replicates", "0", *where], catch_exceptions=False
    )
    assert "\N{HORIZONTAL ELLIPSIS}" not in narrow.stdout
    empty = CliRunner().invoke(cli, ["simulate", "--replicates", "0"])
    assert "--results" in str(empty.exception)


def test_the_help_names_every_world() -> None:
    text = "".join(CliRunner().invoke(cli, ["simulate", "--help"], terminal_width=500).output.split())
    assert f"Worldstosimulate:{','.join(WORLDS)}" in text
