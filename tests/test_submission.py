"""Named systems: read strictly, found from any folder, and what ships can be run."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import pytest

from blemore_harness.errors import ConfigError, UnknownName
from blemore_harness.options import build_options
from blemore_harness.systems import submission as submission_module
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.systems.resolved import find_systems, resolve_systems
from blemore_harness.systems.submission import (
    Submission,
    find_submission,
    from_plugins,
    list_submissions,
    read_submission,
    shipped_folder,
)
from blemore_plugins.features.options import FeatureOptions
from real_material import REAL, needs_real

BASELINES = [
    "clip", "hicmae", "hubert", "imagebind", "imagebind-hubert", "imagebind-wavlm", "openface", "videomaev2",
    "videomaev2-hubert", "videomaev2-sub", "videomaev2-wavlm", "videoswin", "videoswin-sub", "wavlm",
]  # fmt: skip
UZH = [
    "12enc", "12enc-printed", "9enc", "9enc-printed", "gemini", "s4d", "s4d-wav2vec2", "s4d-wav2vec2-gemini",
    "timesformer", "videomae", "wav2vec2", "wav2vec2-512", "wav2vec2-finetuned",
]  # fmt: skip
UNPUBLISHED = ["uzh-s4d-wav2vec2-gemini", "all-2026", "audio-2026", "omni-2026", "video-2026"]
"""Our own system and encoders of 2026, of which no numbers are published."""

SHIPPED = sorted(
    {
        *(f"baseline-{name}" for name in BASELINES),
        "trivial-blend",
        "trivial-single",
        *(f"uzh-{name}" for name in UZH),
        *UNPUBLISHED,
    }
)
"""Every row of the published tables (organisers' baselines; UZH, arXiv 2603.23650), and the fused systems."""

FULL = """
summary = "A system."
plugins = ["s4d", "wav2vec2"]
fusion = "late"
seed = 3

[set.s4d]
epochs = 5

[expect]
score = 0.5
source = "nowhere"
"""


def write(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def test_whole_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, FULL)
    assert read_submission(path) == Submission(
        "mine", ("s4d", "wav2vec2"), "late", "A system.", {"s4d": {"epochs": 5}}, 3,
        {"score": 0.5, "source": "nowhere"}, path,
    )  # fmt: skip


def test_least_file_has_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, 'plugins = ["s4d", "gemini"]')
    assert read_submission(path) == Submission("mine", ("s4d", "gemini"), "best-of", source=path)


def test_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeff" + FULL.replace("\n", "\r\n"))
    assert read_submission(path).seed == 3


WRONG = {
    "": "'plugins'",
    "plugins = []": "at least one encoder",
    'plugins = "s4d"': "'plugins'",
    'plugins = ["s4d", 3]': "'plugins'",
    'plugins = ["s4d", "s4d"]': "'s4d' twice",
    'plugin = ["s4d"]': r"mine.toml: .*'plugin'; did you mean 'plugins'\?",
    'plugins = ["s4d"]\nseed = "x"': "'seed' .*whole number.*'x'",
    'plugins = ["s4d"]\nseed = true': "'seed' .*True",
    'plugins = ["s4d"]\nseed = 1.5': "'seed' .*1.5",
    'plugins = ["s4d"]\nsummary = 1': "'summary' .*text.* 1",
    'plugins = ["s4d"]\nfusion = false': "'fusion' .*text.* False",
    'plugins = ["s4d"]\nset = 1': "'set'.*table",
    'plugins = ["s4d"]\n[set]\nepochs = 5': r"\[set.epochs\]",
    'plugins = ["s4d"]\n[set.s4ds]\nepochs = 5': "'s4ds'.*did you mean 's4d'",
    'plugins = ["s4d"]\n[set.late]\nstep = 0.1': "'late'",
    'plugins = ["s4d"]\nexpect = 0.3': "'expect'.*table",
    'plugins = ["s4d"]\n[expect]\nscore = nan': "'expect.score'.*nan",
    'plugins = ["s4d"]\n[expect]\nscore = 2026-01-01': "'expect.score'",
    'plugins = ["s4d"': "mine.toml: ",
    'plugins = ["s4d"]\nplugins = ["late"]': "mine.toml: ",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_file_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=WRONG[text]) as caught:
        read_submission(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"summary = '\xff'")
    with pytest.raises(ConfigError, match=r"mine\.toml: .*utf-8"):
        read_submission(path)
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        read_submission(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("given", "encoders"),
    [(["s4d,wav2vec2"], ("s4d", "wav2vec2")), (["s4d", "wav2vec2"], ("s4d", "wav2vec2")), ([" s4d , "], ("s4d",))],
)
def test_plugin_list_makes_an_unnamed_submission(given: list[str], encoders: tuple[str, ...]) -> None:
    made = from_plugins(given)
    assert made.encoders == encoders
    assert made.name == ",".join(encoders)
    assert made.fusion == ("best-of" if len(encoders) > 1 else None)
    assert made.source is None


