"""Simulated replicates: rows as the parameters say, published accuracies reached, nothing chosen on unseen actors."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from blemore_harness.cli import cli
from blemore_harness.clips import Clips, Fold
from blemore_harness.data.download import read_dataset
from blemore_harness.decoding.strategies import (
    HONEST,
    STRATEGIES,
    choose_strategy,
    decode_folds,
    evaluate_strategy,
    make_sample,
)
from blemore_harness.errors import ConfigError, InvalidOption, PluginFailed, UnknownName
from blemore_harness.hookspecs import Fusion, NoOptions
from blemore_harness.predictions import Probabilities
from blemore_harness.protocol.rules import decode, score
from blemore_harness.systems.plugins import Plugins, load_plugins
from blemore_lab.calibration import Calibrated, calibrate, explain_misses
from blemore_lab.encoders import (
    BETWEEN,
    DEFAULT_ENCODERS,
    PUBLISHED,
    Errors,
    Setting,
    Skill,
    draw_errors,
    make_rows,
)
from blemore_lab.intervals import mean_interval, student_quantile
from blemore_lab.labels import LabelTable, demo_table, draw_actors, table_of
from blemore_lab.methods import DEFAULT_FUSIONS, RECIPE, Material, Method, find_methods
from blemore_lab.replicates import (
    CHOSEN,
    DECODABLE,
    NewActors,
    decode_unseen,
    draw_replicate,
    score_replicate,
)
from blemore_lab.report import draw_simulation
from blemore_lab.study import NOTICE, Study, simulate
from blemore_lab.summary import REFERENCE, describe_spread
from blemore_lab.workers import run_all
from blemore_lab.worlds import World, find_worlds
from fakes import RecordingReporter, make_context
from real_material import REAL, needs_real

Array = np.ndarray[Any, Any]
PAIR = ("s4d", "wav2vec2")
PAIR_WORLD = World("logits", "two encoders", Setting(), PAIR)
QUICK: Mapping[str, Mapping[str, object]] = {"late": {"step": "0.5", "refine": "false"}}
SKILLED = tuple(
    Calibrated(name, Skill(2.0, 0.3), score(np.eye(6, dtype=np.int8) * 100, np.eye(6) * 100)) for name in PAIR
)


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


@pytest.fixture(scope="module")
def table() -> LabelTable:
    """Six actors of the demo's labels in three folds."""
    whole = demo_table()
    few = whole.actors < 6
    return LabelTable(whole.truth[few], whole.actors[few], whole.actors[few] % 3, "a test")


def drawn(table: LabelTable, seed: int = 0) -> tuple[Material, NewActors]:
    return draw_replicate(SKILLED, table, Setting(), 3, (seed, 0))


def grid_choice(values: Array, truth: Array) -> tuple[float, float, float]:
    """The official search written out: (Score, alpha, beta)."""
    grid = np.linspace(0.05, 0.95, 20)
    best = (-1.0, 0.0, 0.0)
    for alpha, beta in itertools.product(grid, grid):
        found = score(truth, decode(values, alpha, beta)).score
        if found > best[0]:
            best = (found, float(alpha), float(beta))
    return best


# Rows


def test_a_row_is_the_softmax_that_the_documentation_prints() -> None:
    truth = np.array([[100, 0, 0, 0, 0, 0], [70, 0, 30, 0, 0, 0], [0, 50, 0, 50, 0, 0]], dtype=np.int8)
    errors = Errors(np.random.default_rng(0).normal(size=(3, 6)), np.array([1.0, 2.0, 0.5]))
    for blends in (0.4, -0.4):
        height, lean = 0.75 + 0.25 * blends, max(blends, 0)
        signal = np.array(
            [
                [1.5, 0, 0, 0, 0, 0],
                [1.5 * height + lean, 0, 1.5 * height - lean, 0, 0, 0],
                [0, 1.5 * height, 0, 1.5 * height, 0, 0],
            ]
        )
        powers = np.exp(0.6 * 1.5 * np.array([[1.0], [2.0], [0.5]]) * (signal + errors.logits))
        rows = make_rows(truth, Skill(1.5, blends), errors)
        assert rows == pytest.approx(powers / powers.sum(axis=1, keepdims=True))


