"""`tune`: which options are searched, on which clips, what an interruption changes, and what comes out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from click.testing import CliRunner

from blemore_harness.cli import cli
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.disk import read_json
from blemore_harness.errors import ConfigError, ExtraMissing, InvalidOption, UnknownName
from blemore_harness.files.runs import Runs
from blemore_harness.heads.options import HeadOptions
from blemore_harness.options import Space, list_spaces, read_space, searched
from blemore_harness.pipeline import evaluate
from blemore_harness.running.nested import cross_fitted_score, fit_submission, open_inner
from blemore_harness.running.run import Run, open_run
from blemore_harness.systems.submission import Submission, from_plugins, read_submission
from blemore_tuning.report import describe, draw, write_submission
from blemore_tuning.spaces import find_defaults, find_spaces
from blemore_tuning.tuning import STUDIES_FILE, Plan, tune
from builders import rows_of, write_download
from installed_plugins import make_site
from second_distributions import MAIN
from toys import Noisy, Silent, offer
from tuned_systems import ACTORS, FOLDS, Tunable


@dataclass(frozen=True)
class Toy:
    rate: float = searched(0.1, 1e-3, 1.0, log=True)
    layers: int = searched(2, 1, 4)
    kind: Literal["a", "b"] = searched("a", choices=("a", "b"))
    fast: bool = False
    limit: int | None = None
    sizes: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Child(Toy):
    rate: float = 0.5


def test_spaces_stand_beside_the_options_and_are_inherited() -> None:
    assert list_spaces(Child) == {
        "rate": Space(1e-3, 1.0, True), "layers": Space(1, 4), "kind": Space(choices=("a", "b")),
    }  # fmt: skip
    assert Child().rate == 0.5
    spaces, head = list_spaces(HeadOptions), HeadOptions()
    assert {"learning_rate", "dropout", "hidden"} <= spaces.keys()
    assert all(str(getattr(head, name)).lower() in space.choices for name, space in spaces.items() if space.choices)


@pytest.mark.parametrize(
    ("name", "text", "space"),
    [("rate", "0.1:1", Space(0.1, 1.0)), ("rate", "1e-4:1:log", Space(1e-4, 1.0, True)), ("layers", "1:3", Space(1, 3)),
     ("limit", "1:3", Space(1, 3)), ("rate", "0.1, 0.2", Space(choices=("0.1", "0.2"))),
     ("fast", "true,false", Space(choices=("true", "false"))), ("limit", "none,3", Space(choices=("none", "3")))],
)  # fmt: skip
def test_spaces_are_read_as_their_option_says(name: str, text: str, space: Space) -> None:
    found = read_space("toy", Toy, name, text)
    assert found == space
    assert type(found.low) is type(space.low)


@pytest.mark.parametrize(
    ("name", "text"),
    [("rate", ""), ("rate", "1"), ("rate", "1,1"), ("rate", "2:1"), ("rate", "1:1"), ("rate", "0:1:log"),
     ("rate", "0:1:lin"), ("rate", "0:1:log:x"), ("rate", "a:b"), ("rate", "0:nan"), ("layers", "1:2.5"),
     ("kind", "a,c"), ("kind", "a:b"), ("fast", "0:1"), ("sizes", "1:2")],
)  # fmt: skip
def test_a_space_that_is_none_is_refused(name: str, text: str) -> None:
    with pytest.raises(InvalidOption, match=rf"toy\.{name}"):
        read_space("toy", Toy, name, text)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(UnknownName, match="'rat'; did you mean 'rate'"):
        read_space("toy", Toy, "rat", "0:1")


@pytest.mark.parametrize("wrong", [{"low": 1.0}, {"low": 2.0, "high": 1.0}, {"choices": ("a",)}, {}])
def test_an_author_cannot_declare_an_empty_space(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        searched(0.0, **wrong)


@pytest.fixture
def encoder() -> Tunable:
    return Tunable()


def opened(root: Path, encoder: Tunable, submission: Submission | None = None) -> Run:
    if not (root / "data").exists():
        write_download(root / "data", rows_of(actors=ACTORS, folds=FOLDS), tests=2)
    dataset = read_dataset(root / "data")
    plugins, _ = offer(encoder, Noisy("noisy"))
    where = (root / "runs", root / "cache", Silent())
    return open_run(
        submission or from_plugins(["tunable"]), plugins, dataset, blind_dataset(dataset, root / "views"), *where,
        keep_models="none",
    )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, encoder: Tunable, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "cache"))
    return opened(tmp_path, encoder)


def test_what_is_set_is_not_searched_unless_asked_for(tmp_path: Path, run: Run) -> None:
    assert [each.name for each in find_spaces(run, [])] == ["tunable.skill"]
    given = run.of(run.submission.with_options({"tunable": {"skill": 0.5}}, None))
    with pytest.raises(ConfigError, match="nothing to search: tunable"):
        find_spaces(given, [])
    (found,) = find_spaces(given, ["tunable.skill=0.2:0.4"])
    assert found.space == Space(0.2, 0.4)
    assert find_defaults(given, [found]) is None
    assert find_defaults(run, find_spaces(run, [])) == {"tunable.skill": 0.1}
    both = run.of(from_plugins(["tunable", "noisy"], "late"))
    assert [each.name for each in find_spaces(both, [])] == ["tunable.skill", "late.max_weight"]
    assert [each.name for each in find_spaces(both, [], ["late"])] == ["late.max_weight"]
    with pytest.raises(ConfigError, match="noisy"):
        find_spaces(both, [], ["noisy"])


@pytest.mark.parametrize(
    ("text", "words"),
    [("tunable.skil=0:1", "'skil'; did you mean 'skill'"), ("tunabl.skill=0:1", "'tunabl'; did you mean 'tunable'"),
     ("tunable.skill", "found 'tunable.skill'"), ("tunable.skill=", "found 'tunable.skill='"),
     ("skill=0:1", "found 'skill=0:1'"), ("tunable.skill=1:0", "found 1:0")],
)  # fmt: skip
def test_bad_spaces_name_what_was_typed(run: Run, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_spaces(run, [text])


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_inner_folds_know_nothing_of_what_the_fold_holds_out(run: Run, fold: int) -> None:
    inner, with_held_out = (open_inner(run, fold, 3, 0, held_out) for held_out in (False, True))
    outside = run.dataset.folds == fold
    actors = np.array(run.dataset.actors)
    assert set(inner.dataset.actors) == set(actors[~outside])
    assert not set(inner.dataset.actors) & set(actors[outside])
    for k in (0, 1, 2):
        own = inner.dataset.folds == k
        names = np.array(inner.dataset.actors)
        assert own.any()
        assert not set(names[own]) & set(names[~own])
    held_out = {name for name, out in zip(run.dataset.ids, outside, strict=True) if out}
    assert set(with_held_out.dataset.test_ids) == held_out
    assert with_held_out.blinded.test.truth is None
    assert inner.dataset.test_ids == ()
    # Other labels of the held-out clips change nothing, and the clips themselves train nothing again.
    truth = run.dataset.truth.copy()
    truth[outside] = np.roll(truth[outside], 1, axis=0)
    changed = replace(run.dataset, truth=truth)
    other = open_inner(run.on(changed, run.blinded), fold, 3, 0)
    assert other.systems[0].digest == inner.systems[0].digest == with_held_out.systems[0].digest


def test_a_fold_of_one_training_actor_cannot_be_cut(run: Run) -> None:
    actors = tuple("A1" if fold else "A2" for fold in run.dataset.folds)
    with pytest.raises(ConfigError, match="at least 2 actors"):
        open_inner(run.on(replace(run.dataset, actors=actors), run.blinded), 0, 3, 0)


def test_what_is_fitted_inside_scores_as_a_run_does(run: Run) -> None:
    record, _ = evaluate(run)
    inner = open_inner(run, None, 3, 0)
    assert inner.systems[0].digest == run.systems[0].digest  # test clips are none of its business
    told: list[float] = []
    score = cross_fitted_score(fit_submission(inner, lambda scores: told.append(scores.score)), inner.blinded)
    assert score == record.finished[0].cross_fitted.score.mean
    assert told == [fold.official.score for fold in record.finished[0].folds]
    fused = run.of(from_plugins(["tunable", "noisy"], "late"))
    record, _ = evaluate(fused)
    inner = open_inner(fused, None, 3, 0)
    assert cross_fitted_score(fit_submission(inner), inner.blinded) == record.finished[-1].cross_fitted.score.mean


def planned(run: Run, trials: int = 6, texts: tuple[str, ...] = ()) -> tuple[Run, Plan]:
    folder = run.dataset.root.parent / "search"
    plan = Plan(run.submission, find_spaces(run, texts), trials, 3, folder, run.dataset.root, 0, "cpu")
    return replace(run, runs=Runs(folder)), plan


def trials_of(plan: Plan, name: str) -> list[tuple[str, dict[str, Any], float | None]]:
    from blemore_tuning.study import _counted, open_storage

    optuna = pytest.importorskip("optuna")
    study = optuna.load_study(storage=open_storage(plan.folder / STUDIES_FILE), study_name=name)
    return [(trial.state.name, trial.params, trial.value) for trial in _counted(study)]


def tuning(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test of whole searches."""
    marked: Callable[..., None] = pytest.mark.tune(pytest.mark.slow(test))
    return marked


