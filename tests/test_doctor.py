"""The command `doctor`: what it finds, what it advises, and that it always ends with a table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from blemore_harness.doctor import diagnosis as doctor
from blemore_harness.doctor import surroundings
from blemore_harness.doctor.diagnosis import examine, judge_packages
from blemore_harness.doctor.dry_run import OWN, dry_run_apart
from blemore_harness.doctor.surroundings import Finding, look_at_disks, look_at_keys
from blemore_harness.errors import ConfigError
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.systems.submission import from_plugins
from blemore_plugins.requirements import KNOWN
from builders import write_download
from installed_plugins import HEAD, make_site

GOOD = {
    "torch": "2.14.1", "torchvision": "0.29.2", "torchaudio": "2.11.0", "transformers": "5.23.0", "av": "18.1.0",
}  # fmt: skip


NEEDS = {need.name: asdict(need) for need in (*OWN, *KNOWN.values())}


def packages(errors: Mapping[str, str] = {}, **versions: str | None) -> dict[str, dict[str, Any]]:
    found = {**GOOD, **versions}
    return {name: {**NEEDS[name], "version": v, "error": errors.get(name, "")} for name, v in found.items()}


def state(**changes: Any) -> dict[str, Any]:
    """What a dry run on a healthy machine gives."""
    names = changes.pop("names", ())
    return {
        "packages": packages(),
        "keys": [],
        "gpu": None,
        "clip": "ok",
        "encoders": {name: {"kind": "", "error": ""} for name in names},
        **changes,
    }


def look(found: Mapping[str, Any], *names: str, data: Path | None = None, device: str = "auto") -> dict[str, Finding]:
    submission = from_plugins(names) if names else None
    rows = examine(submission, load_plugins(), data, device, Path("runs"), lambda request: dict(found))
    assert all(row.row()["found"] for row in rows)
    return {row.what: row for row in rows if row.verdict != "ok"} or {row.what: row for row in rows}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLEMORE_CACHE", str(tmp_path / "cache"))


def test_a_healthy_machine_has_no_problem() -> None:
    found = look(state(names=("prosody",)), "prosody")
    assert {row.verdict for row in found.values()} == {"ok"}
    assert {
        "python",
        "packages",
        "gpu",
        "decoders",
        "encoder prosody",
        "dataset",
        "keys",
        "runs",
        "cache",
        "tmp",
    } <= set(found)


@pytest.mark.parametrize(
    ("found", "what", "advice"),
    [
        (
            packages({"torchvision": "RuntimeError: operator torchvision::nms does not exist"}),
            "torchvision",
            "both for the CPU or both for the same CUDA",
        ),
        (
            packages({"transformers": "RuntimeError: operator torchvision::nms does not exist"}),
            "transformers",
            "pip install --force-reinstall torch torchvision",
        ),
        (packages({"torchaudio": "OSError: undefined symbol"}, torch="2.14.0"), "torchaudio", "'torch>=2.11,<2.15'"),
        (packages(transformers="5.17.2"), "transformers", "pip install 'transformers>=5.18,<6'"),
        (packages(av="9.2"), "av", "pip install 'av>=18'"),
        (packages({"av": "ImportError: libav"}), "av", "pip install --force-reinstall av"),
    ],
)
def test_known_traps_are_recognised(found: dict[str, Any], what: str, advice: str) -> None:
    problems = [row for row in judge_packages(found) if row.verdict == "problem"]
    assert [row.what for row in problems] == [what]
    assert advice in problems[0].todo


def test_versions_that_were_never_tried_are_warnings() -> None:
    found = [row for row in judge_packages(packages(torch="2.15.0+cu130", transformers="6.0")) if row.verdict != "ok"]
    assert [(row.what, row.verdict) for row in found] == [("torch", "warning"), ("transformers", "warning")]
    assert "2.15" in found[0].found
    assert not [row for row in judge_packages(packages(torch="2.14.9", av="18")) if row.verdict != "ok"]


def test_what_is_not_installed_is_one_warning_with_the_command() -> None:
    rows = list(judge_packages(packages(**dict.fromkeys(GOOD))))
    assert [(row.verdict, row.what) for row in rows] == [("warning", "packages")]
    assert all(name in rows[0].found for name in GOOD)
    assert "'torch>=2.11,<2.15'" in rows[0].todo


def test_what_is_needed_is_what_the_extra_installs() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [text for extra in ("encoders", "expression", "judge", "nova", "omni") for text in extras[extra]]
    installed = [*project["dependencies"], *(text for text in named if "[" not in text)]
    extra = {need.name: need for need in map(Requirement, installed)}
    for name, need in NEEDS.items():
        bounds = {f">={need['least']}", f"<{need['below']}"} - {">=", "<"}
        assert {str(part).replace("==2.11.*", ">=2.11") for part in extra[name].specifier} == bounds - {"<2.12"}, name


def test_encoders_are_asked_for_what_they_need(tmp_path: Path) -> None:
    code = (
        HEAD
        + """