def test_errors_are_shared_as_the_correlation_says() -> None:
    names = ("s4d", "videomae", "wav2vec2", "gemini")
    actors = np.repeat(np.arange(50), 200)
    errors = draw_errors(names, Setting(bias=0, correlation=0.6, sharpness=0), actors, (1,))
    found = np.corrcoef([errors[name].logits.ravel() for name in names])
    within, between = 0.6, 0.6 * BETWEEN
    half = between + (within - between) / np.sqrt(2)
    expected = [[1, within, between, half], [within, 1, between, half], [between, between, 1, half], [half] * 3 + [1]]
    assert found == pytest.approx(np.array(expected), abs=0.015)
    assert all((errors[name].sharpness == 1).all() for name in names)
    alone = draw_errors(names, Setting(bias=0, correlation=0, sharpness=0), actors, (1,))
    assert np.corrcoef([alone[name].logits.ravel() for name in names]) == pytest.approx(np.eye(4), abs=0.015)


def test_actors_differ_as_bias_and_sharpness_say() -> None:
    actors = np.repeat(np.arange(400), 50)
    errors = draw_errors(["s4d"], Setting(bias=0.8, correlation=0.3, sharpness=0.5), actors, (2,))["s4d"]
    means = np.array([errors.logits[actors == actor].mean(axis=0) for actor in range(400)])
    assert means.std() == pytest.approx(np.sqrt(0.8**2 + 1 / 50), abs=0.03)
    assert np.log(errors.sharpness[::50]).std() == pytest.approx(0.5, abs=0.05)
    assert (errors.sharpness.reshape(400, 50) == errors.sharpness[::50, None]).all()


def test_an_encoder_draws_the_same_in_any_company() -> None:
    actors = np.repeat(np.arange(5), 4)
    alone = draw_errors(["wav2vec2"], Setting(), actors, (3, 4))["wav2vec2"]
    together = draw_errors(PAIR, Setting(), actors, (3, 4))["wav2vec2"]
    assert (alone.logits == together.logits).all()
    assert (alone.sharpness == together.sharpness).all()
    assert (draw_errors(PAIR, Setting(), actors, (3, 5))["wav2vec2"].logits != together.logits).all()


@pytest.mark.parametrize("wrong", [{"bias": -0.1}, {"bias": float("nan")}, {"correlation": 1.1}, {"sharpness": 4.0}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(wrong))):
        Setting(**wrong)


# Labels and calibration


def test_new_actors_play_what_training_actors_play(table: LabelTable) -> None:
    truth, actors = draw_actors(table, 3, np.random.default_rng(0))
    designs = {tuple(map(tuple, table.truth[table.actors == actor])) for actor in range(table.actor_count)}
    assert sorted(set(actors.tolist())) == [0, 1, 2]
    assert all(tuple(map(tuple, truth[actors == actor])) in designs for actor in range(3))
    assert len(set(draw_actors(table, 20, np.random.default_rng(0))[1].tolist())) == 20


def test_the_demo_table_is_that_of_the_demo_dataset(tmp_path: Path) -> None:
    from blemore_harness.demo.plan import make_plan

    (tmp_path / "train_metadata.csv").write_text(make_plan(0, 12, 2).metadata())
    read = table_of(read_dataset(tmp_path))
    found = demo_table()
    assert (read.truth == found.truth).all()
    assert (read.actors == found.actors).all()
    assert (read.folds == found.folds).all()


def official_mean(encoder: Calibrated, table: LabelTable, setting: Setting, seeds: range) -> Array:
    """Official accuracies on draws that nobody calibrated on."""
    from blemore_harness.protocol.thresholds import official

    found = []
    for seed in seeds:
        errors = draw_errors([encoder.name], setting, table.actors, (99, seed))[encoder.name]
        choices = official(make_rows(table.truth, encoder.skill, errors), table.truth, table.folds)
        found += [(choice.scores.presence, choice.scores.salience) for choice in choices.values()]
    return np.mean(found, axis=0)


@pytest.mark.slow
@needs_real
@pytest.mark.parametrize(("setting", "names"), [(Setting(), PAIR), (Setting(bias=0.0), ("videoswin",))], ids=str)
def test_published_accuracies_are_reached_on_the_real_labels(setting: Setting, names: tuple[str, ...]) -> None:
    real = table_of(read_dataset(REAL))
    encoders = calibrate(names, real, setting)
    for encoder in encoders:
        wanted = PUBLISHED[encoder.name]
        assert (encoder.reached.presence, encoder.reached.salience) == pytest.approx(
            (wanted.presence, wanted.salience), abs=0.003
        )
        again = official_mean(encoder, real, setting, range(8))
        assert again == pytest.approx(np.array([wanted.presence, wanted.salience]), abs=0.01)
    assert explain_misses(encoders) is None


