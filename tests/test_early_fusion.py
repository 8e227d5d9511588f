"""Early fusion: embeddings of encoders under one head; variants of an encoder: names, identities, folders."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pluggy
import pytest

from blemore_harness import hookspecs
from blemore_harness.clips import Clips
from blemore_harness.context import Context
from blemore_harness.data.blinded import blind_dataset
from blemore_harness.data.download import read_dataset
from blemore_harness.errors import ConfigError
from blemore_harness.heads.options import HeadOptions
from blemore_harness.hookspecs import Encoder, hookimpl
from blemore_harness.options import parse_settings
from blemore_harness.pipeline import evaluate
from blemore_harness.predictions import Embeddings
from blemore_harness.running.run import open_run
from blemore_harness.systems.distributions import Distribution
from blemore_harness.systems.early_fusion import EarlyFusion, Part
from blemore_harness.systems.plugins import Plugins, register
from blemore_harness.systems.resolved import ResolvedSystem, find_systems, resolve_systems
from blemore_harness.systems.submission import from_plugins
from builders import put, write_download
from fakes import RecordingReporter, make_context, make_fold
from toys import ToyOptions


class Toy(Encoder):
    """Gives embeddings of its own length, in an order of its own."""

    summary = "toy"
    Options = ToyOptions

    def __init__(self, name: str, modality: str, length: int) -> None:
        self.name, self.modality, self.length = name, modality, length  # type: ignore[misc, assignment]
        self.workspaces: list[Path] = []

    def caveat(self, options: ToyOptions) -> str | None:
        return "shifted" if options.shift else None

    def feature_sets(self, options: ToyOptions) -> tuple[str, ...]:
        return (f"{self.name}_store", "shared")

    def prepare(self, clips: Clips, options: ToyOptions, context: Context) -> None:
        self.workspaces.append(context.workspace)
        (context.workspace / "here").write_text("x")
        context.note("model", self.name)

    def embed(self, clips: Clips, options: ToyOptions, context: Context) -> Embeddings:
        first = np.array([int(clip.content[:4], 16) for clip in clips], dtype=np.float32)
        rows = first[:, None] + np.arange(self.length) + options.shift
        return Embeddings(clips.ids[::-1], rows[::-1].astype(np.float32))


class Whole(Encoder):
    """Trains whole: it has no embeddings."""

    name = "whole"
    summary = "whole"
    modality = "video"

    def fit(self, fold: Any, options: Any, context: Any) -> Any:
        raise AssertionError("never trained here")


EYE, EAR = Toy("eye", "video", 3), Toy("ear", "audio", 2)


def joint(*encoders: Encoder, **options: Any) -> EarlyFusion:
    return EarlyFusion(tuple(Part(e.name, e, ToyOptions(**options)) for e in encoders))


def plugins_of(*encoders: Encoder) -> Plugins:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager)

    @hookimpl
    def blemore_encoders() -> list[Encoder]:
        return list(encoders)

    module = types.SimpleNamespace(blemore_encoders=blemore_encoders)
    register(plugins, module, "toys", Distribution("toys", "1", None, None))
    assert plugins.failures == []
    return plugins


def resolve(names: str, *settings: str) -> tuple[ResolvedSystem, ...]:
    submission = from_plugins([names], None).with_options(parse_settings(settings), None)
    return resolve_systems(find_systems(submission, plugins_of(EYE, EAR, Whole()), demo=False), None)


def test_vectors_stand_side_by_side_in_the_order_of_the_clips(tmp_path: Path) -> None:
    clips = make_fold(4, 0).train
    given = joint(EYE, EAR, shift=0.5).embed(clips, HeadOptions(), make_context(tmp_path))
    assert given.ids == clips.ids
    expected = [[int(clip.content[:4], 16) + 0.5 + k for k in (0, 1, 2, 0, 1)] for clip in clips]
    assert given.values.tolist() == expected


def test_joint_says_what_its_parts_say(tmp_path: Path) -> None:
    both = joint(EYE, EAR, shift=1.0)
    assert (both.name, both.modality, both.caveat(HeadOptions())) == ("eye+ear", "audiovisual", "shifted")
    assert joint(EYE, Toy("lips", "video", 1)).modality == "video"
    assert both.feature_sets(HeadOptions()) == ("eye_store", "shared", "ear_store")
    context = make_context(tmp_path)
    both.prepare(make_fold(2, 0).train, HeadOptions(), context)
    assert vars(context.reporter)["notes"] == {"eye: model": "eye", "ear: model": "ear"}
    assert [folder.name for folder in (EYE.workspaces[-1], EAR.workspaces[-1])] == ["eye", "ear"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("eye+eye", "'eye' is named twice in 'eye\\+eye'"),
        ("eye+whole", "'whole' gives no embeddings for 'eye\\+whole'"),
        ("eye+", "found '' in eye\\+"),
        ("eye@", "found 'eye@' in eye@"),
        ("eye@Quick", "found 'eye@Quick'"),
        ("@quick", "found '@quick'"),
        ("eye+ears", "did you mean 'ear'"),
        ("eye@a,eye@a", "'eye@a' twice"),
    ],
)
def test_names_that_cannot_be_joined_are_one_line(names: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(names)


def test_options_of_parts_stand_under_their_own_names() -> None:
    plain, shifted = resolve("eye+ear,ear", "eye.shift=2", "eye+ear.head=mlp-512")
    assert [part.options.shift for part in plain.parts] == [2.0, 0.0]
    assert (plain.options.head, plain.options.hidden, plain.options.epochs) == ("mlp-512", "512", 200)
    assert shifted.options.head == "mlp-1024-512"
    assert [part["name"] for part in plain.describe()["parts"]] == ["eye", "ear"]  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="'whole'"):
        resolve("eye+ear", "whole.x=1")


def test_whatever_changes_a_part_changes_the_joint() -> None:
    (plain,), (shifted,), (headed,) = (
        resolve("eye+ear"), resolve("eye+ear", "ear.shift=1"), resolve("eye+ear", "eye+ear.epochs=3"),
    )  # fmt: skip
    assert len({plain.digest, shifted.digest, headed.digest, resolve("ear+eye")[0].digest}) == 4
    assert plain.digest == resolve("eye+ear")[0].digest


def test_variant_has_options_seeds_and_an_identity_of_its_own() -> None:
    plain, quick, joined = resolve("eye,eye@quick,eye@quick+ear", "eye@quick.shift=3", "eye@quick.epochs=2")
    assert (plain.options.shift, quick.options.shift, joined.parts[0].options.shift) == (0.0, 3.0, 3.0)
    assert plain.system is quick.system
    assert len({plain.digest, quick.digest, joined.digest}) == 3
    assert plain.fold_seed(0) != quick.fold_seed(0)
    same = resolve("eye@again")[0]
    assert same.options == plain.options
    assert same.digest != plain.digest, "another variant is another draw of seeds"


def test_joint_runs_to_the_end_and_its_record_shows_the_parts(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    data = write_download(tmp_path / "data")
    for name in read_dataset(data).ids:
        put(data / "part_01" / f"{name}.mov", name)
    dataset = read_dataset(data)

    class Free(Toy):
        def feature_sets(self, options: ToyOptions) -> tuple[str, ...]:
            return ()

    settings = parse_settings(["eye@quick+ear.epochs=3", "eye@quick+ear.hidden=4", "eye@quick.shift=1"])
    submission = from_plugins(["eye@quick+ear"]).with_options(settings, None)
    plugins = plugins_of(Free("eye", "video", 3), Free("ear", "audio", 2))
    blinded = blind_dataset(dataset, tmp_path / "views")
    run = open_run(submission, plugins, dataset, blinded, tmp_path / "runs", tmp_path / "cache", RecordingReporter())
    record, folder = evaluate(run)
    assert record.status == "finished"
    assert record.caveat == "shifted"
    row = json.loads((folder / "record.json").read_text())["systems"][0]
    assert (row["name"], row["modality"]) == ("eye@quick+ear", "audiovisual")
    assert row["prepared"]["notes"] == {"eye@quick: model": "eye", "ear: model": "ear"}
    assert [part["name"] for part in row["parts"]] == ["eye@quick", "ear"]
    assert [path.name.rpartition("-")[0] for path in (tmp_path / "runs" / "systems").iterdir()] == ["eye@quick+ear"]
