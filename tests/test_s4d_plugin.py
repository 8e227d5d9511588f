"""The encoder as the harness uses it: options, weights, training, resuming, prediction, records."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from blemore_harness.clips import Clips, Fold
from blemore_harness.errors import BlemoreError, InvalidOption, WeightsMissing
from blemore_harness.protocol.rules import Scores
from blemore_plugins.s4d import S4DEncoder, blemore_encoders
from blemore_plugins.s4d.options import S4DOptions
from fakes import make_context, make_fold

ENCODER = S4DEncoder()


def test_importing_loads_no_torch():
    code = "import sys, blemore_plugins.s4d; print([m for m in ('torch', 'PIL', 'av') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_is_offered_and_marked():
    (encoder,) = blemore_encoders()
    assert (encoder.name, encoder.modality) == ("s4d", "video")
    assert encoder.caveat(S4DOptions()) is None
    assert encoder.caveat(S4DOptions(**encoder.demo_options)) == "untrained small encoders"
    assert encoder.caveat(S4DOptions(weights="random", train="all")) == "untrained encoders"


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 100},
        {"frames": 5},
        {"stride": 3},
        {"detect_every": 7},
        {"smooth": 4},
        {"scale": 9.0},
        {"learning_rate": 0.0},
        {"epochs": 0},
        {"warmup": 100},
        {"capacity": 0.0},
        {"crop": 0.0},
        {"smallest_face": 0.0},
        {"balance": -1.0},
        {"weight_decay": -1.0},
        {"detect_size": 10},
        {"weights": ""},
        {"weights": "random"},
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object]):
    with pytest.raises(InvalidOption, match=next(iter(wrong))):
        S4DOptions(**wrong)


torch = pytest.importorskip("torch")

from blemore_plugins.s4d import model as s4d_model  # noqa: E402
from blemore_plugins.s4d.batches import CropSource  # noqa: E402
from blemore_plugins.s4d.faces import open_crops  # noqa: E402
from blemore_plugins.s4d.model import build, learning_rate, predict_rows, set_mode, trained_parts  # noqa: E402
from blemore_plugins.s4d.network import S4DViTMoE, build_network, count_parameters  # noqa: E402
from blemore_plugins.s4d.shape import Shape  # noqa: E402

encoders = pytest.mark.encoders

TINY = S4DOptions(weights="random-small", train="all", size=32, frames=4, batch_size=4)
SMALL = dataclasses.replace(TINY, epochs=4, warmup=1, learning_rate=1e-3, save_every=1, check_every=1)


@pytest.fixture
def prepared(tmp_path: Path):
    """A fold with random crops in the cache of a context."""
    fold, context = make_fold(10, 3), make_context(tmp_path)
    store = open_crops(SMALL, context)
    draw = np.random.default_rng(3)
    for clip in (*fold.train, *fold.held_out):
        store.save(clip, draw.integers(0, 256, (draw.integers(6, 30), 32, 32, 3), dtype=np.uint8))
    return fold, context


@pytest.mark.slow
@encoders
def test_fitting_is_repeatable_and_leaves_torch_as_it_was(prepared):
    fold, context = prepared
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, other = (ENCODER.fit(fold, SMALL, context).predict(fold.held_out, context) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(one.values, other.values)
    different = dataclasses.replace(context, seed=8)
    assert not np.array_equal(ENCODER.fit(fold, SMALL, different).predict(fold.held_out, context).values, one.values)


@encoders
@pytest.mark.parametrize("selection", ["last", "inner"])
def test_an_interrupted_fit_goes_on_to_the_same_result(prepared, tmp_path: Path, monkeypatch, selection: str):
    fold, context = prepared
    options = dataclasses.replace(SMALL, selection=selection, route_noise="training")
    expected = ENCODER.fit(fold, options, context)
    again = dataclasses.replace(context, workspace=tmp_path / "other")
    trained = []
    epoch = s4d_model._train_epoch

    def stop_in_the_third(network, batches, optimizer, generator, number, options):
        if number == 2 and len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(number)
        return epoch(network, batches, optimizer, generator, number, options)

    monkeypatch.setattr(s4d_model, "_train_epoch", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        ENCODER.fit(fold, options, again)
    trained.append(-1)
    model = ENCODER.fit(fold, options, again)
    assert trained == [0, 1, -1, 2, 3]
    assert model.epoch == expected.epoch
    state = model.network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in expected.network.state_dict().items())
    assert not list((tmp_path / "other").glob("*.pt"))


@encoders
@pytest.mark.parametrize("noise", ["training", "always"])
def test_a_row_depends_on_its_own_clip_only(prepared, noise: str):
    fold, context = prepared
    options = dataclasses.replace(SMALL, route_noise=noise, drop_tokens="always", epochs=2)
    model = ENCODER.fit(fold, options, context)
    everything = model.predict(fold.held_out, context)
    for clip in reversed(fold.held_out.items):
        alone = model.predict(Clips((clip,)), context)
        np.testing.assert_array_equal(
            alone.values[0], everything.aligned(fold.held_out.ids).values[fold.held_out.ids.index(clip.id)]
        )
    assert model.predict(Clips(()), context).values.shape == (0, 6)


@encoders
def test_a_row_is_the_mean_softmax_over_windows_and_mirror_images(prepared):
    fold, context = prepared
    network = build(SMALL, context)
    rows = predict_rows(network, fold.held_out, SMALL, context)
    set_mode(network, SMALL, training=False)
    for clip, row in zip(fold.held_out, rows, strict=True):
        source = CropSource(open_crops(SMALL, context), SMALL)
        views = source.views(source.read(clip, None))
        with torch.no_grad():
            each = [network(blinded[None]).softmax(-1)[0].numpy() for blinded in views]
        np.testing.assert_allclose(row, np.mean(each, axis=0), atol=1e-5)


@pytest.mark.slow
@encoders
def test_it_learns_what_is_there_to_learn(prepared):
    fold, context = prepared
    store = open_crops(SMALL, context)
    for number, clip in enumerate(fold.train):
        # One colour per label: five labels go round.
        colour = [40 + 180 * bit for bit in ((number % 5) & 1, (number % 5) >> 1 & 1, (number % 5) >> 2)]
        store.save(clip, np.full((12, 32, 32, 3), colour, np.uint8))
    options = dataclasses.replace(
        SMALL, epochs=30, learning_rate=2e-3, flip=False, views=1, drop_tokens="off", crop=1.0
    )
    rows = ENCODER.fit(fold, options, context).predict(fold.train.unlabelled(), context).aligned(fold.train.ids).values
    assert np.abs(rows - fold.train.targets).mean() < 0.1


@encoders
def test_selection_on_held_out_clips_asks_for_scores_and_keeps_the_best(prepared):
    fold, context = prepared
    asked = []

    def score(rows):
        asked.append(rows)
        return Scores([0.1, 0.4, 0.2, 0.3][len(asked) - 1], 0.0)

    options = dataclasses.replace(SMALL, selection="held-out")
    model = ENCODER.fit(fold, options, dataclasses.replace(context, score=score))
    assert len(asked) == 4
    assert model.epoch == 2
    np.testing.assert_array_equal(model.predict(fold.held_out, context).values, asked[1].values)
    final = ENCODER.fit(Fold(None, fold.train, fold.held_out), options, dataclasses.replace(context, final=True))
    assert final.epoch == 4


@encoders
def test_what_is_frozen_stays_and_what_is_trained_moves(prepared, monkeypatch):
    fold, context = prepared
    lower = ("head.image", "patch_embed", "blocks.0")
    dense = tuple(f"blocks.1.{part}" for part in ("norm1", "norm2", "attn", "mlp"))
    frozen = {"adapters": (*lower, *dense), "upper": lower, "all": ("head.image",)}
    for which, parts in frozen.items():
        # Options refuse to freeze random weights; here that is the point.
        options = dataclasses.replace(SMALL, epochs=1, warmup=0)
        object.__setattr__(options, "train", which)
        before = build(options, context).state_dict()
        after = ENCODER.fit(fold, options, context).network.state_dict()
        for name, tensor in after.items():
            assert torch.equal(tensor, before[name]) == name.startswith(parts) or "noise_linear" in name, (which, name)


@encoders
def test_trained_and_frozen_counts_of_the_released_size():
    with torch.device("meta"):
        network = S4DViTMoE(Shape())
    counts = {which: count_parameters(trained_parts(network, which)) for which in ("adapters", "upper", "all")}
    assert counts == {
        "adapters": 14_275_680 + 1_536 + 4_614,
        "upper": 56_798_304 + 1_536 + 4_614,
        "all": 100_512_877 - 5_383,
    }


@encoders
def test_the_rate_rises_in_a_line_and_falls_as_a_cosine():
    options = S4DOptions(epochs=10, warmup=2, learning_rate=1e-3)
    rates = [learning_rate(step, 5, options) for step in range(50)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) * 1e-4)
    np.testing.assert_allclose(rates[10:], [5e-4 * (1 + math.cos(math.pi * k / 40)) for k in range(40)])


@encoders
def test_the_record_says_what_was_trained(prepared):
    fold, context = prepared
    ENCODER.fit(fold, SMALL, context)
    parameters = context.reporter.notes["parameters"]
    assert parameters["trained"] + parameters["frozen"] == parameters["total"]
    assert context.reporter.notes["epoch kept"] == 4


@encoders
def test_local_weights_go_through_the_whole_path(prepared, tmp_path: Path):
    fold, context = prepared
    shape = Shape(dim=64, depth=7, first_expert=6, adapter=16, mlp=2)
    state = build_network(shape, seed=3).state_dict()
    trunk = {
        f"encoder.{name}": t for name, t in state.items() if "moe" not in name and not name.startswith(("fc", "head"))
    }
    torch.save({"model": trunk | {"mask_token": torch.zeros(1)}, "epoch": 99}, tmp_path / "mine.pt")
    options = dataclasses.replace(SMALL, weights=str(tmp_path / "mine.pt"), train="adapters", epochs=1, warmup=0)
    ENCODER.prepare(Clips(()), options, context)
    model = ENCODER.fit(fold, options, context)
    assert context.reporter.notes["weights"]["kind"] == "pretrained"
    fitted = model.network.state_dict()
    assert torch.equal(fitted["blocks.6.mlp.fc1.weight"], trunk["encoder.blocks.6.mlp.fc1.weight"])
    assert fitted["blocks.6.moe_layer.router.topkroute_linear.weight"].shape == (8, 64)
    assert ENCODER.caveat(options) is None


@encoders
@pytest.mark.parametrize("weights", ["nowhere/nothing.pt", "cyinen/S4D"])
def test_weights_that_are_not_there_say_what_to_do(prepared, tmp_path: Path, monkeypatch, weights: str):
    fold, context = prepared
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    options = dataclasses.replace(SMALL, weights=weights, train="adapters")
    with pytest.raises(WeightsMissing, match=r"--set s4d\.weights="):
        ENCODER.fit(fold, options, context)


@encoders
def test_a_damaged_checkpoint_is_named(prepared):
    fold, context = prepared
    context.workspace.mkdir(parents=True, exist_ok=True)
    (context.workspace / "training.pt").write_bytes(b"x")
    with pytest.raises(BlemoreError, match=r"training\.pt"):
        ENCODER.fit(fold, SMALL, context)