def test_calibration_repeats_itself_and_says_what_it_misses(table: LabelTable) -> None:
    first, second = (calibrate(["s4d"], table, Setting()) for _ in range(2))
    assert first == second
    assert abs(first[0].reached.presence - 0.34) < 0.01
    singles = (table.truth == 100).any(axis=1)
    no_blends = LabelTable(table.truth[singles], table.actors[singles], table.folds[singles], "a test")
    assert "missed by more than 0.015 by 1 simulated encoder (first: 's4d')" in str(
        explain_misses(calibrate(["s4d"], no_blends, Setting()))
    )


# Replicates


@pytest.mark.slow
def test_labels_of_unseen_actors_change_no_choice(table: LabelTable, plugins: Plugins) -> None:
    methods = find_methods(("mean",), plugins, QUICK)
    material, new = drawn(table)
    order = np.random.default_rng(1).permutation(len(new.truth))
    other = NewActors(new.truth[order], new.groups)
    first, second = (score_replicate(methods, material, table, n, 0) for n in (new, other))
    assert material.unseen.truth is None
    assert material.unseen.actors is None
    assert first.official == second.official
    assert first.thresholds == second.thresholds
    context = make_context(Path())
    for method in methods:
        rows = method.fuse(material, context)
        for name, decoded in decode_unseen(rows, table, new.groups).items():
            used, reported, labels = decoded.used, decoded.reported, decoded.unseen
            outcomes = [result.outcomes[method.name, name] for result in (first, second)]
            assert [(o.used, o.reported) for o in outcomes] == [(used, reported)] * 2
            assert outcomes[0].unseen == score(new.truth, labels)
            assert outcomes[1].unseen == score(other.truth, labels)


@pytest.mark.parametrize("name", [name for name in DEFAULT_FUSIONS if name != "best-of"])
def test_labels_of_a_fold_change_no_row_that_a_fusion_gives_for_it(
    table: LabelTable, plugins: Plugins, tmp_path: Path, name: str
) -> None:
    material, _ = drawn(table)
    quick = {
        "stack": {"strengths": "0.1"},
        "weighted-logit-mean": {"strengths": "0.1"},
        "structured": {"strengths": "0.1"},
        **QUICK,
    }
    settings = {"late": QUICK["late"]} | ({name: quick[name]} if name in quick else {})
    method = find_methods((name,), plugins, settings)[-1]
    before = method.fuse(material, make_context(tmp_path)).validation
    own = np.flatnonzero(table.folds == 1)
    truth = table.truth.copy()
    truth[own] = truth[np.random.default_rng(0).permutation(own)]
    other = dataclasses.replace(material, train=dataclasses.replace(material.train, truth=truth))
    after = method.fuse(other, make_context(tmp_path)).validation
    assert (before[own] == after[own]).all()
    assert name in ("mean", "logit-mean") or not (before == after).all(), "other folds may learn from them"


def test_every_strategy_that_can_decode_is_tried_and_only_bounds_are_told_who_acts(
    table: LabelTable, plugins: Plugins
) -> None:
    assert set(STRATEGIES) - set(DECODABLE) == {"official", "pooled"}
    material, new = drawn(table)
    [*_, mean] = find_methods(("mean",), plugins, QUICK)
    rows = mean.fuse(material, make_context(Path()))
    shuffled = np.random.default_rng(5).permutation(new.groups)
    true, false = (decode_unseen(rows, table, groups) for groups in (new.groups, shuffled))
    changed = {name for name in true if (true[name].unseen != false[name].unseen).any()}
    assert {"actor-centred", "actor-rank"} <= changed
    assert all(STRATEGIES[name].transductive for name in changed)
    sample = make_sample(rows.validation, table.truth, table.folds, table.actors)
    for name in DECODABLE:
        folds = evaluate_strategy(STRATEGIES[name], sample).values()
        assert true[name].reported == pytest.approx(np.mean([found.score for found in folds]), abs=1e-12)
        assert (true[name].train == decode_folds(STRATEGIES[name], sample)).all()
    best = choose_strategy(sample).name
    assert best in HONEST
    assert true[CHOSEN].used == best
    assert (true[CHOSEN].unseen == true[best].unseen).all()


