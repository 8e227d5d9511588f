"""Seeds as one unit: runs that differ in nothing else, their mean, what the record and the leaderboard know of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from blemore_harness.cli import cli
from blemore_harness.clips import Fold
from blemore_harness.context import Context
from blemore_harness.disk import split_seed
from blemore_harness.errors import ConfigError
from blemore_harness.files.runs import Runs, read_record
from blemore_harness.pipeline import evaluate
from blemore_harness.record.types import FailedSystem, Record
from blemore_harness.running.run import Run, open_run
from blemore_harness.scoring.intervals import short
from blemore_harness.scoring.reading import load_system
from blemore_harness.scoring.seeds import summarise_seeds
from blemore_harness.systems.plugins import Plugins
from blemore_harness.systems.submission import Submission, from_plugins
from blemore_pages.leaderboard.boards import make_boards
from blemore_pages.leaderboard.formats import write_csv, write_latex
from builders import rows_of, write_download
from sample_records import sample_record, sample_system
from toys import Bench, Noisy, NoisyModel, offer, open_bench


class Seeded(Noisy):
    """Rows that depend on the seed of the fold."""

    def fit(self, fold: Fold, options: Any, context: Context) -> NoisyModel:
        super().fit(fold, options, context)
        return NoisyModel(np.random.default_rng(context.seed).dirichlet(np.ones(6)) + 0.05, self.sharpness)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return open_bench(tmp_path_factory.mktemp("bench"), actors=6, tests=2)


@pytest.fixture(scope="module")
def encoder() -> Seeded:
    return Seeded("noisy")


@pytest.fixture(scope="module")
def plugins(encoder: Seeded) -> Plugins:
    from blemore_harness.systems.distributions import Distribution
    from blemore_harness.systems.plugins import register
    from blemore_plugins import means

    plugins, _ = offer(encoder, Seeded("other"))
    register(plugins, means, "means", Distribution("blemore-harness", "1"))
    return plugins


def opened(bench: Bench, plugins: Plugins, submission: Submission, seeds: tuple[int, ...] = ()) -> Run:
    where = (bench.root / "runs", bench.root / "cache", bench.reporter)
    return open_run(submission, plugins, bench.dataset, bench.blinded, *where, seeds=seeds)


def run_group(bench: Bench, plugins: Plugins, submission: Submission, seeds: tuple[int, ...]) -> dict[int, Record]:
    run = opened(bench, plugins, submission, seeds)
    return {seed: evaluate(run.of(replace(submission, seed=seed)))[0] for seed in seeds}


@pytest.fixture(scope="module")
def group(bench: Bench, plugins: Plugins) -> dict[int, Record]:
    return run_group(bench, plugins, from_plugins(["noisy"]), (0, 1, 7))


def test_each_seed_is_the_run_that_it_is_by_itself(
    bench: Bench, plugins: Plugins, encoder: Seeded, group: dict[int, Record]
) -> None:
    encoder.calls.clear()
    alone, folder = evaluate(opened(bench, plugins, replace(from_plugins(["noisy"]), seed=7)))
    assert encoder.calls == []  # every fold is on disk
    assert alone.systems[0].digest == group[7].systems[0].digest
    assert alone.seeds == {}
    evaluate(opened(bench, plugins, replace(from_plugins(["noisy"]), seed=7), (0, 1, 7)))
    assert read_record(folder).seeds == group[0].seeds


def test_the_record_names_the_group_and_its_members(bench: Bench, group: dict[int, Record]) -> None:
    for record in group.values():
        assert record.seeds == {str(seed): member.identity for seed, member in group.items()}
    assert len(set(group[0].seeds.values())) == 3
    found = Runs(bench.root / "runs").group(group[1])
    assert {seed: record.submission.seed for seed, record in found.items()} == {0: 0, 1: 1, 7: 7}


def test_a_record_without_the_key_can_be_read(group: dict[int, Record]) -> None:
    content = group[0].to_json()
    del content["seeds"], content["submission"]["tuned"]
    old = Record.from_json(content)
    assert (old.seeds, old.submission.tuned) == ({}, None)
    assert replace(old, seeds=group[0].seeds) == group[0]


def test_means_and_deviations_between_seeds_are_the_literal_ones(group: dict[int, Record]) -> None:
    (found,) = summarise_seeds(group)
    assert found.seeds == (0, 1, 7)
    for measure in ("acc_presence", "acc_salience", "score"):
        values = [getattr(record.finished[0].cross_fitted, measure).mean for record in group.values()]
        assert measure == "acc_salience" or len(set(values)) > 1
        assert getattr(found.cross_fitted, measure).mean == pytest.approx(fmean(values))
        assert getattr(found.cross_fitted, measure).sd == pytest.approx(stdev(values))
        ends = [getattr(record.finished[0].intervals, measure) for record in group.values()]
        assert found.intervals is not None
        assert getattr(found.intervals, measure) == pytest.approx(np.mean(ends, axis=0))


def test_a_system_that_failed_with_one_seed_is_summarised_over_the_others() -> None:
    good = sample_record(sample_system("one"), sample_system("two", 0.4))
    other = sample_record(sample_system("one", 0.6))
    one, two = summarise_seeds({0: good, 1: other})
    assert (one.name, one.seeds, two.name, two.seeds) == ("one", (0, 1), "two", (0,))
    assert two.cross_fitted.score.sd == 0
    assert one.cross_fitted.acc_presence.sd == pytest.approx(stdev([0.548, 0.57]))
    bare = sample_record(sample_system("one", intervals=None))
    assert summarise_seeds({0: good, 1: bare})[0].intervals is None


@pytest.mark.parametrize(
    ("name", "plain", "seed"),
    [("wavlm@seed0", "wavlm", 0), ("wavlm@seed12", "wavlm", 12), ("wavlm", "wavlm", None),
     ("wavlm@seed", "wavlm@seed", None), ("wavlm@seed01", "wavlm@seed01", None), ("wavlm@quick", "wavlm@quick", None),
     ("a@seed1+b@seed1", "a+b", 1), ("a@seed1+b@seed2", "a@seed1+b@seed2", None), ("a+b@seed1", "a+b@seed1", None)],
)  # fmt: skip
def test_a_seed_is_split_off_a_name(name: str, plain: str, seed: int | None) -> None:
    assert split_seed(name) == (plain, seed)


def test_the_average_takes_the_folds_of_the_seeds_and_is_their_literal_mean(
    bench: Bench, plugins: Plugins, encoder: Seeded, group: dict[int, Record]
) -> None:
    encoder.calls.clear()
    record, folder = evaluate(opened(bench, plugins, from_plugins(["noisy"]).averaging((0, 1, 7))))
    assert encoder.calls == []
    assert [system.name for system in record.finished] == ["noisy@seed0", "noisy@seed1", "noisy@seed7", "seed-average"]
    digests = {system.digest for each in group.values() for system in each.systems}
    assert {system.digest for system in record.systems[:3]} == digests
    runs = bench.root / "runs"
    rows = [load_system(runs, str(folder), f"noisy@seed{seed}").sample.values for seed in (0, 1, 7)]
    mean = load_system(runs, str(folder), "seed-average").sample.values
    np.testing.assert_allclose(mean, np.mean(rows, axis=0), atol=1e-9)
    assert np.abs(rows[0] - rows[1]).max() > 0.01


def test_options_of_the_encoder_are_those_of_all_its_seeds(bench: Bench, plugins: Plugins) -> None:
    names = ("noisy@seed0", "noisy@seed1")
    with pytest.raises(ConfigError, match="option of noisy@seed0"):
        opened(bench, plugins, Submission("x", names, "seed-average", options={"noisy": {"size": 1}}))
    with pytest.raises(ConfigError, match="'other'"):
        Submission("x", names, "seed-average", options={"other": {"size": 1}})


@pytest.mark.parametrize("names", [["noisy", "other"], ["noisy@quick"], ["noisy@seed1"]])
def test_only_one_plain_encoder_is_averaged(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="one encoder"):
        from_plugins(names).averaging((0, 1))


def test_seed_average_refuses_several_encoders(bench: Bench, plugins: Plugins) -> None:
    record, _ = evaluate(opened(bench, plugins, from_plugins(["noisy@seed0", "other@seed0"], "seed-average")))
    (failed,) = [each for each in record.systems if isinstance(each, FailedSystem)]
    assert "noisy, other" in failed.error.message


def test_the_leaderboard_has_one_row_for_a_group(tmp_path: Path, plugins: Plugins) -> None:
    bench = open_bench(tmp_path, actors=6, tests=0)
    group = run_group(bench, plugins, from_plugins(["noisy"]), (0, 1, 2))
    evaluate(opened(bench, plugins, from_plugins(["noisy"]).averaging((0, 1))))  # a newer run of two members
    evaluate(opened(bench, plugins, from_plugins(["other"])))
    (board,), remarks = make_boards([bench.root / "runs"], [], "out-of-sample")
    assert remarks == []
    rows = {row.name: row for row in board.rows}
    assert sorted(rows) == ["noisy, 3 seeds", "other", "seed-average"]
    row, (found,) = rows["noisy, 3 seeds"], summarise_seeds(group)
    assert row.seeds == (0, 1, 2)
    assert row.sd == pytest.approx(found.cross_fitted.score.sd)
    assert row.out_of_sample is not None
    assert row.out_of_sample.score == pytest.approx(found.cross_fitted.score.mean)
    assert row.group is not None
    assert (rows["other"].seeds, rows["other"].sd) == ((), None)
    assert '"0,1,2"' in write_csv([board])
    assert rf"$\pm$ {short(row.sd or 0)}" in write_latex([board])


def test_a_tuned_system_says_so(tmp_path: Path, bench: Bench, plugins: Plugins) -> None:
    record, _ = evaluate(opened(bench, plugins, replace(from_plugins(["other"]), tuned=20)))
    assert record.submission.tuned == 20
    assert "20 trials" in str(record.caveat)
    folder = tmp_path / "one-0123456789ab"
    folder.mkdir()
    sample = sample_record(sample_system("a"))
    sample = replace(sample, submission=replace(sample.submission, tuned=20))
    (folder / "record.json").write_text(json.dumps(sample.to_json()))
    (board,), _ = make_boards([tmp_path], [], "out-of-sample")
    assert "20 trials" in " ".join(board.rows[0].caveats)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "cache"))
    return str(write_download(tmp_path / "data", rows_of(actors=6, folds=3)))


def call(*words: str) -> Result:
    return CliRunner().invoke(cli, [*words])


def test_run_shows_the_group_and_its_average(data: str) -> None:
    words = ("run", "--plugin", "trivial-blend", "--data", data, "--device", "cpu")
    done = call(*words, "--seed", "3", "--seeds", "2", "--average", "--json")
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert [run["submission"]["seed"] for run in content["runs"]] == [3, 4]
    assert content["seeds"][0]["cross_fitted"]["score"]["sd"] == 0  # a baseline without chance
    assert content["average"]["systems"][-1]["name"] == "seed-average"
    shown = call(*words, "--seeds", "3,4")
    assert shown.exit_code == 0, shown.output
    assert "2 seeds (3, 4)" in shown.stdout
    again = call("table", f"trivial-blend-{content['runs'][0]['identity'][:12]}")
    assert "2 seeds (3, 4)" in again.stdout
    assert "this is 3" in again.stdout


@pytest.mark.parametrize("seeds", ["1", "0", "-2", "x", "0,0", "0,-1", "1.5", "101", ""])
def test_seeds_that_make_no_group_are_refused(data: str, seeds: str) -> None:
    done = call("run", "--plugin", "trivial-blend", "--data", data, f"--seeds={seeds}")
    assert done.exit_code == 2
    assert f"found '{seeds}'" in done.stderr
    assert not list(Path("blemore-runs").glob("*/record.json"))


def test_an_average_needs_seeds_and_seeds_an_encoder_without_one(data: str) -> None:
    assert "--seeds" in call("run", "--plugin", "trivial-blend", "--data", data, "--average").stderr
    done = call("run", "--plugin", "trivial-blend@seed1", "--data", data, "--seeds", "2")
    assert isinstance(done.exception, ConfigError)
    assert "@seed1" in str(done.exception)
