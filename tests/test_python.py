"""`import blemore_harness as bh`: light, complete beside the commands, with the same numbers and errors."""

from __future__ import annotations

import doctest
import importlib
import json
import logging
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import blemore_harness as bh
from blemore_harness.api import reporting
from blemore_harness.api.functions import list_functions
from blemore_harness.api.rows import Rows, make_frame
from blemore_harness.cli import cli
from blemore_harness.cli.plugin_commands import find_plugin_commands
from blemore_harness.context import Context
from blemore_harness.errors import ConfigError, ExtraMissing, InvalidProbabilities, RunError, UnknownName
from blemore_harness.files.runs import read_record
from blemore_harness.running.progress import Standing
from blemore_harness.systems.unregistered import digest_code
from builders import rows_of, write_download
from installed_plugins import make_site
from source_tree import CORE, sources

LIGHT = {
    "numpy", "pandas", "torch", "scipy", "click", "rich", "pluggy", "IPython", "importlib.metadata", "logging",
}  # fmt: skip
"""What `import blemore_harness` must not import."""

FUNCTIONS = {
    "analyse": "Run.analyse", "bundle": "Run.bundle", "check": "check_plugin", "compare": "compare",
    "data check": "check_data", "data demo": "write_demo", "doctor": "diagnose", "new-plugin": "new_plugin",
    "plugins": "plugins", "predict": "predict", "prepare": "prepare", "run": "run", "runs": "runs",
    "runs clean": "clean_runs", "runs remove": "remove_runs", "runs watch": "watch_run",
    "score": "score", "submissions": "submissions",
    "submit": "Run.submit", "table": "Run.table",
}  # fmt: skip
"""The function of every command of the core."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_download(tmp_path / "data", rows_of(actors=6, folds=3))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BLEMORE_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("BLEMORE_RUNS", raising=False)
    return tmp_path


def simple_run(**more: Any) -> Any:
    return bh.run(plugins=["trivial-single", "trivial-blend"], fusion="mean", device="cpu", **more)


# ---------------------------------------------------------------------------------------------------------- the import


def test_the_import_is_light() -> None:
    code = "import sys, json; before = set(sys.modules); import blemore_harness; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path}\n{code}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    loaded = set(json.loads(done.stdout))
    assert loaded & LIGHT == set()
    assert {name for name in loaded if name.startswith("blemore_")} == {"blemore_harness"}


def test_every_name_is_there_and_listed() -> None:
    assert set(bh.__all__) | set(list_functions()) <= set(dir(bh))
    for name in bh.__all__:
        assert name == "EMOTIONS" or getattr(bh, name).__name__ == name
    placed = [name for names in bh._PLACES.values() for name in names]
    assert sorted(placed) == sorted(bh.__all__)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        bh.nothing_like_it  # noqa: B018


def test_no_name_is_that_of_a_module() -> None:
    """A module of the same name would take its place as soon as it is imported."""
    modules = {path.stem for path in CORE.glob("*.py")} | {path.parent.name for path in CORE.glob("*/__init__.py")}
    assert set(bh.__all__) & modules == set()


def commands(group: click.Group = cli, before: str = "") -> set[str]:
    found: set[str] = set()
    for name, command in group.commands.items():
        way = f"{before} {name}".strip()
        inside = commands(command, way) if isinstance(command, click.Group) else {way}
        alone = {way} if getattr(command, "invoke_without_command", False) else set()
        found |= inside | alone
    return found


def test_every_command_has_its_function() -> None:
    assert commands() == set(FUNCTIONS)
    for function in FUNCTIONS.values():
        where: Any = bh
        for part in function.split("."):
            where = getattr(where, part)
        assert callable(where)
        assert where.__doc__
    ours = {
        name for name, command in find_plugin_commands().items()
        if all(point.dist and point.dist.name == "blemore-harness" for point in command._points)
    }  # fmt: skip
    assert {name.replace("-", "_") for name in ours} - set(list_functions()) == set()
    assert ours


def test_functions_of_installed_packages_are_found_by_their_entry_points(tmp_path: Path) -> None:
    assert bh.report.__module__ == "blemore_pages.api"
    with make_site(tmp_path / "site") as site:
        code = "def shout(): return 'aloud'\n"
        for distribution in ("loud-one", "loud-two"):
            site.install(distribution.replace("-", "_"), code, "shout", distribution,
                         group="blemore_harness.functions", target=":shout", head="")  # fmt: skip
            if distribution == "loud-one":
                assert bh.shout() == "aloud"
                assert "shout" in dir(bh)
        with pytest.raises(ConfigError, match=r"loud-one.* and loud-two"):
            bh.shout()


@pytest.mark.parametrize("path", sources(CORE / "api"), ids=lambda path: path.stem)
def test_examples_in_docstrings_are_true(path: Path, home: Path) -> None:
    pytest.importorskip("pandas")
    name = "blemore_harness.api" + ("" if path.stem == "__init__" else f".{path.stem}")
    found = doctest.testmod(importlib.import_module(name), extraglobs={"bh": bh})
    assert found.failed == 0
    assert found.attempted or path.stem in ("__init__", "functions", "reporting", "seeds", "submissions")


# ------------------------------------------------------------------------------------------------------------- results


def test_a_run_is_the_one_of_the_command(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    run = simple_run()
    words = ["run", "--plugin", "trivial-single,trivial-blend", "--fusion", "mean", "--device", "cpu"]
    done = subprocess.run([sys.executable, "-m", "blemore_harness", *words, "--json"], capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert json.loads(done.stdout)["systems"] == run.record.to_json()["systems"]
    assert [each.name for each in bh.runs()] == [run.name]
    assert bh.load_run("trivial-single") == bh.load_run(run.folder)
    table = run.table()
    assert table["system"].tolist() == ["trivial-blend", "mean", "trivial-single"]
    mean = next(each for each in run.record.finished if each.name == "mean")
    row = table[table["system"] == "mean"].iloc[0]
    assert row["cross_fitted_score"] == mean.cross_fitted.score.mean
    assert row["official_acc_presence_sd"] == mean.official.acc_presence.sd
    folds = run.folds("mean")
    assert folds["fold"].tolist() == [0, 1, 2]
    assert folds["official_score"].tolist() == [fold.official.score for fold in mean.folds]
    assert len(run.folds()) == 9
    assert "trivial-blend" in repr(run)
    found = run.predictions()
    assert found["part"].value_counts().to_dict() == {"train": 60, "test": 3}
    assert found["fold"].dtype == "Int64"
    assert found.loc[found["part"] == "train", list(bh.EMOTIONS)].sum(axis=1).to_numpy() == pytest.approx(1)
    assert run.analyse("mean")["system"] == "mean"
    assert capfd.readouterr().out == ""


def test_scores_of_frames_arrays_and_files_are_the_same(home: Path) -> None:
    pytest.importorskip("pandas")
    dataset = bh.load_dataset()
    random = np.random.default_rng(0)
    values = random.dirichlet(np.ones(6), len(dataset.ids))
    rows = bh.Probabilities(dataset.ids[::-1], values)
    frame = make_frame({"filename": list(rows.ids), **{name: values[:, k] for k, name in enumerate(bh.EMOTIONS)}})
    frame.to_csv(home / "rows.csv", index=False)
    first = bh.score(rows, dataset)
    assert first == bh.score(frame, dataset) == bh.score(frame.set_index("filename")) == bh.score(home / "rows.csv")
    with pytest.raises(InvalidProbabilities, match=r"1 column .*hap"):
        bh.score(frame.drop(columns="hap"), dataset)
    with pytest.raises(InvalidProbabilities, match="list"):
        bh.score([1, 2], dataset)
    with pytest.raises(InvalidProbabilities, match="missing 1 clip"):
        bh.score(frame.iloc[1:], dataset)
    run = simple_run()
    own = bh.score(run.predictions(), dataset)
    assert own["clips"] == 60, "test clips do not count"
    same = bh.compare(run, run.predictions(), data=dataset)
    assert same["differences"]["score"]["difference"] == 0


def test_comparisons_take_names_runs_and_files(home: Path) -> None:
    run = simple_run()
    found = bh.compare(run, second_system="trivial-single")
    assert found == bh.compare(run.name, second_system="trivial-single")
    assert {"sentence", "differences"} <= found.keys()
    with pytest.raises(ConfigError, match="second"):
        bh.compare(run)
    with pytest.raises(ConfigError, match=r"submission\.zip"):
        bh.compare(run, "x.csv", reference="labels.csv")


def test_new_clips_are_answered_by_the_run_and_by_its_bundle(home: Path) -> None:
    pytest.importorskip("pandas")
    run = simple_run()
    (home / "elsewhere").mkdir()
    clip = home / "elsewhere" / "clip.mov"
    clip.write_bytes(b"another video")
    answers = run.predict(clip)
    assert answers["clip"].tolist() == ["clip.mov"]
    assert answers.loc[0, list(bh.EMOTIONS)].sum() == pytest.approx(1)
    assert answers.loc[0, "trivial-single:ang"] in (0.0, 1.0)
    packed = run.bundle(home / "models.zip")
    assert bh.predict(packed, [home / "elsewhere"]).equals(answers)
    alone = bh.predict(run.name, clip, system="trivial-single")
    assert alone.loc[0, list(bh.EMOTIONS)].tolist() == [
        answers.loc[0, f"trivial-single:{name}"] for name in bh.EMOTIONS
    ]


def test_leaderboard_file_and_page_are_written(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = simple_run()
    written = run.submit(home / "mine.zip")
    assert written == home / "mine.zip"
    assert written.read_bytes() == (run.folder / "submission.zip").read_bytes()
    assert "Codabench would reject" in caplog.text, "three test clips are not all of them"
    assert bh.check_submissions(written)[str(written)]
    assert bh.leaderboard()["boards"][0]["rows"]


def test_lists_are_rows_that_a_notebook_shows_as_tables(home: Path) -> None:
    names = {row["name"] for row in bh.plugins()}
    assert {"prosody", "mean"} <= names
    assert bh.plugin("prosody").options
    assert "baseline-wavlm" in {row["name"] for row in bh.submissions()}
    text = Rows([{"a": "<x>", "b": None}])._repr_html_()
    assert "&lt;x&gt;" in text
    assert '<th scope="col">a</th>' in text
    assert bh.check_data("data")["clips"] == 60
    assert {row["name"] for row in bh.prepare(plugins="trivial-single", device="cpu")} == {"trivial-single"}


def test_a_notebook_shows_runs_with_their_caveats(home: Path) -> None:
    run = simple_run()
    text = run._repr_html_()
    assert text.count("<tr>") == 4
    assert "60 clips" in text
    assert run.name in bh.runs()._repr_html_()
    from dataclasses import replace

    assert (
        "<strong>demo &amp; more</strong>"
        in bh.Run(run.folder, replace(run.record, caveat="demo & more"))._repr_html_()
    )


def test_runs_over_seeds_are_those_of_the_command(home: Path) -> None:
    pytest.importorskip("pandas")
    found = bh.run_seeds([0, 3], plugins="trivial-single", device="cpu", average=True)
    assert list(found.runs) == [0, 3]
    assert found.average is not None
    assert found.average.record.finished[-1].name == "seed-average"
    row = found.table().iloc[0]
    mean = found.runs[0].record.finished[0].cross_fitted.score.mean
    assert (row["system"], row["seeds"], row["cross_fitted_score"]) == ("trivial-single", 2, mean)
    assert "± .000" in found._repr_html_()
    for seeds in ([3, 3], [3], 1, 101, [0, -1]):
        with pytest.raises(ConfigError, match=r"from 2 to 100.*found"):
            bh.run_seeds(seeds, plugins="trivial-single")


def test_this_machine_is_looked_over(home: Path) -> None:
    findings = {row["what"]: row["verdict"] for row in bh.diagnose(device="cpu")}
    assert findings["python"] == "ok"
    with pytest.raises(ConfigError, match="settings"):
        bh.diagnose(settings={"prosody": {}})
    with pytest.raises(ConfigError, match="measure"):
        bh.diagnose(measure=True)


@pytest.mark.encoders
def test_a_planned_run_is_measured(home: Path) -> None:
    rows = bh.diagnose(plugins="trivial-single", device="cpu", measure=True)
    assert {"time trivial-single", "time in all"} <= {row["what"] for row in rows}
    assert list(bh.runs()) == []


def test_runs_are_removed_with_what_no_other_needs(home: Path) -> None:
    run = simple_run()
    gone = bh.remove_runs(run.name)
    assert run.folder in gone
    assert len(gone) == 4
    assert list(bh.runs()) == []
    assert bh.clean_runs() == []


# -------------------------------------------------------------------------------------------------------------- errors


def test_errors_are_those_of_the_commands(home: Path) -> None:
    with pytest.raises(UnknownName, match="prosody"):
        bh.run(plugins=["prosdy"])
    with pytest.raises(UnknownName, match="mlflwo"):
        bh.run(plugins="trivial-single", track="mlflwo")
    with pytest.raises(ConfigError, match="neither"):
        bh.run()
    with pytest.raises(ConfigError, match="both"):
        bh.run("baseline", plugins=["prosody"])
    with pytest.raises(ConfigError, match="'prosody'"):
        bh.run(plugins=["prosody"], settings={"prosody": 3})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="isolation"):
        bh.run(plugins=["trivial-single"], time_limit=3)
    with pytest.raises(RunError, match="nowhere"):
        bh.load_run("nowhere")
    with pytest.raises(ConfigError, match="brackets"):
        bh.run(plugins=[bh.Encoder])  # type: ignore[list-item]
    run = simple_run()
    with pytest.raises(UnknownName, match=r"'maen'.*mean"):
        run.folds("maen")


def test_frames_without_pandas_say_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = simple_run()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ExtraMissing, match=r"blemore-harness\[notebook\]"):
        run.table()
    assert run._repr_html_()


def test_warnings_are_logged_once_and_failures_are_warnings(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = bh.run(plugins=[Failing(), "trivial-single"], fusion="mean", device="cpu")
    assert run.record.status == "failed"
    [warning] = [each for each in caplog.records if "failing failed" in each.message]
    assert (warning.name, warning.levelno) == ("blemore_harness", logging.WARNING)
    assert "no such luck" in warning.message
    reporter = reporting.open_reporter()
    reporter.warn("100 % new")
    reporter.warn("100 % new")
    assert caplog.messages.count("100 % new") == 1


def test_bars_of_a_notebook_are_one_output_that_ends_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    class Handle:
        def update(self, shown: Any) -> None:
            drawn.append(shown.data)

    display = pytest.importorskip("IPython.display")
    monkeypatch.setattr(display, "display", lambda _shown, display_id: Handle())
    monkeypatch.setattr(reporting, "DRAW_SECONDS", 0.0)
    reporter = reporting.NotebookReporter()
    with reporter.progress("<clips>", 4) as outer, reporter.progress("frames", 2) as inner:
        inner.advance()
        outer.advance(3)
    assert 'value="1" max="2"' in drawn[0]
    assert re.search("&lt;clips&gt;: 3 of 4, .*, about", drawn[1])
    assert drawn[-1] == ""
    reporter.show(Standing("fold 3 of 4 (<one> 3 of 4)", 2, 4))
    with reporter.progress("epochs", 7) as bar:
        bar.advance()
    assert re.fullmatch(r'<div><progress value="2" max="4".*fold 3 of 4 \(&lt;one&gt; 3 of 4\)</div>', drawn[-1])
    assert drawn[-2].index('value="2" max="4"') < drawn[-2].index('value="1" max="7"')
    reporter.show(None)
    assert drawn[-1] == ""


def test_a_count_in_the_log_says_how_long_to_go() -> None:
    bar = reporting.LogBar("clips", 10)
    bar.started = 0.0
    bar.done = 2
    assert bar.describe(10.0) == "clips: 2 of 10", "too early to tell"
    bar.done = 5
    assert bar.describe(10.0) == "clips: 5 of 10, 2 s each, about 10 s left"
    assert bar.describe(14520.0).endswith("about 4 h 2 min left")


def test_a_run_says_how_far_it_is_over_all_systems(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "blemore_harness"):
        simple_run()
    assert [text for text in caplog.messages if re.search(r"of \d+ \(trivial-|preparing trivial-", text)]


# -------------------------------------------------------------------------------------------------- objects as plugins


class Model:
    def __init__(self, share: float) -> None:
        self.share = share

    def predict(self, clips: bh.Clips, context: Context) -> bh.Probabilities:
        rest = (1 - self.share) / 5
        return bh.Probabilities(clips.ids, np.full((len(clips), 6), rest) + np.eye(6)[0] * (self.share - rest))

    def save(self, folder: Path) -> None:
        (folder / "model.json").write_text(json.dumps({"share": self.share}))


class Mine(bh.Encoder):
    name = "mine"
    summary = "one share for all"
    modality = "audio"

    def fit(self, fold: bh.Fold, options: Any, context: Context) -> Model:
        return Model(0.5)

    def load(self, folder: Path, options: Any, context: Context) -> Model:
        return Model(json.loads((folder / "model.json").read_text())["share"])


class Failing(Mine):
    name = "failing"

    def fit(self, fold: bh.Fold, options: Any, context: Context) -> Model:
        raise ValueError("no such luck")


def test_an_object_is_an_encoder_like_those_of_packages(home: Path) -> None:
    pytest.importorskip("pandas")
    run = bh.run(plugins=["trivial-single", Mine()], fusion="mean", device="cpu")
    record = read_record(run.folder)
    assert [each.name for each in record.finished] == ["trivial-single", "mine", "mean"]
    assert record.finished[1].plugin.distribution == "this session"
    assert record.execution.command == ("blemore_harness.run(plugins=['trivial-single', Mine()], fusion='mean')",)
    clip = home / "new.mov"
    clip.write_bytes(b"new")
    answers = run.predict(clip)
    assert answers.loc[0, "mine:ang"] == 0.5
    assert answers.loc[0, "remarks"] == ""
    assert bh.load_run(run.name, systems=[Mine()]).predict(clip).equals(answers)
    with pytest.raises(UnknownName, match="mine"):
        bh.load_run(run.name).predict(clip)
    with pytest.raises(ConfigError, match=r"'mine'.*session"):
        bh.run(plugins=[Mine()], isolate=True)

    class Taken(Mine):
        name = "prosody"

    with pytest.raises(ConfigError, match="'prosody'"):
        bh.run(plugins=[Taken()])
    rows = bh.check_plugin(Mine(), only=["declares", "options"])
    assert {row["status"] for row in rows} == {"passed"}


NOTEBOOK = """
import functools
import numpy as np
import blemore_harness as bh