def recomputed(table: LabelTable, seed: int, number: int) -> tuple[float, float]:
    """Unseen Score of the mean and of the reference recipe, both with averaged thresholds, written out."""
    names = [encoder.name for encoder in SKILLED]
    truth, groups = draw_actors(table, 3, np.random.default_rng([seed, number, 3]))
    labels = np.concatenate([table.truth, truth])
    everyone = np.concatenate([table.actors, groups + table.actor_count])
    errors = draw_errors(names, Setting(), everyone, (seed, number))
    rows = [make_rows(labels, encoder.skill, errors[encoder.name]) for encoder in SKILLED]
    train, unseen = [r[: len(table.truth)] for r in rows], [r[len(table.truth) :] for r in rows]
    plain, searched = [], []
    for fold in range(3):
        own = table.folds == fold
        plain.append(grid_choice((train[0][own] + train[1][own]) / 2, table.truth[own]))
        # Of equally good weights the equal ones win; the plugin's tie between both ends does not occur here.
        tries = [(w, *grid_choice(w * train[0][own] + (1 - w) * train[1][own], table.truth[own])) for w in (0.5, 1, 0)]
        searched.append(max(tries, key=lambda found: found[1]))
    alpha, beta = np.mean([p[1:] for p in plain], axis=0)
    mean = score(truth, decode((unseen[0] + unseen[1]) / 2, alpha, beta)).score
    weight, _, alpha, beta = np.mean(searched, axis=0)
    return mean, score(truth, decode(weight * unseen[0] + (1 - weight) * unseen[1], alpha, beta)).score


