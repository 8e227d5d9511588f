"""Torch modules as encoders: training, selection, resuming, keeping, identities, checks."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemore_harness.clips import Clip, Clips
from blemore_harness.errors import BlemoreError, ConfigError, DataError, InvalidOption, PluginFailed, UnknownName
from blemore_harness.estimators import TorchEncoder
from blemore_harness.options import build_options, describe_options, list_spaces
from blemore_harness.predictions import softmax
from blemore_harness.testing import check_subject
from blemore_harness.testing.subjects import Subject
from blemore_harness.training.options import TrainingOptions
from estimator_cases import MATERIAL, Bare, glimpse
from fakes import make_context

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.encoders

from torch import nn  # noqa: E402

from blemore_harness.training import fitting  # noqa: E402

FOLD = MATERIAL.fold


class Net(nn.Module):
    """A small network with everything that training and prediction treat in two ways."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 16)
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(16, 6)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.last(self.drop(torch.relu(self.norm(self.first(inputs)))))


QUICK: dict[str, Any] = {"epochs": 4, "learning_rate": 0.05, "batch_size": 8, "save_every": 1}


def make(module: Any = Net, inputs: Any = glimpse, **settings: Any) -> TorchEncoder:
    return TorchEncoder("toy", module, inputs, **{**QUICK, **settings})


def fit(encoder: TorchEncoder, folder: Path, **changes: Any) -> tuple[Any, Any]:
    context = make_context(folder, **changes)
    context.workspace.mkdir(parents=True, exist_ok=True)
    options = encoder.resolve_options(encoder.Options(), frozenset())
    encoder.prepare(MATERIAL.clips, options, context)
    return encoder.fit(FOLD, options, context), context


@pytest.mark.slow
@pytest.mark.parametrize("cached", [True, False])
def test_it_keeps_the_contract(tmp_path: Path, cached: bool) -> None:
    encoder = make(epochs=25, cached=cached)
    verdicts = list(check_subject(Subject(encoder), Bare(tmp_path)))
    assert [(v.check, v.reason) for v in verdicts if not v.good] == []
    passed = {verdict.check for verdict in verdicts if verdict.status == "passed"}
    assert passed >= {"imports", "options", "learns", "repeats", "resumes", "batch-invariance", "no-labels", "state"}


def test_predictions_are_the_softmax_of_the_module_by_itself(tmp_path: Path) -> None:
    model, context = fit(make(selection="last"), tmp_path)
    assert not model.network.training
    inputs = torch.tensor(np.array([glimpse(clip) for clip in FOLD.held_out]), dtype=torch.float32)
    with torch.no_grad():
        expected = softmax(model.network(inputs).double().numpy())
    np.testing.assert_allclose(model.predict(FOLD.held_out, context).values, expected, atol=1e-6)
    assert context.reporter.notes["epochs"] == 4
    weights = sum(tensor.numel() for tensor in Net().parameters())
    assert context.reporter.notes["weights trained"] == {"total": weights, "trained": weights}
    assert context.reporter.notes["all epochs: training loss"]["curve"]["epochs"] == [1, 2, 3, 4]