from blemore_harness.hookspecs import NoOptions, Requirement, hookimpl

class Needy(Toy):
    name = "needy"
    def requirements(self, options):
        return (Requirement("no-such-package", least="3"), Requirement("NEEDY_KEY", "key"))

class Vague(Toy):
    name = "vague"
    def requirements(self, options):
        return ("torch",)

@hookimpl
def blemore_encoders():
    return [Needy(), Vague()]
"""
    )
    with make_site(tmp_path / "site") as site:
        site.install("needy", code, head="")
        found = dry_run_apart({"encoders": ["needy", "vague"], "options": {}, "feature_sets": [], "demo": True})
        everything = dry_run_apart({"encoders": [], "options": {}, "feature_sets": [], "demo": True})
    assert (found["packages"]["no-such-package"]["version"], found["keys"]) == (None, ["NEEDY_KEY"])
    assert "transformers" not in found["packages"]
    assert "TypeError" in found["encoders"]["vague"]["error"]
    assert {"no-such-package", "transformers"} <= set(everything["packages"])
    assert {"NEEDY_KEY", "HF_TOKEN", "GEMINI_API_KEY"} <= set(everything["keys"])
    rows = {row.what: row for row in judge_packages(found["packages"])}
    assert "'no-such-package>=3'" in rows["packages"].todo


def test_gpus() -> None:
    assert "nvidia-smi" in look(state(), device="cuda")["gpu"].todo
    gpu = {"name": "NVIDIA H200", "free": 140e9, "total": 150e9, "bfloat16": True}
    assert look(state(gpu=gpu))["gpu"].found == "NVIDIA H200, 140.0 GB of 150.0 GB free, bfloat16"
    assert "driver too old" in look(state(gpu={"error": "driver too old"}), device="cuda")["gpu"].found


MISSING = {"kind": "weights", "error": "not here (no network): fetch x of a/b", "todo": "fetch x", "source": "a/b"}


def test_weights_that_can_be_fetched_are_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    found = state(encoders={"prosody": MISSING})
    monkeypatch.setattr(doctor.socket, "create_connection", lambda *arguments: open(os.devnull))  # noqa: SIM115, PTH123
    row = look(found, "prosody")["encoder prosody"]
    assert (row.verdict, row.todo) == ("warning", "they are fetched by: prepare --plugin prosody")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    row = look(found, "prosody")["encoder prosody"]
    assert (row.verdict, row.todo) == ("problem", "fetch x")
    assert row.found == "the weights 'a/b' are not on this machine, and HF_HUB_OFFLINE is set"


def test_weights_cannot_be_fetched_where_the_hub_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> Any:
        raise OSError("no route to host")

    monkeypatch.setattr(doctor.socket, "create_connection", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    row = look(state(encoders={"prosody": MISSING}), "prosody")["encoder prosody"]
    assert (row.verdict, row.todo) == ("problem", "fetch x")
    assert row.found == "the weights 'a/b' are not on this machine, and huggingface.co cannot be reached from here"


def test_weights_that_nobody_can_fetch_and_crashes_are_problems() -> None:
    for kind, error in (("weights", "by a link that no program can follow"), ("crash", "ValueError: oh")):
        row = look(state(encoders={"prosody": {"kind": kind, "error": error}}), "prosody")["encoder prosody"]
        assert (row.verdict, row.todo) == ("problem", error)


def test_misspelt_names_and_options_are_said_at_once(tmp_path: Path) -> None:
    for names, options in ((("nosuch",), {}), (("prosody", "trivial-single"), {"prosody": {"epoch": "3"}})):
        submission = from_plugins(names).with_options(options, None)
        with pytest.raises(ConfigError, match="unknown"):
            examine(submission, load_plugins(), None, "auto", tmp_path, lambda request: state())


def test_data_that_cannot_be_read_is_a_problem_and_not_a_traceback(tmp_path: Path) -> None:
    row = look(state(), data=tmp_path / "none")["dataset"]
    assert (row.verdict, "does not exist" in row.todo) == ("problem", True)
    folder = write_download(tmp_path / "data")
    next(folder.glob("part_01/*.mov")).unlink()
    found = look(state(), data=folder)
    assert found["videos"].found.startswith("missing: 1 of 63 (first: ")


def test_keys_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("GOOGLE_API_KEY", "GEMINI_API_KEY", "HF_TOKEN")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", "very-secret")
    row = look_at_keys(names)
    assert row.found == "GEMINI_API_KEY set; GOOGLE_API_KEY, HF_TOKEN not set"
    assert "secret" not in str(row)


def test_full_disks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = type("Usage", (), {"free": 5e9})
    monkeypatch.setattr(surroundings.shutil, "disk_usage", lambda folder: usage)
    rows = {row.what: row for row in look_at_disks(3000, tmp_path / "runs")}
    assert (rows["cache"].verdict, rows["runs"].verdict) == ("warning", "ok")
    assert "about 48.0 GB may be needed" in rows["cache"].found
    usage.free = 1e8
    assert {row.verdict for row in look_at_disks(0, tmp_path / "runs")} == {"problem"}


def test_a_package_that_ends_python_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text(
        "import os, sys; print('bad wheel', file=sys.stderr, flush=True); os._exit(66)\n"
    )
    info = tmp_path / "torch-9.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = dry_run_apart({"encoders": [], "options": {}, "feature_sets": [], "demo": True})
    assert found == {"crashed": "bad wheel"}
    assert look(found)["dry run"].verdict == "problem"


@pytest.mark.slow
def test_packages_that_fail_in_every_way_are_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = {"torchvision": "raise RuntimeError('operator torchvision::nms does not exist')", "timm": "exit(3)"}
    for name, need in NEEDS.items():
        module = str(need["module"] or name.replace("-", "_")).partition(".")[0]
        (tmp_path / f"{module}.py").write_text(bodies.get(name, "raise ImportError('stub')"))
        info = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ["s4d", "dinov3", "none"]
    found = dry_run_apart({"encoders": names, "options": {}, "feature_sets": [], "demo": True})
    assert found["packages"]["torchvision"]["error"] == "RuntimeError: operator torchvision::nms does not exist"
    assert found["packages"]["timm"]["error"] == "SystemExit: 3"
    assert found["clip"] == "not tried: a decoder is missing"
    assert found["gpu"] is None
    assert found["encoders"]["none"]["kind"] == "UnknownName"
    assert look({**found, "encoders": {}})["torchvision"].verdict == "problem"


@pytest.mark.slow
@pytest.mark.encoders
def test_the_command(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    environment = {**os.environ, "GEMINI_API_KEY": "very-secret", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    environment.pop("GOOGLE_API_KEY", None)
    data = write_download(tmp_path / "data")

    def run(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-c", "from blemore_harness.cli import main; main()", "doctor", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        return done.returncode, done.stdout, done.stderr

    code, out, err = run("--plugin", "wavlm,s4d,prosody", "--data", str(data), "--json")
    assert (code, err) == (1, "")
    rows = {row["what"]: row for row in json.loads(out)}
    assert rows["decoders"]["verdict"] == "ok"
    assert rows["encoder wavlm"]["verdict"] == "ok"  # released features need no weights
    assert rows["encoder s4d"]["verdict"] == "problem"
    assert "cyinen/S4D" in rows["encoder s4d"]["todo"]
    assert "very-secret" not in out
    code, out, err = run("--plugin", "nosuch")
    assert (code, "'nosuch'" in err) == (2, True)