@pytest.mark.slow
def test_the_record_equals_a_literal_computation(
    table: LabelTable, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blemore_lab import study as module

    monkeypatch.setattr(module, "calibrate", lambda names, *_: [e for e in SKILLED if e.name in names])
    study = Study(3, PAIR_WORLD, ("mean",), QUICK, test_actors=3, seed=4)
    record = simulate(study, table, plugins, RecordingReporter())
    rows = {(row["fusion"], row["strategy"]): row for row in record["rows"]}
    assert len(rows) == len(record["rows"]) == 3 * (len(DECODABLE) + 1)
    literal = np.array([recomputed(table, 4, number) for number in range(3)])
    assert rows["mean", "averaged"]["unseen"]["score"] == pytest.approx(literal[:, 0].mean(), abs=1e-12)
    assert rows[REFERENCE]["unseen"]["score"] == pytest.approx(literal[:, 1].mean(), abs=1e-12)
    differences = literal[:, 0] - literal[:, 1]
    found = rows["mean", "averaged"]["difference"]
    assert found["mean"] == pytest.approx(differences.mean(), abs=1e-12)
    assert found["half_interval"] == pytest.approx(4.302653 * differences.std(ddof=1) / np.sqrt(3), abs=1e-6)
    assert found["ahead"] == pytest.approx((differences > 0).mean())
    assert rows[REFERENCE]["difference"] == {"mean": 0.0, "half_interval": 0.0, "clear": False, "ahead": 0.0}
    scores = [row["unseen"]["score"] for row in record["rows"]]
    assert scores == sorted(scores, reverse=True)
    assert record["simulation"] is True
    assert record["notice"] == NOTICE
    assert rows["mean", "actor-rank"]["remarks"] == ["oracle"]
    assert rows["mean", "exact"]["remarks"] == []
    assert sum(rows["mean", CHOSEN]["used"].values()) == 3


def test_spread_is_a_mean_of_deviations_over_folds(table: LabelTable, plugins: Plugins) -> None:
    methods = find_methods((), plugins, QUICK)
    material, new = drawn(table)
    result = score_replicate(methods, material, table, new, 0)
    spread = describe_spread([result])
    betas = {
        name: [grid_choice(rows[table.folds == k], table.truth[table.folds == k])[2] for k in range(3)]
        for name, rows in material.train_rows.items()
    }
    deviations = [np.std(values, ddof=1) for values in betas.values()]
    assert spread["encoders"]["beta"]["sd_over_folds"] == pytest.approx(np.mean(deviations))
    assert spread["encoders"]["beta"]["mean"] == pytest.approx(np.mean(list(betas.values())))
    assert spread["fused"]["beta"]["highest"] == max(t[1] for t in result.thresholds[RECIPE])


@needs_real
def test_the_observed_spread_is_what_the_organisers_recorded() -> None:
    from blemore_lab.summary import ORGANISERS

    with (REAL / "official_fold_runs.csv").open(newline="") as file:
        runs = list(csv.DictReader(file))
    for name, (mean, deviation) in ORGANISERS.items():
        folds = defaultdict(list)
        for run in runs:
            folds[run["features"], run["encoder"], run["model"]].append(float(run[f"best_{name}"]))
        assert mean == pytest.approx(np.mean([float(run[f"best_{name}"]) for run in runs]), abs=5e-5)
        assert deviation == pytest.approx(np.mean([np.std(found, ddof=1) for found in folds.values()]), abs=5e-5)


# The study


@pytest.mark.slow
def test_the_same_seed_gives_the_same_record_in_one_process_and_in_two(table: LabelTable, plugins: Plugins) -> None:
    study = Study(2, PAIR_WORLD, ("mean",), QUICK, test_actors=2, seed=1)
    one, two = (simulate(study, table, plugins, RecordingReporter(), workers) for workers in (1, 2))
    assert json.dumps(one) == json.dumps(two)
    other = simulate(dataclasses.replace(study, seed=2), table, plugins, RecordingReporter())
    assert other["encoders"][0]["calibrated"] == one["encoders"][0]["calibrated"]
    assert other["rows"] != one["rows"]


class Broken(Fusion):
    """A fusion that crashes."""

    name = "broken"
    summary = "crashes"

    def fit(self, fold: Fold, base_models: Mapping[str, Any], options: Any, context: Any) -> Any:
        raise ZeroDivisionError("out of luck")


class Storing(Fusion):
    """A fusion whose model stays in the folder of its fold until it predicts."""

    name = "storing"
    summary = "logit-mean, kept in a file"

    def fit(self, fold: Fold, base_models: Mapping[str, Any], options: Any, context: Any) -> Any:
        assert not list(context.workspace.iterdir()), "the folder is one fold's own"
        (context.workspace / "model").write_text(",".join(sorted(base_models)))
        return self

    def predict(self, clips: Clips, base_models: Mapping[str, Any], context: Any) -> Probabilities:
        first = (context.workspace / "model").read_text().split(",")[0]
        return Probabilities(clips.ids, base_models[first].aligned(clips.ids).values)


def test_a_fusion_finds_at_prediction_what_it_kept_in_its_folder(table: LabelTable, tmp_path: Path) -> None:
    material, _ = drawn(table)
    fused = Method("storing", Storing(), NoOptions()).fuse(material, make_context(tmp_path))
    first = min(material.train_rows)
    np.testing.assert_array_equal(fused.validation, material.train_rows[first])
    np.testing.assert_array_equal(fused.unseen, material.unseen_rows[first])


def crash(number: int, where: str) -> Any:
    raise PluginFailed(f"{where} {number}", "broken")


def test_a_fusion_that_crashes_is_named(table: LabelTable) -> None:
    material, new = drawn(table)
    with pytest.raises(PluginFailed, match="'broken' crashed in the simulation: ZeroDivisionError: out of luck"):
        score_replicate([Method("broken", Broken(), NoOptions())], material, table, new, 0)
    with pytest.raises(PluginFailed, match="away 0") as caught:
        list(run_all(partial(crash, where="away"), range(2), 2))
    assert caught.value.plugin == "broken"


def test_what_cannot_be_simulated_is_refused(plugins: Plugins) -> None:
    with pytest.raises(UnknownName, match="unknown encoder to simulate 's4e'; did you mean 's4d'"):
        find_worlds("logits", {}, ("s4e",))
    with pytest.raises(InvalidOption, match="each once"):
        find_worlds("logits", {}, ("s4d", "s4d"))
    with pytest.raises(InvalidOption, match="replicates"):
        Study(replicates=-1)
    with pytest.raises(UnknownName, match="fusion"):
        Study(fusions=("lat",)).methods(plugins)
    with pytest.raises(UnknownName, match="option of late"):
        Study(fusion_options={"late": {"stepp": "1"}}).methods(plugins)
    with pytest.raises(ConfigError, match="'stack', which is not compared"):
        Study(fusions=("mean",), fusion_options={"stack": {"strengths": "1"}}).methods(plugins)


def test_quantiles_are_those_of_printed_tables() -> None:
    printed = {1: 12.7062, 2: 4.3027, 5: 2.5706, 19: 2.0930, 59: 2.0010, 1000: 1.9623}
    assert {freedom: round(student_quantile(freedom), 4) for freedom in printed} == printed
    assert mean_interval([0.5]).half is None
    assert not mean_interval([0.5]).is_clear
    assert mean_interval([1.0, 1.1, 1.2]).is_clear
    assert not mean_interval([-1.0, 1.1, 1.2]).is_clear


@pytest.mark.slow
def test_the_command_answers_in_json_and_in_tables_that_say_simulation() -> None:
    words = ["simulate", "--replicates", "1", "--encoders", "s4d,openface", "--fusions", "mean", "--workers", "1",
             "--test-actors", "2", "--set", "late.step=1", "--set", "late.refine=false"]  # fmt: skip
    answer = CliRunner().invoke(cli, [*words, "--set", "world.bias=0", "--json"], catch_exceptions=False)
    [record] = json.loads(answer.stdout)["worlds"]
    assert record["settings"]["bias"] == 0
    assert record["settings"]["correlation"] == Setting().correlation
    assert [encoder["name"] for encoder in record["encoders"]] == ["s4d", "openface"]
    assert record["labels"] == {"source": "the generated demo dataset", "clips": 360, "actors": 10, "folds": 5}
    assert "DEMO" in answer.stderr
    console = Console(file=io.StringIO(), width=120)
    console.print(draw_simulation([record]))
    tables = console.file.getvalue()  # type: ignore[attr-defined]
    assert tables.startswith("SIMULATION")
    assert tables.count("SIMULATED:") == 5
    for row in record["rows"]:
        assert f"{row['unseen']['score']:.3f}" in tables
    assert f"{record['rows'][0]['official']:.3f}" in tables
    narrow = Console(file=io.StringIO(), width=80)
    narrow.print(draw_simulation([record]))
    text = narrow.file.getvalue()  # type: ignore[attr-defined]
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert max(map(len, text.splitlines())) <= 80
    for row in record["rows"]:
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{row['fusion']} ")
                    and f" {row['strategy']} " in line)  # fmt: skip
        assert f"{row['unseen']['score']:.3f}" in line
        assert all(remark in line for remark in row["remarks"])