def test_one_step_is_that_of_adamw_on_the_divergence_of_the_saliences(tmp_path: Path) -> None:
    """By hand: a linear module, one epoch of one step."""

    def build() -> nn.Module:
        return nn.Linear(6, 6)

    settings = {"selection": "last", "epochs": 1, "batch_size": 10**6, "clip": 0.0, "weight_decay": 0.1}
    model, context = fit(make(build, **settings), tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        network = build()
    inputs = torch.tensor(np.array([glimpse(clip) for clip in FOLD.train]), dtype=torch.float32)
    targets = torch.tensor(FOLD.train.targets)
    groups = [{"params": [network.weight], "weight_decay": 0.1}, {"params": [network.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.05)
    (-(targets * network(inputs).log_softmax(dim=1)).sum(dim=1).mean()).backward()
    optimizer.step()
    torch.testing.assert_close(model.network.weight, network.weight.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(model.network.bias, network.bias.detach(), atol=1e-5, rtol=0)


def test_initial_weights_come_from_the_seed_and_leave_the_generator_alone(tmp_path: Path) -> None:
    built: list[torch.Tensor] = []

    def build() -> nn.Module:
        network = Net()
        built.append(network.first.weight.detach().clone())
        return network

    state = torch.random.get_rng_state()
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        fit(make(build, selection="last", epochs=1), tmp_path / folder, seed=seed)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(built[0], built[1])
    assert not torch.equal(built[0], built[2])


@pytest.mark.parametrize("settings", [{"selection": "last", "ema": 0.9}, {"selection": "inner", "schedule": "cosine"}])
@pytest.mark.parametrize("stop", [5, 17])
def test_an_interrupted_fit_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], stop: int
) -> None:
    encoder = make(epochs=5, **settings)
    expected, _ = fit(encoder, tmp_path / "a")
    steps: list[int] = []
    loss = fitting.soft_label_loss

    def interrupted(logits: Any, targets: Any) -> Any:
        steps.append(1)
        if len(steps) == stop:
            raise KeyboardInterrupt
        return loss(logits, targets)

    monkeypatch.setattr(fitting, "soft_label_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(encoder, tmp_path / "b")
    assert list((tmp_path / "b" / "work").iterdir()) != []
    found, _ = fit(encoder, tmp_path / "b")
    assert found.epochs == expected.epochs
    state = expected.network.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.network.state_dict().items())
    assert list((tmp_path / "b" / "work").iterdir()) == []


def test_a_model_that_is_kept_predicts_the_same_bits(tmp_path: Path) -> None:
    encoder = make(selection="last")
    model, context = fit(encoder, tmp_path)
    folder = tmp_path / "kept"
    folder.mkdir()
    model.save(folder)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}
    again = make(selection="last")
    loaded = again.load(folder, again.resolve_options(again.Options(), frozenset()), context)
    assert loaded.epochs == model.epochs
    expected = model.predict(FOLD.held_out, context).values
    np.testing.assert_array_equal(loaded.predict(FOLD.held_out, context).values, expected)
    other = make(lambda: nn.Linear(6, 6))
    with pytest.raises(DataError, match=r"network\.safetensors holds the weights of another network"):
        other.load(folder, TrainingOptions(), context)


def test_early_stopping_keeps_the_best_epoch_of_the_asked_fold(tmp_path: Path) -> None:
    answers = iter([0.2, 0.5, 0.3, 0.4])
    asked: list[np.ndarray] = []

    @dataclasses.dataclass
    class Answer:
        score: float

    def score(probabilities: Any) -> Answer:
        asked.append(probabilities.aligned(FOLD.held_out.ids).values)
        return Answer(next(answers))

    model, context = fit(make(epochs=9, patience=2, selection="held-out"), tmp_path, score=score)
    assert (model.epochs, len(asked)) == (2, 4)
    np.testing.assert_array_equal(model.predict(FOLD.held_out, context).values, asked[1])
    assert context.reporter.notes["choosing: validation Score"]["curve"]["values"] == [0.2, 0.5, 0.3, 0.4]


def test_options_are_those_of_the_training_with_defaults_of_its_own() -> None:
    encoder = make(epochs=7, schedule="cosine")
    options = build_options("toy", encoder.Options, {"epochs": "3"})
    assert (options.epochs, options.schedule, options.learning_rate) == (3, "cosine", 0.05)
    resolved = encoder.resolve_options(options, frozenset())
    assert describe_options(pickle.loads(pickle.dumps(resolved))) == describe_options(options)
    assert encoder.Options().epochs == 7
    assert list_spaces(encoder.Options) == list_spaces(TrainingOptions) != {}
    assert TrainingOptions().epochs == 30
    with pytest.raises(UnknownName, match=r"option of toy 'epoch'.*epochs"):
        make(epoch=3)
    with pytest.raises(InvalidOption, match=r"toy: epochs .*at least 1.*0"):
        make(epochs=0)
    with pytest.raises(InvalidOption, match=r"toy\.schedule.*linear"):
        make(schedule="linear")


def test_what_cannot_be_trained_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"toy: .*new module.*Linear"):
        make(nn.Linear(6, 6))
    with pytest.raises(ConfigError, match="toy: expected inputs as a function"):
        make(inputs="WavLM")
    with pytest.raises(PluginFailed, match="toy: expected a torch module, found int"):
        fit(make(lambda: 3), tmp_path / "a")
    with pytest.raises(DataError, match=r"logits of shape \(\d+, 6\), six for each clip, found \(\d+, 5\)"):
        fit(make(lambda: nn.Linear(6, 5)), tmp_path / "b")
    with pytest.raises(PluginFailed, match=r"one shape, found \(\d,\) and \(\d,\)"):
        fit(make(inputs=lambda clip: np.ones(3 + int(clip.content[0], 16) % 2)), tmp_path / "c")
    with pytest.raises(BlemoreError, match=r"epoch 1 is not a number: lower the learning rate"):
        fit(make(Diverging), tmp_path / "d")


class Diverging(Net):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(inputs) * float("inf")


def test_the_identity_follows_the_module_and_the_inputs() -> None:
    options = TrainingOptions()
    first = make().identify(options)
    assert make().identify(options) == first
    assert make(lambda: Net()).identify(options) != first
    assert make(inputs=lambda clip: glimpse(clip)).identify(options) != first
    assert make(version=2).identify(options) != first


def test_inputs_may_be_tensors_of_any_kind(tmp_path: Path) -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.EmbeddingBag(7, 6)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            assert inputs.dtype == torch.int64
            return self.table(inputs)

    def tokens(clip: Clip) -> torch.Tensor:
        return torch.tensor(glimpse(clip) * 6).round().clamp(0, 6).long()

    model, context = fit(make(Embedded, tokens, selection="last"), tmp_path)
    assert model.predict(Clips(FOLD.held_out.items[:2]), context).values.shape == (2, 6)


TEN = """
from torch import nn
from blemore_harness.estimators import TorchEncoder
from blemore_harness.hookspecs import hookimpl

def build():
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 6))

@hookimpl
def blemore_encoders():
    return [TorchEncoder("mine", build, glimpse, epochs=20, learning_rate=0.01)]
"""


def test_entered_as_a_plugin_in_ten_lines(tmp_path: Path) -> None:
    assert len([line for line in TEN.splitlines() if line]) <= 10
    space: dict[str, Any] = {"glimpse": glimpse}
    exec(TEN, space)
    [encoder] = space["blemore_encoders"]()
    verdicts = check_subject(Subject(encoder), Bare(tmp_path), ("declares", "learns"))
    assert [verdict.status for verdict in verdicts] == ["passed", "passed"]