SCALE = 2.0
TABLE = {"a": [1, 2], "b": np.arange(3)}
NAMES = frozenset(["x", "y", "z"])

def loud(clip):
    return helper(clip) * SCALE

def helper(clip):
    return len(clip.id)

@functools.lru_cache
def remembered(number):
    return number + 1

class Base(bh.Encoder):
    factor = 3

    def level(self, clip):
        return loud(clip) * self.factor

class Mine(Base):
    name = "mine"
    summary = "mine"
    modality = "audio"

    def __init__(self, bias=0):
        self.bias = bias

    def fit(self, fold, options, context):
        remembered(3)
        return [self.level(clip) + TABLE["a"][0] for clip in fold.train if clip.id not in {"x", "y"}], NAMES

    @property
    def width(self):
        return 5

    @functools.cached_property
    def height(self):
        return 7
"""


def cell(changes: Mapping[str, str], **arguments: Any) -> str:
    """Digest the encoder of the notebook after changes to its text."""
    text = NOTEBOOK
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "<cell>", "exec"), space)
    return digest_code(space["Mine"](**arguments))


def test_the_identity_of_an_object_follows_its_code() -> None:
    before = cell({})
    assert cell({"SCALE = 2.0": "# loud\n\nSCALE = 2.0"}) == before, "a comment"
    assert cell({"import functools": "import functools\nUNUSED = 3"}) == before, "a name that nothing uses"
    for change in (
        {"SCALE = 2.0": "SCALE = 3.0"}, {"[1, 2]": "[1, 3]"}, {"arange(3)": "arange(4)"},
        {"n(clip.id)": "n(clip.id) + 1"},
        {"factor = 3": "factor = 4"}, {"return number + 1": "return number - 1"}, {"return 5": "return 6"},
        {"return 7": "return 8"},
        {'["x", "y", "z"]': '["x", "y"]'}, {'not in {"x", "y"}': 'not in {"x"}'}, {"* self.factor": "+ self.factor"},
        {"bias=0": "bias=1"},
    ):  # fmt: skip
        assert cell(change) != before, change
    assert cell({}, bias=1) != before


def test_the_identity_of_an_object_is_the_same_in_another_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        NOTEBOOK + "\nfrom blemore_harness.systems.unregistered import digest_code\nprint(digest_code(Mine()))\n"
    )
    said = set()
    for seed in ("1", "2"):
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True,
                              env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)})  # fmt: skip
        said.add(done.stdout)
    assert said == {cell({}) + "\n"}


def test_the_identity_of_an_object_follows_modules_that_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for number, depth in ((1, 1), (2, 1), (2, 2)):
        (tmp_path / "further.py").write_text(f"def reach(clip):\n    return {depth}\n")
        (tmp_path / "beside.py").write_text(f"from further import reach\ndef measure(clip):\n    return {number}\n")
        for name in ("beside", "further"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        digests.append(
            cell({"import functools": "import functools\nimport beside", "len(clip.id)": "beside.measure(clip)"})
        )
    for name in ("beside", "further"):
        del sys.modules[name]
    assert len(set(digests)) == 3


def test_the_description_of_typed_code_is_the_same_in_another_process() -> None:
    code = (
        "from blemore_harness.estimators.code import describe\n"
        "def known(clip):\n    return clip in {'a', 'b', 'c', 'd', 'e'}\n"
        "print(describe(known))"
    )
    said = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                       env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(said) == 1