def test_one_replicate_has_no_interval_and_the_reference_no_difference(
    table: LabelTable, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blemore_lab import study as module

    monkeypatch.setattr(module, "calibrate", lambda names, *_: [e for e in SKILLED if e.name in names])
    record = simulate(Study(1, PAIR_WORLD, ("mean",), QUICK, test_actors=3), table, plugins, RecordingReporter())
    console = Console(file=io.StringIO(), width=120)
    console.print(draw_simulation([record]))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    [reference] = [line for line in lines if "reference" in line and " averaged " in line]
    assert " - " in reference
    assert "+0.0000" not in reference
    assert not any(" ± 0." in line for line in lines if line.startswith(" mean "))


def test_the_record_says_which_options_every_fusion_had(table: LabelTable) -> None:
    study = Study(
        fusions=("mean", "structured"), fusion_options={"structured": {"epsilon": "0.001"}, "late": {"step": "1"}}
    )
    given = study.options
    assert given == {"structured": {"strengths": "0.03,0.1,0.3", "epsilon": "0.001"}, "late": {"step": "1"}}
    [structured] = [each for each in study.methods(load_plugins()) if each.name == "structured"]
    assert structured.options.strengths == (0.03, 0.1, 0.3)
    many = Study(fusions=("mean",), world=World("logits", "many", Setting(), tuple(PUBLISHED)))
    assert many.options == {"late": {"search": "climb"}}
    assert many.methods(load_plugins())[0].options.search == "climb"
    assert structured.options.epsilon == 0.001


def test_the_help_names_the_defaults() -> None:
    text = "".join(CliRunner().invoke(cli, ["simulate", "--help"], terminal_width=500).output.split())
    assert f"[default:{','.join(DEFAULT_FUSIONS)}]" in text
    assert f"[default:theworld's;{','.join(DEFAULT_ENCODERS)}]" in text


def test_encoders_are_calibrated_without_normalised_actors_whatever_heads_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise both kinds of heads would come to the published accuracies, and none would seem better."""
    from blemore_lab import study as module

    seen = []

    def calibrate_embeddings(names: Any, table: Any, setting: Any, heads: Any) -> tuple[Calibrated, ...]:
        seen.append(heads)
        return tuple(each for each in SKILLED if each.name in names)

    monkeypatch.setattr(module, "calibrate_embeddings", calibrate_embeddings)
    for given in ("false", "true"):
        (world,) = find_worlds("embeddings", {}, None)
        study = Study(0, world, ("mean",), head_options={"normalise_actors": given})
        module._calibrate(study, demo_table(), RecordingReporter())
        assert study.heads is not None
        assert study.heads.normalise_actors == (given == "true")
    assert seen[0] == seen[1]
    assert not seen[0].normalise_actors
