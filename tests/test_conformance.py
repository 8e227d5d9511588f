"""Every encoder and every fusion of ours passes the checks that authors of plugins are offered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.heads.options import HeadOptions
from blemore_harness.hookspecs import Encoder
from blemore_harness.systems.plugins import load_plugins
from blemore_harness.testing import Session, Subject, check_subject
from blemore_plugins.best_of import BestOfOptions
from blemore_plugins.regularisation import LogisticOptions

SYSTEMS = {
    name: offers[0].system
    for name, offers in sorted(load_plugins({}).offers.items())
    if offers[0].distribution.name == "blemore-harness"
}

TORCH_FUSIONS = {"rank-aware"}


def write_openface(folder: Path, labels: Mapping[str, Any]) -> None:
    """Write released OpenFace files in which action units say what is shown."""
    place = folder / "pre_extracted_train_data" / "OpenFace_3_train"
    place.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, shares in labels.items():
        lines = ["frame,emotion_index,gaze_yaw,gaze_pitch,action_units"]
        for frame in range(12):
            units = np.append(shares, [0, 0]) + rng.normal(0, 0.1, 8)
            lines.append(f'{frame},{int(shares.argmax())},0.1,{rng.normal():.3f},"{units.round(3).tolist()}"')
        (place / f"{name}.csv").write_text("\n".join(lines) + "\n")


def smaller(system: Any) -> Mapping[str, object]:
    """Options that make a system quicker than in the demo: there are 42 clips."""
    if issubclass(system.Options, HeadOptions):
        return {"hidden": "64", "epochs": 25, "patience": 10}
    if issubclass(system.Options, LogisticOptions):
        return {"strengths": (0.3, 3.0)}
    if issubclass(system.Options, BestOfOptions):
        return {"candidates": ("mean", "late"), "inner_folds": 2}
    return {}


SAID: Mapping[str, Mapping[str, Any]] = {
    "openface": {"release": write_openface},
    "expression": {
        "not_applicable": {"learns": "it sees grey levels; its real weights are checked in test_real_weights"}
    },
    "trivial-single": {"not_applicable": {"learns": "a baseline that looks at nothing"}},
    "trivial-blend": {"not_applicable": {"learns": "a baseline that looks at nothing"}},
}
"""What is said about single systems."""


def param(name: str) -> Any:
    heavy = isinstance(SYSTEMS[name], Encoder) or name in TORCH_FUSIONS
    return pytest.param(name, marks=[pytest.mark.encoders, pytest.mark.slow] if heavy else [])


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    return Session(tmp_path_factory.mktemp("conformance"))


@pytest.mark.parametrize("name", [param(name) for name in SYSTEMS])
def test_ours_keep_the_contract(name: str, session: Session, request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("encoders"):
        pytest.importorskip("torch")
        pytest.importorskip("av")
    subject = replace(Subject(SYSTEMS[name], smaller(SYSTEMS[name])), **SAID.get(name, {}))
    verdicts = list(check_subject(subject, session))
    bad = [f"{verdict.check}: {verdict.reason}\n{verdict.trace}" for verdict in verdicts if not verdict.good]
    assert bad == [], "\n".join(bad)
    assert sum(verdict.status == "passed" for verdict in verdicts) >= 15
    assert [verdict.status for verdict in verdicts if verdict.check == "saves"] == ["passed"]


def test_there_are_many() -> None:
    assert len(SYSTEMS) >= 25
    assert SAID.keys() <= SYSTEMS.keys()