@tuning
def test_the_search_finds_what_is_good_and_the_outer_folds_say_how_good(
    run: Run, encoder: Tunable, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    base, plan = planned(run, trials=8)
    found = tune(base, plan, 1, lambda _: None)
    record, _ = evaluate(run)
    assert [each.fold for each in found.outer] == [0, 1, 2]
    assert found.final.default == pytest.approx(record.finished[0].cross_fitted.score.mean)
    for each in (*found.outer, found.final):
        assert each.trials == 8
        assert each.failed == 0
        assert each.default is not None
        assert each.score >= each.default
        assert trials_of(plan, "final" if each.fold is None else f"fold-{each.fold}")[0][1] == {"tunable.skill": 0.1}
    # The honest number: every fold by the options that its own training part chose.
    rows = {}
    for each in found.outer:
        tuned = run.of(run.submission.with_options(each.options, None))
        predicted = fit_submission(tuned).out_of_fold
        rows |= {
            name: row
            for name, row, fold in zip(predicted.ids, predicted.values, run.blinded.folds, strict=True)
            if fold == each.fold
        }
    from blemore_harness.predictions import Probabilities
    from blemore_harness.scoring.results import SystemPredictions

    ids = run.blinded.train.ids
    joined = SystemPredictions(Probabilities(ids, np.array([rows[name] for name in ids])), None, None, ())
    assert found.honest.cross_fitted.score.mean == pytest.approx(cross_fitted_score(joined, run.blinded))
    assert found.honest.cross_fitted.score.mean > record.finished[0].cross_fitted.score.mean
    # The submission is the best of the final study, and says that it was chosen.
    file = tmp_path / "best.toml"
    file.write_text(write_submission(run.submission, found))
    best = read_submission(file)
    assert (best.encoders, best.seed, best.tuned) == (("tunable",), 0, 8)
    assert best.options == found.final.options
    record, _ = evaluate(run.of(best))
    assert record.finished[0].cross_fitted.score.mean == pytest.approx(found.final.score)
    assert "8 trials" in str(record.caveat)
    facts = json.loads(json.dumps(describe(plan, found)))
    assert facts["trials"] == 32
    assert facts["out_of_sample"]["score"]["mean"] == found.honest.cross_fitted.score.mean
    from blemore_harness.drawing.console import PlainConsole

    console = PlainConsole(width=100, record=True, file=(tmp_path / "out").open("w"))
    console.print(draw(plan, found, demo=True))
    assert "32 trials in 4 studies" in console.export_text()


@tuning
def test_the_search_is_the_same_again_and_after_an_interruption(tmp_path: Path, run: Run, encoder: Tunable) -> None:
    pytest.importorskip("optuna")
    base, plan = planned(run)
    names = ("fold-0", "fold-1", "fold-2", "final")
    tune(base, plan, 1, lambda _: None)
    whole = [trials_of(plan, name) for name in names]
    fits = len(encoder.fitted)
    tune(base, plan, 1, lambda _: None)
    assert len(encoder.fitted) == fits  # everything is on disk
    (tmp_path / "again").mkdir()
    other = Tunable()
    base, plan = planned(opened(tmp_path / "again", other))
    for stop in (4, 9, 23):
        other.stop_at = stop
        with pytest.raises(KeyboardInterrupt):
            tune(base, plan, 1, lambda _: None)
    tune(base, plan, 1, lambda _: None)
    assert [trials_of(plan, name) for name in names] == whole
    more = replace(plan, trials=8)
    tune(base, more, 1, lambda _: None)
    assert [trials_of(plan, name)[:6] for name in names] == whole
    assert len(trials_of(plan, "final")) == 8


@tuning
def test_a_trial_of_a_process_that_was_killed_does_not_count(run: Run) -> None:
    optuna = pytest.importorskip("optuna")
    from blemore_tuning.study import open_storage

    base, plan = planned(run, trials=2)
    study = optuna.create_study(
        storage=open_storage(plan.folder / STUDIES_FILE), study_name="final", direction="maximize"
    )
    study.ask()
    found = tune(base, plan, 1, lambda _: None)
    assert (found.final.trials, found.final.failed) == (2, 0)


@tuning
def test_a_trial_that_fails_counts_and_the_others_go_on(run: Run) -> None:
    pytest.importorskip("optuna")
    base, plan = planned(run, trials=10, texts=("tunable.mode=good,bad,refused",))
    found = tune(base, plan, 1, lambda _: None)
    studies = (*found.outer, found.final)
    assert sum(each.failed for each in studies) > 0
    assert all(each.trials == 10 and each.options["tunable"]["mode"] == "good" for each in studies)
    reasons = " ".join(reason for each in studies for reason in each.reasons)
    assert "out of luck" in reasons
    assert "mode: refused" in reasons


@tuning
def test_a_search_without_a_single_score_says_why(run: Run) -> None:
    pytest.importorskip("optuna")
    base, plan = planned(run.of(run.submission.with_options({"tunable": {"mode": "bad"}}, None)), trials=2)
    with pytest.raises(ConfigError, match=r"none of 2 trials.*out of luck"):
        tune(base, plan, 1, lambda _: None)


@tuning
def test_what_is_worse_than_the_median_is_pruned(run: Run, encoder: Tunable) -> None:
    pytest.importorskip("optuna")
    base, plan = planned(run, trials=20)
    found = tune(base, plan, 1, lambda _: None)
    pruned = sum(each.pruned for each in (*found.outer, found.final))
    assert pruned > 0
    trials = 4 * 20
    # A pruned trial saves its last fold; each outer fold is trained once more, on all of its clips.
    assert len(encoder.fitted) == 3 * trials - pruned + 3
    assert all(state in ("COMPLETE", "PRUNED") for state, _, _ in trials_of(plan, "final"))


def call(*words: str) -> Any:
    return CliRunner().invoke(cli, ["tune", *words])


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "cache"))
    return str(write_download(tmp_path / "data", rows_of(actors=ACTORS, folds=FOLDS)))


