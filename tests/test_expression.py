"""The encoder `expression`: a network in the released layout, with fresh weights, and what is said where none are."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("av")
pytest.importorskip("facenet_pytorch")

from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402

import vision_files as files  # noqa: E402
from blemore_harness.clips import Clips  # noqa: E402
from blemore_harness.errors import DataError, ExtraMissing, WeightsMissing  # noqa: E402
from blemore_harness.media.frames import read_frames  # noqa: E402
from blemore_plugins.s4d.faces import open_crops  # noqa: E402
from blemore_plugins.vision import ExpressionEncoder  # noqa: E402
from blemore_plugins.vision.expression import HIDDEN, SIDE, WIDTHS, make_network  # noqa: E402
from blemore_plugins.vision.options import EXPRESSION_PACKAGE, ExpressionOptions  # noqa: E402
from fakes import make_context  # noqa: E402
from vision_files import randomise  # noqa: E402

pytestmark = pytest.mark.encoders

ENCODER = ExpressionEncoder()


def save_network(path: Path, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Write random weights as the package has them: beside an optimizer's state, under `network`."""
    network = randomise(make_network(WIDTHS, HIDDEN))
    optimizer = torch.optim.Adam(network.parameters())
    tensors = {**network.state_dict(), **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"network": tensors, "optimizer": optimizer.state_dict(), "epochs": 50, "accuracy": 0.5}, path)
    return tensors


def forward(tensors: dict[str, torch.Tensor], grey: torch.Tensor) -> torch.Tensor:
    """Compute the released network from its tensors, layer by layer: grey (N, 1, 48, 48) to scores (N, 7)."""
    x = grey
    for number, stride in enumerate((1, 2, 2, 2), start=1):
        at = f"conv_{number}."
        x = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        x = nn.functional.conv2d(x, tensors[f"{at}1.weight"], tensors[f"{at}1.bias"], stride=stride)
        mean, var = tensors[f"{at}2.running_mean"], tensors[f"{at}2.running_var"]
        x = nn.functional.batch_norm(x, mean, var, tensors[f"{at}2.weight"], tensors[f"{at}2.bias"]).relu()
    x = nn.functional.linear(x.flatten(1), tensors["linear.0.weight"], tensors["linear.0.bias"]).relu()
    return nn.functional.linear(x, tensors["linear.2.weight"], tensors["linear.2.bias"]).sigmoid()


def features(clips, tmp_path, **changes):
    options = ExpressionOptions(source="media", **changes)
    context = make_context(tmp_path)
    ENCODER.prepare(Clips(tuple(clips)), options, context)
    return [ENCODER.frame_features(clip, options, context) for clip in clips], options, context


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return files.write_clips(tmp_path_factory.mktemp("clips"), (21, 9))


def test_scores_are_those_of_the_released_layout_on_grey_crops(tmp_path, clips):
    tensors = save_network(tmp_path / "model.pkl")
    found, options, context = features(clips, tmp_path, model=str(tmp_path / "model.pkl"))
    assert [array.shape for array in found] == [(6, 7), (3, 7)]
    crops = open_crops(options.crops(), context).load(clips[0])
    assert crops.shape == (6, SIDE, SIDE, 3)
    grey = np.stack([np.asarray(Image.fromarray(crop).convert("L"), dtype=np.float32) for crop in crops])
    with torch.no_grad():
        # Pillow rounds grey levels, the encoder does not.
        expected = forward(tensors, torch.from_numpy(grey / 127.5 - 1)[:, None])
    np.testing.assert_allclose(found[0], expected, atol=0.03)
    assert float(np.ptp(found[0], axis=1).min()) > 0.3
    exact = torch.from_numpy(crops.astype(np.float32) @ np.float32([0.299, 0.587, 0.114]) / 127.5 - 1)[:, None]
    with torch.no_grad():
        np.testing.assert_allclose(found[0], forward(tensors, exact), atol=1e-5)


def test_whole_frames_are_squashed(tmp_path, clips):
    tensors = save_network(tmp_path / "model.pkl")
    found, _, _ = features(clips[:1], tmp_path, model=str(tmp_path / "model.pkl"), faces=False, frames="full")
    [first] = read_frames(clips[0], [0])
    small = np.asarray(Image.fromarray(first).resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32)
    grey = torch.from_numpy(small @ np.float32([0.299, 0.587, 0.114]) / 127.5 - 1)[None, None]
    with torch.no_grad():
        np.testing.assert_allclose(found[0][:1], forward(tensors, grey), atol=0.02)


def test_statistics_of_seven_scores_are_the_embedding(tmp_path, clips):
    _, options, context = features(clips, tmp_path, model="random-small")
    assert ENCODER.embed(Clips(tuple(clips)), options, context).values.shape == (2, 49)
    assert ENCODER.caveat(options) == "untrained small encoders"
    assert ENCODER.caveat(replace(options, model=EXPRESSION_PACKAGE)) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"linear.2.weight": torch.zeros(8, HIDDEN)}, r"mis-shaped.*linear\.2\.weight"),
        ({"conv_5.1.weight": torch.zeros(1)}, r"unexpected.*conv_5\.1\.weight"),
        ({"linear.0.bias": torch.full((HIDDEN,), torch.nan)}, r"NaN.*linear\.0\.bias"),
        ({"conv_1.1.weight": torch.zeros(3)}, r"conv_1\.1\.weight' with 4 axes"),
    ],
)  # fmt: skip
def test_weights_of_another_layout_are_refused(tmp_path, clips, change, said):
    save_network(tmp_path / "model.pkl", **change)
    with pytest.raises(DataError, match=said):
        features(clips, tmp_path, model=str(tmp_path / "model.pkl"))


def test_a_missing_package_is_said_with_the_command(tmp_path, clips, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("blemore_plugins.vision.expression.distribution", missing)
    with pytest.raises(ExtraMissing, match=r"facial-emotion-recognition: pip install .*\[expression\]"):
        features(clips, tmp_path)
    [packaged, _] = ENCODER.requirements(ExpressionOptions(source="media"))
    assert (packaged.name, packaged.advice) == (EXPRESSION_PACKAGE, 'pip install "blemore-harness[expression]"')
    others = ENCODER.requirements(ExpressionOptions(source="media", model="model.pkl"))
    assert EXPRESSION_PACKAGE not in {need.name for need in others}
    with pytest.raises(WeightsMissing, match=r"no weights at 'elsewhere\.pkl'.*expression\.model"):
        features(clips, tmp_path, model="elsewhere.pkl")


def test_the_package_is_found_without_being_imported(tmp_path, clips, monkeypatch):
    """An installed package as pip leaves it; importing it would fail."""
    package = tmp_path / "site" / "facial_emotion_recognition"
    tensors = save_network(package / "model" / "model.pkl")
    (package / "__init__.py").write_text("raise ImportError('cv2')")
    facts = tmp_path / "site" / "facial_emotion_recognition-0.3.4.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {EXPRESSION_PACKAGE}\nVersion: 0.3.4\n")
    (facts / "RECORD").write_text(
        "facial_emotion_recognition/__init__.py,,\nfacial_emotion_recognition/model/model.pkl,,\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    weights = ENCODER.extractor.weights(ExpressionOptions())
    assert weights.files == (package / "model" / "model.pkl",)
    loaded = ENCODER.extractor.build(ExpressionOptions(), weights).module.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    (facts / "RECORD").write_text("facial_emotion_recognition/__init__.py,,\n")
    with pytest.raises(DataError, match=r"model\.pkl in facial-emotion-recognition 0\.3\.4, found 0"):
        ENCODER.extractor.weights(ExpressionOptions())