def test_plugin_list_with_nothing_or_one_twice() -> None:
    with pytest.raises(ConfigError, match="at least one encoder"):
        from_plugins([" , "])
    with pytest.raises(ConfigError, match="'s4d' twice in s4d, late, s4d"):
        from_plugins(["s4d,late", "s4d"])


def test_command_line_wins_over_the_file(tmp_path: Path) -> None:
    read = read_submission(write(tmp_path, FULL))
    changed = read.with_options({"s4d": {"epochs": "9", "lr": "1"}, "late": {"step": "0.05"}}, 8)
    assert changed.options == {"s4d": {"epochs": "9", "lr": "1"}, "late": {"step": "0.05"}}
    assert changed.seed == 8
    assert read.options == {"s4d": {"epochs": 5}}
    assert read.with_options({}, None).seed == 3
    assert read.with_options({}, 0).seed == 0
    with pytest.raises(ConfigError, match="'gemini'"):
        read.with_options({"gemini": {"consent": "true"}}, None)


def test_names_are_found_from_any_folder_and_a_local_file_wins_saying_so(tmp_path: Path) -> None:
    found, remark = find_submission("trivial-single", tmp_path)
    assert (found.encoders, remark) == (("trivial-single",), None)
    local = write(tmp_path / "submissions", 'plugins = ["s4d"]', "trivial-single")
    found, remark = find_submission("trivial-single", tmp_path)
    assert found.encoders == ("s4d",)
    assert remark
    assert str(local) in remark
    nearer = write(tmp_path, 'plugins = ["gemini"]', "trivial-single")
    assert str(nearer) in str(find_submission("trivial-single", tmp_path)[1])


def test_new_local_name_needs_no_remark_and_a_checkout_is_not_local(tmp_path: Path) -> None:
    write(tmp_path / "submissions", 'plugins = ["s4d"]', "mine")
    found, remark = find_submission("mine", tmp_path)
    assert (found.name, remark) == ("mine", None)
    assert find_submission("trivial-single", shipped_folder().parent)[1] is None


def test_a_checkout_beside_an_installation_needs_no_remark(tmp_path: Path) -> None:
    write(tmp_path / "submissions", (shipped_folder() / "trivial-single.toml").read_text(), "trivial-single")
    assert find_submission("trivial-single", tmp_path)[1] is None


def test_unknown_name_suggests_shipped_and_local_ones(tmp_path: Path) -> None:
    write(tmp_path / "submissions", 'plugins = ["s4d"]', "mine-own")
    with pytest.raises(UnknownName, match="'trivial-singel'; did you mean 'trivial-single'"):
        find_submission("trivial-singel", tmp_path)
    with pytest.raises(UnknownName, match="did you mean 'mine-own'"):
        find_submission("mine-won", tmp_path)


def test_shipped_submissions_are_all_read() -> None:
    assert [found.name for found in list_submissions()] == SHIPPED
    assert all(found.summary.endswith(".") for found in list_submissions())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_submission_names_plugins_and_options_that_exist(name: str) -> None:
    found = read_submission(shipped_folder() / f"{name}.toml")
    resolved_systems = resolve_systems(
        find_systems(found, load_plugins({"BLEMORE_BLOCK": "elsewhere"}), demo=False), None
    )
    assert [resolved.name for resolved in resolved_systems] == [
        *found.encoders,
        *([found.fusion] if found.fusion else []),
    ]


BASELINE_NUMBERS = {
    "clip": (".266±.021", ".105±.012", ".186", ".258", ".096", ".177"),
    "imagebind": (".290±.028", ".130±.008", ".210", ".261", ".087", ".174"),
    "openface": (".228±.014", ".119±.014", ".174", ".226", ".081", ".154"),
    "videomaev2": (".273±.025", ".106±.014", ".190", ".293", ".054", ".174"),
    "videoswin": (".225±.026", ".089±.033", ".157", ".214", ".093", ".154"),
    "hubert": (".243±.023", ".104±.024", ".174", ".274", ".120", ".197"),
    "wavlm": (".265±.027", ".121±.012", ".193", ".311", ".084", ".198"),
    "videomaev2-sub": (".260±.030", ".124±.027", ".192", ".231", ".081", ".156"),
    "videoswin-sub": (".210±.024", ".103±.020", ".157", ".197", ".087", ".142"),
    "imagebind-wavlm": (".345±.035", ".170±.055", ".258", ".327", ".114", ".221"),
    "imagebind-hubert": (".339±.023", ".158±.053", ".249", ".298", ".084", ".191"),
    "videomaev2-wavlm": (".343±.022", ".140±.028", ".242", ".332", ".102", ".217"),
    "videomaev2-hubert": (".332±.016", ".138±.012", ".235", ".332", ".114", ".223"),
    "hicmae": (".298±.025", ".180±.036", ".239", ".268", ".180", ".224"),
}
PUBLISHED = {f"baseline-{name}": numbers for name, numbers in BASELINE_NUMBERS.items()} | {
    "trivial-single": (".078", "0", ".039", ".074", "0", ".037"),
    "trivial-blend": (".057", ".035", ".046", ".059", ".036", ".047"),
    "uzh-s4d": (".340±.024", ".140±.018", ".240"),
    "uzh-gemini": (".320±.033", ".137±.009", ".223"),
    "uzh-videomae": (".291±.016", ".144±.026", ".218"),
    "uzh-wav2vec2": (".294±.025", ".120±.018", ".207"),
    "uzh-timesformer": (".259±.031", ".131±.015", ".195"),
    "uzh-wav2vec2-512": (".264±.031", ".104±.016", ".184"),
    "uzh-wav2vec2-finetuned": (".234±.026", ".088±.020", ".161"),
    "uzh-s4d-wav2vec2": (".357", ".175", ".266", ".327", ".159", ".243"),
    "uzh-9enc": (".414", ".205", ".309", ".357", ".168", ".262"),
    "uzh-12enc": (".418", ".204", ".311", ".391", ".168", ".279"),
    "uzh-9enc-printed": (".386", ".150", ".268"),
    "uzh-12enc-printed": (".393", ".181", ".287"),
    **dict.fromkeys(UNPUBLISHED, ()),
}
"""Presence, salience and Score in validation, then on the test set, as the organisers and the UZH paper print them."""


