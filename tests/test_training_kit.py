"""The training kit on a small network: what is judged and kept, and a training that is resumed to the same bits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from blemore_harness.errors import DataError
from fakes import make_context

torch = pytest.importorskip("torch")

from blemore_harness.training.epochs import (  # noqa: E402
    Training,
    average_weights,
    run_epochs,
    trained_weights,
    write_checkpoint,
)

pytestmark = pytest.mark.encoders


def make(folder: Path, **changes: object) -> tuple[Training, list[int]]:
    """A training of a small network on random inputs, with momentum, and the epochs that were trained."""
    torch.manual_seed(0)
    network = torch.nn.Linear(4, 2)
    network.bias.requires_grad_(False)
    optimizer = torch.optim.AdamW([network.weight], lr=0.1)
    generator = torch.Generator().manual_seed(3)
    average = average_weights(network, 0.9)
    done: list[int] = []

    def train_epoch(epoch: int) -> float:
        done.append(epoch)
        network.train()
        for _ in range(3):
            loss = network(torch.randn(5, 4, generator=generator)).square().sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            average.update_parameters(network)
        return loss.item()

    folder.mkdir(exist_ok=True)
    given = Training(
        "toy", folder / "t.pt", network, optimizer, train_epoch, 6, 1, generator=generator, average=average
    )
    return dataclasses.replace(given, **changes), done


def test_it_is_resumed_to_the_same_bits(tmp_path: Path):
    context = make_context(tmp_path)
    whole, _ = make(tmp_path / "a")
    assert run_epochs(whole, context) == 6
    curve = context.reporter.notes["toy: training loss"]
    assert curve["curve"]["epochs"] == [1, 2, 3, 4, 5, 6]
    cut, done = make(tmp_path / "b")

    def stop(epoch: int) -> float:
        if epoch == 3:
            raise KeyboardInterrupt
        return cut.train_epoch(epoch)

    with pytest.raises(KeyboardInterrupt):
        run_epochs(dataclasses.replace(cut, train_epoch=stop), context)
    again, more = make(tmp_path / "b")
    context.reporter.notes.clear()
    assert run_epochs(again, context) == 6
    assert context.reporter.notes == {"toy: training loss": curve}, "of all epochs, those before the interruption too"
    assert (done, more) == ([0, 1, 2], [3, 4, 5])
    assert torch.equal(again.network.weight, whole.network.weight)
    assert torch.equal(again.network.weight, again.average.module.weight)
    assert not again.checkpoint.exists()


def test_running_statistics_are_resumed_and_kept_with_their_epoch(tmp_path: Path):
    """Batch normalisation predicts with buffers, which no optimiser knows."""
    context, means = make_context(tmp_path), []

    def make_normed(folder: Path, stop: int | None = None) -> Training:
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)

        def train_epoch(epoch: int) -> float:
            if epoch == stop:
                raise KeyboardInterrupt
            network.train()
            inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(epoch)) + epoch
            loss = network(inputs).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()

        def judge(network: torch.nn.Module) -> tuple[float]:
            means.append(network[0].running_mean.clone())
            return (float(len(means) == 3),)

        folder.mkdir(exist_ok=True)
        return Training("toy", folder / "t.pt", network, optimizer, train_epoch, 5, 1, judge)

    whole = make_normed(tmp_path / "a")
    assert run_epochs(whole, context) == 3
    assert torch.equal(whole.network[0].running_mean, means[2])
    assert not torch.equal(means[2], means[4])
    done, means = means, []
    with pytest.raises(KeyboardInterrupt):
        run_epochs(make_normed(tmp_path / "b", stop=2), context)
    again = make_normed(tmp_path / "b")
    assert run_epochs(again, context) == 3
    assert all(map(torch.equal, means, done))
    assert all(map(torch.equal, again.network.state_dict().values(), whole.network.state_dict().values()))


@pytest.mark.parametrize(
    ("changes", "judged", "kept"),
    [
        ({}, [1, 2, 3, 4, 5, 6], 2),
        ({"judge_every": 4}, [4, 6], 6),
        ({"patience": 3}, [1, 2, 3, 4, 5], 2),
        ({"average": None}, [1, 2, 3, 4, 5, 6], 2),
    ],
)
def test_the_best_judged_epoch_is_kept(tmp_path: Path, changes: dict, judged: list[int], kept: int):
    quality = {1: 0.1, 2: 0.7, 3: 0.7, 4: 0.2, 5: 0.3, 6: 0.4}
    asked, seen = [], {}

    def judge(network: torch.nn.Module) -> tuple[float]:
        assert not network.training
        asked.append(done[-1] + 1)
        seen[asked[-1]] = network.weight.detach().clone()
        return (quality[asked[-1]],)

    training, done = make(tmp_path / "a", judge=judge, **changes)
    context = make_context(tmp_path)
    assert run_epochs(training, context) == kept
    assert asked == judged
    scores = {"epochs": judged, "values": [quality[epoch] for epoch in judged]}
    assert context.reporter.notes["toy: validation Score"] == {"curve": scores}
    assert torch.equal(training.network.weight, seen[kept])


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path):
    from blemore_harness.training.epochs import State

    training, _ = make(tmp_path / "a")
    write_checkpoint(training, State(1))
    assert set(trained_weights(training.network)) == {"weight"}
    other, _ = make(tmp_path / "a")
    other.network.bias.requires_grad_(True)
    with pytest.raises(DataError, match=r"damaged checkpoint .*t\.pt"):
        run_epochs(other, make_context(tmp_path))