def test_without_optuna_the_command_says_how_to_get_it(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = call("trivial-blend", "--data", data)
    assert isinstance(done.exception, ExtraMissing)
    assert "blemore-harness[tune]" in str(done.exception)


@tuning
def test_what_cannot_be_tuned_is_refused_before_anything_is_computed(data: str) -> None:
    pytest.importorskip("optuna")
    assert "nothing to search" in str(call("trivial-blend", "--data", data).exception)
    assert "unknown submission 'trivial-blen'" in str(call("trivial-blen", "--data", data).exception)
    assert call("--data", data).exit_code == 2
    for output in ("best.txt", "nowhere/best.toml"):
        assert f"found {output}" in str(call("--plugin", "prosody", "--data", data, "-o", output).exception)
    Path("prosody-tuned.toml").write_text('plugins = ["prosody"]\n')
    done = call("--plugin", "prosody", "--data", data)
    assert "prosody-tuned.toml" in str(done.exception)
    assert not Path("blemore-runs").exists()


@tuning
@pytest.mark.once
def test_several_processes_find_the_same(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    write_download(tmp_path / "data", rows_of(actors=ACTORS, folds=FOLDS))
    with make_site(tmp_path / "site") as packages:
        packages.install("tunable", "from tuned_systems import blemore_encoders\n")
    path = os.pathsep.join((str(tmp_path / "site"), str(Path(__file__).parent)))
    environment = {**os.environ, "PYTHONPATH": path, "BLEMORE_CACHE": str(tmp_path / "cache")}
    found = []
    for jobs in ("1", "3"):
        words = ["tune", "tunable", "--trials", "4", "--jobs", jobs, "--data", "data", "--runs", f"runs-{jobs}"]
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *words, "--device", "cpu", "--json"], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[0] == found[1]
    assert found[0]["file"] == "tunable-tuned.toml"
    (result,) = (tmp_path / "runs-3").glob("tuning/*/result.json")
    assert read_json(result)["trials"] == 16
    assert read_submission(tmp_path / "tunable-tuned.toml").tuned == 4