@pytest.mark.parametrize("name", SHIPPED)
def test_published_numbers_are_those_that_were_printed(name: str) -> None:
    printed = {}
    for measure, text in zip(("acc_presence", "acc_salience", "score") * 2, PUBLISHED[name], strict=False):
        key = f"test_{measure}" if measure in printed else measure
        mean, _, deviation = text.partition("±")
        printed[key] = float(mean)
        if deviation:
            printed[f"{key}_sd"] = float(deviation)
    found = read_submission(shipped_folder() / f"{name}.toml").expect
    assert {key: value for key, value in found.items() if key != "source"} == printed


RECORDED = {
    "baseline-clip": ("aggregated", "clip"),
    "baseline-imagebind": ("aggregated", "imagebind"),
    "baseline-openface": ("aggregated", "openface"),
    "baseline-videomaev2": ("aggregated", "videomae"),
    "baseline-videoswin": ("aggregated", "videoswintransformer"),
    "baseline-videomaev2-sub": ("subsampled", "videomae"),
    "baseline-videoswin-sub": ("subsampled", "videoswintransformer"),
}
"""What the organisers call the features and the encoder in the folds that they recorded."""

MODELS = {"Linear": "", "MLP_256": "256", "MLP_512": "512"}


@needs_real
@pytest.mark.parametrize("name", RECORDED)
def test_the_head_of_a_baseline_is_the_one_whose_recorded_folds_give_its_numbers(name: str) -> None:
    found = read_submission(shipped_folder() / f"{name}.toml")
    [options] = found.options.values()
    head = build_options(name, FeatureOptions, dict(options))
    with (REAL / "official_fold_runs.csv").open(newline="") as file:
        folds = [row for row in csv.DictReader(file) if (row["features"], row["encoder"]) == RECORDED[name]]
    recorded = [row for row in folds if MODELS[row["model"]] == head.hidden]
    assert len(recorded) == 5
    for measure in ("acc_presence", "acc_salience"):
        values = [float(row[f"best_{measure}"]) for row in recorded]
        assert found.expect[measure] == pytest.approx(statistics.fmean(values), abs=0.0006)
        assert found.expect[f"{measure}_sd"] == pytest.approx(statistics.stdev(values), abs=0.0006)
    assert max(int(float(row["epoch"])) for row in folds) in range(head.epochs - 10, head.epochs + 1)


@pytest.mark.parametrize("name", SHIPPED)
def test_published_numbers_are_whole_and_add_up(name: str) -> None:
    found = read_submission(shipped_folder() / f"{name}.toml").expect
    measures = ("acc_presence", "acc_salience", "score")
    known = {*measures, *(f"test_{m}" for m in measures), "acc_presence_sd", "acc_salience_sd", "source"}
    assert set(found) <= known
    assert bool(found) == (name not in UNPUBLISHED)
    for prefix in ("", "test_") if "test_score" in found else ("",) if found else ():
        presence, salience, score = (float(str(found[f"{prefix}{m}"])) for m in measures)
        # The Gemini row of the paper's table I does not add up by more than rounding.
        assert abs((presence + salience) / 2 - score) <= (0.006 if name == "uzh-gemini" else 0.001)


def test_wheel_carries_the_submissions_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "blemore_harness"
    write(package / "submissions", 'plugins = ["s4d"]', "inside")
    monkeypatch.setattr(submission_module, "__file__", str(package / "systems" / "submission.py"))
    assert [found.name for found in list_submissions()] == ["inside"]
